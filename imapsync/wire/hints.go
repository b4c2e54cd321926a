package wire

import (
	"bytes"
	"cmp"
	"math"

	"github.com/emersion/go-imap/v2"
)

// Folder is the selected folder as the wire keeps it. A number that did not come is 0.
type Folder struct {
	Raw            string // as it was asked for
	UIDValidity    uint32
	UIDNext        uint32
	Exists         uint32 // kept current by EXISTS, EXPUNGE and VANISHED, in their order
	HighestModSeq  uint64
	NoModSeq       bool
	MailboxID      string
	ReadOnly       bool
	Flags          []imap.Flag
	PermanentFlags []imap.Flag
	// Doubt: a count came that cannot be. Exists is known again after the next EXISTS,
	// which a NOOP may bring, or EXAMINE.
	Doubt bool
}

// Changes are hints: what the server said without being asked. They are no knowledge.
type Changes struct {
	Exists   bool        // an EXISTS came with another number than was known
	Expunged int         // EXPUNGE responses
	Vanished imap.UIDSet // of VANISHED responses
	Flagged  []Flagged   // FETCH responses nobody asked for, at most Limits.Hints
	Status   []Status    // of other folders, at most Limits.Hints
	Listed   []Listed    // at most Limits.Hints
	Overflow bool        // NOTIFICATIONOVERFLOW, or more hints than are kept
	ModSeq   uint64      // HIGHESTMODSEQ told outside an EXAMINE
	Throttle string      // text of an OK [THROTTLED]
	Alert    string      // text of the last [ALERT]
	Bye      string      // text of a BYE
}

// Any says whether there is a hint to look at the selected folder.
func (c *Changes) Any() bool {
	return c.Exists || c.Expunged > 0 || len(c.Vanished) > 0 || len(c.Flagged) > 0
}

// Else says whether there is a hint to look at other folders.
func (c *Changes) Else() bool { return len(c.Status) > 0 || len(c.Listed) > 0 || c.Overflow }

// Flagged names a message whose FETCH came unasked; UID is 0 where it was not told.
type Flagged struct {
	Seq uint32
	UID imap.UID
}

// Folder is the selected folder; its zero value when none is.
func (c *Conn) Folder() Folder { return c.folder }

// Exists is the number of messages of the selected folder.
func (c *Conn) Exists() uint32 { return c.folder.Exists }

// Changes returns the hints since the last call and forgets them. It asks nothing.
func (c *Conn) Changes() Changes {
	ch := c.changes
	c.changes = Changes{}
	if ch.Throttle != "" {
		ch.Throttle = cmp.Or(c.shown([]byte(ch.Throttle)), "throttled")
	}
	if ch.Alert != "" {
		ch.Alert = c.shown([]byte(ch.Alert))
	}
	return ch
}

// unasked takes an untagged response that no command wanted.
func (c *Conn) unasked(r *response) error {
	if r.kind == rStatus {
		c.code(r)
		if r.status.typ == imap.StatusResponseTypeBye {
			c.bye = c.refused(&r.status, c.verb)
			c.changes.Bye = c.bye.Text
		}
		return nil
	}
	switch {
	case r.is("EXISTS"):
		return c.exists(r)
	case r.is("EXPUNGE"):
		return c.expunge(r)
	case r.is("RECENT"), r.is("FLAGS"), r.is("ENABLED"), r.is("ID"), r.is("NAMESPACE"):
		return nil
	case r.is("VANISHED"):
		c.vanished(r)
	case r.is("FETCH"):
		return c.flagged(r)
	case r.is("CAPABILITY"):
		c.setCaps(r.b[r.at:])
	case r.is("STATUS"):
		if st, ok := parseStatus(r); !ok {
			return c.skip("STATUS")
		} else if len(c.changes.Status) < c.lim.Hints {
			c.changes.Status = append(c.changes.Status, st)
		} else {
			c.changes.Overflow = true
		}
	case r.is("LIST"):
		if l, ok := c.parseList(r); !ok || l.Raw == "" {
			return c.skip("LIST")
		} else if len(c.changes.Listed) < c.lim.Hints {
			c.changes.Listed = append(c.changes.Listed, l)
		} else {
			c.changes.Overflow = true
		}
	default:
		return c.skip(upperString(r.name[:min(len(r.name), 64)]))
	}
	return nil
}

func (c *Conn) setCaps(b []byte) {
	if caps := parseCaps(b); caps.Known() {
		c.caps, c.capsTold = caps, true
	}
}

