package compose

import (
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/internal/message"
)

// Action is what is done with an original.
type Action string

// The actions.
const (
	Reply    Action = "reply"
	ReplyAll Action = "reply-all"
	Forward  Action = "forward"
)

// Original is the message that a reply or a forward is about, as it was read from the
// mailbox.
type Original struct {
	Header      message.Header // not decoded
	Text, HTML  string         // UTF-8 with LF line ends; "" = it has none
	Attachments []Attachment   // all of its parts that are no text
}

// MessageID is the original's, <left@right>, or what it has instead; "" = nothing.
func (o *Original) MessageID() string {
	if ids := message.IDs(o.Header.First("message-id")); len(ids) > 0 {
		return ids[0]
	}
	return ""
}

// Reference is what is wanted of the original.
type Reference struct {
	Action             Action   // "" = Reply
	MessageID          string   // that the original must have; "" = any
	Own                []string // addresses of the account
	Inline             bool     // its text is quoted
	ForwardAttachments bool     // of Forward: its attachments go along
	Locale             string   // of the line before the quote: "de", "fr-CA"; English where we have none
	Zone               *time.Location
}

// maxReferences bounds the ids of a conversation that are told: the first and the latest.
const maxReferences = 100

// Derive fills in what a reply or a forward takes from its original. What the original
// says that could not be sent is left out: only what the caller gave can be refused by
// Compose. An *Error says that the original is not the one meant, or that raw has its own
// text.
func Derive(o Original, r Reference, m Message) (Message, error) {
	if r.MessageID != "" && strings.Trim(r.MessageID, "<> ") != strings.Trim(o.MessageID(), "<> ") {
		return Message{}, &Error{[]Problem{{"reference.messageId", ReferenceMismatch, "the message has another Message-ID"}}}
	}
	if m.Raw != nil && r.Inline {
		return Message{}, &Error{[]Problem{{"reference.inline", ConflictingFields, "raw has its own text"}}}
	}
	if m.Raw != nil && r.ForwardAttachments {
		return Message{}, &Error{[]Problem{{"reference.forwardAttachments", ConflictingFields, "raw has its own attachments"}}}
	}
	own := map[string]bool{}
	for _, a := range r.Own {
		own[fold(a)] = true
	}
	if r.Action != Forward && m.Raw == nil {
		recipients(&o, &r, &m, own)
	}
	threads(&o, &r, &m)
	if m.Raw != nil {
		return m, nil
	}
	if m.Subject == "" {
		m.Subject = subject(o.Header.First("subject"), r.Action)
	}
	if r.Inline {
		quoteInto(&o, &r, &m)
	}
	if r.Action == Forward && r.ForwardAttachments {
		m.Attachments = slices.Clone(m.Attachments)
		for _, a := range o.Attachments {
			if a.Inline && slices.ContainsFunc(m.Attachments, func(b Attachment) bool { return a.CID != "" && bareID(b.CID) == bareID(a.CID) }) {
				continue // it stands in the quote
			}
			a = adopt(a)
			a.Inline, a.CID = false, ""
			m.Attachments = append(m.Attachments, a)
		}
	}
	return m, nil
}

// fold is a key of an address that people would hold for the same.
func fold(address string) string { return strings.ToLower(strings.TrimSpace(address)) }

// recipients derives To and Cc.
func recipients(o *Original, r *Reference, m *Message, own map[string]bool) {
	from := o.list("from")
	mine := slices.ContainsFunc(from, func(a Address) bool { return own[fold(a.Address)] })
	if len(m.To) == 0 {
		switch m.To = o.list("reply-to"); {
		case mine:
			m.To = o.list("to")
		case len(m.To) == 0:
			m.To = from
		}
	}
	if r.Action != ReplyAll {
		return
	}
	seen := map[string]bool{}
	for _, list := range [][]Address{m.To, m.Cc, m.Bcc} {
		for _, a := range list {
			seen[fold(a.Address)] = true
		}
	}
	m.Cc = slices.Clone(m.Cc)
	for _, a := range append(o.list("to"), o.list("cc")...) {
		if key := fold(a.Address); !seen[key] && !own[key] {
			seen[key] = true
			m.Cc = append(m.Cc, a)
		}
	}
}

// list reads an address field: its addresses that can be written to, each once.
func (o *Original) list(field string) []Address {
	var out []Address
	seen := map[string]bool{}
	for _, v := range o.Header[field] {
		for _, a := range message.Addresses(v, nil) {
			addr, _, ok := checkAddress(a.Address)
			if !ok || seen[fold(addr)] {
				continue
			}
			seen[fold(addr)] = true
			name, _ := message.Truncate(a.Name, 200)
			out = append(out, Address{Name: name, Address: addr})
		}
	}
	return out
}

// threads derives the ids of the conversation: RFC 5322 section 3.6.4.
func threads(o *Original, r *Reference, m *Message) {
	has := func(name string) bool {
		return slices.ContainsFunc(m.Headers, func(h Header) bool { return strings.EqualFold(h.Name, name) })
	}
	id := o.MessageID()
	if r.Action != Forward && isID(id) && m.InReplyTo == "" && !has("In-Reply-To") {
		m.InReplyTo = id
	}
	if m.References != nil || has("References") {
		return
	}
	chain := message.IDs(o.Header.First("references"))
	if before := message.IDs(o.Header.First("in-reply-to")); len(chain) == 0 && len(before) == 1 {
		chain = before
	}
	var refs []string
	seen := map[string]bool{id: true}
	for _, c := range chain {
		if isID(c) && !seen[c] {
			seen[c] = true
			refs = append(refs, c)
		}
	}
	if isID(id) {
		refs = append(refs, id)
	}
	if n := len(refs); n > maxReferences {
		refs = append(refs[:1:1], refs[n-maxReferences+1:]...)
	}
	m.References = refs
}

// subject puts Re: or Fwd: before a subject, once, whatever it begins with already.
func subject(raw string, a Action) string {
	s := strings.TrimSpace(message.Words(raw, nil))
	prefix, marks := "Re: ", []string{"re"}
	if a == Forward {
		prefix, marks = "Fwd: ", []string{"fwd", "fw"}
	}
	for {
		mark, rest, ok := strings.Cut(s, ":")
		mark = strings.ToLower(strings.TrimSpace(mark))
		if i := strings.IndexAny(mark, "[("); i > 0 { // "Re[2]:" of some mailers
			mark = strings.TrimSpace(mark[:i])
		}
		if !ok || !slices.Contains(marks, mark) {
			break
		}
		s = strings.TrimSpace(rest)
	}
	all := []rune(prefix + s)
	return strings.TrimSpace(string(all[:min(len(all), maxSubject)]))
}

// adopt makes of an original's attachment one that can be sent, whatever it is called.
func adopt(a Attachment) Attachment {
	a.Filename, _ = message.Truncate(message.Clean(a.Filename), 500)
	if a.CID = bareID(a.CID); len(a.CID) > maxID || !isGraph(a.CID) || strings.ContainsAny(a.CID, "<>") {
		a.CID = ""
	}
	if _, _, ok := cutType(a.ContentType); !ok {
		a.ContentType, _, _ = strings.Cut(a.ContentType, ";") // it may be a parameter
	}
	if _, _, ok := cutType(a.ContentType); !ok {
		a.ContentType = "application/octet-stream"
	}
	return a
}
