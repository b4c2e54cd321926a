package wire

import (
	"bytes"
	"math"

	"github.com/emersion/go-imap/v2"
)

// parseFetch reads `(item value …)` into m. An item whose value does not parse is named
// in Damaged and the next known one is looked for.
func (c *Conn) parseFetch(r *response, m *Message) {
	s := r.scan()
	if !s.open() {
		m.damage("FETCH", whySyntax)
		return
	}
	for n := 0; n < c.lim.List; n++ {
		switch s.peek() {
		case ')':
			return
		case 0:
			if r.cut {
				m.damage("FETCH", whyTooLong)
			} else {
				m.damage("FETCH", whyUnclosed)
			}
			return
		}
		name, section, origin := s.item()
		if name == nil {
			m.damage("FETCH", whySyntax)
			if !c.recover(&s) {
				return
			}
			continue
		}
		if why := c.parseItem(&s, m, name, section, origin); why != "" {
			c.counters.Damaged++
			m.damage(upperString(name[:min(len(name), 32)]), why)
			if !c.recover(&s) {
				return
			}
		}
	}
}

// item takes an item's name, and of BODY[…]<n> what is in the brackets and n.
func (s *scanner) item() (name, section []byte, origin int64) {
	begin := s.i
	for s.i < len(s.b) {
		switch ch := s.b[s.i]; {
		case ch == '[':
			name = s.b[begin:s.i]
			if len(name) == 0 || !s.brackets() {
				return nil, nil, 0
			}
			section = s.b[begin+len(name)+1 : s.i-1]
			if s.i < len(s.b) && s.b[s.i] == '<' {
				n, j := digits(s.b, s.i+1)
				if j < len(s.b) && s.b[j] == '.' { // echoed as it was asked for
					_, j = digits(s.b, j+1)
				}
				if j < len(s.b) && s.b[j] == '>' {
					origin, s.i = int64(n), j+1
				}
			}
			return name, section, origin
		case ch == ' ' || ch == '(' || ch == ')' || ch == '"' || ch == '{':
			if s.i == begin {
				return nil, nil, 0
			}
			return s.b[begin:s.i], nil, 0
		}
		s.i++
	}
	return nil, nil, 0
}

// brackets passes `[…]`, in which header names may be quoted or literals.
func (s *scanner) brackets() bool {
	s.i++
	for s.i < len(s.b) {
		switch {
		case s.l < len(s.lits) && s.lits[s.l].open == s.i, s.b[s.i] == '"':
			if t, _ := s.next(); t == tBad {
				return false
			}
		case s.b[s.i] == ']':
			s.i++
			return true
		default:
			s.i++
		}
	}
	return false
}

// knownItems are what recover looks for.
var knownItems = []string{
	"UID", "FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE", "BODY", "BINARY", "MODSEQ",
	"EMAILID", "THREADID", "X-GM-MSGID", "X-GM-THRID", "X-GM-LABELS", "RFC822.HEADER", "RFC822.TEXT", "RFC822",
}

// recover goes on behind a damaged value: at the next known item at depth 1, where
// parentheses count and quotes, which are what broke, do not; else at the next known
// item behind a closing parenthesis; else not at all.
func (c *Conn) recover(s *scanner) bool {
	from := s.i
	for _, strict := range []bool{true, false} {
		depth := 0
		l := s.l
		for i := from; i < len(s.b); i++ {
			if l < len(s.lits) && i >= s.lits[l].open {
				i = max(i, s.lits[l].end-1)
				l++
				continue
			}
			switch s.b[i] {
			case '(':
				depth++
			case ')':
				depth--
			case ' ':
				// The damaged value may have been left in a depth of its own.
				if (strict && depth <= 0 || !strict && i > 0 && s.b[i-1] == ')') && startsItem(s.b[i+1:]) {
					s.seek(i + 1)
					return true
				}
			}
		}
	}
	return false
}

// startsItem says whether a known item with a value begins here.
func startsItem(b []byte) bool {
	for _, name := range knownItems {
		if len(b) > len(name)+1 && hasFoldPrefix(b, name) {
			switch b[len(name)] {
			case ' ':
				return true
			case '[':
				if name == "BODY" || name == "BINARY" {
					return true
				}
			}
		}
	}
	return false
}

