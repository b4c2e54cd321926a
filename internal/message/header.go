package message

import (
	"bytes"
	"strings"
)

// MaxHeader is how many bytes of a header block are read; fields beyond are not there.
const MaxHeader = 256 << 10

// Header are fields by lower-case name, each in the order it came. Values are unfolded,
// valid UTF-8 on one line, and not decoded: see [Words].
type Header map[string][]string

// ParseHeader reads a header block up to its empty line, tolerant line by line: a line
// that is no field is passed over.
func ParseHeader(block []byte) Header {
	h, _ := readHeader(&lines{b: block}, func([]byte) bool { return false })
	return h
}

// First is the first value of a field, "" without one. name is in lower case.
func (h Header) First(name string) string {
	if v := h[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// lines hands out a text line by line.
type lines struct {
	b  []byte
	at int
	cr bool // lines end in bare CR: there is no LF in the text
}

// next gives a line without its end and where the one behind it begins.
func (l *lines) next() (line []byte, after int) {
	rest := l.b[l.at:]
	end := byte('\n')
	if l.cr {
		end = '\r'
	}
	i := bytes.IndexByte(rest, end)
	if i < 0 {
		return bytes.TrimSuffix(rest, []byte{'\r'}), len(l.b)
	}
	return bytes.TrimSuffix(rest[:i], []byte{'\r'}), l.at + i + 1
}

// readHeader reads fields up to the empty line, which it passes, or to a line that stop
// says is none of the header. Where no line of a block is a field, the block was no
// header: it is left to be the body, and ok is false.
func readHeader(l *lines, stop func(line []byte) bool) (h Header, ok bool) {
	h = Header{}
	begin, empty := l.at, true
	limit := min(len(l.b), begin+MaxHeader)
	var name string
	var value []byte
	flush := func() {
		if name != "" {
			h[name] = append(h[name], Clean(string(bytes.TrimSpace(value))))
		}
		name, value = "", value[:0]
	}
	for l.at < len(l.b) {
		line, after := l.next()
		if stop(line) {
			break
		}
		inside := l.at < limit
		l.at = after
		if len(line) == 0 {
			break
		}
		empty = false
		if !inside {
			continue
		}
		if line[0] == ' ' || line[0] == '\t' {
			if name != "" {
				value = append(append(value, ' '), bytes.TrimSpace(line)...)
			}
			continue
		}
		flush()
		n, v, is := bytes.Cut(line, []byte{':'})
		if n = bytes.TrimSpace(n); is && isFieldName(n) {
			name, value = strings.ToLower(string(n)), append(value, v...)
		}
	}
	flush()
	if len(h) == 0 && !empty {
		l.at = begin
		return h, false
	}
	return h, true
}

// isFieldName says whether n can be a field's name: RFC 5322 section 2.2, and what
// mailers make of it.
func isFieldName(n []byte) bool {
	if len(n) == 0 || len(n) > 1000 {
		return false
	}
	for _, c := range n {
		if c <= ' ' || c == 0x7f {
			return false
		}
	}
	return true
}

// Clean makes header text valid UTF-8 without line ends and NULs.
func Clean(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if !strings.ContainsAny(s, "\r\n\x00") {
		return s
	}
	return strings.NewReplacer("\r", "", "\n", "", "\x00", "").Replace(s)
}

// IDs reads message ids as they really are, with angle brackets: everything in angle
// brackets, else the words of a value that has none.
func IDs(v string) []string {
	var out []string
	if !strings.Contains(v, "<") {
		for w := range strings.FieldsSeq(v) {
			out = append(out, "<"+strings.Trim(w, ">")+">")
		}
		return out
	}
	for {
		_, rest, ok := strings.Cut(v, "<")
		if !ok {
			return out
		}
		id, after, ok := strings.Cut(rest, ">")
		if !ok {
			return out
		}
		if id = strings.TrimSpace(id); id != "" {
			out = append(out, "<"+id+">")
		}
		v = after
	}
}
