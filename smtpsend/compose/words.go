package compose

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"
)

const (
	wordStart = "=?utf-8?q?"
	maxWord   = 75 // RFC 2047 section 2
)

// words makes encoded words of s, none within a character. The first has at most first
// octets, which MUST leave room for a character; the others 75. What they have is safe in
// a phrase (RFC 2047 section 5).
func words(s string, first int) []string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	escaped := 0
	for i := range len(s) {
		if s[i] != ' ' && !isPlain(s[i]) {
			escaped++
		}
	}
	quoted := len(s)+2*escaped <= base64.StdEncoding.EncodedLen(len(s))
	var out []string
	for room := first; s != ""; room = maxWord {
		most := room - len(wordStart) - len("?=")
		n, used := 0, 0
		for n < len(s) {
			_, size := utf8.DecodeRuneInString(s[n:])
			add := 3 * size
			if size == 1 && (s[n] == ' ' || isPlain(s[n])) {
				add = 1
			}
			if quoted && used+add > most || !quoted && base64.StdEncoding.EncodedLen(n+size) > most {
				break
			}
			n, used = n+size, used+add
		}
		if quoted {
			out = append(out, wordStart+qEncode(s[:n])+"?=")
		} else {
			out = append(out, "=?utf-8?b?"+base64.StdEncoding.EncodeToString([]byte(s[:n]))+"?=")
		}
		s = s[n:]
	}
	return out
}

// isPlain says what stands for itself in an encoded word, in a phrase too.
func isPlain(c byte) bool { return isAlnum(c) || strings.IndexByte("!*+-/", c) >= 0 }

func qEncode(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c == ' ':
			b.WriteByte('_')
		case isPlain(c):
			b.WriteByte(c)
		default:
			b.WriteByte('=')
			hex(&b, c)
		}
	}
	return b.String()
}

func hex(b *strings.Builder, c byte) {
	const digits = "0123456789ABCDEF"
	b.WriteByte(digits[c>>4])
	b.WriteByte(digits[c&15])
}
