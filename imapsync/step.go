package imapsync

import (
	"context"
	"errors"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/postrider/postrider/store"
)

// folder is what a worker keeps of one folder between passes; the messages stay in the
// store.
type folder struct {
	store.Folder
	meta store.FolderMeta

	lost     bool   // its state does not add up: to be relinked
	dirty    bool   // to be looked at
	auditNow bool   // audit with the next look
	uidNext  uint32 // by the last STATUS; stands in where EXAMINE does not tell it
	audits   int32  // begun since one came to an end
	limit    int32  // messages to ask for at once; 0 = chunkMessages
	vain     int32  // looks in a row that told of nothing and wanted another

	look      time.Time // last complete look, often newer than the stored one
	active    time.Time // last change that was seen
	flagAt    time.Time // T3: when flags are to be compared next
	auditNext time.Time // not before
	lagged    uint64    // HIGHESTMODSEQ at laggedAt
	laggedAt  time.Time
	frozenAt  time.Time // last look whether CHANGEDSINCE hides changes

	delayed *delays    // nil: it is not, as hardly any
	doubt   *doubt     // a mass deletion, waiting for its second look
	short   *shortness // EXISTS and what can be listed disagree
	poison  map[uint32]int
	askAt   time.Time // when STATUS is asked next

	mailboxID string // as the last opening told; the folder list keeps it

	sure   uint64              // number of the look that last showed all of it
	waits  map[uint32][]uint32 // arrivals that wait: UID → folders to be looked at first
	deadly map[uint32]int      // how often reading a message's content ended the connection
}

// delays are why the time to open a folder has not come.
type delays struct {
	turned turned    // another UIDVALIDITY, waiting for its second look
	queued time.Time // a large first look waits for a slot until then
	paused time.Time // after several looks in vain
}

// delays are the folder's present ones.
func (f *folder) delays() delays {
	if f.delayed == nil {
		return delays{}
	}
	return *f.delayed
}

// delay changes the folder's delays.
func (f *folder) delay(change func(*delays)) {
	d := f.delays()
	change(&d)
	f.delayed = nil
	if d != (delays{}) {
		f.delayed = &d
	}
}

// retryAt is when the folder wants to be looked at again without a hint; zero = never.
func (f *folder) retryAt() time.Time {
	var at time.Time
	earlier := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	for _, p := range f.meta.Pending {
		earlier(p.Next)
	}
	switch {
	case f.doubt != nil: // no look before that lists the folder
		earlier(f.doubt.next)
	case f.short != nil:
		earlier(f.short.next)
	}
	if from := f.notBefore(); at.IsZero() || at.Before(from) {
		return from
	}
	return at
}

// notBefore is until when it is of no use to open the folder: it failed, its
// UIDVALIDITY waits for the second look, a slot is waited for, or look after look came
// to no end. Zero = at once.
func (f *folder) notBefore() time.Time {
	d := f.delays()
	at := d.queued
	for _, next := range []time.Time{d.turned.next, d.paused} {
		if next.After(at) {
			at = next
		}
	}
	if f.meta.Fail != nil && f.meta.Fail.Next.After(at) {
		at = f.meta.Fail.Next
	}
	return at
}

// inVain notes a look that wants another at once and told of nothing. The first is
// followed by it, the next ones wait, up to a minute: whatever the server answers, it is
// not asked the same without end.
func (f *folder) inVain(now time.Time) {
	if at := f.retryAt(); at.After(now) {
		f.dirty = false
		return
	}
	if f.vain++; f.vain > 1 {
		f.delay(func(d *delays) { d.paused = now.Add(min(time.Second<<min(f.vain-2, 10), time.Minute)) })
		f.dirty = false
	}
}

// blocked says whether the time to open the folder has not come.
func (f *folder) blocked(now time.Time) bool { return now.Before(f.notBefore()) }

// lookedAt is T0 of events.md section 4.
func (f *folder) lookedAt() time.Time {
	if f.look.After(f.meta.Look) {
		return f.look
	}
	return f.meta.Look
}

// step is one look at one folder: everything that is done between opening it and the
// commit that moves its cursors.
type step struct {
	w     *worker
	f     *folder
	d     *draft
	sel   Selected
	fresh bool // the folder was opened for this step
	hints Changes
	again bool // something came meanwhile: one more step

	number   uint64      // of this look
	exists   uint32      // EXISTS before anything was asked, of a folder that is watched fast
	before   uint32      // the cursor as it began
	expunged int         // EXPUNGE responses that are not yet explained
	pushed   imap.UIDSet // what pushes said vanished
	claim    []uint32    // known UIDs that the server answered to have vanished
	told     bool        // that answer was whole
	asked    bool        // it was asked for a second time, or cannot be asked for

	found, lost int  // by the last enumeration, of messages that the cursors stand for
	listedAll   bool // it was complete

	gap       bool // UIDs were assigned that did not come: a number that fits is no proof
	uncounted bool // EXISTS is not to be trusted until the folder is opened again
	wrote     bool

	toldAt   time.Time // when messages whose content was read were last committed
	turnedTo bool      // UIDVALIDITY changed, for sure
	uids     []uint32  // of the first look, while it goes on
}

