package imapsync

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/postrider/postrider/store"
)

// tier is how changes below the cursor are found (sync.md §4.3).
type tier int

const (
	tierQResync   tier = 1 // CHANGEDSINCE names what changed and what vanished
	tierCondStore tier = 2 // CHANGEDSINCE names what changed; deletions by counting
	tierBaseline  tier = 3 // windows of flags; deletions by counting
)

func (t tier) String() string { return [...]string{"", "T1", "T2", "T3"}[t] }

// chooseTier chooses by what a folder did when it was opened, its HIGHESTMODSEQ, and by
// how the server behaved so far.
func chooseTier(info Info, modseq uint64, latched func(string) bool) tier {
	switch {
	case modseq == 0 || latched(latchCondstore):
		return tierBaseline
	case info.QResync && !latched(latchQResync):
		return tierQResync
	}
	return tierCondStore
}

func (s *step) tier() tier { return chooseTier(s.w.info, s.sel.ModSeq, s.w.latched) }

const (
	maxRepeats  = 500              // known messages repeated by CHANGEDSINCE before the folder is opened again
	ignoredMost = 5000             // of them, in the answer to the first question: CHANGEDSINCE is ignored
	frozenEvery = 10 * time.Minute // between looks whether a pushed flag is one that CHANGEDSINCE hides

	forNothingEvery = time.Hour // likewise, where nothing was pushed
)

// below finds out what changed below before, the cursor as it was before the step: what
// came since has just been announced with its flags. It says whether the answer stands
// for all of it, so that the folder's MODSEQ may move.
func (s *step) below(ctx context.Context, before uint32) (whole bool, err error) {
	m := &s.d.meta
	if m.Count == 0 || before <= 1 {
		s.planFlags(time.Now())
		return true, nil
	}
	t := s.tier()
	switch {
	case t == tierBaseline:
		return false, s.flagWindows(ctx, before)
	case s.fresh && s.sel.ModSeq < m.ModSeq, s.fresh && m.ModSeq == 0:
		// Never compared, or the server's count went back (restored, indexed anew).
		s.asked = true
		_, err := s.compareAll(ctx, before)
		return err == nil, err
	case !s.fresh && len(s.hints.Flags) == 0 && (t != tierQResync || s.expunged == 0):
		return false, nil
	case m.ModSeq == 0:
		s.w.reopen, s.asked = true, true
		return false, nil
	case s.fresh && s.sel.ModSeq == s.since() && s.sel.UIDNext == m.UIDNext && int(s.sel.Exists) == s.d.known()+m.Skew:
		return true, nil
	}
	return s.changedSince(ctx, before)
}

// modSeqLag is how long after HIGHESTMODSEQ a change can be read where that lags.
const modSeqLag = time.Minute

// since is what CHANGEDSINCE is asked with: the folder's MODSEQ or, where changes can be
// read only after HIGHESTMODSEQ moved, one that is older than the lag (sync.md §4.5).
func (s *step) since() uint64 {
	m := &s.d.meta
	if s.w.profile.ModSeqLag && m.ModSeqPrev > 0 {
		return min(m.ModSeqPrev, m.ModSeq)
	}
	return m.ModSeq
}

// lag keeps ModSeqPrev a HIGHESTMODSEQ that is older than the lag, now that another is
// told; was is the one before.
func (s *step) lag(was uint64) {
	m, f, now := &s.d.meta, s.f, time.Now()
	switch {
	case s.sel.ModSeq < was: // rule 3: nothing older counts
		m.ModSeqPrev, f.lagged, f.laggedAt = s.sel.ModSeq, s.sel.ModSeq, now
	case f.laggedAt.IsZero():
		f.lagged, f.laggedAt = s.sel.ModSeq, now
	case now.Sub(f.laggedAt) >= modSeqLag:
		m.ModSeqPrev, f.lagged, f.laggedAt = f.lagged, s.sel.ModSeq, now
	}
	if m.ModSeqPrev == 0 {
		m.ModSeqPrev = max(was, 1)
	}
}

