package imapsync

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
)

// pass looks at everything that is due: the folder list, the probes, and each folder
// that is dirty. It returns nil when all of them were looked at or have said when they
// want to be.
func (w *worker) pass(ctx context.Context) error {
	began := time.Now()
	first := !w.whole
	if w.kicked.Swap(false) {
		w.probeAt = time.Time{}
		for _, f := range w.folders {
			f.askAt = time.Time{}
		}
	}
	if hints := w.takeHints(); hints.Any() {
		if m := w.main(); m != nil && w.open == m {
			w.met.hints.Inc()
			if err := w.visit(ctx, m, &hints); err != nil {
				return err
			}
			if hints.Expunged > 0 || len(hints.Flags) > 0 {
				w.probeSoon() // it may have gone to another folder
			}
		}
	}
	if err := w.probe(ctx, first); err != nil {
		return err
	}
	for range 3 { // a look at one folder may make another dirty
		todo := w.todo()
		if len(todo) == 0 {
			break
		}
		for i, f := range todo {
			if err := w.visit(ctx, f, nil); err != nil {
				return err
			}
			if first {
				w.foldersDone = i + 1
				w.progress(ctx, 0)
			}
			if err := w.attend(ctx); err != nil {
				return err
			}
		}
	}
	if err := w.endHolds(ctx, true); err != nil {
		return err
	}
	if len(w.gone) > 0 {
		w.probeSoon() // they may be in another folder
	}
	if err := w.wholePass(ctx); err != nil {
		return err
	}
	w.met.pass.Observe(time.Since(began).Seconds())
	return nil
}

// todo are the folders to be looked at now: the main one first, then Sent, then the
// rest by number.
func (w *worker) todo() []*folder {
	now := time.Now()
	var todo []*folder
	for _, f := range w.folders {
		if f.Watched == watchedNo || f.blocked(now) {
			continue
		}
		at := f.retryAt()
		due := !at.IsZero() && !now.Before(at)
		flags := !f.flagAt.IsZero() && !now.Before(f.flagAt)
		if f.dirty || due || flags {
			todo = append(todo, f)
		}
	}
	slices.SortStableFunc(todo, func(a, b *folder) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Num, b.Num))
	})
	return todo
}

// rank is the order in which folders are looked at.
func rank(f *folder) int {
	if f.Watched == watchedIdle {
		return 0
	}
	if i := slices.Index([]string{`\Sent`, `\Drafts`, `\Junk`, `\Trash`}, f.SpecialUse); i >= 0 {
		return i + 1
	}
	return 9
}

// attend looks at the main folder in the middle of a long pass, when hints came for it.
func (w *worker) attend(ctx context.Context) error {
	if err := w.endHolds(ctx, false); err != nil {
		return err
	}
	m := w.main()
	if m == nil || w.open != m {
		return nil
	}
	w.keep(w.sess.Changes())
	if hints := w.takeHints(); hints.Any() {
		return w.visit(ctx, m, &hints)
	}
	return nil
}

// visit takes a step in a folder and settles what one folder may do wrong without
// costing the session.
func (w *worker) visit(ctx context.Context, f *folder, hints *Changes) error {
	if f.lost {
		hints = nil
	}
	err := w.step(ctx, f, hints)
	if errors.Is(err, store.ErrCorrupt) && f.lost {
		w.log.WarnContext(ctx, "folder state lost", "account", w.id, "path", f.Path, "err", err)
		err = w.step(ctx, f, nil)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errAgain):
		f.dirty = f.retryAt().IsZero() && f.dirty
		return nil
	case goesOn(err):
		return w.refused(ctx, f, err)
	}
	f.dirty = true
	return err
}

