package wire

import (
	"net/mail"
	"strings"

	"github.com/emersion/go-imap/v2"
)

// Envelope is ENVELOPE as it came: encoded words, odd ids and broken dates included.
type Envelope struct {
	Date      string
	Subject   string
	From      []Address
	Sender    []Address
	ReplyTo   []Address
	To        []Address
	Cc        []Address
	Bcc       []Address
	InReplyTo string
	MessageID string
}

// Address is an address of an envelope as it came. Without Host it begins a group
// (Mailbox is its name) or ends one (nor has it a Mailbox).
type Address = imap.Address

// IMAP is the envelope in go-imap's words: its Date is zero where it is none, its ids
// are without angle brackets. Nothing is decoded.
func (e *Envelope) IMAP() *imap.Envelope {
	out := &imap.Envelope{
		Subject: e.Subject, From: e.From, Sender: e.Sender, ReplyTo: e.ReplyTo, To: e.To, Cc: e.Cc, Bcc: e.Bcc,
		InReplyTo: ids(e.InReplyTo),
	}
	if t, err := mail.ParseDate(e.Date); err == nil {
		out.Date = t
	}
	if all := ids(e.MessageID); len(all) > 0 {
		out.MessageID = all[0]
	}
	return out
}

// ids are the message ids in a field: what is in angle brackets, else its words.
func ids(v string) []string {
	var out []string
	if !strings.Contains(v, "<") {
		return strings.Fields(v)
	}
	for {
		_, rest, ok := strings.Cut(v, "<")
		if !ok {
			return out
		}
		in, after, ok := strings.Cut(rest, ">")
		if !ok {
			return out
		}
		if in = strings.TrimSpace(in); in != "" {
			out = append(out, in)
		}
		v = after
	}
}

// parseEnvelope reads an envelope (RFC 3501 section 7.4.2). Fields that are missing at
// its end are absent, those behind it are passed over; on a fault nothing is kept,
// because of what broke it nobody knows which field is which.
func (c *Conn) parseEnvelope(s *scanner) (*Envelope, string) {
	at := s.i
	switch t, _ := s.next(); t {
	case tNil:
		return nil, ""
	case tOpen:
	default:
		s.seek(at)
		return nil, whySyntax
	}
	env := new(Envelope)
	return env.nilIf(c.envelopeFields(s, env))
}

func (e *Envelope) nilIf(why string) (*Envelope, string) {
	if why != "" && why != whyTooLong {
		return nil, why
	}
	return e, why
}

// envelopeFields reads them behind the opening parenthesis, through the closing one.
func (c *Conn) envelopeFields(s *scanner, env *Envelope) (why string) {
	long := ""
	for n := range 10 {
		if s.peek() == ')' {
			s.i++
			return long
		}
		switch n {
		case 0:
			env.Date, why = c.envelopeString(s)
		case 1:
			env.Subject, why = c.envelopeString(s)
		case 2:
			env.From, why = c.addresses(s)
		case 3:
			env.Sender, why = c.addresses(s)
		case 4:
			env.ReplyTo, why = c.addresses(s)
		case 5:
			env.To, why = c.addresses(s)
		case 6:
			env.Cc, why = c.addresses(s)
		case 7:
			env.Bcc, why = c.addresses(s)
		case 8:
			env.InReplyTo, why = c.envelopeString(s)
		case 9:
			env.MessageID, why = c.envelopeString(s)
		}
		if why == whyTooLong {
			long, why = why, ""
		}
		if why != "" {
			return why
		}
	}
	if !s.rest() {
		return whyUnclosed
	}
	return long
}

// envelopeString reads an nstring; atoms, which some servers send, are taken as they are.
func (c *Conn) envelopeString(s *scanner) (string, string) {
	at := s.i
	switch t, v := s.next(); t {
	case tString, tAtom:
		if len(v) > c.lim.String {
			return string(v[:c.lim.String]), whyTooLong
		}
		return s.string(v), ""
	case tNil:
		return "", ""
	}
	s.seek(at)
	return "", whySyntax
}

// addresses reads a list of addresses, or NIL. What stands in it and is no address is
// passed over.
func (c *Conn) addresses(s *scanner) (out []Address, why string) {
	at := s.i
	switch t, v := s.next(); t {
	case tNil:
		return nil, ""
	case tString: // QUIRK: "" for no addresses
		if len(v) == 0 {
			return nil, ""
		}
		s.seek(at)
		return nil, whySyntax
	case tOpen:
	default:
		s.seek(at)
		return nil, whySyntax
	}
	out = make([]Address, 0, 1)
	for {
		switch t, _ := s.next(); t {
		case tClose:
			if len(out) == 0 {
				return nil, ""
			}
			return out, ""
		case tNil:
		case tOpen:
			if len(out) >= c.lim.Addresses {
				return nil, whyTooMany
			}
			a, why := c.address(s)
			if why != "" {
				return nil, why
			}
			if a != (Address{}) || len(out) > 0 {
				out = append(out, a)
			}
		default:
			return nil, whySyntax
		}
	}
}

// address reads `name adl mailbox host` through the closing parenthesis.
func (c *Conn) address(s *scanner) (a Address, why string) {
	for n := 0; s.peek() != ')'; n++ {
		var v string
		if n < 4 {
			if v, why = c.envelopeString(s); why != "" && why != whyTooLong {
				return a, why
			}
		} else if !s.skip() {
			return a, whyUnclosed
		}
		switch n {
		case 0:
			a.Name = v
		case 2:
			a.Mailbox = v
		case 3:
			a.Host = v
		}
	}
	s.i++
	return a, ""
}