// changedSince asks what changed below before since the folder's MODSEQ, and where the
// server knows it, what vanished: that is claimed only, until the count agrees.
func (s *step) changedSince(ctx context.Context, before uint32) (whole bool, err error) {
	t := s.tier()
	if t == tierQResync {
		s.hear()
		s.expunged = 0 // the answer covers them
	}
	s.told, s.claim = false, nil
	got, err := s.w.sess.Changed(ctx, before-1, s.since(), t == tierQResync)
	partial := hasCode(err, "EXPUNGEISSUED") // what came is true
	switch {
	case err == nil, partial:
	case refusesQuestion(err):
		return s.withoutChanged(ctx, before, t, err)
	default:
		return false, err
	}
	differ, err := s.compare(ctx, got.Flags)
	if err != nil {
		return false, err
	}
	if err := s.askUnknown(ctx, got.Flags); err != nil {
		return false, err
	}
	if t == tierQResync && got.Complete {
		if s.claim, err = s.knownIn(ctx, got.Vanished); err != nil {
			return false, err
		}
		s.told = true
	}
	same := len(got.Flags) - differ
	switch {
	case partial:
		return false, nil
	case !got.Complete:
		s.w.distrust(tierLatch(t), "answers to CHANGEDSINCE cannot be read whole")
		return false, nil
	case s.fresh && same > ignoredMost && 10*same > 9*s.d.meta.Count:
		s.w.distrust(latchCondstore, "CHANGEDSINCE brings messages that did not change")
	case !s.fresh && same > maxRepeats:
		s.w.reopen = true
	case !s.fresh && len(s.hints.Flags) > 0 && differ == 0, s.fresh && len(got.Flags) == 0 && s.forNothing(before):
		return true, s.frozen(ctx, before)
	}
	return true, nil
}

// forNothing says whether HIGHESTMODSEQ moved since the last look although nothing came
// nor went: then something changed that CHANGEDSINCE ought to bring, unless the number is
// that of all folders.
func (s *step) forNothing(before uint32) bool {
	m := &s.d.meta
	return time.Since(s.f.frozenAt) >= forNothingEvery && s.sel.ModSeq > m.ModSeq && len(s.claim) == 0 && m.UIDNext == before && int(s.w.sess.Exists()) == s.d.known()+m.Skew
}

func hasCode(err error, code string) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == code
}

// refusesQuestion says whether a NO or BAD is about the question, not about the moment.
func refusesQuestion(err error) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok || !e.Usable() || Classify(err).Kind == FaultThrottled {
		return false
	}
	return !slices.Contains([]string{"UNAVAILABLE", "INUSE", "SERVERBUG"}, e.Code)
}

// tierLatch is what is switched off to leave a tier.
func tierLatch(t tier) string {
	if t == tierQResync {
		return latchQResync
	}
	return latchCondstore
}

// withoutChanged goes on in the next tier after CHANGEDSINCE was refused, if it is not
// the folder that is refused.
func (s *step) withoutChanged(ctx context.Context, before uint32, t tier, cause error) (whole bool, err error) {
	if _, err := s.compareRange(ctx, before-1, before-1); err != nil {
		return false, err
	}
	s.w.latch(tierLatch(t), "refused: "+responseOf(cause))
	if t == tierQResync {
		return s.changedSince(ctx, before)
	}
	return false, s.flagWindows(ctx, before)
}

// askUnknown asks again for messages whose FLAGS, or labels, did not come (row 29).
func (s *step) askUnknown(ctx context.Context, got []FlagsOf) error {
	var uids []uint32
	for _, g := range got {
		if !g.Known || s.w.info.Gmail && !g.HasLabels {
			uids = append(uids, g.UID)
		}
	}
	for chunk := range slices.Chunk(uids, chunkMessages) {
		if _, err := s.compareSet(ctx, uidSet(chunk)); err != nil {
			return err
		}
	}
	return nil
}

