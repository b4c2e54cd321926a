package wire

import (
	"strings"

	"github.com/emersion/go-imap/v2"
)

// limitedMost bounds the commands of one question to a server that answers in parts.
const limitedMost = 1024

// seen are the lowest and the highest UID that an answer brought of what was asked; 0 = none.
type seen struct{ low, high imap.UID }

func (s *seen) add(low, high imap.UID) {
	if s.low == 0 || low < s.low {
		s.low = low
	}
	s.high = max(s.high, high)
}

// limited says whether an OK ends at a server's limit, and at which UID, if it tells one:
// RFC 9738, `[MESSAGELIMIT 1000 4001]`, or LIMIT of RFC 5530.
func (r *Result) limited() (at imap.UID, yes bool) {
	if r.Code != "MESSAGELIMIT" && r.Code != "LIMIT" {
		return 0, false
	}
	if _, word, ok := strings.Cut(r.args, " "); ok {
		n, _ := number32([]byte(strings.TrimSpace(word)))
		at = imap.UID(n)
	}
	return at, true
}

// askOn asks about a set of UIDs and, where a limit ends the answer, about what is left of
// it, until all of it was answered. The result is that of the whole: Partial where it is
// not all there is. Without a UID in the code only what came tells how far the server got;
// whole says that nothing else comes between, as pushed flags do.
func askOn(set imap.UIDSet, whole bool, ask func(imap.UIDSet) (Result, seen, error)) (out Result, err error) {
	todo := []imap.UIDSet{set}
	var partial *Result
	damaged := 0
	for n := 1; len(todo) > 0; n++ {
		part := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		res, came, err := ask(part)
		damaged += res.Damaged
		if err != nil {
			res.Damaged = damaged
			return res, err
		}
		out = res
		at, limited := res.limited()
		if !limited {
			if res.Partial() {
				partial = &res
			}
			continue
		}
		if at != 0 && !within(part, at) {
			at = 0
		}
		below, above, ok := left(part, at, came)
		if !ok || n >= limitedMost || at == 0 && !whole {
			partial = &res
		}
		if n >= limitedMost {
			break
		}
		for _, more := range []imap.UIDSet{above, below} {
			if len(more) > 0 {
				todo = append(todo, more)
			}
		}
	}
	switch _, limited := out.limited(); {
	case partial != nil:
		out = *partial
	case limited: // what was left was nothing
		out.Code = ""
	}
	out.Damaged = damaged
	return out, nil
}

// left is what an answer that ended at a limit left out of a set. By RFC 9738 the
// highest UIDs come first, and at is the lowest that was looked at; one that came from
// below it may have been pushed, or the server begins at the other end.
func left(set imap.UIDSet, at imap.UID, came seen) (below, above imap.UIDSet, ok bool) {
	low, high := at, at
	if at == 0 {
		low, high = came.low, came.high
	}
	if low == 0 {
		return nil, nil, false
	}
	if low > 1 {
		below = cut(set, 1, low-1)
	}
	begun := came.low == 0 || came.low >= low && came.high > low // from above
	if high+1 != 0 && (low != high || !begun) {
		above = cut(set, high+1, 0)
	}
	return below, above, true
}

func within(set imap.UIDSet, uid imap.UID) bool { return len(cut(set, uid, uid)) > 0 }

// cut is what a set has of from..to; a `to` of 0 is `*`, as in sets.
func cut(set imap.UIDSet, from, to imap.UID) imap.UIDSet {
	var out imap.UIDSet
	for _, r := range set {
		r.Start = max(r.Start, from)
		if r.Stop == 0 || to != 0 && to < r.Stop {
			r.Stop = to
		}
		if r.Stop == 0 || r.Start <= r.Stop {
			out = append(out, r)
		}
	}
	return out
}