// errAgain ends a step that found nothing wrong but cannot be finished now; the folder
// says itself when it wants the next one.
var errAgain = errors.New("to be looked at again")

// step looks at a folder. With hints it believes that the folder is still open and
// asks only what they suggest; without, it opens the folder anew and asks all.
func (w *worker) step(ctx context.Context, f *folder, hints *Changes) error {
	s := &step{w: w, f: f, d: newDraft(w.site(f), f.meta)}
	s.d.keep, s.d.oneMove = w.storeIdentity(ctx), w.notifyMoves(ctx)
	w.looks++
	s.number = w.looks
	if hints == nil || w.open != f || w.reopen {
		s.fresh = true
		if err := s.openFolder(ctx); err != nil {
			return err
		}
	} else {
		s.sel, s.hints, s.expunged = w.sel, *hints, hints.Expunged
		s.vanished(hints.Vanished)
	}
	switch {
	case f.lost:
		return s.relink(ctx, "syncStateLost")
	case s.turnedTo:
		return s.relink(ctx, "uidValidityChange")
	case f.meta.Unlooked:
		if err := s.firstLook(ctx); err != nil {
			return err
		}
	}
	if f.meta.Baseline != nil {
		if err := s.baseline(ctx); err != nil {
			return err
		}
	}
	if err := s.differences(ctx); err != nil {
		return err
	}
	s.settled()
	return nil
}

// settled ends a step: what came meanwhile is for the next one, which in the folder
// that is watched live the hints bring about.
func (s *step) settled() {
	f := s.f
	if f.dirty = s.again && f.Watched != watchedIdle; f.dirty && !s.wrote {
		f.inVain(time.Now())
		return
	}
	f.delay(func(d *delays) { d.paused = time.Time{} })
	f.vain = 0
}

// differences finds what is new, changed and gone since the cursors, and moves them.
func (s *step) differences(ctx context.Context) error {
	if s.d.meta.Fast {
		return s.onlyNew(ctx)
	}
	s.before = s.d.meta.UIDNext
	if err := s.awaited(ctx); err != nil {
		return err
	}
	if err := s.news(ctx); err != nil {
		return err
	}
	if err := s.gaps(ctx); err != nil {
		return err
	}
	whole, err := s.below(ctx, s.before)
	if err != nil {
		return err
	}
	err = s.count(ctx)
	if errors.Is(err, errAgain) || errors.Is(err, errMore) {
		// What is positive is true without the count.
		if cerr := s.commit(ctx); cerr != nil {
			return cerr
		}
		if s.tier() != tierBaseline {
			s.planFlags(time.Now()) // what was due is done
		}
	}
	if errors.Is(err, errMore) {
		s.f.active = time.Now()
		return nil
	}
	if err != nil {
		return err
	}
	doubt := s.f.doubt
	if err := s.complete(ctx, whole); err != nil {
		return err
	}
	if at := s.w.auditAt(s.f); !s.fresh || at.IsZero() || time.Now().Before(at) {
		return nil
	}
	s.f.doubt = doubt
	err = s.audit(ctx)
	if errors.Is(err, errAgain) {
		if cerr := s.commit(ctx); cerr != nil {
			return cerr
		}
	}
	return err
}

// openFolder opens the folder and judges its UIDVALIDITY.
func (s *step) openFolder(ctx context.Context) error {
	w, f := s.w, s.f
	if was := w.open; was != nil && was != f && w.notified {
		if c := w.heard(); c.Any() {
			was.dirty = true // selected, it was told of by no STATUS
		}
	}
	w.open = nil
	sel, err := w.sess.Select(ctx, f.Raw)
	if err != nil {
		return err
	}
	w.heard() // hints so far are answered by what is asked next
	w.open, w.sel, w.reopen = f, sel, false
	f.mailboxID = sel.MailboxID
	s.sel = sel
	if f.lost || f.meta.Unlooked {
		return nil
	}
	if err := s.judgeValidity(); err != nil {
		w.open = nil // no push is looked into under a UIDVALIDITY that is not the stored one
		return err
	}
	return nil
}

