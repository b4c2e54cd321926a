package wire

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/postrider/postrider/internal/redact"
)

// Direction is who said a line of a trace.
type Direction byte

// The directions.
const (
	Sent     Direction = 'C'
	Received Direction = 'S'
)

// Trace hears what is said on a connection, line by line and without line ends, with
// secrets masked: arguments of LOGIN and AUTHENTICATE and what shows something of the
// credentials are `***`, literals `{1234 bytes}`, and strings in ENVELOPE and of content
// `"***"`. Of a line redact.Most bytes are told. It is called by the owner of the
// connection and must not block; what becomes of a line is its own business.
type Trace func(d Direction, line string)

type tracer struct {
	out  Trace
	full bool            // ENVELOPE is shown
	hide redact.Redactor // of the credentials
}

func (t *tracer) say(d Direction, line []byte) {
	s := strings.ToValidUTF8(t.hide.Hide(string(line[:min(len(line), redact.Most)])), "\uFFFD")
	t.out(d, strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '·'
		}
		return r
	}, s))
}

func (t *tracer) sent(k *command, part []byte) {
	part = bytes.TrimRight(part, "\r\n")
	if k.secret {
		tag, _, _ := bytes.Cut(k.buf, []byte(" "))
		if !bytes.HasPrefix(part, tag) {
			t.say(Sent, []byte("***"))
			return
		}
		head := string(tag) + " " + k.verb
		if word, _, ok := bytes.Cut(bytes.TrimPrefix(part, []byte(head+" ")), []byte(" ")); k.verb == "AUTHENTICATE" && (ok || len(word) > 0) {
			head += " " + string(word)
		}
		t.say(Sent, []byte(head+" ***"))
		return
	}
	t.say(Sent, hideLiterals(part))
}

func (t *tracer) answered()       { t.say(Sent, []byte("***")) }
func (t *tracer) literal(n int64) { t.say(Sent, fmt.Appendf(nil, "{%d bytes}", n)) }
func (t *tracer) line(s string)   { t.say(Sent, []byte(s)) }

// hideLiterals replaces literals sent without waiting.
func hideLiterals(b []byte) []byte {
	var out []byte
	for {
		i := bytes.Index(b, []byte("}\r\n"))
		if i < 0 {
			return append(out, b...)
		}
		n, open, ok := literalSize(b[:i+1])
		rest := b[i+3:]
		if !ok || n > int64(len(rest)) {
			return append(append(out, b[:i+1]...), " …"...)
		}
		out = fmt.Appendf(append(out, b[:open]...), "{%d bytes}", n)
		b = rest[n:]
	}
}

func (t *tracer) received(r *response) {
	switch r.kind {
	case rContinue:
		t.say(Received, []byte("+ …")) // may be a challenge
		return
	case rData:
	default:
		t.say(Received, r.b)
		return
	}
	var out []byte
	at := 0
	for _, l := range r.lits {
		out = append(out, r.b[at:l.open]...)
		out = fmt.Appendf(out, "{%d bytes}", l.end-l.start)
		at = l.end
	}
	out = append(out, r.b[at:]...)
	if r.is("FETCH") {
		out = hideStrings(out, "BODY[", "BINARY[")
		if !t.full {
			out = hideStrings(out, "ENVELOPE")
		}
	}
	t.say(Received, out)
}

// hideStrings masks the quoted strings of a line from the first of some items on: where
// an item ends cannot be told for sure of a damaged one.
func hideStrings(b []byte, items ...string) []byte {
	// Not bytes.ToUpper: it makes three bytes of one that is no UTF-8.
	upper := bytes.Clone(b)
	for i, c := range upper {
		if 'a' <= c && c <= 'z' {
			upper[i] = c - 'a' + 'A'
		}
	}
	i := -1
	for _, item := range items {
		if at := bytes.Index(upper, []byte(item)); at >= 0 && (i < 0 || at < i) {
			i = at
		}
	}
	if i < 0 {
		return b
	}
	out := append([]byte(nil), b[:i]...)
	for b = b[i:]; ; {
		q := bytes.IndexByte(b, '"')
		if q < 0 {
			return append(out, b...)
		}
		out = append(append(out, b[:q]...), `"***"`...)
		b = b[q+1:]
		for {
			e := bytes.IndexAny(b, `"\`)
			if e < 0 {
				return out
			}
			if b[e] == '"' || e+1 >= len(b) {
				b = b[e+1:]
				break
			}
			b = b[e+2:]
		}
	}
}
