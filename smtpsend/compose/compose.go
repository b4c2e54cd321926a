package compose

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"io"
	"strings"
	"time"
)

// Compose checks a message and fixes what is sent. An *Error tells all that is wrong with
// it; any other error is that of an attachment that could not be opened or read, or of
// Rand. Only attached messages (message/rfc822) are read here, once, to see how they may
// be written.
func Compose(m Message, o Options) (*Composed, error) {
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.MaxRecipients == 0 {
		o.MaxRecipients = 500
	}
	if m.Date.IsZero() {
		m.Date = time.Now()
	}
	c := &composer{m: m, o: o, out: &Composed{maxSize: o.MaxSize}}
	if m.Raw != nil {
		c.raw()
	} else {
		c.structured()
	}
	if c.err == nil && len(c.problems) == 0 {
		c.measure()
	}
	if len(c.problems) > 0 {
		return nil, &Error{c.problems}
	}
	if c.err != nil {
		return nil, c.err
	}
	return c.out, nil
}

// composer is one message being composed.
type composer struct {
	m        Message
	o        Options
	out      *Composed
	problems []Problem
	err      error // the first that is not the caller's fault
}

// maxProblems bounds what is told of a request that has nothing right.
const maxProblems = 100

func (c *composer) problem(location string, code Code, format string, args ...any) {
	if len(c.problems) < maxProblems {
		c.problems = append(c.problems, Problem{location, code, fmt.Sprintf(format, args...)})
	}
}

// structured composes a message of its parts.
func (c *composer) structured() {
	c.check()
	c.envelope()
	c.attachments()
	if len(c.problems) > 0 || c.err != nil {
		return
	}
	m := &c.m
	c.out.MessageID, c.out.Subject, c.out.Date = c.messageID(), m.Subject, m.Date
	var f fields
	f.addresses("From", []Address{m.From})
	f.addresses("To", m.To)
	f.addresses("Cc", m.Cc)
	f.addresses("Reply-To", m.ReplyTo)
	if m.Subject != "" {
		f.text("Subject", m.Subject)
	}
	f.line("Date", m.Date.Format(dateForm))
	f.line("Message-ID", c.out.MessageID)
	c.thread(&f)
	for _, h := range m.Headers {
		f.own(h.Name, h.Value)
	}
	c.idField(&f)
	f.line("MIME-Version", "1.0")
	c.body(&f)
}

// dateForm is RFC 5322 section 3.3.
const dateForm = "Mon, 2 Jan 2006 15:04:05 -0700"

func (c *composer) thread(f *fields) {
	if c.m.InReplyTo != "" {
		f.line("In-Reply-To", c.m.InReplyTo)
	}
	f.ids("References", c.m.References)
}

func (c *composer) idField(f *fields) {
	if c.o.IDHeader != "" {
		f.line(c.o.IDHeader, c.o.QueueID)
	}
}

// messageID is the one given, or one of the domain that the message is from (RFC 5322
// section 3.6.4).
func (c *composer) messageID() string {
	if c.m.MessageID != "" {
		return c.m.MessageID
	}
	c.out.OwnID = true
	from := c.m.From.Address
	return "<" + c.random() + from[strings.LastIndexByte(from, '@'):] + ">"
}

// random is 120 random bits.
func (c *composer) random() string {
	var b [15]byte
	if _, err := io.ReadFull(c.o.Rand, b[:]); err != nil && c.err == nil {
		c.err = fmt.Errorf("random source: %w", err)
	}
	return strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}

// envelope checks the addresses that the message goes to, once the fields are checked.
func (c *composer) envelope() {
	e := c.m.Envelope
	if e == nil {
		e = &Envelope{From: c.m.From.Address}
		for _, list := range [][]Address{c.m.To, c.m.Cc, c.m.Bcc} {
			for _, a := range list {
				e.To = append(e.To, a.Address)
			}
		}
	} else {
		e = &Envelope{From: e.From, To: append([]string(nil), e.To...)}
		if e.From != "" {
			c.address("envelope.from", &e.From)
		}
		for i := range e.To {
			c.address(fmt.Sprintf("envelope.to[%d]", i), &e.To[i])
		}
	}
	seen := map[string]bool{}
	for _, to := range e.To {
		if key := sameAddress(to); !seen[key] {
			seen[key] = true
			c.out.Envelope.To = append(c.out.Envelope.To, to)
		}
	}
	c.out.Envelope.From = e.From
	where := "to"
	if c.m.Envelope != nil {
		where = "envelope.to"
	} else if c.m.Raw != nil && len(c.m.To)+len(c.m.Cc)+len(c.m.Bcc) == 0 {
		where = "raw"
	}
	switch n := len(c.out.Envelope.To); {
	case n == 0:
		c.problem(where, NoRecipients, "nobody would get the message")
	case n > c.o.MaxRecipients:
		c.problem(where, TooManyRecipients, "%d recipients are more than %d", n, c.o.MaxRecipients)
	}
}

// measure tells how large the message is, where that is known.
func (c *composer) measure() {
	for i := range c.out.pieces {
		n := c.out.pieces[i].octets()
		if n < 0 {
			c.out.Size = -1
			return
		}
		c.out.Size += n
	}
	if c.o.MaxSize > 0 && c.out.Size > c.o.MaxSize {
		c.problems = append(c.problems, tooLarge(c.o.MaxSize))
	}
}
