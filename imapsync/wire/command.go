package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
)

// maxCommand is how long a command may be; sets are split.
const maxCommand = 8 << 10

// Result is the tagged OK of a command.
type Result struct {
	Code imap.ResponseCode // as the server says it: to decide by, not to be shown
	args string            // the code's
	// Damaged counts responses of the command that could not be read, or not whole:
	// what is missing from the answer may exist.
	Damaged int
}

// Partial says whether the answer may not be all there is.
func (r Result) Partial() bool {
	switch r.Code {
	case "MESSAGELIMIT", "LIMIT", "PARTIAL", "NOTSAVED", "INPROGRESS":
		return true
	}
	return r.Damaged > 0
}

// command is one command being made and run.
type command struct {
	c     *Conn
	verb  string
	buf   []byte
	syncs []int // where to wait for a `+`
	err   error // an argument that cannot be sent

	first  time.Duration // until the answer begins; 0 = Limits.First
	total  time.Duration // 0 = Limits.Command
	secret bool          // arguments are not for the trace

	fast   func()                               // consumes what it can of the buffer
	on     func(*response) bool                 // takes an untagged response
	tagged func(*response)                      // sees the tagged reply
	more   func(challenge []byte) (line []byte) // answers a `+`
	body   io.Reader                            // sent behind the last literal's `+`
	size   int64

	damaged int
}

// command begins one.
func (c *Conn) command(verb string) *command {
	c.tags++
	k := &command{c: c, verb: verb}
	k.buf = append(strconv.AppendUint(append(k.buf, 'A'), c.tags, 10), ' ')
	k.buf = append(k.buf, verb...)
	return k
}

// arg appends a space and text as it is.
func (k *command) arg(s string) *command {
	if strings.ContainsAny(s, "\r\n\x00") {
		k.refuse("line end or NUL in an argument")
		return k
	}
	k.buf = append(append(k.buf, ' '), s...)
	return k
}

func (k *command) refuse(text string) {
	if k.err == nil {
		k.err = refuse(k.verb, text)
	}
}

// astring appends a space and a string as atom, quoted string or literal.
func (k *command) astring(s string) *command {
	k.buf = append(k.buf, ' ')
	switch {
	case strings.ContainsAny(s, "\x00"):
		k.refuse("NUL in an argument")
	case isAtom(s):
		k.buf = append(k.buf, s...)
	case quotable(s):
		k.buf = appendQuoted(k.buf, s)
	default:
		k.literal(int64(len(s)))
		k.buf = append(k.buf, s...)
	}
	return k
}

// str is astring, but never an atom: what a parser might read as NIL or a keyword.
func (k *command) str(s string) *command {
	if isAtom(s) {
		k.buf = appendQuoted(append(k.buf, ' '), s)
		return k
	}
	return k.astring(s)
}

// literal appends {n}; what follows waits for a `+` where it must.
func (k *command) literal(n int64) {
	k.buf = strconv.AppendInt(append(k.buf, '{'), n, 10)
	// RFC 7888: LITERAL- allows up to 4096 bytes without waiting.
	if k.c.caps.Has(imap.CapLiteralPlus) || k.c.caps.Has(imap.CapLiteralMinus) && n <= 4096 {
		k.buf = append(k.buf, "+}\r\n"...)
		return
	}
	k.buf = append(k.buf, "}\r\n"...)
	k.syncs = append(k.syncs, len(k.buf))
}

// name appends a folder's name: the bytes LIST gave.
func (k *command) name(raw string) *command {
	if raw == "" || strings.ContainsAny(raw, "\r\n\x00") {
		k.refuse("folder name cannot be sent")
		return k
	}
	return k.astring(raw)
}

// set appends a set of UIDs.
func (k *command) set(set imap.UIDSet) *command {
	if err := checkSet(set); err != "" {
		k.refuse(err)
		return k
	}
	k.buf = appendSet(append(k.buf, ' '), set)
	return k
}

// flags appends a list of flags.
func (k *command) flags(flags []imap.Flag) *command {
	k.buf = append(k.buf, ' ', '(')
	for i, f := range flags {
		if !isFlag(string(f)) {
			k.refuse("flag cannot be sent")
		}
		if i > 0 {
			k.buf = append(k.buf, ' ')
		}
		k.buf = append(k.buf, f...)
	}
	k.buf = append(k.buf, ')')
	return k
}

// run sends the command and reads up to its tagged reply.
func (k *command) run(ctx context.Context) (Result, error) {
	c := k.c
	if k.err != nil {
		return Result{}, k.err
	}
	if err := c.closed(k.verb); err != nil {
		return Result{}, err
	}
	if err := ctx.Err(); err != nil {
		c.closeFor(context.Cause(ctx))
		return Result{}, c.closed(k.verb)
	}
	undo := c.guard(ctx)
	c.verb = k.verb
	c.tag = append(c.tag[:0], k.buf[:bytes.IndexByte(k.buf, ' ')]...)
	if k.first == 0 {
		k.first = c.lim.First
	}
	if k.total == 0 {
		k.total = c.lim.Command
	}
	c.begin(k.first, c.lim.Gap, k.total)
	res, err := k.exchange()
	c.end()
	c.drain = 0
	c.tag = c.tag[:0]
	undo() // where ctx ended just now, a reply that came before it counts all the same
	return res, err
}

