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
)

// compare tells the draft of flags and labels. It counts the messages whose differ from
// what was known.
func (s *step) compare(ctx context.Context, got []FlagsOf) (differ int, err error) {
	for chunk := range slices.Chunk(got, chunkMessages) {
		s.d.forget(64)
		uids := make([]uint32, len(chunk))
		for i, g := range chunk {
			uids[i] = g.UID
		}
		if err := s.load(ctx, uids...); err != nil {
			return differ, err
		}
		for i, g := range chunk {
			if !s.d.flags(&g) {
				continue
			}
			differ++
			if s.d.full() {
				if err := s.write(ctx); err != nil {
					return differ, err
				}
				if err := s.load(ctx, uids[i+1:]...); err != nil {
					return differ, err
				}
			}
		}
	}
	return differ, nil
}

// compareAll compares all flags below before, some thousand at a time.
func (s *step) compareAll(ctx context.Context, before uint32) (differ int, err error) {
	uids, err := s.known(ctx)
	if err != nil {
		return 0, err
	}
	for chunk := range slices.Chunk(uids, compareSlice) {
		n, err := s.compareRange(ctx, chunk[0], min(chunk[len(chunk)-1], before-1))
		if differ += n; err != nil {
			return differ, err
		}
	}
	return differ, nil
}

// compareRange compares the flags of the UIDs from..to.
func (s *step) compareRange(ctx context.Context, from, to uint32) (differ int, err error) {
	if to < from {
		return 0, nil
	}
	var set imap.UIDSet
	set.AddRange(imap.UID(from), imap.UID(to))
	return s.compareSet(ctx, set)
}

// compareSet compares the flags of a set of UIDs.
func (s *step) compareSet(ctx context.Context, set imap.UIDSet) (differ int, err error) {
	got, err := s.w.sess.Flags(ctx, set)
	if err != nil {
		return 0, err
	}
	return s.compare(ctx, got.Flags)
}

// known lists the UIDs of the state, ascending: 4 bytes a message, for as long as the
// caller keeps them.
func (s *step) known(ctx context.Context) ([]uint32, error) {
	uids := make([]uint32, 0, max(s.d.known(), 0))
	err := eachBlock(ctx, s, s.w.st.UIDs, func(idx uint32, stored []uint32) error {
		drawn, ok := s.d.blocks[idx]
		if !ok {
			uids = append(uids, stored...)
		}
		for _, r := range drawn {
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
		_, err := s.compareRange(ctx, 1, before-1)
		return err
	}
	s.planFlags(now)
	uids, err := s.known(ctx)
	if err != nil || len(uids) == 0 {
		return err
	}
	newest := uids[max(0, len(uids)-fastWindow)]
	if _, err := s.compareRange(ctx, newest, before-1); err != nil {
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
	_, err := s.compareSet(ctx, set)
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
	if _, err := s.compareRange(ctx, uids[i], uids[end-1]); err != nil {
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
	count := s.d.known() // with what this step found, which is not committed yet
	if s.tier() != tierBaseline || count == 0 {
		s.f.flagAt = time.Time{}
		if s.d.meta.Count > 0 && s.since() != s.d.meta.ModSeq || s.w.profile.ModSeqLag && len(s.hints.Flags) > 0 {
			s.f.flagAt = now.Add(modSeqLag)
		}
		return
	}
	round := time.Hour
	if count > 10_000 {
		round = 24 * time.Hour
	}
	wait := max(round/time.Duration(count/slowSlice+1), time.Minute)
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
	at := now.Add(wait)
	if s.f.flagAt.After(now) { // looks in between, however many, do not put it off
		at = earliest(at, s.f.flagAt)
	}
	s.f.flagAt = at
}
