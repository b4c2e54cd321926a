package imapsync

import (
	"context"
	"slices"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/postrider/postrider/store"
)

// How flags are looked for where the server does not count changes (sync.md §4.6).
const (
	fastWindow   = 200  // newest messages, compared whenever the folder is opened
	hintWindow   = 2000 // a folder up to this size is compared whole when a flag was pushed
	slowSlice    = 2000 // messages of one slice of the slow round
	compareSlice = 5000 // messages of one question when all flags are compared
	maxRepeats   = 500  // known messages repeated by CHANGEDSINCE before the folder is opened again
)

// condstore says whether the folder counts its changes, as it behaves.
func (s *step) condstore() bool { return s.sel.ModSeq > 0 && !s.w.latched(latchCondstore) }

// changedFlags compares the flags of messages below before, the cursor as it was before
// the step: what came since has just been announced with its flags. It says whether the
// answer stands for all of them, so that the folder's MODSEQ may move.
func (s *step) changedFlags(ctx context.Context, before uint32) (whole bool, err error) {
	m := &s.d.meta
	if m.Count == 0 || before <= 1 {
		s.planFlags(time.Now())
		return true, nil
	}
	if !s.condstore() {
		return false, s.flagWindows(ctx, before)
	}
	switch {
	case s.fresh && s.sel.ModSeq < m.ModSeq, s.fresh && m.ModSeq == 0:
		// Never compared, or the server's count went back (restored, indexed anew).
		return true, s.compareAll(ctx, before)
	case !s.fresh && len(s.hints.Flags) == 0:
		return false, nil
	case s.fresh && s.sel.ModSeq == m.ModSeq && s.sel.UIDNext == m.UIDNext && int(s.sel.Exists) == s.d.known()+m.Skew:
		return true, nil
	}
	var set imap.UIDSet
	set.AddRange(1, imap.UID(before-1))
	got, err := s.w.sess.Flags(ctx, set, m.ModSeq)
	if err != nil && goesOn(err) {
		s.w.latch(latchCondstore, err)
		return false, s.flagWindows(ctx, before)
	}
	if err != nil {
		return false, err
	}
	same, err := s.compare(ctx, got)
	if same > maxRepeats && !s.fresh {
		s.w.reopen = true
	}
	return true, err
}

// compare tells the draft of flags. It counts those that were as known.
func (s *step) compare(ctx context.Context, got []FlagsOf) (same int, err error) {
	for chunk := range slices.Chunk(got, chunkMessages) {
		uids := make([]uint32, len(chunk))
		for i, g := range chunk {
			uids[i] = g.UID
		}
		if err := s.load(ctx, uids...); err != nil {
			return same, err
		}
		for i, g := range chunk {
			if !g.Known || !s.d.flags(g.UID, g.Flags) {
				same++
				continue
			}
			if s.d.full() {
				if err := s.write(ctx); err != nil {
					return same, err
				}
				if err := s.load(ctx, uids[i+1:]...); err != nil {
					return same, err
				}
			}
		}
	}
	return same, nil
}

// compareAll compares all flags, some thousand at a time.
func (s *step) compareAll(ctx context.Context, before uint32) error {
	uids, err := s.known(ctx)
	if err != nil {
		return err
	}
	for chunk := range slices.Chunk(uids, compareSlice) {
		if err := s.compareRange(ctx, chunk[0], min(chunk[len(chunk)-1], before-1)); err != nil {
			return err
		}
	}
	return nil
}

// compareRange compares the flags of the UIDs from..to.
func (s *step) compareRange(ctx context.Context, from, to uint32) error {
	if to < from {
		return nil
	}
	var set imap.UIDSet
	set.AddRange(imap.UID(from), imap.UID(to))
	got, err := s.w.sess.Flags(ctx, set, 0)
	if err != nil {
		return err
	}
	_, err = s.compare(ctx, got)
	return err
}