func (k *command) exchange() (Result, error) {
	c := k.c
	k.buf = append(k.buf, '\r', '\n')
	sent := 0
	send := func() error {
		end := len(k.buf)
		if len(k.syncs) > 0 {
			end, k.syncs = k.syncs[0], k.syncs[1:]
		}
		part := k.buf[sent:end]
		sent = end
		if c.trace != nil {
			c.trace.sent(k, part)
		}
		return c.write(part)
	}
	if err := send(); err != nil {
		return Result{}, c.failFor(err)
	}
	for {
		if k.fast != nil {
			k.fast()
		}
		r, err := c.read()
		if err != nil {
			return Result{}, c.failFor(err)
		}
		switch r.kind {
		case rTagged:
			if !bytes.Equal(r.tag, c.tag) {
				err = c.skip("tag")
				break
			}
			return k.ended(&r)
		case rContinue:
			switch {
			case sent < len(k.buf):
				c.prove()
				if k.body != nil && len(k.syncs) == 0 {
					err = k.sendBody()
				}
				if err == nil {
					err = send()
				}
			case k.more != nil:
				c.prove()
				err = k.answer(&r)
			default:
				err = c.skip("continuation")
			}
		case rStatus, rData:
			if k.on != nil && k.on(&r) {
				c.prove()
			} else {
				err = c.unasked(&r)
			}
			if err == nil && c.bye != nil && k.verb != "LOGOUT" {
				err = c.bye
			}
		}
		if err != nil {
			return Result{}, c.failFor(err)
		}
	}
}

// ended reads the tagged reply.
func (k *command) ended(r *response) (Result, error) {
	c := k.c
	c.prove()
	c.code(r)
	if k.tagged != nil {
		k.tagged(r)
	}
	res := Result{Code: r.status.code, args: string(r.status.args[:min(len(r.status.args), maxText)]), Damaged: k.damaged}
	if r.status.typ != imap.StatusResponseTypeOK {
		return res, c.refused(&r.status, k.verb)
	}
	return res, nil
}

// answer replies to a challenge.
func (k *command) answer(r *response) error {
	line := k.more(bytes.TrimSpace(r.b[r.at:]))
	if k.c.trace != nil {
		k.c.trace.answered()
	}
	return k.c.write(append(line, '\r', '\n'))
}

// sendBody streams what an APPEND appends.
func (k *command) sendBody() error {
	if k.c.trace != nil {
		k.c.trace.literal(k.size)
	}
	chunk := make([]byte, 32<<10)
	left := k.size
	for left > 0 {
		n, err := k.body.Read(chunk[:min(left, int64(len(chunk)))])
		if n > 0 {
			// A server that refuses in the middle is read after the body: it has to take
			// the bytes it asked for.
			if werr := k.c.write(chunk[:n]); werr != nil {
				return werr
			}
			left -= int64(n)
		}
		if left > 0 && err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return &Error{Kind: Closed, Stage: k.c.stage, Command: k.verb, Text: "message is shorter than said", Err: err}
		}
	}
	k.c.wait.begun = time.Now() // the answer is waited for from here
	k.c.wait.answered = false
	k.body = nil
	return nil
}

// giveUp makes the rest of the answer be read under a short leash.
func (k *command) giveUp() {
	c := k.c
	if c.drain == 0 {
		c.drain = c.lim.DrainSize
		c.wait = wait{begun: time.Now(), first: c.lim.Drain, gap: c.lim.Drain, total: c.lim.Drain, last: time.Now()}
	}
}

// isAtom says whether a string needs no quotes anywhere.
func isAtom(s string) bool {
	if s == "" || len(s) > 256 || strings.EqualFold(s, "NIL") {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-_./&,+=@:$'", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// quotable says whether s can be a quoted string (RFC 3501 section 9: QUOTED-CHAR).
func quotable(s string) bool {
	if len(s) > 1024 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c == 0 || c == '\r' || c == '\n' || c > '~' {
			return false
		}
	}
	return true
}

func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}

// isFlag says whether a flag can be sent: a backslash and an atom, or an atom.
func isFlag(s string) bool {
	s = strings.TrimPrefix(s, `\`)
	if s == "" || len(s) > 256 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || strings.IndexByte(`(){%*"\]`, c) >= 0 {
			return false
		}
	}
	return true
}

// checkSet refuses what servers refuse: no UID, UID 0, `*:*`, an end before its start.
// A range may end in `*` (0).
func checkSet(set imap.UIDSet) string {
	if len(set) == 0 {
		return "UID set is empty"
	}
	for _, r := range set {
		if r.Start == 0 || r.Stop != 0 && r.Stop < r.Start {
			return "UID set has a range that is none"
		}
	}
	return ""
}

func appendSet(b []byte, set imap.UIDSet) []byte {
	for i, r := range set {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(r.Start), 10)
		switch {
		case r.Stop == 0:
			b = append(b, ":*"...)
		case r.Stop != r.Start:
			b = strconv.AppendUint(append(b, ':'), uint64(r.Stop), 10)
		}
	}
	return b
}

// splitSet cuts a set so that each part is short enough for a command.
func splitSet(set imap.UIDSet) []imap.UIDSet {
	const perRange = 22 // two numbers of ten digits, colon, comma
	const most = (maxCommand - 2<<10) / perRange
	var out []imap.UIDSet
	for len(set) > most {
		out = append(out, set[:most])
		set = set[most:]
	}
	return append(out, set)
}
