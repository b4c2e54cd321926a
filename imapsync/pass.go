package imapsync

import (
	"cmp"
	"context"
	"errors"
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
			f.delay(func(d *delays) { d.paused = time.Time{} })
			f.askAt = time.Time{}
			f.unpark()
		}
	}
	w.heardApart()
	if hints := w.takeHints(); hints.Any() {
		if m := w.main(); m != nil && w.open == m {
			w.met.hints.Inc()
			if err := w.visit(ctx, m, &hints); err != nil {
				return err
			}
			switch {
			case w.notified: // of other folders it will be told
			case hints.Expunged > 0 || len(hints.Flags) > 0:
				w.probeSoon(2 * time.Second) // it may have gone to another folder
			default:
				w.probeSoon(30 * time.Second) // where one arrived others may have
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
		w.probeSoon(2 * time.Second) // they may be in another folder
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
		audit := w.auditAt(f)
		if f.dirty || due || flags || !audit.IsZero() && !now.Before(audit) {
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
	w.keep(w.heard())
	if hints := w.takeHints(); hints.Any() {
		return w.visit(ctx, m, &hints)
	}
	return nil
}

// attendEvery is how often, at most, a long look at another folder asks for the main one.
const attendEvery = 10 * time.Second

// errGivesWay ends a look at another folder between two of its commits, because the main one
// has changed: what is left of it comes behind that.
var errGivesWay = errors.New("the main folder has changed")

// giveWay is called by long looks where they can go on later from what they committed: a large
// folder must not keep waiting what arrives in the main one.
func (s *step) giveWay(ctx context.Context) error {
	w, m, now := s.w, s.w.main(), time.Now()
	if m == nil || m == s.f || m.blocked(now) || now.Sub(w.attended) < max(attendEvery, w.askPace()) {
		return nil
	}
	w.attended = now
	st, err := w.sess.Status(ctx, m.Raw)
	switch {
	case err != nil && goesOn(err): // it is opened soon enough
		return nil
	case err != nil:
		return err
	case clean(m.meta, st):
		return nil
	}
	if err := s.commit(ctx); err != nil {
		return err
	}
	return errGivesWay
}

// visit takes a step in a folder and settles what one folder may do wrong without
// costing the session.
func (w *worker) visit(ctx context.Context, f *folder, hints *Changes) error {
	if f.lost {
		hints = nil
	}
	err := w.step(ctx, f, hints)
	for errors.Is(err, errGivesWay) {
		if err := w.visit(ctx, w.main(), nil); err != nil {
			return err
		}
		if err := w.endHolds(ctx, false); err != nil {
			return err
		}
		err = w.step(ctx, f, nil)
	}
	if errors.Is(err, store.ErrCorrupt) && f.lost {
		w.log.WarnContext(ctx, "folder state lost", "account", w.id, "path", f.Path, "err", err)
		err = w.step(ctx, f, nil)
	}
	if f.Watched == watchedIdle {
		w.attended = time.Now()
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errAgain):
		f.inVain(time.Now())
		return nil
	case goesOn(err):
		return w.refused(ctx, f, err)
	}
	f.dirty = true
	return err
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
		messages += f.meta.Messages()
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
	if err := w.subscribe(ctx); err != nil {
		return err
	}
	w.listenApart(ctx)
	plan := w.plan()
	if stalled := w.stalled.Swap(false); w.whole && !stalled && !w.replan && slices.Equal(plan, w.state.Status.Plan) {
		return nil
	}
	w.whole, w.replan = true, true // until the store has it: nobody else would say it
	err := w.say(ctx, func(st *store.Status, tell teller) {
		st.State, st.SyncTime = store.StateConnected, now.UTC()
		st.Sync = store.SyncPhase{Phase: "idle", FoldersTotal: len(w.folders), FoldersDone: len(w.folders), Messages: messages, StartedAt: w.began.UTC()}
		st.Plan, st.SyncError, st.Latches = plan, w.folderError, w.latches
		st.Failures, st.Connections = 0, w.connections()
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
