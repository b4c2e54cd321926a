package wire

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// DecodeName makes a folder name of LIST fit to be shown: modified UTF-7 (RFC 3501
// section 5.1.3) becomes UTF-8. What is not valid stays as it came, bytes that are no
// UTF-8 are replaced; it never fails and never folds case.
func DecodeName(raw string) string {
	if !strings.Contains(raw, "&") {
		return strings.ToValidUTF8(raw, "\uFFFD")
	}
	var out strings.Builder
	for {
		before, after, ok := strings.Cut(raw, "&")
		out.WriteString(before)
		if !ok {
			break
		}
		in, rest, ok := strings.Cut(after, "-")
		if !ok {
			out.WriteString("&" + after)
			break
		}
		switch text, ok := decodeShift(in); {
		case in == "":
			out.WriteByte('&')
		case ok:
			out.WriteString(text)
		default:
			out.WriteString("&" + in + "-")
		}
		raw = rest
	}
	return strings.ToValidUTF8(out.String(), "\uFFFD")
}

// decodeShift reads base64 of UTF-16. An encoder's padding bits must be zero and
// surrogates in pairs; a shift may hold ASCII, as some servers write it.
func decodeShift(in string) (string, bool) {
	var units []uint16
	var bits, n uint
	for i := range len(in) {
		v := base64Value(in[i])
		if v < 0 {
			return "", false
		}
		bits, n = bits<<6|uint(v), n+6
		if n >= 16 {
			n -= 16
			units = append(units, uint16(bits>>n))
			bits &= 1<<n - 1
		}
	}
	if bits != 0 || n >= 6 || len(units) == 0 {
		return "", false
	}
	var out strings.Builder
	for i := 0; i < len(units); i++ {
		r := rune(units[i])
		if utf16.IsSurrogate(r) {
			if i+1 == len(units) {
				return "", false
			}
			if r = utf16.DecodeRune(r, rune(units[i+1])); r == utf8.RuneError {
				return "", false
			}
			i++
		}
		if r < ' ' || r == 0x7f {
			return "", false // would not be shown, and hide what the folder is called
		}
		out.WriteRune(r)
	}
	return out.String(), true
}

const base64Modified = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,"

func base64Value(c byte) int { return strings.IndexByte(base64Modified, c) }

// EncodeName makes the name for the wire of a new folder. Names that LIST gave are sent
// as they came, never through here.
func EncodeName(name string) string {
	var out strings.Builder
	var shift []uint16
	flush := func() {
		if len(shift) == 0 {
			return
		}
		out.WriteByte('&')
		var bits, n uint
		for _, u := range shift {
			bits, n = bits<<16|uint(u), n+16
			for n >= 6 {
				n -= 6
				out.WriteByte(base64Modified[bits>>n&63])
			}
			bits &= 1<<n - 1
		}
		if n > 0 {
			out.WriteByte(base64Modified[bits<<(6-n)&63])
		}
		out.WriteByte('-')
		shift = shift[:0]
	}
	for _, r := range name {
		if r < ' ' || r > '~' {
			shift = utf16.AppendRune(shift, r)
			continue
		}
		flush()
		out.WriteRune(r)
		if r == '&' {
			out.WriteByte('-')
		}
	}
	flush()
	return out.String()
}
