package compose

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds of a request (besides those of the RFCs).
const (
	maxSubject     = 998     // characters
	maxName        = 998     // characters of a display name or a file name
	maxText        = 5 << 20 // octets
	maxAttachments = 100
	maxFields      = 100
	maxFieldsSize  = 64 << 10
	maxFieldName   = 76
)

// check checks what becomes the header and the texts, and brings it into the form in
// which it is written.
func (c *composer) check() {
	m := &c.m
	c.mailbox("from", &m.From)
	m.To, m.Cc, m.Bcc, m.ReplyTo = c.list("to", m.To), c.list("cc", m.Cc), c.list("bcc", m.Bcc), c.list("replyTo", m.ReplyTo)
	m.Subject = c.phrase("subject", m.Subject, maxSubject)
	c.ids()
	c.headers()
	for _, t := range []struct {
		name string
		text *string
	}{{"text", m.Text}, {"html", m.HTML}} {
		if t.text != nil && len(*t.text) > maxText {
			c.problem(t.name, MessageTooLarge, "more than %d octets", maxText)
		}
	}
}

// broken tells of a value that would end a line.
func (c *composer) broken(location, value string) bool {
	if hasBreak(value) {
		c.problem(location, HeaderInjection, "no line end and no NUL may be in it")
		return true
	}
	return false
}

// phrase checks text of a header.
func (c *composer) phrase(location, value string, most int) string {
	if !c.broken(location, value) && utf8.RuneCountInString(value) > most {
		c.problem(location, LineTooLong, "more than %d characters", most)
	}
	return strings.TrimSpace(strings.ToValidUTF8(value, "\uFFFD"))
}

// address checks an address and makes its domain ASCII.
func (c *composer) address(location string, a *string) {
	if c.broken(location, *a) {
		return
	}
	addr, utf8, ok := checkAddress(*a)
	if !ok {
		c.problem(location, AddressInvalid, "not an address of the form local@domain, or too long")
		return
	}
	*a = addr
	c.out.NeedsUTF8 = c.out.NeedsUTF8 || utf8
}

func (c *composer) mailbox(location string, a *Address) {
	a.Name = c.phrase(location+".name", a.Name, maxName)
	c.address(location+".address", &a.Address)
}

func (c *composer) list(location string, list []Address) []Address {
	list = slices.Clone(list)
	for i := range list {
		c.mailbox(fmt.Sprintf("%s[%d]", location, i), &list[i])
	}
	return list
}

// ids checks the ids of the message and of those that it answers.
func (c *composer) ids() {
	for _, id := range []struct{ location, value string }{{"messageId", c.m.MessageID}, {"inReplyTo", c.m.InReplyTo}} {
		if id.value != "" && !c.broken(id.location, id.value) && !isID(id.value) {
			c.problem(id.location, ValueInvalid, "not of the form <left@right>, or over %d octets", maxID)
		}
	}
	for i, id := range c.m.References {
		if at := fmt.Sprintf("references[%d]", i); !c.broken(at, id) && !isID(id) {
			c.problem(at, ValueInvalid, "not of the form <left@right>, or over %d octets", maxID)
		}
	}
}

// headers checks the fields that the caller adds.
func (c *composer) headers() {
	c.m.Headers = slices.Clone(c.m.Headers)
	size := 0
	for i := range c.m.Headers {
		h := &c.m.Headers[i]
		location := "headers." + strings.ToValidUTF8(h.Name, "\uFFFD")
		if !c.broken("headers", h.Name) && !c.broken(location, h.Value) {
			c.header(location, h)
		}
		size += len(h.Name) + len(h.Value) + len(": \r\n")
	}
	if len(c.m.Headers) > maxFields || size > maxFieldsSize {
		c.problem("headers", LineTooLong, "more than %d fields or %d octets", maxFields, maxFieldsSize)
	}
}

func (c *composer) header(location string, h *Header) {
	if !isFieldName(h.Name) || len(h.Name) > maxFieldName {
		c.problem("headers", HeaderNotAllowed, "%q is no name of a field", h.Name)
		return
	}
	h.Value = strings.Trim(strings.ToValidUTF8(h.Value, "\uFFFD"), " \t")
	switch name := strings.ToLower(h.Name); {
	case isReserved(name) || strings.EqualFold(name, c.o.IDHeader):
		c.problem(location, HeaderNotAllowed, "this field is written by the server or has a place of its own")
	case name == "in-reply-to" && c.m.InReplyTo != "", name == "references" && c.m.References != nil:
		c.problem(location, ConflictingFields, "the reference gives this field")
	case !foldable(h.Name, h.Value):
		c.problem(location, LineTooLong, "a word has more than %d octets", maxLine-len(h.Name))
	}
}

// reserved are the fields that are ours, in lower case; a prefix ends with "-".
var reserved = []string{
	"from", "sender", "to", "cc", "bcc", "subject", "date", "message-id", "reply-to", "resent-", "mime-version", "content-",
	"received", "return-path", "dkim-signature", "arc-", "authentication-results",
}

func isReserved(name string) bool {
	return slices.ContainsFunc(reserved, func(r string) bool {
		return name == r || strings.HasSuffix(r, "-") && strings.HasPrefix(name, r)
	})
}

// isFieldName is RFC 5322 section 3.6.8.
func isFieldName(s string) bool { return s != "" && isGraph(s) && !strings.Contains(s, ":") }
