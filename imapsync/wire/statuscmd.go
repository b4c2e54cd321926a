package wire

import (
	"context"
	"strings"
)

// StatusItem is something STATUS is asked for.
type StatusItem string

// The items; each beyond the first four MUST be advertised.
const (
	StatusMessages      StatusItem = "MESSAGES"
	StatusUIDNext       StatusItem = "UIDNEXT"
	StatusUIDValidity   StatusItem = "UIDVALIDITY"
	StatusUnseen        StatusItem = "UNSEEN"
	StatusHighestModSeq StatusItem = "HIGHESTMODSEQ" // CONDSTORE
	StatusMailboxID     StatusItem = "MAILBOXID"     // OBJECTID
	StatusSize          StatusItem = "SIZE"          // STATUS=SIZE
)

// Status are the numbers of a folder. One whose Has is false did not come.
type Status struct {
	Raw           string // the name as it came
	Messages      uint32
	Unseen        uint32
	UIDNext       uint32 // 0 = did not come
	UIDValidity   uint32 // 0 = did not come
	HighestModSeq uint64 // 0 = did not come
	Size          int64
	MailboxID     string

	HasMessages, HasUnseen, HasSize bool
}

func statusItems(items []StatusItem) string {
	words := make([]string, len(items))
	for i, it := range items {
		words[i] = string(it)
	}
	return "(" + strings.Join(words, " ") + ")"
}

// Status asks for the numbers of one folder by the bytes LIST gave. It MUST NOT be asked
// of the selected folder.
func (c *Conn) Status(ctx context.Context, raw string, items ...StatusItem) (Status, error) {
	k := c.command("STATUS").name(raw).arg(statusItems(items))
	var got []Status
	k.on = func(r *response) bool {
		if !r.is("STATUS") || len(got) == 16 {
			return false
		}
		st, ok := parseStatus(r)
		if ok {
			got = append(got, st)
		}
		return ok
	}
	if _, err := k.run(ctx); err != nil {
		return Status{}, err
	}
	out := Status{Raw: raw}
	if len(got) == 1 {
		out = got[0] // row 54: the name may be spelt otherwise than asked
	}
	for _, st := range got {
		if st.Raw == raw {
			out = st
		} else if len(got) > 1 && len(c.changes.Status) < c.lim.Hints {
			c.changes.Status = append(c.changes.Status, st)
		}
	}
	out.Raw = raw
	return out, nil
}

// parseStatus reads `name (item value …)`; an item it cannot read is absent.
func parseStatus(r *response) (Status, bool) {
	var st Status
	s := r.scan()
	s.space()
	begin := s.i
	t, v := s.next()
	switch t {
	case tString, tAtom:
	case tNil:
		v = s.b[begin:s.i]
	default:
		return st, false
	}
	if len(v) == 0 || len(v) > 8<<10 {
		return st, false
	}
	st.Raw = string(v)
	if !s.open() {
		return st, s.peek() == 0
	}
	for {
		t, name := s.next()
		if t != tAtom {
			return st, t == tClose
		}
		if s.peek() == ')' {
			return st, true
		}
		at := s.i
		t, v := s.next()
		if t != tAtom && t != tString {
			if s.seek(at); foldEqual(name, "MAILBOXID") && t == tOpen {
				st.MailboxID = objectID(s.b[s.i:])
			}
			if !s.skip() {
				return st, true
			}
			continue
		}
		st.set(name, v)
	}
}

func (st *Status) set(name, v []byte) {
	n, ok := number32or0(v)
	switch {
	case foldEqual(name, "MESSAGES"):
		st.Messages, st.HasMessages = n, ok
	case foldEqual(name, "UNSEEN"):
		st.Unseen, st.HasUnseen = n, ok
	case foldEqual(name, "UIDNEXT"):
		st.UIDNext = n
	case foldEqual(name, "UIDVALIDITY"):
		st.UIDValidity = n
	case foldEqual(name, "HIGHESTMODSEQ"):
		st.HighestModSeq = modSeq(v)
	case foldEqual(name, "MAILBOXID"):
		st.MailboxID = objectID(v)
	case foldEqual(name, "SIZE"):
		if n, ok := number(v); ok && n < 1<<63 {
			st.Size, st.HasSize = int64(n), true
		}
	}
}
