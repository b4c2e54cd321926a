package wire

import (
	"bytes"
	"context"

	"github.com/emersion/go-imap/v2"
)

// maxPairs bounds how many messages of one COPY are told apart.
const maxPairs = 1_000_000

// Copied is what COPYUID told: UIDs of the source and the target, pairwise; empty where
// the server did not tell, or told what cannot be.
type Copied struct {
	UIDValidity uint32
	From, To    []uint32
}

// Copy copies messages to a folder by UID COPY.
func (c *Conn) Copy(ctx context.Context, set imap.UIDSet, raw string) (Copied, error) {
	return c.copying(ctx, "UID COPY", set, raw)
}

// Move moves messages by UID MOVE, which the server MUST have: without it Move refuses,
// because COPY, STORE and EXPUNGE can fail in between, and what to do then is the
// caller's to decide.
func (c *Conn) Move(ctx context.Context, set imap.UIDSet, raw string) (Copied, error) {
	if !c.caps.Has(imap.CapMove) {
		return Copied{}, refuse("UID MOVE", "server has no MOVE")
	}
	return c.copying(ctx, "UID MOVE", set, raw)
}

func (c *Conn) copying(ctx context.Context, verb string, set imap.UIDSet, raw string) (Copied, error) {
	var out Copied
	if why := checkSet(set); why != "" {
		return out, refuse(verb, why)
	}
	for _, part := range splitSet(set) {
		k := c.command(verb).set(part).name(raw)
		told := func(r *response) { out.add(r.status.args) }
		k.on = func(r *response) bool {
			if r.kind != rStatus || r.status.code != "COPYUID" {
				return false
			}
			told(r) // MOVE tells it untagged (RFC 6851 section 4.3)
			return true
		}
		k.tagged = func(r *response) {
			if r.status.code == "COPYUID" {
				told(r)
			}
		}
		if _, err := k.run(ctx); err != nil {
			return out, err
		}
	}
	return out, nil
}

// add takes `validity source target`. Sets of unequal length pair nothing; unsorted
// ones pair in the order they have.
func (d *Copied) add(args []byte) {
	f := bytes.Fields(args)
	if len(f) != 3 {
		return
	}
	validity, ok := number32(f[0])
	from, fromOK := pairList(f[1])
	to, toOK := pairList(f[2])
	if !ok || !fromOK || !toOK || len(from) != len(to) || d.UIDValidity != 0 && d.UIDValidity != validity || len(d.From)+len(from) > maxPairs {
		return
	}
	d.UIDValidity = validity
	d.From = append(d.From, from...)
	d.To = append(d.To, to...)
}

// pairList expands a set in its own order.
func pairList(b []byte) ([]uint32, bool) {
	var out []uint32
	for part := range bytes.SplitSeq(b, []byte(",")) {
		lo, hi, isRange := bytes.Cut(part, []byte(":"))
		first, ok := number32(lo)
		last := first
		if isRange && ok {
			last, ok = number32(hi)
		}
		if !ok {
			return nil, false
		}
		if last < first {
			first, last = last, first
		}
		if uint64(len(out))+uint64(last-first)+1 > maxPairs {
			return nil, false
		}
		for u := uint64(first); u <= uint64(last); u++ {
			out = append(out, uint32(u))
		}
	}
	return out, len(out) > 0
}

// Expunge removes just these messages, where they are flagged \Deleted, by UID EXPUNGE;
// the server MUST have UIDPLUS.
func (c *Conn) Expunge(ctx context.Context, set imap.UIDSet) error {
	if !c.caps.Has(imap.CapUIDPlus) {
		return refuse("UID EXPUNGE", "server has no UIDPLUS")
	}
	if why := checkSet(set); why != "" {
		return refuse("UID EXPUNGE", why)
	}
	for _, part := range splitSet(set) {
		if _, err := c.command("UID EXPUNGE").set(part).run(ctx); err != nil {
			return err
		}
	}
	return nil
}
