package wire

import (
	"bytes"
	"math"

	"github.com/emersion/go-imap/v2"
)

// responseKind is what a frame is.
type responseKind uint8

const (
	rUnknown  responseKind = iota // nothing we can read: skipped
	rData                         // untagged data
	rStatus                       // untagged OK, NO, BAD, BYE, PREAUTH
	rTagged                       // reply to a command, by its tag
	rContinue                     // +
)

// response is a frame whose beginning was read.
type response struct {
	frame
	kind   responseKind
	tag    []byte
	num    uint32 // of "* n EXISTS"
	hasNum bool
	badNum bool   // there is a number, but none of a message
	name   []byte // type, as sent
	at     int    // where what follows the type begins

	status status // of rStatus and rTagged
}

// status is a parsed status response.
type status struct {
	typ  imap.StatusResponseType
	code imap.ResponseCode
	args []byte // of the code; aliases the frame
	text []byte // aliases the frame
}

// is compares the type's name.
func (r *response) is(upper string) bool { return foldEqual(r.name, upper) }

// scan begins to read what follows the type.
func (r *response) scan() scanner { return newScanner(&r.frame, r.at) }

// head reads the first words of a frame.
func head(f frame) response {
	r := response{frame: f}
	b := skipSpace(f.b)
	switch {
	case len(b) == 0:
		return r
	case b[0] == '+':
		r.kind = rContinue
		r.at = len(f.b) - len(b) + 1
		return r
	case b[0] == '*':
		b = skipSpace(b[1:])
	default:
		word, rest := cutWord(b)
		if r.tag = word; len(word) == 0 {
			return r
		}
		b = skipSpace(rest)
		typ, rest := cutWord(b)
		if !r.statusType(typ) || r.status.typ == imap.StatusResponseTypeBye || r.status.typ == imap.StatusResponseTypePreAuth {
			return r
		}
		r.kind, r.name, r.at = rTagged, typ, len(f.b)-len(rest)
		r.statusText(rest)
		return r
	}
	word, rest := cutWord(b)
	if len(word) > 0 && (word[0] >= '0' && word[0] <= '9' || word[0] == '-') {
		n, ok := number(word)
		r.num, r.hasNum = uint32(n), ok && n <= math.MaxUint32
		r.badNum = !r.hasNum
		word, rest = cutWord(skipSpace(rest))
	}
	if len(word) == 0 {
		return r
	}
	r.kind, r.name, r.at = rData, word, len(f.b)-len(rest)
	if !r.hasNum && !r.badNum && r.statusType(word) {
		r.kind = rStatus
		r.statusText(rest)
	}
	return r
}

func (r *response) statusType(word []byte) bool {
	for _, t := range []imap.StatusResponseType{
		imap.StatusResponseTypeOK, imap.StatusResponseTypeNo, imap.StatusResponseTypeBad,
		imap.StatusResponseTypeBye, imap.StatusResponseTypePreAuth,
	} {
		if foldEqual(word, string(t)) {
			r.status.typ = t
			return true
		}
	}
	return false
}

// statusText splits off the response code. A code may hold brackets and quoted
// strings; one that never closes is text, as it came.
func (r *response) statusText(rest []byte) {
	rest = skipSpace(rest)
	r.status.text = rest
	if len(rest) == 0 || rest[0] != '[' {
		return
	}
	end := codeEnd(rest)
	if end < 0 {
		return
	}
	in := rest[1:end]
	r.status.text = skipSpace(rest[end+1:])
	name, args, _ := bytes.Cut(skipSpace(in), []byte(" "))
	if len(name) > 64 || len(name) == 0 {
		return
	}
	r.status.code = imap.ResponseCode(upperString(bytes.ToValidUTF8(name, []byte("?"))))
	r.status.args = bytes.TrimSpace(args)
}

// codeEnd finds the bracket that closes a response code: the one that balances where
// brackets and quotes do (`[A (x[1]) "]"]`), else the first.
func codeEnd(b []byte) int {
	depth, quoted := 0, false
	for i, c := range b {
		switch {
		case quoted:
			quoted = c != '"' || b[i-1] == '\\'
		case c == '"':
			quoted = true
		case c == '[':
			depth++
		case c == ']':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return bytes.IndexByte(b, ']')
}
