package wire

import (
	"bytes"
	"context"
	"io"
	"strconv"

	"github.com/emersion/go-imap/v2"
)

// FetchOptions change what Fetch does.
type FetchOptions struct {
	ChangedSince uint64 // > 0: only what changed after that MODSEQ
	Vanished     bool   // with ChangedSince, where QRESYNC is enabled: what vanished, too
	// Stream takes the literal of an item asked for (BODY or BINARY) as it comes; uid is 0
	// where it was not told before it. The reader ends at size and is void afterwards. An
	// error ends the fetch as one of the callback does. Its Section then has no Data.
	Stream func(uid imap.UID, item Item, size int64, r io.Reader) error
}

// Fetched is the end of a fetch.
type Fetched struct {
	Result
	// Vanished are UIDs the server says are no more: a claim, not limited to what was asked.
	Vanished imap.UIDSet
	Messages int // that were handed out
}

// Fetch runs UID FETCH and hands out each response for a message of set as it comes.
// Responses for others are hints. An error of f ends the fetch: the rest of the answer
// is read away where it is short, else the connection closes; it is returned as it is.
// What came before No or Bad was handed out. A set too long for one command is
// asked for in several, as is what a server's limit leaves out (RFC 9738), which may hand
// out a message twice.
func (c *Conn) Fetch(ctx context.Context, set imap.UIDSet, items []Item, o FetchOptions, f func(*Message) error) (Fetched, error) {
	if why := checkSet(set); why != "" {
		return Fetched{}, refuse("UID FETCH", why)
	}
	if why := checkItems(items); why != "" {
		return Fetched{}, refuse("UID FETCH", why)
	}
	var out Fetched
	for _, part := range splitSet(set) {
		res, err := askOn(part, false, func(part imap.UIDSet) (Result, seen, error) {
			fe := &fetcher{c: c, set: part, stream: o.Stream, f: f, gone: out.Vanished}
			for _, it := range items {
				if sec, ok := sectionOf(it); ok {
					fe.sections = append(fe.sections, sec)
				}
			}
			res, err := fe.run(ctx, items, &o)
			out.Messages += fe.count
			out.Vanished = fe.gone
			if fe.err != nil {
				err = fe.err
			}
			return res, fe.came, err
		})
		out.Damaged += res.Damaged
		if was := (Result{Code: out.Code}); !was.Partial() { // one part that is not whole is enough
			out.Code, out.args = res.Code, res.args
		}
		if err != nil {
			return out, err
		}
	}
	out.Vanished = normal(out.Vanished)
	return out, nil
}

// fetcher is one UID FETCH in work.
type fetcher struct {
	c        *Conn
	k        *command
	set      imap.UIDSet
	at       int // range of set that was hit last
	sections []section
	msg      Message
	f        func(*Message) error
	stream   func(imap.UID, Item, int64, io.Reader) error
	err      error       // of f or stream
	gone     imap.UIDSet // that vanished, by the commands before it, too
	came     seen
	count    int
}

func (fe *fetcher) run(ctx context.Context, items []Item, o *FetchOptions) (Result, error) {
	c := fe.c
	k := c.command("UID FETCH").set(fe.set)
	fe.k = k
	for i, it := range items {
		sep := " "
		if i == 0 {
			sep = " ("
		}
		k.buf = append(append(k.buf, sep...), it...)
	}
	k.buf = append(k.buf, ')')
	if o.ChangedSince > 0 {
		k.buf = strconv.AppendUint(append(k.buf, " (CHANGEDSINCE "...), o.ChangedSince, 10)
		if o.Vanished {
			k.buf = append(k.buf, " VANISHED"...)
		}
		k.buf = append(k.buf, ')')
	}
	k.on = fe.take
	if len(fe.sections) == 0 && c.trace == nil {
		k.fast = fe.fast
	}
	if fe.stream != nil {
		c.rd.stream = fe.literal
		defer func() { c.rd.stream = nil }()
	}
	return k.run(ctx)
}

// take takes an untagged response.
func (fe *fetcher) take(r *response) bool {
	c := fe.c
	switch {
	case r.is("FETCH"):
	case r.is("VANISHED"):
		n := c.takeNumbers(r)
		if !n.earlier {
			c.vanished(r)
			return true
		}
		if n.over || n.bad || len(fe.gone)+len(n.ranges) > 4*c.lim.List {
			fe.k.damaged++
			return true
		}
		fe.gone = append(fe.gone, n.ranges...)
		return true
	default:
		return false
	}
	if !r.hasNum {
		fe.k.damaged++
		_ = c.skip("fetch")
		return true
	}
	fe.msg.reset(r.num)
	fe.msg.Bytes = len(r.b)
	c.parseFetch(r, &fe.msg)
	if fe.msg.UID == 0 {
		// Row 26: whose it is cannot be told, so absence proves nothing any more.
		fe.k.damaged++
		_ = c.skip("fetch")
		c.hintFlagged(Flagged{Seq: r.num})
		return true
	}
	fe.match()
	fe.hand()
	return true
}

// hand gives the message to the caller.
func (fe *fetcher) hand() {
	if !fe.asked(fe.msg.UID) {
		fe.c.hintFlagged(Flagged{Seq: fe.msg.Seq, UID: fe.msg.UID})
		return
	}
	if fe.err != nil {
		return
	}
	fe.count++
	fe.came.add(fe.msg.UID, fe.msg.UID)
	if err := fe.f(&fe.msg); err != nil {
		fe.err = err
		fe.k.giveUp()
	}
}