// parseItem reads one value; why "" = well.
func (c *Conn) parseItem(s *scanner, m *Message, name, section []byte, origin int64) (why string) {
	switch {
	case section != nil:
		switch {
		case foldEqual(name, "BODY"):
			return c.parseSection(s, m, section, origin, false)
		case foldEqual(name, "BINARY"):
			return c.parseSection(s, m, section, origin, true)
		}
	case foldEqual(name, "UID"):
		return s.number(func(v []byte) string {
			n, ok := number32(v)
			if !ok {
				return whyRange
			}
			if m.UID == 0 {
				m.UID = imap.UID(n)
			}
			return ""
		})
	case foldEqual(name, "FLAGS"):
		switch s.peek() {
		case '(':
			s.i++
			flags, why := c.parseFlags(s)
			if why == "" {
				m.Flags, m.HasFlags = flags, true
			}
			return why
		}
		if t, _ := s.next(); t != tNil {
			return whySyntax
		}
		m.Flags, m.HasFlags = nil, true
		return ""
	case foldEqual(name, "RFC822.SIZE"):
		return s.number(func(v []byte) string {
			n, ok := number(v)
			if !ok || n > math.MaxInt64 {
				return whyRange
			}
			m.Size, m.HasSize = int64(n), true
			return ""
		})
	case foldEqual(name, "INTERNALDATE"):
		return s.number(func(v []byte) string {
			t, ok := ParseInternalDate(v)
			if !ok {
				return whySyntax
			}
			m.InternalDate = t
			return ""
		})
	case foldEqual(name, "MODSEQ"):
		return s.wrapped(func(v []byte) { m.ModSeq = modSeq(v) })
	case foldEqual(name, "EMAILID"):
		return s.wrapped(func(v []byte) { m.EmailID = id(v) })
	case foldEqual(name, "THREADID"):
		return s.wrapped(func(v []byte) { m.ThreadID = id(v) })
	case foldEqual(name, "X-GM-MSGID"):
		return s.wrapped(func(v []byte) { m.GmailMsgID, _ = number(v) })
	case foldEqual(name, "X-GM-THRID"):
		return s.wrapped(func(v []byte) { m.GmailThread, _ = number(v) })
	case foldEqual(name, "X-GM-LABELS"):
		return c.parseLabels(s, m)
	case foldEqual(name, "ENVELOPE"):
		env, why := c.parseEnvelope(s)
		m.Envelope = env
		return why
	case foldEqual(name, "BODYSTRUCTURE"), foldEqual(name, "BODY"):
		p := structure{c: c, s: s, m: m}
		bs, why := p.whole()
		m.Structure = bs
		return why
	case foldEqual(name, "RFC822.HEADER"):
		return c.parseSection(s, m, []byte("HEADER"), 0, false)
	case foldEqual(name, "RFC822.TEXT"):
		return c.parseSection(s, m, []byte("TEXT"), 0, false)
	case foldEqual(name, "RFC822"):
		return c.parseSection(s, m, []byte{}, 0, false)
	}
	c.unknown(upperString(name[:min(len(name), 64)]))
	if !s.skip() {
		return whyUnclosed
	}
	return ""
}

// number reads a value that is one token; NIL is out of range.
func (s *scanner) number(f func([]byte) string) string {
	at := s.i
	switch t, v := s.next(); t {
	case tAtom, tString:
		return f(v)
	case tNil:
		return whyRange
	}
	s.seek(at)
	return whySyntax
}

// wrapped reads `(value)` or value; NIL and an empty list are absent.
func (s *scanner) wrapped(f func([]byte)) string {
	at := s.i
	switch t, v := s.next(); t {
	case tAtom, tString:
		f(v)
		return ""
	case tNil:
		return ""
	case tOpen:
		switch t, v := s.next(); t {
		case tClose:
			return ""
		case tAtom, tString:
			f(v)
			fallthrough
		case tNil:
			if s.rest() {
				return ""
			}
		}
	}
	s.seek(at)
	return whySyntax
}

func id(v []byte) string {
	if len(v) > 255 {
		return ""
	}
	return cleanText(v)
}

// parseLabels reads Gmail's labels: `(\Inbox "a b" "\\Sent")`.
func (c *Conn) parseLabels(s *scanner, m *Message) string {
	at := s.i
	switch t, _ := s.next(); t {
	case tNil:
		m.HasLabels = true
		return ""
	case tOpen:
	default:
		s.seek(at)
		return whySyntax
	}
	for n := 0; ; n++ {
		t, v := s.next()
		switch t {
		case tClose:
			m.HasLabels = true
			return ""
		case tAtom, tString:
			if n >= c.lim.Keywords {
				return whyTooMany
			}
			m.Labels = append(m.Labels, DecodeName(string(v)))
		case tNil:
		default:
			m.Labels = m.Labels[:0]
			return whySyntax
		}
	}
}

// parseSection reads the content of a section.
func (c *Conn) parseSection(s *scanner, m *Message, name []byte, origin int64, binary bool) string {
	s.space()
	at := s.i
	literal := s.l < len(s.lits) && s.lits[s.l].open == s.i
	t, v := s.next()
	switch t {
	case tString, tAtom:
		if v == nil {
			v = []byte{}
		}
	case tNil:
		v = nil
	default:
		s.seek(at)
		return whySyntax
	}
	if len(m.Sections) >= c.lim.List {
		return whyTooMany
	}
	m.Sections = append(m.Sections, Section{Name: string(bytes.ToUpper(name)), Origin: origin, Data: v, Binary: binary})
	if literal {
		l := s.lits[s.l-1]
		if n, _, ok := literalSize(s.b[:l.start]); ok && n > int64(l.end-l.start) && c.rd.stream == nil {
			m.damage("BODY", whyTooLong)
		}
	}
	return ""
}
