package message

import (
	"slices"
	"strings"
)

// maxWarnings bounds Warnings.
const maxWarnings = 20

// Warnings name the charsets and encodings that were not understood, each once:
// "charset x-foo", "encoding x-bar". A nil pointer takes none.
type Warnings []string

// Add takes a warning.
func (w *Warnings) Add(s string) {
	if w != nil && len(*w) < maxWarnings && !slices.Contains(*w, s) {
		*w = append(*w, s)
	}
}

func (w *Warnings) named(kind, name string) {
	if len(name) > 40 {
		name = name[:40]
	}
	w.Add(kind + " " + Clean(strings.ToLower(name)))
}

// Words decodes the encoded words of header text (RFC 2047), wherever they stand, and
// cleans it. Neighbours of one charset are put together before they are decoded: mailers
// cut words inside characters. A word in an unknown charset stays as it came.
func Words(s string, w *Warnings) string {
	if !strings.Contains(s, "=?") {
		return Clean(s)
	}
	var out strings.Builder
	var run []byte // bytes of neighbouring words of one charset, which stand in s[from:to]
	var charset string
	from, to, at := 0, 0, 0
	flush := func() {
		if run == nil {
			return
		}
		if text, ok := convert(charset, run); ok {
			out.WriteString(text)
		} else {
			w.named("charset", charset)
			out.WriteString(s[from:to])
		}
		run = nil
	}
	for {
		i := strings.Index(s[at:], "=?")
		if i < 0 {
			break
		}
		i += at
		word, ok := cutWord(s[i:])
		if word.whole == "" {
			break // no word ends behind here
		}
		next := i + len(word.whole)
		switch {
		case !ok:
			flush()
			out.WriteString(s[at:next])
		case run != nil && strings.Trim(s[at:i], " \t") == "": // RFC 2047 section 6.2: not shown
			if strings.EqualFold(charset, word.charset) {
				run = append(run, word.data...)
				break
			}
			flush()
			run, charset, from = word.data, word.charset, i
		default:
			flush()
			out.WriteString(s[at:i])
			run, charset, from = word.data, word.charset, i
		}
		at, to = next, next
	}
	flush()
	out.WriteString(s[at:])
	return Clean(out.String())
}

type encodedWord struct {
	whole   string // as it came
	charset string
	data    []byte
}

// cutWord reads the encoded word that s begins with. Not ok with whole: something that
// only looks like one; without: none ends in s.
func cutWord(s string) (encodedWord, bool) {
	charset, rest, ok := strings.Cut(s[2:], "?")
	if !ok {
		return encodedWord{}, false
	}
	if len(charset) == 0 || len(charset) > 80 || len(rest) < 2 || rest[1] != '?' || strings.ContainsAny(charset, " \t=\"") {
		return encodedWord{whole: s[:2]}, false
	}
	i := strings.Index(rest[2:], "?=")
	if i < 0 {
		return encodedWord{}, false
	}
	text := rest[2 : 2+i]
	w := encodedWord{whole: s[:2+len(charset)+1+2+i+2]}
	w.charset, _, _ = strings.Cut(charset, "*") // RFC 2231 section 5: a language behind it
	switch rest[0] {
	case 'b', 'B':
		w.data = decodeBase64([]byte(text), len(text))
	case 'q', 'Q':
		w.data = decodeQ(text)
	default:
		return encodedWord{whole: w.whole}, false
	}
	if w.data == nil {
		w.data = []byte{}
	}
	return w, true
}

// decodeQ is quoted-printable with _ for space (RFC 2047 section 4.2).
func decodeQ(s string) []byte {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '_':
			out = append(out, ' ')
		case c == '=' && i+2 < len(s) && unhex(s[i+1]) < 16 && unhex(s[i+2]) < 16:
			out = append(out, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
		default:
			out = append(out, c)
		}
	}
	return out
}

func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}