// exists notes a count. Nothing is believed of one that cannot be.
func (c *Conn) exists(r *response) error {
	if !r.hasNum {
		c.folder.Doubt = true
		return c.skip("count")
	}
	if !c.open && !c.selecting {
		return nil
	}
	if r.num != c.folder.Exists && !c.selecting {
		c.changes.Exists = true
	}
	c.folder.Exists, c.folder.Doubt = r.num, false
	return nil
}

func (c *Conn) expunge(r *response) error {
	if !c.open || c.selecting {
		return nil
	}
	c.changes.Expunged++
	if !r.hasNum || r.num == 0 || r.num > c.folder.Exists {
		c.folder.Doubt = true
		return c.skip("count")
	}
	c.folder.Exists--
	return nil
}

// takeNumbers gives the numbers of a SEARCH, ESEARCH or VANISHED, however it was read.
func (c *Conn) takeNumbers(r *response) *numbers {
	n := &c.rd.nums
	if !r.frame.nums {
		n.begin(numbersKind(r.b))
		n.feed(r.b)
		n.end()
	}
	return n
}

// vanished takes a VANISHED that is a push: of messages that were there.
func (c *Conn) vanished(r *response) {
	n := c.takeNumbers(r)
	if !c.open || c.selecting {
		return
	}
	if n.over || len(c.changes.Vanished)+len(n.ranges) > 100*c.lim.Hints {
		c.folder.Doubt = true
		c.changes.Expunged++
		return
	}
	c.changes.Vanished = append(c.changes.Vanished, n.ranges...)
	if n.earlier {
		return // RFC 7162 section 3.2.10.1: not part of the count
	}
	if gone := n.members; gone <= uint64(c.folder.Exists) {
		c.folder.Exists -= uint32(gone)
	} else {
		c.folder.Exists, c.folder.Doubt = 0, true
	}
}

// flagged takes a FETCH nobody asked for.
func (c *Conn) flagged(r *response) error {
	if !r.hasNum {
		return c.skip("fetch")
	}
	m := Message{Seq: r.num}
	c.parseFetch(r, &m)
	if !c.open || c.selecting {
		return nil
	}
	c.hintFlagged(Flagged{Seq: r.num, UID: m.UID})
	return nil
}

func (c *Conn) hintFlagged(f Flagged) {
	if len(c.changes.Flagged) < c.lim.Hints {
		c.changes.Flagged = append(c.changes.Flagged, f)
	}
}

// code takes what a response code says, of whichever status response.
func (c *Conn) code(r *response) {
	s := &r.status
	switch s.code {
	case "":
	case "ALERT", "WEBALERT":
		c.changes.Alert = hint(s.text)
	case "CAPABILITY":
		c.setCaps(s.args)
	case "NOTIFICATIONOVERFLOW":
		c.changes.Overflow = true
	case "THROTTLED":
		c.changes.Throttle = cmp.Or(hint(s.text), "throttled")
	case "HIGHESTMODSEQ":
		n := modSeq(s.args)
		if c.selecting {
			c.folder.HighestModSeq = n
		} else if c.open && n > 0 {
			c.changes.ModSeq = n
		}
	case "UIDVALIDITY":
		if c.selecting {
			c.folder.UIDValidity, _ = number32or0(s.args)
		}
	case "UIDNEXT":
		if c.selecting {
			c.folder.UIDNext, _ = number32or0(s.args)
		}
	case "NOMODSEQ":
		if c.selecting {
			c.folder.NoModSeq = true
		}
	case "MAILBOXID":
		if c.selecting {
			c.folder.MailboxID = objectID(s.args)
		}
	case "PERMANENTFLAGS":
		if c.selecting {
			c.folder.PermanentFlags = c.flagList(s.args)
		}
	case "READ-ONLY":
		c.folder.ReadOnly = true
	case "READ-WRITE":
		c.folder.ReadOnly = false
	}
}

// hint keeps a text until Changes shows it: some servers say it with every answer.
func hint(text []byte) string { return string(text[:min(len(text), maxText)]) }

func number32or0(v []byte) (uint32, bool) {
	n, ok := number(v)
	if !ok || n > math.MaxUint32 {
		return 0, false
	}
	return uint32(n), true
}

// objectID reads `(F2212ea87)`, with or without parentheses.
func objectID(v []byte) string {
	s := scanner{b: v}
	if s.peek() == '(' {
		s.i++
	}
	t, id := s.next()
	if t != tAtom && t != tString || len(id) > 255 || bytes.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return ""
	}
	return string(id)
}
