package compose

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/postrider/postrider/internal/message"
)

// raw composes a message that came whole.
func (c *composer) raw() {
	m := &c.m
	for _, f := range []struct {
		name  string
		given bool
	}{
		{"subject", m.Subject != ""},
		{"text", m.Text != nil},
		{"html", m.HTML != nil},
		{"attachments", m.Attachments != nil},
	} {
		if f.given {
			c.problem(f.name, ConflictingFields, "raw has it already")
		}
	}
	n := headerEnd(m.Raw)
	body, ok := c.scan(n)
	c.ids()
	c.headers()
	m.To, m.Cc, m.Bcc, m.ReplyTo = c.list("to", m.To), c.list("cc", m.Cc), c.list("bcc", m.Bcc), c.list("replyTo", m.ReplyTo)
	var head []rawField
	if ok {
		head, ok = c.rawFields(string(m.Raw[:n]))
	}
	if !ok {
		return
	}
	kept, there := keep(head)
	c.takeOver(there)
	c.envelope()
	// RFC 6532 allows for UTF-8; of other fields that are not ASCII only 8BITMIME can tell.
	c.out.NeedsUTF8 = c.out.NeedsUTF8 || !isASCII(kept) && utf8.ValidString(kept)
	if len(c.problems) > 0 {
		return
	}
	c.rawPieces(kept, there, body)
}

// headerEnd is where the header ends: before an empty line, or with the message.
func headerEnd(raw []byte) int {
	for at := 0; at < len(raw); {
		rest := raw[at:]
		if rest[0] == '\n' || bytes.HasPrefix(rest, []byte("\r\n")) {
			return at
		}
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			break
		}
		at += i + 1
	}
	return len(raw)
}

// scan checks the lines of the raw message, and gives what follows its header.
func (c *composer) scan(n int) (body piece, ok bool) {
	var s scanner
	s.see(c.m.Raw[:n])
	head := s.written
	s.see(c.m.Raw[n:])
	s.end()
	switch {
	case s.nul:
		c.problem("raw", NULByte, "it has a NUL")
	case s.bareCR:
		c.problem("raw", BareCR, "a CR is not followed by a LF")
	case s.long:
		c.problem("raw", LineTooLong, "a line has more than %d octets", maxLine)
	case n > message.MaxHeader:
		c.problem("raw", MessageTooLarge, "its header has more than %d octets", message.MaxHeader)
	default:
		ok = true
	}
	c.out.Needs8Bit = s.eight
	raw := c.m.Raw[n:]
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }
	return piece{encoding: eightBit, open: open, size: int64(len(raw)), written: s.written - head, ends: true, tail: s.tail()}, ok
}

// scanner looks at the lines of a message that is to be sent as it is.
type scanner struct {
	nul, bareCR, long, eight bool
	last                     byte
	line                     int   // octets of the line so far
	size, written            int64 // octets seen, and with all lines ending CRLF
}

func (s *scanner) see(p []byte) {
	for _, c := range p {
		if s.last == '\r' && c != '\n' {
			s.bareCR = true
		}
		switch {
		case c == '\n':
			if s.last != '\r' {
				s.written++
			}
			s.line = 0
		case c == '\r':
		default:
			if s.line++; s.line > maxLine {
				s.long = true
			}
			s.nul = s.nul || c == 0
			s.eight = s.eight || c >= utf8.RuneSelf
		}
		s.last = c
	}
	s.size += int64(len(p))
	s.written += int64(len(p))
}

func (s *scanner) end() { s.bareCR = s.bareCR || s.last == '\r' }

// tail is how long the line end is that the last line has not.
func (s *scanner) tail() int64 {
	if s.last == 0 || s.last == '\n' {
		return 0
	}
	return int64(len("\r\n"))
}

// carried is how a message can stand in another.
type carried struct {
	encoding            string // 7bit or 8bit; "" = it cannot
	size, written, tail int64
}

// carries reads an attached message once.
func carries(open func() (io.ReadCloser, error)) (carried, error) {
	r, err := open()
	if err != nil {
		return carried{}, err
	}
	defer r.Close()
	var s scanner
	b := make([]byte, 32<<10)
	for {
		n, err := r.Read(b)
		s.see(b[:n])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return carried{}, err
		}
	}
	s.end()
	switch {
	case s.nul || s.bareCR || s.long:
		return carried{}, nil
	case s.eight:
		return carried{eightBit, s.size, s.written, s.tail()}, nil
	}
	return carried{sevenBit, s.size, s.written, s.tail()}, nil
}