// probe finds out which folders are dirty without opening them.
func (w *worker) probe(ctx context.Context, first bool) error {
	now := time.Now()
	listDue := first || !now.Before(w.listAt)
	probeDue := first || !now.Before(w.probeAt)
	var listed []Listed
	if listDue || probeDue && w.info.ListStatus {
		var err error
		if listed, err = w.list(ctx); err != nil {
			return err
		}
		w.info = w.sess.Info() // what LIST was refused is asked for in other ways from now on
	}
	if !probeDue && listed == nil {
		return w.ask(ctx, false)
	}
	w.probed = now
	w.looks++
	w.probeAt = now.Add(w.idleStretch(w.cfg.ProbeInterval))
	for _, l := range listed {
		f := w.byRaw(l.Raw)
		if f == nil || f.Watched == watchedNo || l.Status == nil {
			continue
		}
		f.asked = 0
		f.askAt = w.probeAt
		f.uidNext = l.Status.UIDNext
		w.judgeNumbers(f, *l.Status)
	}
	return w.ask(ctx, first)
}

// ask asks for the numbers of folders that LIST did not give: one a second, all of them
// at once when the session is new.
func (w *worker) ask(ctx context.Context, all bool) error {
	folders := w.folders
	if !w.info.ListStatus { // the longest overdue first: else the first would be asked again before the last
		folders = slices.Clone(folders)
		slices.SortStableFunc(folders, func(a, b *folder) int { return a.askAt.Compare(b.askAt) })
	}
	for _, f := range folders {
		now := time.Now()
		if f.Watched == watchedNo || f.dirty || now.Before(f.askAt) || f.blocked(now) {
			continue
		}
		if f == w.open || f == w.main() {
			f.askAt, f.dirty = now.Add(w.idleStretch(w.cfg.ProbeInterval)), true
			continue
		}
		if !all && now.Sub(w.askedAt) < w.cfg.AskInterval {
			return nil
		}
		w.askedAt = now
		st, err := w.sess.Status(ctx, f.Raw)
		if err != nil && goesOn(err) {
			if err := w.refused(ctx, f, err); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		f.askAt = now.Add(w.askInterval(f, now))
		f.uidNext, f.dirty = st.UIDNext, false
		w.looks++
		w.judgeNumbers(f, st)
	}
	return nil
}

// askInterval is how often a folder's numbers are asked for alone.
func (w *worker) askInterval(f *folder, now time.Time) time.Duration {
	if f.SpecialUse != "" || now.Sub(f.active) < 24*time.Hour {
		return w.idleStretch(w.cfg.ProbeInterval)
	}
	if len(w.folders) > 300 {
		return 15 * w.cfg.ProbeInterval
	}
	return 5 * w.cfg.ProbeInterval
}

// idleStretch doubles an interval, up to four times, for an account where nothing
// happened for an hour, a day.
func (w *worker) idleStretch(d time.Duration) time.Duration {
	switch quiet := time.Since(w.activeAt); {
	case quiet > 24*time.Hour:
		return 4 * d
	case quiet > time.Hour:
		return 2 * d
	}
	return d
}

// judgeNumbers marks a folder dirty, or looked at where its numbers say all.
func (w *worker) judgeNumbers(f *folder, st Status) {
	if !clean(f.meta, st) {
		f.dirty = true
		return
	}
	f.sure = w.looks
	w.lookedAtAll(f)
}

// clean compares a folder's numbers with those before its last complete look. A number
// that did not come proves nothing.
func clean(m store.FolderMeta, st Status) bool {
	if m.Unlooked || m.Baseline != nil || m.Fail != nil {
		return false
	}
	if !st.HasMessages || !st.HasUIDNext || !st.HasUIDValidity || m.Snap.ModSeq > 0 && !st.HasModSeq {
		return false
	}
	return st.Messages == m.Snap.Messages && st.UIDNext == m.Snap.UIDNext && st.UIDValidity == m.Snap.UIDValidity &&
		(m.Snap.ModSeq == 0 || st.ModSeq == m.Snap.ModSeq)
}

// probeSoon brings the next probe forward, at most one every two seconds.
func (w *worker) probeSoon() {
	at := w.probed.Add(min(2*time.Second, w.cfg.ProbeInterval))
	if at.Before(w.probeAt) {
		w.probeAt = at
	}
	for _, f := range w.folders {
		if at.Before(f.askAt) && (f.SpecialUse != "" || !f.active.IsZero()) {
			f.askAt = at
		}
	}
}

func (w *worker) byRaw(raw string) *folder {
	for _, f := range w.folders {
		if f.Raw == raw {
			return f
		}
	}
	return nil
}

// failWait is how a folder that refuses is tried again: soon after the first time, since
// a server that reads its files anew refuses once, then after a minute, doubling to six
// hours.
func failWait(count int) time.Duration {
	if count <= 1 {
		return 5 * time.Second
	}
	return min(time.Minute<<min(count-2, 20), 6*time.Hour)
}

// stalledAfter is how often a folder fails before mailboxStalled is said.
const stalledAfter = 3

// refused notes that a folder cannot be looked at while the account can. The folder is
// tried again by itself; the account goes on.
func (w *worker) refused(ctx context.Context, f *folder, cause error) error {
	w.log.InfoContext(ctx, "folder refused", "account", w.id, "path", f.Path, "err", cause)
	now := time.Now()
	if w.open == f {
		w.open = nil
	}
	f.dirty = false
	d := newDraft(w.site(f), f.meta)
	fail := store.Failure{Since: now.UTC(), Reason: "refused"}
	if f.meta.Fail != nil {
		fail = *f.meta.Fail
	}
	if e, ok := errors.AsType[*Error](cause); ok && e.Kind == ErrTimeout {
		fail.Reason = "noAnswer"
	}
	fail.Count++
	fail.Response, fail.Next = responseOf(cause), now.Add(failWait(fail.Count)).UTC()
	if !fail.Said && (fail.Count >= stalledAfter || now.Sub(fail.Since) >= w.stallAfter(ctx)) {
		fail.Said = true
		d.tell(events.MailboxStalledType, events.MailboxStalled{
			Folder: d.mailbox(), Since: events.TimeOf(fail.Since), Reason: fail.Reason, Response: fail.Response, Failures: fail.Count,
		})
	}
	d.meta.Fail, d.moved = &fail, true
	s := &step{w: w, f: f, d: d}
	w.folderError = &store.SyncError{Path: f.Path, Time: now.UTC(), Error: fail.Response}
	return s.write(ctx)
}

// recovered ends a folder's failing with the step that succeeded.
func (s *step) recovered() {
	fail := s.f.meta.Fail
	s.d.meta.Fail, s.d.moved = nil, true
	if fail.Said {
		s.d.tell(events.MailboxRecoveredType, events.MailboxRecovered{
			Folder: s.d.mailbox(), Since: events.TimeOf(fail.Since), StalledFor: int64(time.Since(fail.Since).Seconds()),
		})
	}
}

// wholePass ends a pass: the first whole one of a session makes the account connected,
// the first whole one ever makes it initialized.
func (w *worker) wholePass(ctx context.Context) error {
	now := time.Now()
	pending := 0
	messages := 0
	for _, f := range w.folders {
		if f.Watched == watchedNo {
			continue
		}
		messages += f.meta.Count
		if f.meta.Fail == nil && (f.meta.Unlooked || f.meta.Baseline != nil || f.lost) {
			pending++
		}
	}
	if pending > 0 || w.suspect != nil {
		return nil
	}
	if !w.state.Initialized {
		if err := w.initialized(ctx, messages); err != nil {
			return err
		}
	}
	w.unlatch(now)
	if stalled := w.stalled.Swap(false); w.whole && !stalled && !w.replan {
		return nil
	}
	w.whole, w.replan = true, true // until the store has it: nobody else would say it
	err := w.say(ctx, func(st *store.Status, tell teller) {
		st.State, st.SyncTime = store.StateConnected, now.UTC()
		st.Sync = store.SyncPhase{Phase: "idle", FoldersTotal: len(w.folders), FoldersDone: len(w.folders), Messages: messages, StartedAt: w.began.UTC()}
		st.Plan, st.SyncError, st.Latches = w.plan(), w.folderError, w.latches
		st.Failures = 0
		if !st.Stalled.IsZero() {
			alive := w.state.LastAlive
			if alive.IsZero() {
				alive = st.Stalled
			}
			tell(events.AccountRecovered{LastProvenAlive: events.TimeOf(alive), StalledFor: int64(now.Sub(alive).Seconds())})
			st.Stalled = time.Time{}
		}
	})
	if err == nil {
		w.replan = false
	}
	return err
}

// rest waits until there is something to do: in IDLE where the server has it and the
// main folder is open, else between round trips.
func (w *worker) rest(ctx context.Context) error {
	wake := w.wakeAt(ctx)
	m := w.main()
	if !w.info.Idle || m == nil || w.open != m || w.latched(latchIdle) {
		return w.poll(ctx, wake)
	}
	limit := max(time.Until(wake), 0)
	if limit == 0 || w.kicked.Load() {
		// A pass leaves nothing due; should one ever, the account must not spin.
		const most = 100
		if w.restless++; w.restless > most {
			w.log.WarnContext(ctx, "no rest between passes", "account", w.id)
			return wait(ctx, time.Second)
		}
		return nil
	}
	w.restless = 0
	began := time.Now()
	end, err := w.sess.Idle(ctx, limit)
	if err != nil && goesOn(err) {
		w.latch(latchIdle, responseOf(err))
		return nil
	}
	if err != nil {
		return err
	}
	if end == IdleServer && time.Since(began) < 5*time.Second {
		if w.shortIdles++; w.shortIdles > 1 {
			w.latch(latchIdle, "the server ends it at once")
		}
	}
	w.keep(w.sess.Changes())
	return nil
}

// poll waits without IDLE and makes a round trip: every 30 s while something happens,
// more slowly when not.
func (w *worker) poll(ctx context.Context, wake time.Time) error {
	every := 30 * time.Second
	switch quiet := time.Since(w.activeAt); {
	case quiet > time.Hour:
		every = 2 * time.Minute
	case quiet > 10*time.Minute:
		every = time.Minute
	}
	t := time.NewTimer(min(max(time.Until(wake), 0), every))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-w.kick:
	case <-t.C:
	}
	if err := w.sess.Noop(ctx); err != nil && !goesOn(err) {
		return err
	}
	w.keep(w.sess.Changes())
	return nil
}

