package imaptest

import (
	"bytes"
	"maps"
	"mime"
	"net/mail"
	"slices"
	"strconv"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
)

// splitMessage cuts a message behind the empty line that ends its header.
func splitMessage(raw []byte) (head, body []byte) {
	if bytes.HasPrefix(raw, []byte("\r\n")) {
		return raw[:2], raw[2:]
	}
	if i := bytes.Index(raw, []byte("\r\n\r\n")); i >= 0 {
		return raw[:i+4], raw[i+4:]
	}
	return raw, nil
}

// headerFields cuts a header into its fields with their continuation lines.
func headerFields(head []byte) [][]byte {
	var out [][]byte
	begin := 0
	for i := 0; i < len(head); {
		end := len(head)
		if k := bytes.IndexByte(head[i:], '\n'); k >= 0 {
			end = i + k + 1
		}
		if i = end; i < len(head) && (head[i] == ' ' || head[i] == '\t') {
			continue // the field goes on
		}
		if field := head[begin:end]; len(bytes.TrimRight(field, "\r\n")) > 0 {
			out = append(out, field)
		}
		begin = end
	}
	return out
}

func fieldName(field []byte) string {
	name, _, _ := bytes.Cut(field, []byte(":"))
	return strings.TrimSpace(string(name))
}

// headerValue is the value of the first field of a name, unfolded.
func headerValue(head []byte, name string) string {
	for _, f := range headerFields(head) {
		if strings.EqualFold(fieldName(f), name) {
			_, v, _ := bytes.Cut(f, []byte(":"))
			return strings.TrimSpace(strings.NewReplacer("\r", "", "\n", "").Replace(string(v)))
		}
	}
	return ""
}

// sectionOf is what BODY[section] is of a message; false where there is no such part.
func sectionOf(raw []byte, sec *bodySection) ([]byte, bool) {
	if len(sec.part) > 0 {
		item := &imap.FetchItemBodySection{Part: sec.part, Specifier: imap.PartSpecifier(sec.what)}
		switch sec.what {
		case "HEADER.FIELDS":
			item.Specifier, item.HeaderFields = imap.PartSpecifierHeader, sec.fields
		case "HEADER.FIELDS.NOT":
			item.Specifier, item.HeaderFieldsNot = imap.PartSpecifierHeader, sec.fields
		}
		b := imapserver.ExtractBodySection(bytes.NewReader(raw), item)
		return b, b != nil
	}
	head, body := splitMessage(raw)
	switch sec.what {
	case "":
		return raw, true
	case "HEADER":
		return head, true
	case "TEXT":
		return body, true
	}
	var out []byte
	for _, f := range headerFields(head) {
		named := slices.ContainsFunc(sec.fields, func(n string) bool { return strings.EqualFold(n, fieldName(f)) })
		if named == (sec.what == "HEADER.FIELDS") {
			out = append(out, f...)
		}
	}
	return append(out, "\r\n"...), true
}

// appendNString writes a string, or NIL for an empty one.
func appendNString(out []byte, s string) []byte {
	if s == "" {
		return append(out, "NIL"...)
	}
	return appendString(out, s)
}

// appendString writes a string, quoted where it can be.
func appendString(out []byte, s string) []byte {
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		return appendLiteral(out, []byte(s))
	}
	return append(out, quoted(s)...)
}

// appendEnvelope writes ENVELOPE, with values as they stand in the header.
func appendEnvelope(out, head []byte) []byte {
	get := func(name string) string { return headerValue(head, name) }
	from := get("From")
	or := func(v string) string {
		if v == "" {
			return from // RFC 3501 section 7.4.2: Sender and Reply-To default to From
		}
		return v
	}
	out = appendNString(append(out, '('), get("Date"))
	out = appendNString(append(out, ' '), get("Subject"))
	for _, list := range []string{from, or(get("Sender")), or(get("Reply-To")), get("To"), get("Cc"), get("Bcc")} {
		out = appendAddresses(append(out, ' '), list)
	}
	out = appendNString(append(out, ' '), get("In-Reply-To"))
	out = appendNString(append(out, ' '), get("Message-ID"))
	return append(out, ')')
}

func appendAddresses(out []byte, list string) []byte {
	addrs, err := mail.ParseAddressList(list)
	if err != nil || len(addrs) == 0 {
		return append(out, "NIL"...)
	}
	out = append(out, '(')
	for _, a := range addrs {
		local, host, _ := strings.Cut(a.Address, "@")
		out = appendNString(append(out, '('), mime.QEncoding.Encode("utf-8", a.Name))
		out = appendNString(append(out, " NIL "...), local)
		out = append(appendNString(append(out, ' '), host), ')')
	}
	return append(out, ')')
}