// frozen looks at the newest messages after a push, or a HIGHESTMODSEQ, that CHANGEDSINCE
// knew nothing of. A difference there is one that it hides.
func (s *step) frozen(ctx context.Context, before uint32) error {
	now := time.Now()
	if now.Sub(s.f.frozenAt) < frozenEvery {
		return nil
	}
	s.f.frozenAt = now
	var set imap.UIDSet
	set.AddRange(imap.UID(before-min(before-1, fastWindow)), imap.UID(before-1))
	hidden, err := s.hidden(ctx, before, set)
	if hidden > 0 {
		s.w.distrust(latchCondstore, "flags change and HIGHESTMODSEQ does not tell")
	}
	return err
}

// hidden compares flags and labels of a set with the state and counts the differences that
// CHANGEDSINCE, asked behind them, does not name: the others have only just come about.
// An answer that is not whole counts none.
func (s *step) hidden(ctx context.Context, before uint32, set imap.UIDSet) (n int, err error) {
	got, err := s.w.sess.Flags(ctx, set)
	if err != nil {
		return 0, err
	}
	var differ []FlagsOf
	for chunk := range slices.Chunk(got.Flags, chunkMessages) {
		s.d.forget(64)
		for _, g := range chunk {
			if err := s.load(ctx, g.UID); err != nil {
				return 0, err
			}
			if r, ok := s.d.record(g.UID); ok && differs(&r, &g) {
				differ = append(differ, g)
			}
		}
	}
	if len(differ) == 0 {
		return 0, nil
	}
	told, err := s.w.sess.Changed(ctx, before-1, s.since(), false)
	if err != nil {
		return 0, err
	}
	for _, g := range differ {
		if _, ok := slices.BinarySearchFunc(told.Flags, g.UID, func(f FlagsOf, uid uint32) int { return cmp.Compare(f.UID, uid) }); !ok && told.Complete {
			n++
		}
	}
	if _, err := s.compare(ctx, differ); err != nil {
		return n, err
	}
	_, err = s.compare(ctx, told.Flags)
	return n, err
}

// knownIn lists the known messages, those waited for included, of a set that the server
// named, however much it names: only blocks of the set are read, or all of them once.
func (s *step) knownIn(ctx context.Context, set imap.UIDSet) ([]uint32, error) {
	var uids []uint32
	take := func(recs []store.Record) error {
		for _, r := range recs {
			if set.Contains(imap.UID(r.UID)) {
				uids = append(uids, r.UID)
			}
		}
		return nil
	}
	idx, few := blocksOf(set, s.d.meta.UIDNext, s.f.meta.Blocks+64)
	if !few {
		if err := s.records(ctx, take); err != nil {
			return nil, err
		}
		idx = nil
	}
	for chunk := range slices.Chunk(idx, blocksAtOnce) {
		stored, err := s.w.st.Blocks(ctx, s.w.id, s.f.Num, s.f.meta, chunk...)
		if err != nil {
			return nil, s.corrupt(err)
		}
		for _, i := range chunk {
			recs, ok := s.d.blocks[i]
			if !ok {
				recs = stored[i]
			}
			_ = take(recs)
		}
	}
	for _, p := range s.d.meta.Pending {
		if set.Contains(imap.UID(p.UID)) {
			uids = append(uids, p.UID)
		}
	}
	slices.Sort(uids)
	return uids, nil
}

// blocksOf lists the blocks that a static, ascending set touches below next; false when
// they are more than most.
func blocksOf(set imap.UIDSet, next uint32, most int) ([]uint32, bool) {
	var idx []uint32
	for _, r := range set {
		if uint32(r.Start) >= next {
			break
		}
		last := store.BlockOf(min(uint32(r.Stop), next-1))
		for i := store.BlockOf(uint32(r.Start)); i <= last; i++ {
			if n := len(idx); n > 0 && idx[n-1] == i {
				continue
			}
			if len(idx) == most {
				return nil, false
			}
			idx = append(idx, i)
		}
	}
	return idx, true
}