// wakeAt is when the next thing is due: at the latest the next proof of life, often
// enough that a healthy account never looks stalled.
func (w *worker) wakeAt(ctx context.Context) time.Time {
	now := time.Now()
	proof := min(w.cfg.ProofInterval, w.stallAfter(ctx)/3)
	wake := now.Add(proof - time.Duration(rand.Int64N(int64(proof)/5+1)))
	earlier := func(t time.Time) {
		if !t.IsZero() && t.Before(wake) {
			wake = t
		}
	}
	earlier(w.listAt)
	earlier(w.probeAt)
	earlier(w.heldUntil())
	for _, f := range w.folders {
		if f.Watched == watchedNo {
			continue
		}
		earlier(f.retryAt())
		if f.blocked(now) {
			continue
		}
		earlier(f.flagAt)
		if !w.info.ListStatus {
			at := f.askAt
			if next := w.askedAt.Add(w.cfg.AskInterval); at.Before(next) {
				at = next
			}
			earlier(at)
		}
		if f.dirty {
			earlier(now)
		}
	}
	return wake
}

// keep adds hints to those not yet looked into.
func (w *worker) keep(c Changes) {
	w.hints.Exists = w.hints.Exists || c.Exists
	w.hints.Expunged += c.Expunged
	if len(w.hints.Vanished) < 1000 {
		w.hints.Vanished = append(w.hints.Vanished, c.Vanished...)
	}
	w.reopen = w.reopen || c.Doubt
	if len(w.hints.Flags) < 1000 {
		w.hints.Flags = append(w.hints.Flags, c.Flags...)
	}
	if c.Alert != "" {
		w.log.Debug("alert from server", "account", w.id, "text", c.Alert)
	}
}

func (w *worker) takeHints() Changes {
	c := w.hints
	w.hints = Changes{}
	return c
}