// appendStructure writes BODYSTRUCTURE, or BODY, which has no extension data.
func appendStructure(out, raw []byte, extended bool) []byte {
	return appendPart(out, imapserver.ExtractBodyStructure(bytes.NewReader(raw)), raw, extended)
}

func appendPart(out []byte, part imap.BodyStructure, raw []byte, extended bool) []byte {
	out = append(out, '(')
	switch b := part.(type) {
	case *imap.BodyStructureMultiPart:
		for _, child := range b.Children {
			out = appendPart(out, child, raw, extended)
		}
		if len(b.Children) == 0 {
			out = append(out, `("text" "plain" NIL NIL NIL "7bit" 0 0)`...)
		}
		out = appendString(append(out, ' '), b.Subtype)
		if x := b.Extended; extended && x != nil {
			out = appendParams(append(out, ' '), x.Params)
			out = appendExtension(out, x.Disposition, x.Language, x.Location)
		}
	case *imap.BodyStructureSinglePart:
		kind, sub := b.Type, b.Subtype
		if kind == "" {
			kind, sub = "text", "plain"
		}
		out = appendString(append(appendString(out, kind), ' '), sub)
		out = appendParams(append(out, ' '), b.Params)
		out = appendNString(append(out, ' '), b.ID)
		out = appendNString(append(out, ' '), b.Description)
		encoding := b.Encoding
		if encoding == "" {
			encoding = "7bit"
		}
		out = appendString(append(out, ' '), encoding)
		out = strconv.AppendUint(append(out, ' '), uint64(b.Size), 10)
		if m := b.MessageRFC822; m != nil {
			out = appendGoEnvelope(append(out, ' '), m.Envelope)
			out = appendPart(append(out, ' '), m.BodyStructure, raw, extended)
			out = strconv.AppendInt(append(out, ' '), m.NumLines, 10)
		} else if b.Text != nil || b.Type == "" {
			lines := int64(0)
			if b.Text != nil {
				lines = b.Text.NumLines
			}
			out = strconv.AppendInt(append(out, ' '), lines, 10)
		}
		if x := b.Extended; extended && x != nil {
			out = append(out, " NIL"...) // MD5
			out = appendExtension(out, x.Disposition, x.Language, x.Location)
		}
	}
	return append(out, ')')
}

// appendGoEnvelope writes the envelope of an attached message.
func appendGoEnvelope(out []byte, e *imap.Envelope) []byte {
	if e == nil {
		return append(out, "NIL"...)
	}
	date := ""
	if !e.Date.IsZero() {
		date = e.Date.Format("Mon, 02 Jan 2006 15:04:05 -0700")
	}
	out = appendNString(append(out, '('), date)
	out = appendNString(append(out, ' '), mime.QEncoding.Encode("utf-8", e.Subject))
	for _, list := range [][]imap.Address{e.From, e.Sender, e.ReplyTo, e.To, e.Cc, e.Bcc} {
		out = append(out, ' ')
		if len(list) == 0 {
			out = append(out, "NIL"...)
			continue
		}
		out = append(out, '(')
		for _, a := range list {
			out = appendNString(append(out, '('), mime.QEncoding.Encode("utf-8", a.Name))
			out = appendNString(append(out, " NIL "...), a.Mailbox)
			out = append(appendNString(append(out, ' '), a.Host), ')')
		}
		out = append(out, ')')
	}
	id := ""
	if e.MessageID != "" {
		id = "<" + e.MessageID + ">"
	}
	return append(appendNString(append(out, " NIL "...), id), ')')
}

func appendParams(out []byte, params map[string]string) []byte {
	if len(params) == 0 {
		return append(out, "NIL"...)
	}
	out = append(out, '(')
	for i, k := range slices.Sorted(maps.Keys(params)) {
		if i > 0 {
			out = append(out, ' ')
		}
		out = appendString(append(appendString(out, k), ' '), params[k])
	}
	return append(out, ')')
}

func appendExtension(out []byte, d *imap.BodyStructureDisposition, language []string, location string) []byte {
	if d == nil {
		out = append(out, " NIL"...)
	} else {
		out = appendParams(append(appendString(append(out, " ("...), d.Value), ' '), d.Params)
		out = append(out, ')')
	}
	out = appendNString(append(out, ' '), strings.Join(language, ","))
	return appendNString(append(out, ' '), location)
}