// known lists the UIDs of the state, ascending: 4 bytes a message, for as long as the
// caller keeps them.
func (s *step) known(ctx context.Context) ([]uint32, error) {
	uids := make([]uint32, 0, max(s.d.known(), 0))
	err := s.records(ctx, func(recs []store.Record) error {
		for _, r := range recs {
			uids = append(uids, r.UID)
		}
		return nil
	})
	return uids, err
}

// flagWindows compares what a server without MODSEQ makes worth comparing now: the
// newest messages whenever the folder was opened, all of a small folder after a push,
// the neighbourhood of what was pushed in a large one, and a slice of the slow round.
func (s *step) flagWindows(ctx context.Context, before uint32) error {
	now := time.Now()
	due := !s.f.flagAt.IsZero() && !now.Before(s.f.flagAt)
	if !s.fresh && !due && len(s.hints.Flags) == 0 {
		s.planFlags(now)
		return nil
	}
	if s.d.meta.Count <= fastWindow || s.d.meta.Count <= hintWindow && len(s.hints.Flags) > 0 {
		s.planFlags(now)
		return s.compareRange(ctx, 1, before-1)
	}
	s.planFlags(now)
	uids, err := s.known(ctx)
	if err != nil || len(uids) == 0 {
		return err
	}
	newest := uids[max(0, len(uids)-fastWindow)]
	if err := s.compareRange(ctx, newest, before-1); err != nil {
		return err
	}
	if err := s.hinted(ctx, uids, newest); err != nil {
		return err
	}
	if due {
		return s.slowRound(ctx, uids)
	}
	return nil
}

// hinted asks for the messages that pushed FETCH responses seem to name. A sequence
// number is only a guess at a UID, so its neighbours are asked for too.
func (s *step) hinted(ctx context.Context, uids []uint32, newest uint32) error {
	var set imap.UIDSet
	for _, n := range s.hints.Flags {
		for i := int(n) - 3; i <= int(n)+1; i++ {
			if i >= 0 && i < len(uids) && uids[i] < newest {
				set.AddNum(imap.UID(uids[i]))
			}
		}
	}
	if len(set) == 0 {
		return nil
	}
	got, err := s.w.sess.Flags(ctx, set, 0)
	if err != nil {
		return err
	}
	_, err = s.compare(ctx, got)
	return err
}

// slowRound compares the next slice of the whole folder.
func (s *step) slowRound(ctx context.Context, uids []uint32) error {
	scan := s.d.meta.Scan
	i, _ := slices.BinarySearch(uids, scan.Next)
	if i == len(uids) {
		i = 0
	}
	end := min(i+slowSlice, len(uids))
	if err := s.compareRange(ctx, uids[i], uids[end-1]); err != nil {
		return err
	}
	scan.Next = uids[end-1] + 1
	if end == len(uids) {
		scan = store.Scan{End: time.Now().UTC()}
	}
	s.d.meta.Scan, s.d.moved = scan, true
	return nil
}

// planFlags says when flags are compared next without being asked for: often in the
// folder that is watched live while something happens there, else so that a round over
// the folder takes an hour, a day if it is large.
func (s *step) planFlags(now time.Time) {
	if s.condstore() || s.d.meta.Count == 0 {
		s.f.flagAt = time.Time{}
		return
	}
	round := time.Hour
	if s.d.meta.Count > 10_000 {
		round = 24 * time.Hour
	}
	wait := max(round/time.Duration(s.d.meta.Count/slowSlice+1), time.Minute)
	if s.f.Watched == watchedIdle {
		switch idle := now.Sub(s.f.active); {
		case idle < 10*time.Minute:
			wait = min(wait, time.Minute)
		case idle < time.Hour:
			wait = min(wait, 5*time.Minute)
		default:
			wait = min(wait, 15*time.Minute)
		}
	}
	s.f.flagAt = now.Add(wait)
}
