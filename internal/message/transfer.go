package message

import (
	"bytes"
	"encoding/base64"
	"strings"
)

// Decode undoes a Content-Transfer-Encoding, giving at most most bytes; more says that
// there would be others. It is lenient: base64 is read over what does not belong in it,
// and to where it breaks off; in quoted-printable what is no escape stays. An unknown
// encoding is taken for none.
func Decode(encoding string, b []byte, most int, w *Warnings) (out []byte, more bool) {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "base64":
		out = decodeBase64(b, most+1)
	case "quoted-printable":
		out = decodeQuoted(b, most+1)
	case "", "7bit", "8bit", "binary":
		out = b
	default:
		w.named("encoding", encoding)
		out = b
	}
	if len(out) > most {
		return out[:most], true
	}
	return out, false
}

// base64Value is the value of each base64 character (both alphabets), 64 = none.
var base64Value = func() (t [256]byte) {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for i := range t {
		t[i] = 64
	}
	for i := range len(letters) {
		t[letters[i]] = byte(i)
	}
	t['-'], t['_'] = 62, 63
	return t
}()

// decodeBase64 decodes until at least most bytes are there or b ends.
func decodeBase64(b []byte, most int) []byte {
	out := make([]byte, 0, max(0, min(base64.StdEncoding.DecodedLen(len(b)), most+3)))
	var s base64State
	if out = s.decode(out, b, most); len(out) >= most {
		return out
	}
	return s.end(out)
}

// base64State is a group that is not full.
type base64State struct {
	acc uint32
	n   int
}

// decode appends what b decodes to, until out has at least most bytes. Padding ends a
// group, not the text: some mailers encode line by line.
func (s *base64State) decode(out, b []byte, most int) []byte {
	acc, n := s.acc, s.n
	for _, c := range b {
		if c == '=' {
			out = base64State{acc, n}.end(out)
			acc, n = 0, 0
			continue
		}
		v := base64Value[c]
		if v > 63 {
			continue
		}
		acc = acc<<6 | uint32(v)
		if n++; n == 4 {
			out = append(out, byte(acc>>16), byte(acc>>8), byte(acc))
			acc, n = 0, 0
			if len(out) >= most {
				break
			}
		}
	}
	s.acc, s.n = acc, n
	return out
}

// end appends what a group that is not full has of bytes.
func (s base64State) end(out []byte) []byte {
	if s.n >= 2 {
		out = append(out, byte(s.acc>>(6*s.n-8)))
	}
	if s.n == 3 {
		out = append(out, byte(s.acc>>2))
	}
	return out
}

// decodeQuoted decodes quoted-printable (RFC 2045 section 6.7) until most bytes are there.
func decodeQuoted(b []byte, most int) []byte {
	out := make([]byte, 0, max(0, min(len(b), most+2)))
	for len(b) > 0 && len(out) < most {
		line, rest := b, []byte(nil)
		end := ""
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			line, rest, end = b[:i], b[i+1:], "\n"
			if bytes.HasSuffix(line, []byte{'\r'}) {
				line, end = line[:len(line)-1], "\r\n"
			}
		}
		b = rest
		line = bytes.TrimRight(line, " \t") // added on the way
		if soft := bytes.HasSuffix(line, []byte{'='}); soft {
			line, end = line[:len(line)-1], ""
		}
		for i := 0; i < len(line) && len(out) < most; i++ {
			if c := line[i]; c == '=' && i+2 < len(line) && unhex(line[i+1]) < 16 && unhex(line[i+2]) < 16 {
				out = append(out, unhex(line[i+1])<<4|unhex(line[i+2]))
				i += 2
			} else {
				out = append(out, c)
			}
		}
		out = append(out, end...)
	}
	return out
}
