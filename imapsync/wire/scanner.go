package wire

import (
	"bytes"
	"math"
)

// scanner reads the tokens of one frame. It never goes beyond it and never recurses.
type scanner struct {
	b    []byte
	lits []lit
	i    int
	l    int    // next literal
	text string // b as a string, made when the first part of it is kept
}

// token is what stands at a place.
type token uint8

const (
	tEnd    token = iota // of the frame
	tOpen                // (
	tClose               // )
	tString              // quoted or literal
	tAtom
	tNil
	tBad // a quoted string that does not end as one
)

func newScanner(f *frame, from int) scanner {
	return scanner{b: f.b, lits: f.lits, i: from}
}

// seek goes to a place, forward or back.
func (s *scanner) seek(i int) {
	s.i, s.l = i, 0
	for s.l < len(s.lits) && s.lits[s.l].open < i {
		s.l++
	}
}

func (s *scanner) space() {
	for s.i < len(s.b) && (s.b[s.i] == ' ' || s.b[s.i] == '\t' || s.b[s.i] == '\r' || s.b[s.i] == '\n' || s.b[s.i] == 0) {
		s.i++
	}
}

// peek is the next byte behind spaces; 0 at the end.
func (s *scanner) peek() byte {
	s.space()
	if s.i >= len(s.b) {
		return 0
	}
	return s.b[s.i]
}

// open takes a parenthesis.
func (s *scanner) open() bool {
	if s.peek() != '(' {
		return false
	}
	s.i++
	return true
}

// next takes one token. A string's value is unescaped; it aliases the frame where
// nothing was escaped.
func (s *scanner) next() (token, []byte) {
	s.space()
	if s.i >= len(s.b) {
		return tEnd, nil
	}
	if s.l < len(s.lits) && s.lits[s.l].open == s.i {
		l := s.lits[s.l]
		s.l++
		s.i = l.end
		return tString, s.b[l.start:l.end]
	}
	switch s.b[s.i] {
	case '(':
		s.i++
		return tOpen, nil
	case ')':
		s.i++
		return tClose, nil
	case '"':
		return s.quoted()
	}
	a := s.atom()
	if len(a) == 3 && foldEqual(a, "NIL") {
		return tNil, nil
	}
	return tAtom, a
}

// atom takes bytes up to a space, parenthesis, quote or literal.
func (s *scanner) atom() []byte {
	begin, end := s.i, len(s.b)
	if s.l < len(s.lits) {
		end = s.lits[s.l].open
	}
	for s.i < end {
		switch s.b[s.i] {
		case ' ', '(', ')', '"', '\r', '\n', '\t', 0:
			if s.i > begin {
				return s.b[begin:s.i]
			}
		}
		s.i++
	}
	return s.b[begin:s.i]
}

// quoted takes a quoted string. What follows its closing quote tells whether it was
// one: a letter there means that quotes inside were not escaped.
func (s *scanner) quoted() (token, []byte) {
	end := len(s.b)
	if s.l < len(s.lits) {
		end = s.lits[s.l].open
	}
	begin := s.i + 1
	at, plain := begin, true
	for {
		k := bytes.IndexByte(s.b[at:end], '"')
		if k < 0 {
			s.i = end
			return tBad, nil
		}
		esc := bytes.IndexByte(s.b[at:at+k], '\\')
		if esc < 0 {
			at += k
			break
		}
		plain = false
		at += esc + 2 // behind what is escaped
		if at > end {
			s.i = end
			return tBad, nil
		}
	}
	v := s.b[begin:at]
	s.i = at + 1
	if s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', ')', '(', '\r', '\n', '\t', 0:
		case '"':
			// QUIRK(qq): an empty description is sent as """".
			if len(v) != 0 || !bytes.HasPrefix(s.b[s.i:], []byte(`""`)) {
				return tBad, nil
			}
			s.i += 2
		default:
			return tBad, nil
		}
	}
	if plain {
		return tString, v
	}
	return tString, unescape(v)
}

// unescape drops the backslash before a backslash or a quote; any other one stays.
func unescape(v []byte) []byte {
	out := make([]byte, 0, len(v))
	for i := 0; i < len(v); i++ {
		if v[i] == '\\' && i+1 < len(v) && (v[i+1] == '\\' || v[i+1] == '"') {
			i++
		}
		out = append(out, v[i])
	}
	return out
}

// skip passes one value, a list with all it holds. False: it has no end.
func (s *scanner) skip() bool {
	for depth := 0; ; {
		switch t, _ := s.next(); t {
		case tEnd, tBad:
			return false
		case tOpen:
			depth++
		case tClose:
			if depth--; depth < 0 {
				return false
			}
		}
		if depth == 0 {
			return true
		}
	}
}

// rest passes the values up to the parenthesis that closes the present list.
func (s *scanner) rest() bool {
	for {
		switch s.peek() {
		case 0:
			return false
		case ')':
			s.i++
			return true
		}
		if !s.skip() {
			return false
		}
	}
}

// string is a part of the frame as a string. All parts share one copy of the frame,
// so that a response costs one allocation, whatever is kept of it.
func (s *scanner) string(v []byte) string {
	if len(v) == 0 {
		return ""
	}
	if cap(v) > 0 && len(s.b) <= 64<<10 {
		// v aliases the frame where its capacity reaches the frame's end.
		if at := cap(s.b) - cap(v); at >= 0 && at+len(v) <= len(s.b) && &s.b[at] == &v[0] {
			if s.text == "" {
				s.text = string(s.b)
			}
			return s.text[at : at+len(v)]
		}
	}
	return string(v)
}

// number reads a token as an unsigned number.
func number(v []byte) (uint64, bool) {
	if len(v) == 0 || len(v) > 20 {
		return 0, false
	}
	var n uint64
	for _, c := range v {
		d := uint64(c - '0')
		if d > 9 || n > (math.MaxUint64-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}

// number32 reads a UID or UIDVALIDITY: 32 bits, not zero.
func number32(v []byte) (uint32, bool) {
	n, ok := number(v)
	return uint32(n), ok && n > 0 && n <= math.MaxUint32
}

// modSeq reads a MODSEQ: 63 bits (RFC 7162 section 3.1.1), 0 = none.
func modSeq(v []byte) uint64 {
	n, ok := number(v)
	if !ok || n >= 1<<63 {
		return 0
	}
	return n
}

// foldEqual compares with an upper-case ASCII word.
func foldEqual(b []byte, upper string) bool {
	if len(b) != len(upper) {
		return false
	}
	for i := range len(upper) {
		c := b[i]
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		if c != upper[i] {
			return false
		}
	}
	return true
}

// hasFoldPrefix says whether b begins with an upper-case ASCII word.
func hasFoldPrefix(b []byte, upper string) bool {
	return len(b) >= len(upper) && foldEqual(b[:len(upper)], upper)
}

// upperString makes the upper-case string of an atom.
func upperString(b []byte) string {
	return string(bytes.ToUpper(b))
}

func skipSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t' || b[0] == 0) {
		b = b[1:]
	}
	return b
}

// cutWord takes the first word: up to a space, parenthesis, bracket or quote.
func cutWord(b []byte) (word, rest []byte) {
	for i, c := range b {
		if wordEnds(c) {
			return b[:i], b[i:]
		}
	}
	return b, nil
}

func wordEnds(c byte) bool {
	switch c {
	case ' ', '(', '[', '"', '{', '\t', ')':
		return true
	}
	return false
}
