package message

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/html/charset"
)

// Text decodes the body of a text part to at most most bytes of UTF-8 with LF line ends,
// cut at a character. body is the part's, or, with partial, its beginning. more says that
// there is more text than is given.
func Text(q *Part, body []byte, partial bool, most int, w *Warnings) (text string, more bool) {
	if partial && q.Encoding == "quoted-printable" { // not within an escape
		if i := bytes.LastIndexByte(body, '='); i >= 0 && len(body)-i <= 2 {
			body = body[:i]
		}
	}
	// No charset has more than four bytes for what UTF-8 needs one for; what is beyond
	// cannot count. Some bytes more, so that the cut is never seen.
	data, more := Decode(q.Encoding, body, 4*most+64, w)
	more = more || partial
	name := q.Params["charset"]
	if name == "" && q.Type == "text/html" && !utf8.Valid(data) {
		_, name, _ = charset.DetermineEncoding(data[:min(len(data), 1024)], "")
	}
	out, ok := convert(name, data)
	if !ok {
		w.named("charset", name)
		out = string(data)
	}
	if more {
		out = strings.TrimSuffix(out, "\uFFFD") // half a character
	}
	out = strings.ToValidUTF8(out, "\uFFFD")
	out = strings.TrimPrefix(out, "\uFEFF")
	if strings.ContainsAny(out, "\r\x00") {
		out = strings.NewReplacer("\r\n", "\n", "\x00", "").Replace(out)
	}
	cut, short := Truncate(out, most)
	return cut, more || short
}

// Truncate cuts s to at most most bytes at a character.
func Truncate(s string, most int) (string, bool) {
	if len(s) <= most {
		return s, false
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most], true
}
