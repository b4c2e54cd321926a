package imapsync

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/emersion/go-imap/v2"
)

// shortness is how far EXISTS and what can be listed disagree, while they do.
type shortness struct {
	by    int       // EXISTS minus what was listed
	since time.Time // first time by this much
	seen  int       // how often by this much
	tries int       // quick repeats so far
	next  time.Time
}

// doubt is a mass deletion that was seen once.
type doubt struct {
	gone []uint32
	next time.Time
}

const (
	secondLook   = 30 * time.Second
	massMessages = 20 // more than this, and more than a quarter, needs a second look

	// Listing a large folder in one answer makes a line that some servers cut.
	listWhole = 200_000
	listSlice = 100_000

	// maxFolder is how many messages of a folder are listed, 4 bytes each: no list beyond
	// that is whole.
	maxFolder = 10_000_000

	skewTimes = 3 // answers that agree before a difference is latched
	skewAfter = 10 * time.Minute
)

// shortSteps are the waits before an enumeration that did not add up is asked again.
var shortSteps = []time.Duration{time.Minute, 5 * time.Minute, 30 * time.Minute}

// count compares how many messages the state accounts for with EXISTS, and finds out
// why they differ. Deletions come from here alone. errAgain: not to be settled now.
func (s *step) count(ctx context.Context) error {
	for range 3 {
		arrived := s.hear()
		if s.w.reopen && s.uncounted {
			s.again, s.f.dirty = true, true
			return errAgain
		}
		exists, left := int(s.w.sess.Exists())-s.d.meta.Skew, s.d.known()-len(s.claim)
		switch d := s.f.doubt; {
		case d != nil && (time.Now().Before(d.next) || !s.fresh) && (len(s.claim) > 0 || exists < s.d.known()):
			return errAgain // pushes do not put the second look off
		case exists == left && s.expunged == 0 && (len(s.claim) == 0 || d == nil) && !s.d.meta.Short && !s.gap:
			if done, err := s.believe(ctx, exists); done || err != nil {
				return err
			}
		case s.tier() == tierQResync && !s.asked && s.d.meta.UIDNext > 1 && (s.expunged > 0 || !s.told && exists < left):
			s.asked = true
			if _, err := s.changedSince(ctx, s.d.meta.UIDNext); err != nil {
				return err
			}
			continue
		case arrived && exists > left && s.expunged == 0:
			return errMore // not an error, and no reason to list the folder
		}
		s.expunged = 0
		if err := s.enumerate(ctx); err != nil {
			return err
		}
	}
	s.again, s.f.dirty = true, true // it changes faster than it can be listed
	return errAgain
}

// believe tells what the server said vanished, now that the count agrees; not if some of
// it is there all the same.
func (s *step) believe(ctx context.Context, exists int) (done bool, err error) {
	if len(s.claim) == 0 {
		return true, nil
	}
	claim := s.claim
	if s.doubtful(claim, s.d.known(), exists) {
		return true, errAgain
	}
	if there, err := s.there(ctx, claim); there || err != nil {
		return false, err
	}
	s.claim = nil
	return true, s.remove(ctx, claim)
}

// errMore ends a step during which more arrived: the next one looks into it.
var errMore = errors.New("more arrived meanwhile")

// hear takes the hints that came during the step and says whether something arrived.
func (s *step) hear() bool {
	c := s.w.heard()
	s.expunged += c.Expunged
	s.vanished(c.Vanished)
	s.uncounted = c.Doubt
	s.w.reopen = s.w.reopen || c.Doubt
	if c.Exists || len(c.Flags) > 0 {
		s.again = true
		if s.f.Watched == watchedIdle {
			s.w.keep(Changes{Exists: c.Exists, Flags: c.Flags})
		}
	}
	return c.Exists
}

// vanished keeps what pushes name, as far as it is little: it is only compared with what
// the server lists.
func (s *step) vanished(set imap.UIDSet) {
	const most = 1000
	for _, r := range set {
		if len(s.pushed) < most {
			s.pushed.AddRange(r.Start, r.Stop)
		}
	}
}

