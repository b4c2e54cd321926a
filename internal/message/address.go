package message

import "strings"

// Address is one mailbox of a header field. Text that is no address stands in Name, with
// "" in Address.
type Address struct{ Name, Address string }

// Addresses reads an address list as it really comes: groups are flattened, comments are
// names where there is no other, what is no address is kept as a name. One bad entry
// costs only itself.
func Addresses(v string, w *Warnings) []Address {
	var out []Address
	for v != "" {
		var entry string
		entry, v = cutEntry(v)
		if a, ok := address(entry, w); ok {
			out = append(out, a)
		}
	}
	return out
}

// cutEntry cuts off what stands before the next comma, or group's mark, that is in
// neither quotes, comment nor angle brackets. Without its closing mark, none of these goes
// beyond the end.
func cutEntry(v string) (entry, rest string) {
	quoted, angle, comment, at := false, false, 0, false
	for i := 0; i < len(v); i++ {
		switch c := v[i]; {
		case c == '\\':
			i++
		case comment > 0:
			switch c {
			case '(':
				comment++
			case ')':
				comment--
			}
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '(':
			comment++
		case c == '<':
			angle = true
		case c == '>':
			angle = false
		case angle:
		case c == '@':
			at = true
		case c == ',' || c == ';':
			return v[:i], v[i+1:]
		case c == ':' && !at: // "group: a, b;"; behind an @ it belongs to a port, or to nothing
			return "", v[i+1:]
		}
	}
	return v, ""
}

func address(s string, w *Warnings) (Address, bool) {
	s = strings.TrimSpace(s)
	if s == "" {
		return Address{}, false
	}
	bare, comment := dropComments(s)
	if i := strings.LastIndexByte(bare, '<'); i >= 0 {
		inside, _, _ := strings.Cut(bare[i+1:], ">")
		name := phrase(strings.TrimRight(bare[:i], "<"), w)
		if name == "" {
			name = Words(comment, w)
		}
		if inside = strings.TrimSpace(inside); strings.HasPrefix(inside, "@") { // RFC 5322 section 4.4: a route
			if _, behind, ok := strings.Cut(inside, ":"); ok {
				inside = behind
			}
		}
		if strings.Contains(inside, "@") {
			return Address{Name: name, Address: Clean(inside)}, true
		}
		if name == "" {
			name = Words(inside, w)
		}
		return Address{Name: name}, name != ""
	}
	bare = strings.TrimSpace(bare)
	if i := strings.LastIndexByte(bare, '@'); i > 0 && i < len(bare)-1 && !strings.ContainsAny(bare[i:], " \t") {
		// The address is the last word, unless its local part is quoted.
		if j := strings.LastIndexAny(bare[:i], " \t"); j >= 0 && !strings.Contains(bare, `"`) {
			return Address{Name: phrase(bare[:j], w), Address: Clean(bare[j+1:])}, true
		}
		return Address{Name: Words(comment, w), Address: Clean(bare)}, true
	}
	name := phrase(bare, w)
	if name == "" {
		name = Words(comment, w)
	}
	return Address{Name: name}, name != ""
}

// dropComments takes comments out of s and gives the first.
func dropComments(s string) (bare, first string) {
	if !strings.Contains(s, "(") {
		return s, ""
	}
	var out, in strings.Builder
	depth, quoted, done := 0, false, false
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '\\' && i+1 < len(s) {
			if depth == 0 {
				out.WriteString(s[i : i+2])
			} else if !done {
				in.WriteByte(s[i+1])
			}
			i++
			continue
		}
		switch {
		case c == '"' && depth == 0:
			quoted = !quoted
			out.WriteByte(c)
		case c == '(' && !quoted:
			if depth++; depth > 1 && !done {
				in.WriteByte(c)
			}
		case c == ')' && depth > 0:
			if depth--; depth == 0 {
				done = in.Len() > 0
			} else if !done {
				in.WriteByte(c)
			}
		case depth == 0:
			out.WriteByte(c)
		case !done:
			in.WriteByte(c)
		}
	}
	return out.String(), strings.TrimSpace(in.String())
}

// phrase is a display name without its quotes, decoded.
func phrase(s string, w *Warnings) string {
	s = strings.TrimSpace(s)
	if strings.Contains(s, `"`) {
		s = unquote(s)
	}
	return strings.TrimSpace(Words(s, w))
}

// unquote takes the quotes out of quoted strings, and the backslashes inside them.
func unquote(s string) string {
	out := make([]byte, 0, len(s))
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted && i+1 < len(s):
			i++
			out = append(out, s[i])
		default:
			out = append(out, c)
		}
	}
	return string(out)
}