// complete moves the cursors that stand for the whole folder, behind the count check,
// and commits if there is anything to say or the stored look is old.
func (s *step) complete(ctx context.Context, flagsSeen bool) error {
	f, now := s.f, time.Now()
	m := &s.d.meta
	old := *m
	if s.fresh {
		m.Snap = store.Snap{UIDValidity: s.sel.UIDValidity, UIDNext: s.sel.UIDNext, Messages: s.sel.Exists, ModSeq: s.sel.ModSeq}
		if s.sel.UIDNext == 0 {
			m.Snap.UIDNext = f.uidNext
		}
		if m.UIDValidity == 0 {
			m.UIDValidity = s.sel.UIDValidity
		}
		// A value that was true before anything was asked, and only when all that
		// changed up to it has been asked for.
		if flagsSeen && s.sel.ModSeq > 0 {
			s.lag(m.ModSeq)
			m.ModSeq = s.sel.ModSeq
		}
	}
	if m.Fast {
		m.Snap.Messages, m.Snap.ModSeq = s.exists, 0
		f.meta.Snap.Messages = s.exists // alone it is worth no commit
	}
	if f.meta.Fail != nil {
		s.recovered()
	}
	f.look, f.doubt, f.short, f.limit = now, nil, nil, 0
	f.sure = s.number
	s.w.lookedAtAll(f)
	for uid := range f.poison {
		if s.d.awaited(uid) == nil {
			delete(f.poison, uid)
		}
	}
	if first := f.meta.Unlooked || f.meta.Baseline != nil; s.d.changed() && (!first || f.Watched == watchedIdle) {
		f.active = now
	}
	if m.Audit.At.IsZero() && !m.Fast {
		m.Audit = store.Audit{At: now.UTC(), Flags: now.UTC()} // the first look was one
	}
	if s.tier() != tierBaseline && !m.Fast {
		s.planFlags(now)
	}
	const storeLookEvery = time.Hour
	if s.d.changed() || s.fresh && m.Snap != old.Snap || m.ModSeq != old.ModSeq || m.ModSeqPrev != old.ModSeqPrev || m.UIDValidity != old.UIDValidity ||
		now.Sub(f.meta.Look) > storeLookEvery {
		m.Look = now.UTC()
		return s.write(ctx)
	}
	return nil
}

// commit writes what the draft holds, if it holds anything.
func (s *step) commit(ctx context.Context) error {
	if !s.d.changed() {
		return nil
	}
	return s.write(ctx)
}

// write commits the draft and begins the next from what was committed.
func (s *step) write(ctx context.Context) error {
	if err := s.ownFlags(ctx); err != nil {
		return err
	}
	s.d.meta.Lost = s.f.lost // it would be taken for that of an empty folder
	c := s.d.change()
	if err := s.w.commit(ctx, c); err != nil {
		return err
	}
	meta := c.Folders[0].Meta
	meta.Version = c.Folders[0].Version + 1
	s.f.meta = meta
	if len(c.Events) > 0 {
		s.wrote, s.f.vain = true, 0
	}
	s.d.restart(meta)
	s.d.forget(64)
	return nil
}

// load brings the blocks of these UIDs into the draft.
func (s *step) load(ctx context.Context, uids ...uint32) error {
	want := s.d.need(uids...)
	if len(want) == 0 || s.d.meta.Fast {
		return nil
	}
	got, err := s.w.st.Blocks(ctx, s.w.id, s.f.Num, s.f.meta, want...)
	if err != nil {
		return s.corrupt(err)
	}
	s.d.load(want, got)
	return nil
}

// corrupt marks a folder whose state does not add up; the next step relinks it.
func (s *step) corrupt(err error) error {
	if errors.Is(err, store.ErrCorrupt) {
		s.f.lost, s.f.dirty = true, true
	}
	return err
}

// blocksAtOnce is how many blocks of a large folder are read at once.
const blocksAtOnce = 256

// records goes over all messages of the state, block by block, ascending.
func (s *step) records(ctx context.Context, visit func(recs []store.Record) error) error {
	return eachBlock(ctx, s, s.w.st.Blocks, func(idx uint32, recs []store.Record) error {
		if drawn, ok := s.d.blocks[idx]; ok {
			recs = drawn
		}
		if len(recs) == 0 {
			return nil
		}
		return visit(recs)
	})
}

// eachBlock goes over all blocks in order, stored ones and those of the draft: read reads
// the stored ones, some hundred at a time where there are many.
func eachBlock[T any](ctx context.Context, s *step,
	read func(context.Context, store.AccountID, uint32, store.FolderMeta, ...uint32) (map[uint32][]T, error),
	visit func(idx uint32, stored []T) error,
) error {
	meta := s.f.meta
	last := store.BlockOf(max(meta.UIDNext, s.d.meta.UIDNext))
	part := func(from, to uint32, idx ...uint32) error {
		stored, err := read(ctx, s.w.id, s.f.Num, meta, idx...)
		if err != nil {
			return s.corrupt(err)
		}
		for _, idx := range blockOrder(stored, s.d.blocks, from, to) {
			if err := visit(idx, stored[idx]); err != nil {
				return err
			}
		}
		return nil
	}
	if meta.Blocks <= 2*blocksAtOnce || int(last) > 8*meta.Blocks {
		return part(0, last)
	}
	for from := uint32(0); from <= last; from += blocksAtOnce {
		to := min(from+blocksAtOnce-1, last)
		var idx []uint32
		for i := from; i <= to; i++ {
			idx = append(idx, i)
		}
		if err := part(from, to, idx...); err != nil {
			return err
		}
	}
	return nil
}