// list asks for all UIDs of the folder.
func (s *step) list(ctx context.Context) (Enumeration, error) {
	if s.w.sess.Exists() == 0 && s.d.known() == 0 {
		return Enumeration{Complete: true}, nil // else even an empty folder is asked: EXISTS may be wrong
	}
	if s.w.sess.Exists() < listWhole {
		return s.w.sess.UIDs(ctx, 1, 0)
	}
	const most = 1 << 20 // EXISTS is only what the server says
	all := Enumeration{UIDs: make([]uint32, 0, min(s.w.sess.Exists(), most)), Complete: true}
	top := max(s.d.meta.UIDNext, s.sel.UIDNext)
	for from, slice := uint64(1), sliceOf(top); ; from += slice {
		to := from + slice - 1
		last := to >= uint64(top)
		if last {
			to = 0
		}
		part, err := s.w.sess.UIDs(ctx, uint32(from), uint32(to))
		if err != nil {
			return all, err
		}
		all.UIDs = append(all.UIDs, part.UIDs...)
		all.Complete = all.Complete && part.Complete
		if len(all.UIDs) > maxFolder {
			all.Complete = false
			return all, nil
		}
		if last {
			return all, nil
		}
	}
}

// sliceOf is how many UIDs below top are asked for at once. They may be sparse, and
// UIDNEXT is only what the server says: few questions.
func sliceOf(top uint32) uint64 {
	const questions = 64
	return max(uint64(listSlice), uint64(top)/questions+1)
}

// proof is what a list of UIDs is good for.
type proof int

const (
	proofNone   proof = iota // limited or damaged: what is not in it may exist
	proofBut                 // complete but for the number, which is not that of EXISTS
	proofAbsent              // complete and counted: what is not in it is gone
)