// rawField is a field of a raw message, with its line ends.
type rawField struct {
	name  string // in lower case
	lines []string
}

// rawFields cuts a header into fields.
func (c *composer) rawFields(s string) (head []rawField, ok bool) {
	for line := range strings.Lines(s) {
		if line[0] == ' ' || line[0] == '\t' {
			if len(head) == 0 {
				c.problem("raw", ValueInvalid, "it begins with a space")
				return nil, false
			}
			head[len(head)-1].lines = append(head[len(head)-1].lines, line)
			continue
		}
		name, _, colon := strings.Cut(line, ":")
		if name = strings.TrimRight(name, " \t"); !colon || !isFieldName(name) {
			c.problem("raw", ValueInvalid, "field %d of its header is none", len(head)+1)
			return nil, false
		}
		head = append(head, rawField{strings.ToLower(name), []string{line}})
	}
	return head, true
}

// keep leaves out the fields that would tell who got a copy blindly, and gives the values
// of all.
func keep(head []rawField) (kept string, all message.Header) {
	var block, public strings.Builder
	for _, f := range head {
		for _, line := range f.lines {
			block.WriteString(line)
			if f.name != "bcc" && f.name != "resent-bcc" {
				public.WriteString(line)
			}
		}
	}
	return public.String(), message.ParseHeader([]byte(block.String()))
}

// takeOver makes of the raw message's fields what the envelope and the answer need.
func (c *composer) takeOver(there message.Header) {
	m := &c.m
	if froms := message.Addresses(there.First("from"), nil); len(there["from"]) > 0 {
		m.From = Address{}
		if len(froms) > 0 {
			m.From.Address = froms[0].Address
		}
		c.address("raw", &m.From.Address)
	} else {
		c.mailbox("from", &m.From)
	}
	if m.Envelope == nil && len(m.To)+len(m.Cc)+len(m.Bcc) == 0 {
		for _, name := range []string{"to", "cc", "bcc", "resent-bcc"} {
			for _, v := range there[name] {
				for _, a := range message.Addresses(v, nil) {
					to := Address{Address: a.Address}
					c.address("raw", &to.Address)
					m.Bcc = append(m.Bcc, to)
				}
			}
		}
	}
	c.out.Subject = shorten(message.Words(there.First("subject"), nil), maxSubject)
	c.out.Date = m.Date
	if t, ok := message.Date(there.First("date")); ok {
		c.out.Date = t
	}
	if ids := message.IDs(there.First("message-id")); len(there["message-id"]) > 0 {
		if len(ids) != 1 {
			c.problem("raw", ValueInvalid, "its Message-ID is none")
			return
		}
		if c.out.MessageID = ids[0]; m.MessageID != "" && m.MessageID != ids[0] {
			c.problem("messageId", ConflictingFields, "raw has another one")
		}
	}
	if m.InReplyTo != "" && len(there["in-reply-to"]) > 0 {
		m.InReplyTo = ""
	}
	if len(there["references"]) > 0 {
		m.References = nil
	}
}

// shorten gives at most so many characters of s.
func shorten(s string, most int) string {
	for i := range s {
		if most--; most < 0 {
			return s[:i]
		}
	}
	return s
}

// rawPieces puts what is missing in front of what is kept.
func (c *composer) rawPieces(kept string, there message.Header, body piece) {
	m := &c.m
	missing := func(name string) bool { return len(there[name]) == 0 }
	var f fields
	if missing("from") {
		f.addresses("From", []Address{m.From})
	}
	if missing("reply-to") {
		f.addresses("Reply-To", m.ReplyTo)
	}
	if missing("date") {
		f.line("Date", m.Date.Format(dateForm))
	}
	if missing("message-id") {
		c.out.MessageID = c.messageID()
		f.line("Message-ID", c.out.MessageID)
	}
	c.thread(&f)
	for _, h := range m.Headers {
		f.own(h.Name, h.Value)
	}
	c.idField(&f)
	if missing("mime-version") {
		f.line("MIME-Version", "1.0")
	}
	c.out.pieces = append(c.out.pieces, piece{data: f.String()}, piece{data: kept, encoding: eightBit, ends: true})
	if body.size == 0 {
		body = piece{data: "\r\n"}
	}
	c.out.pieces = append(c.out.pieces, body)
}