// asked says whether a UID is in the set, looking first where the last one was.
func (fe *fetcher) asked(uid imap.UID) bool {
	in := func(r imap.UIDRange) bool { return uid >= r.Start && (r.Stop == 0 || uid <= r.Stop) }
	if fe.at < len(fe.set) && in(fe.set[fe.at]) {
		return true
	}
	if fe.at+1 < len(fe.set) && in(fe.set[fe.at+1]) {
		fe.at++
		return true
	}
	for i, r := range fe.set {
		if in(r) {
			fe.at = i
			return true
		}
	}
	return false
}

// match says which section is which item: by name, then by order.
func (fe *fetcher) match() {
	used := uint64(0)
	free := func(i int) bool { return i >= 64 || used&(1<<i) == 0 }
	for pass := range 2 {
		for i := range fe.msg.Sections {
			s := &fe.msg.Sections[i]
			if s.Item != "" {
				continue
			}
			for j := range fe.sections {
				want := &fe.sections[j]
				if !free(j) || want.binary != s.Binary {
					continue
				}
				if pass == 1 || foldEqual([]byte(s.Name), want.name) && s.Origin == want.origin {
					s.Item = want.item
					used |= 1 << j
					break
				}
			}
		}
	}
}

// literal streams the literal of a section that was asked for.
func (fe *fetcher) literal(before []byte, size int64, r io.Reader) bool {
	if fe.err != nil || !bytes.HasPrefix(before, []byte("*")) {
		return false
	}
	f := frame{b: before}
	h := head(f)
	if !h.is("FETCH") || !h.hasNum {
		return false
	}
	up := bytes.ToUpper(before[max(0, len(before)-1024):])
	i := max(bytes.LastIndex(up, []byte("BODY[")), bytes.LastIndex(up, []byte("BINARY[")))
	if i < 0 || len(fe.sections) == 0 {
		return false
	}
	tail := bytes.TrimRight(up[i:], " ")
	if c := tail[len(tail)-1]; c != ']' && c != '>' {
		return false
	}
	item := fe.sections[0].item
	if got, ok := sectionOf(Item(tail)); ok {
		for _, want := range fe.sections {
			if want.name == got.name && want.binary == got.binary {
				item = want.item
				break
			}
		}
	}
	var uid imap.UID
	if j := bytes.Index(bytes.ToUpper(before), []byte("UID ")); j >= 0 {
		word, _ := cutWord(before[j+4:])
		n, _ := number32(word)
		uid = imap.UID(n)
	}
	if uid != 0 && !fe.asked(uid) {
		return false
	}
	if err := fe.stream(uid, item, size, r); err != nil {
		fe.err = err
		fe.k.giveUp()
	}
	return true
}

// fast takes lines of the form `* 7 FETCH (UID 9 FLAGS (\Seen) MODSEQ (5))`, in any
// order of these items, straight from the buffer. It stops at the first line that is
// anything else.
func (fe *fetcher) fast() {
	c := fe.c
	r := &c.rd
	for fe.err == nil {
		b := r.buf[r.r:r.w]
		i := bytes.IndexByte(b, '\n')
		if i < 0 || !fe.line(b[:i]) {
			return
		}
		r.r += i + 1
		c.counters.Frames++
		c.skips, r.skipped = 0, 0
		c.prove0()
		fe.hand()
	}
}

// prove0 is prove for a hot loop: the bytes came just now.
func (c *Conn) prove0() { c.proof.Store(c.heard.Load()) }

// line reads one such line into fe.msg; false: it is none.
func (fe *fetcher) line(b []byte) bool {
	if n := len(b); n > 0 && b[n-1] == '\r' {
		b = b[:n-1]
	}
	if len(b) < 16 || b[0] != '*' || b[1] != ' ' {
		return false
	}
	seq, i := digits(b, 2)
	if i == 2 || seq > 1<<32-1 || len(b)-i < 9 || string(b[i:i+8]) != " FETCH (" {
		return false
	}
	m := &fe.msg
	m.reset(uint32(seq))
	m.Bytes = len(b)
	i += 8
	for {
		rest := b[i:]
		switch {
		case len(rest) > 4 && string(rest[:4]) == "UID ":
			n, j := digits(b, i+4)
			if j == i+4 || n == 0 || n > 1<<32-1 || m.UID != 0 {
				return false
			}
			m.UID, i = imap.UID(n), j
		case len(rest) > 7 && string(rest[:7]) == "FLAGS (":
			j := bytes.IndexByte(rest, ')')
			if j < 0 || m.HasFlags {
				return false
			}
			set, ok := fe.c.words.flagSet(rest[7:j])
			if !ok {
				return false // the slow way learns it
			}
			m.Flags, m.HasFlags = set, true
			i += j + 1
		case len(rest) > 8 && string(rest[:8]) == "MODSEQ (":
			n, j := digits(b, i+8)
			if j == i+8 || j >= len(b) || b[j] != ')' || n >= 1<<63 {
				return false
			}
			m.ModSeq, i = n, j+1
		default:
			return false
		}
		switch {
		case i+1 == len(b) && b[i] == ')':
			return m.UID != 0
		case i < len(b) && b[i] == ' ':
			i++
		default:
			return false
		}
	}
}

// digits reads a number of at most 19 digits and where it ends.
func digits(b []byte, i int) (uint64, int) {
	var n uint64
	begin := i
	for i < len(b) && i-begin < 19 {
		d := b[i] - '0'
		if d > 9 {
			break
		}
		n = n*10 + uint64(d)
		i++
	}
	return n, i
}