// listed asks for all UIDs until their number is that of EXISTS, by SEARCH and then by
// FETCH.
func (s *step) listed(ctx context.Context) (uids []uint32, p proof, err error) {
	e, err := s.list(ctx)
	if err != nil {
		return nil, proofNone, err
	}
	s.hear()
	counts := func(n int) bool { return n == int(s.w.sess.Exists())-s.d.meta.Skew }
	// A list that is short by as much as EXISTS was once too high adds up, too.
	if e.Complete && counts(len(e.UIDs)) && s.d.meta.Skew == 0 {
		return e.UIDs, proofAbsent, nil
	}
	top := max(s.d.meta.UIDNext, s.sel.UIDNext, 1)
	if n := len(e.UIDs); n > 0 {
		top = max(top, e.UIDs[n-1])
	}
	all, whole := e.UIDs, true
	slice := sliceOf(top)
	for from := uint64(1); from <= uint64(top); from += slice {
		var set imap.UIDSet
		set.AddRange(imap.UID(from), imap.UID(min(uint64(top), from+slice-1)))
		got, err := s.w.sess.Flags(ctx, set)
		if err != nil {
			return nil, proofNone, err
		}
		whole = whole && got.Complete
		for _, g := range got.Flags {
			all = append(all, g.UID)
		}
		if len(all) > 2*maxFolder {
			return nil, proofNone, errPartial
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	s.hear()
	switch {
	case !e.Complete && !whole: // a number that fits may be one gone for one left out
		return all, proofNone, nil
	case counts(len(all)):
		return all, proofAbsent, nil
	case !e.Complete || !whole:
		return all, proofNone, nil
	}
	return all, proofBut, nil
}

// enumerate lists the folder, announces what the state did not know and, if the answer
// is complete and counted, tells what is gone.
func (s *step) enumerate(ctx context.Context) error {
	uids, proof, err := s.listed(ctx)
	if err != nil {
		return err
	}
	complete := proof == proofAbsent
	if complete {
		s.gap = false
		s.disagreed(false)
	}
	known, err := s.known(ctx)
	if err != nil {
		return err
	}
	gone, found := differ(known, uids)
	s.judgeClaim(gone, uids, complete)
	s.listedAll, s.lost, s.found = complete, len(gone), 0
	for _, uid := range found {
		if s.returning(uid) {
			s.found++
		}
	}
	found = slices.DeleteFunc(found, func(uid uint32) bool { return s.d.awaited(uid) != nil })
	if err := s.fetchAll(ctx, found); err != nil {
		return err
	}
	if !complete {
		if s.again {
			return nil // it changed meanwhile: count once more
		}
		return s.disagree(int(s.w.sess.Exists())-len(uids), proof)
	}
	for _, p := range s.d.meta.Pending {
		if _, ok := slices.BinarySearch(uids, p.UID); !ok {
			gone = append(gone, p.UID)
		}
	}
	slices.Sort(gone)
	if s.doubtful(gone, len(known), len(uids)) {
		return errAgain
	}
	there, err := s.there(ctx, gone)
	if err != nil {
		return err
	}
	if there { // the list is short, and the number wrong by as much
		return s.disagree(s.d.meta.Skew, proofNone)
	}
	return s.remove(ctx, gone)
}

// judgeClaim compares what the server said vanished with what it lists.
func (s *step) judgeClaim(gone, listed []uint32, complete bool) {
	if s.tier() != tierQResync {
		return
	}
	for _, uid := range listed {
		_, claimed := slices.BinarySearch(s.claim, uid)
		if claimed || s.pushed.Contains(imap.UID(uid)) {
			s.w.latch(latchQResync, "VANISHED named messages that are there")
			break
		}
	}
	missed := func(uid uint32) bool {
		_, claimed := slices.BinarySearch(s.claim, uid)
		return !claimed && !s.pushed.Contains(imap.UID(uid))
	}
	if s.told && complete && s.expunged == 0 && slices.ContainsFunc(gone, missed) {
		s.w.distrust(latchQResync, "VANISHED left out messages that are gone")
	}
	s.told, s.claim = false, nil
}

// remove tells the draft that known messages, or ones that are waited for, are gone.
// It MUST only be called behind a complete, counted answer.
func (s *step) remove(ctx context.Context, gone []uint32) error {
	if slices.ContainsFunc(gone, func(uid uint32) bool { return s.d.spoken[uid] }) {
		// Within a commit deletions come first, and these end what is only now told of.
		if err := s.write(ctx); err != nil {
			return err
		}
	}
	for chunk := range slices.Chunk(gone, chunkMessages) {
		for _, uid := range chunk {
			s.d.gone(uid)
		}
		if err := s.load(ctx, chunk...); err != nil {
			return err
		}
		if err := s.vanish(ctx, chunk); err != nil {
			return err
		}
		if s.d.full() {
			if err := s.write(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// differ compares two ascending lists.
func differ(known, listed []uint32) (gone, found []uint32) {
	for len(known) > 0 || len(listed) > 0 {
		switch {
		case len(listed) == 0 || len(known) > 0 && known[0] < listed[0]:
			gone, known = append(gone, known[0]), known[1:]
		case len(known) == 0 || listed[0] < known[0]:
			found, listed = append(found, listed[0]), listed[1:]
		default:
			known, listed = known[1:], listed[1:]
		}
	}
	return gone, found
}

// mass says whether so much is gone that one answer is not believed.
func mass(gone, known, left int) bool {
	return gone > massMessages && 4*gone > known || known > massMessages && left == 0
}

// doubtful says whether a deletion is too large to be believed at first sight. The
// second look opens the folder anew, not earlier than secondLook, and must name all
// that the first named.
func (s *step) doubtful(gone []uint32, known, left int) bool {
	if !mass(len(gone), known, left) {
		s.f.doubt = nil
		return false
	}
	now := time.Now()
	if d := s.f.doubt; d != nil {
		if now.Before(d.next) || !s.fresh {
			return true // pushes do not put the second look off
		}
		if back, _ := differ(d.gone, gone); len(back) == 0 {
			s.f.doubt = nil
			return false
		}
	}
	s.f.doubt = &doubt{gone: gone, next: now.Add(secondLook)}
	return true
}

// disagreed keeps that EXISTS and what can be listed disagree. Until a list has shown
// that they do not, a number that fits is no proof: one may have gone for one that shows
// itself only now.
func (s *step) disagreed(yes bool) {
	if m := &s.d.meta; m.Short != yes {
		m.Short, s.d.moved = yes, true
	}
}

// disagree notes that EXISTS and what can be listed differ by k. Nothing is deleted
// while they do. A difference that stays the same is the server's way of counting,
// unless it may be its way of listing.
func (s *step) disagree(k int, p proof) error {
	s.disagreed(true)
	now, f := time.Now(), s.f.short
	if f == nil || f.by != k {
		f = &shortness{by: k, since: now}
		s.f.short = f
	}
	f.seen++
	if p == proofNone {
		f.seen, f.since = 0, now
	}
	switch {
	case f.seen >= skewTimes && now.Sub(f.since) >= skewAfter:
		s.d.meta.Skew, s.d.moved, s.w.replan = k, true, true
		s.f.short = nil
		s.disagreed(false)
		return nil
	case f.tries < len(missingSteps) && k > 0:
		f.next = now.Add(missingSteps[f.tries]) // it may only not be readable yet
		f.tries++
	default:
		f.next = now.Add(shortSteps[min(f.tries-min(f.tries, len(missingSteps)), len(shortSteps)-1)])
		f.tries++
	}
	if d := s.f.doubt; d != nil && !now.Before(d.next) {
		d.next = f.next // this was to be the second look
	}
	return errAgain
}

// blockOrder is the ascending union of the blocks from..to of both maps.
func blockOrder[A, B any](a map[uint32]A, b map[uint32]B, from, to uint32) []uint32 {
	union := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	union = slices.DeleteFunc(union, func(idx uint32) bool { return idx < from || idx > to })
	slices.Sort(union)
	return slices.Compact(union)
}
