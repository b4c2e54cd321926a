package imapsync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/store"
)

// Why a worker, or its session, was ended: the cause of its context.
var (
	errShutdown   = errors.New("shutting down")
	errUnwanted   = errors.New("account paused, deleted or without IMAP")
	errHandover   = errors.New("handed over to another process")
	errLeaseLost  = errors.New("lease lost")
	errReconnect  = errors.New("new session wanted")
	errSilent     = errors.New("the server did not answer in time")
	errAbandoned  = errors.New("abandoned by the watchdog")
	errLeaseAsked = fmt.Errorf("the lease may have expired: %w", store.ErrUnavailable)
)

// worker watches one account: one goroutine, which owns the session and everything
// below the first blank line. What it knows between passes is little, and all of it
// can be read again from the store.
type worker struct {
	id    store.AccountID
	lease store.Lease
	st    StateStore
	cfg   Config
	log   *slog.Logger
	met   *metrics
	pace  *pacer

	dial      func(context.Context, store.Account) (Session, error)
	settings  func(context.Context) (store.Settings, error)
	pause     func(context.Context, store.AccountID, string) (store.Account, error)
	baselines chan struct{} // slots for large first looks, shared by the process

	// Shared with the manager and the watchdog.
	mu         sync.Mutex
	acct       store.Account
	shared     Session                 // the open session, for Kick, Close and SpeakBy
	endSession context.CancelCauseFunc // ends the present session or the wait for the next
	kick       chan struct{}           // cap 1: look again
	kicked     atomic.Bool
	stalled    atomic.Bool   // accountStalled was said from outside: the next whole pass ends it
	leaseUntil atomic.Int64  // Unix ns of our own clock until which the lease stands for sure
	closedAt   atomic.Int64  // Unix ns when the watchdog closed the session; 0 = not
	alive      atomic.Int64  // Unix ns of the last proof of life of an ended session
	recorded   atomic.Int64  // Unix ns of the proof of life that the store has
	known      atomic.Uint64 // seq of the last event that the store has confirmed to us
	forgotten  atomic.Bool   // the store no longer has it: read everything again
	heldSince  time.Time
	cancel     context.CancelCauseFunc

	// Of the worker's goroutine alone.
	sess        Session
	info        Info
	state       store.State
	loaded      bool
	folders     []*folder
	listVersion uint64
	nextNum     uint32
	latches     []string

	open   *folder // the selected folder, while what follows describes it
	sel    Selected
	reopen bool // ask for the selected folder's numbers again
	hints  Changes

	whole       bool // a whole pass was done in this session
	began       time.Time
	activeAt    time.Time // last event
	listAt      time.Time // next LIST
	listLook    time.Time // last complete LIST
	probeAt     time.Time // next probe
	probed      time.Time
	askedAt     time.Time // last STATUS
	shownAt     time.Time // last progress
	suspect     *suspicion
	expected    map[placeKey]expectation
	folderError *store.SyncError
	foldersDone int
	messages    int
	shortIdles  int
	unwritten   int // waits for the store since the last commit
	restless    int // passes in a row without a wait

	failures  int // in a row, for back-off
	kind      string
	secondTry bool
	tried     uint64 // version of the configuration that the last session was opened with
}

// run watches the account until ctx ends, the lease is lost, or the account is gone;
// the cause is what it returns. A panic is recovered here, and only here.
func (w *worker) run(ctx context.Context) error {
	if err := w.load(ctx); err == nil { // an error comes again, and is judged then
		if err := w.throttled(ctx); err != nil {
			return err
		}
	}
	for {
		began := time.Now()
		opened, err := w.protected(ctx)
		pause, err := w.judge(ctx, err, opened, began)
		if err != nil {
			return err
		}
		if err := w.pauseFor(ctx, pause); err != nil {
			return err
		}
	}
}

// protected is one session, with panics made errors.
func (w *worker) protected(ctx context.Context) (opened bool, err error) {
	defer func() {
		w.closeSession(ctx, err)
		if p := recover(); p != nil {
			w.met.panics.Inc()
			w.log.ErrorContext(ctx, "panic in account worker", "account", w.id, "err", p, "stack", string(debug.Stack()))
			w.loaded = false
			if w.sess != nil {
				w.sess.Close()
			}
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	sctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w.mu.Lock()
	w.endSession = cancel
	w.mu.Unlock()
	if err := w.ready(sctx); err != nil {
		return false, err
	}
	if err := w.connect(sctx); err != nil {
		return false, err
	}
	w.met.sessions.Inc()
	defer w.met.sessions.Dec()
	for err = w.loggedIn(sctx); errors.Is(err, store.ErrUnavailable); err = w.loggedIn(sctx) {
		if err := w.awaitStore(sctx); err != nil {
			return true, err
		}
	}
	if err != nil {
		return true, err
	}
	w.secondTry = false
	return true, w.watch(sctx)
}

// ready reads what is stored of the account, and begins anew where that is gone.
func (w *worker) ready(ctx context.Context) error {
	if w.loaded {
		return nil
	}
	err := w.load(ctx)
	if errors.Is(err, store.ErrStateLost) || errors.Is(err, store.ErrCorrupt) {
		reason := "missing"
		if errors.Is(err, store.ErrCorrupt) {
			reason = "corrupt"
		}
		w.log.WarnContext(ctx, "account state lost", "account", w.id, "err", err)
		if w.state, err = w.st.RestoreState(ctx, w.lease, reason); err != nil {
			return err
		}
		w.folders, w.nextNum, w.messages = nil, 0, 0
		clear(w.expected)
		err = w.load(ctx)
	}
	return err
}

// load reads the account's state and folders.
func (w *worker) load(ctx context.Context) error {
	st, err := w.st.State(ctx, w.id)
	if err != nil {
		return err
	}
	w.state, w.latches = st, st.Status.Latches
	w.known.Store(st.Seq)
	if w.listLook.IsZero() {
		w.listLook = st.Status.SyncTime
	}
	if err := w.loadFolders(ctx); err != nil {
		return err
	}
	w.loaded = true
	return nil
}

// connect opens a session, at the pace of its host.
func (w *worker) connect(ctx context.Context) error {
	acct := w.account()
	if acct.IMAP == nil {
		return errUnwanted
	}
	w.tried = acct.Version
	if w.state.Status.State == store.StateInit || w.state.Status.State == store.StateDisconnected || w.state.Status.State == "" {
		if err := w.say(ctx, func(st *store.Status, _ teller) { st.State = store.StateConnecting }); err != nil {
			return err
		}
	}
	leave, err := w.pace.enter(ctx, acct.IMAP.Host)
	if err != nil {
		return err
	}
	defer leave()
	sess, err := w.dial(ctx, acct)
	if err != nil {
		return err
	}
	w.sess, w.info = sess, sess.Info()
	w.open, w.hints, w.whole, w.reopen = nil, Changes{}, false, false
	w.began, w.foldersDone, w.shortIdles = time.Now(), 0, 0
	if w.activeAt.IsZero() {
		w.activeAt = w.began
	}
	w.mu.Lock()
	w.shared = sess
	w.mu.Unlock()
	return nil
}

// closeSession ends the session: politely where the cause allows it.
func (w *worker) closeSession(ctx context.Context, err error) {
	w.mu.Lock()
	sess := w.shared
	w.shared = nil
	w.closedAt.Store(0)
	w.mu.Unlock()
	if sess == nil {
		return
	}
	w.alive.Store(max(w.alive.Load(), sess.LastProof().UnixNano()))
	cause := context.Cause(ctx)
	if err != nil && !errors.Is(err, errSilent) && !errors.Is(cause, errLeaseLost) && !errors.Is(err, store.ErrLeaseLost) {
		if _, broken := errors.AsType[*Error](err); !broken || goesOn(err) {
			bye, stop := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			if lerr := sess.Logout(bye); lerr != nil {
				w.log.DebugContext(ctx, "logout", "account", w.id, "err", lerr)
			}
			stop()
		}
	}
	sess.Close()
	w.sess, w.open = nil, nil
}

// watch is the life of a session: pass, rest, and again. It ends with an error.
func (w *worker) watch(ctx context.Context) error {
	stale := 0
	for {
		err := w.remember(ctx)
		if err == nil {
			err = w.pass(ctx)
		}
		if err == nil {
			err = w.openMain(ctx)
		}
		if err == nil && !w.hints.Any() {
			stale = 0
			err = w.rest(ctx)
		}
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, store.ErrUnavailable):
			if err := w.awaitStore(ctx); err != nil {
				return err
			}
		case errors.Is(err, store.ErrStale) && stale < 5:
			// An answer that was lost, or another writer: what is stored is the truth.
			stale++
			if err := w.load(ctx); err != nil && !errors.Is(err, store.ErrUnavailable) {
				return err
			}
			w.dirtyAll()
		default:
			return err
		}
		select {
		case <-w.kick:
		default:
		}
	}
}

// remember reads the state again after the store has gone back behind what it had
// confirmed. What it forgot is found again, and told under the same ids.
func (w *worker) remember(ctx context.Context) error {
	if !w.forgotten.Swap(false) {
		return nil
	}
	if err := w.load(ctx); err != nil {
		w.forgotten.Store(true)
		return err
	}
	w.dirtyAll()
	return nil
}

func (w *worker) dirtyAll() {
	for _, f := range w.folders {
		f.dirty = true
	}
	w.open = nil
}

// openMain goes back to the folder that the connection waits in. What changed there
// meanwhile is found by opening it.
func (w *worker) openMain(ctx context.Context) error {
	m := w.main()
	if m == nil || w.open == m && !w.reopen || m.blocked(time.Now()) {
		return nil
	}
	return w.visit(ctx, m, nil)
}

// awaitStore waits until the store answers again, keeping the session alive meanwhile,
// and reads everything anew: a commit that failed may have happened.
func (w *worker) awaitStore(ctx context.Context) error {
	// Reading may work where writing does not: only a commit that succeeds ends the waits.
	pause := min(100*time.Millisecond<<min(w.unwritten, 10), 30*time.Second)
	w.unwritten++
	for {
		if err := wait(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, max(pause, 2*time.Second))
		err := errLeaseAsked
		if w.leased() {
			err = w.load(ctx)
		}
		if err == nil {
			w.dirtyAll()
			return nil
		}
		if !errors.Is(err, store.ErrUnavailable) {
			return err
		}
		if time.Since(w.sess.LastProof()) > w.cfg.ProofInterval/2 {
			if err := w.sess.Noop(ctx); err != nil && !goesOn(err) {
				return err
			}
		}
	}
}

// leased says whether the lease cannot have expired, by our own clock.
func (w *worker) leased() bool { return time.Now().UnixNano() < w.leaseUntil.Load() }

// commit writes under the lease. Behind a lease that may have expired it does not even
// try: the fence would refuse it, and the wait for a renewal is the same.
func (w *worker) commit(ctx context.Context, c store.Change) error {
	if !w.leased() {
		return errLeaseAsked
	}
	began := time.Now()
	// A commit in flight is finished, not torn: its answer is worth waiting for.
	cctx, stop := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer stop()
	done, err := w.st.Commit(cctx, w.lease, c)
	w.met.commit.Observe(time.Since(began).Seconds())
	if err != nil {
		return err
	}
	w.known.Store(done.LastSeq)
	w.unwritten = 0
	for _, e := range c.Events {
		w.met.events.WithLabelValues(string(e.Data.EventType())).Inc()
	}
	if len(c.Events) > 0 {
		w.activeAt = time.Now()
	}
	return nil
}

// judge decides what follows a session's end: the wait before the next one, or the
// error that ends the worker.
func (w *worker) judge(ctx context.Context, err error, opened bool, began time.Time) (time.Duration, error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	lived := time.Since(began)
	if opened && w.whole && lived > backoffReset {
		w.failures = 0
	}
	switch {
	case errors.Is(err, store.ErrLeaseLost):
		return 0, errLeaseLost
	case errors.Is(err, store.ErrNotFound), errors.Is(err, errUnwanted):
		return 0, errUnwanted
	case errors.Is(err, errReconnect), errors.Is(err, errListAgain):
		return 0, nil
	case errors.Is(err, store.ErrUnavailable):
		w.loaded = false
		return time.Second, nil
	case errors.Is(err, store.ErrStateLost), errors.Is(err, store.ErrCorrupt):
		w.loaded = false
		return time.Second, nil
	case errors.Is(err, store.ErrStale):
		w.loaded = false
		w.failures++
		return backoff(Fault{Kind: FaultServerDown}, w.failures), nil
	}
	fault := Fault{Kind: FaultSilent, Class: "timeout", Service: "imap", Response: errSilent.Error()}
	if !errors.Is(err, errSilent) {
		fault = Classify(err)
	}
	if e, ok := errors.AsType[*Error](err); ok && e.Kind == ErrTimeout && opened {
		fault.Kind = FaultSilent
	}
	if fault.Planned && lived > plannedAfter || opened && w.whole && lived > backoffReset && fault.Kind == FaultServerDown {
		w.met.connects.WithLabelValues("ok").Inc()
		w.log.DebugContext(ctx, "session ended", "account", w.id, "err", err, "dur", lived)
		return time.Duration(rand.Int64N(int64(plannedWait))), nil
	}
	w.met.connects.WithLabelValues(fault.Kind).Inc()
	if fault.Kind != w.kind && !opened {
		w.failures = 0
	}
	w.kind = fault.Kind
	w.failures++
	pause := backoff(fault, w.failures)
	wasSecond := w.secondTry
	w.secondTry = fault.Kind == FaultAuthDead && !opened && !wasSecond && w.workedToday()
	if w.secondTry {
		w.failures--
		pause = secondTryMin + time.Duration(rand.Int64N(int64(secondTryMax-secondTryMin)))
	}
	level := slog.LevelInfo
	if fault.Kind == FaultInternal {
		level = slog.LevelError
		w.loaded = false
	}
	w.log.Log(ctx, level, "session ended", "account", w.id, "kind", fault.Kind, "err", err, "dur", lived, "next", pause)
	if serr := w.failed(ctx, fault, opened, time.Now().Add(pause)); serr != nil {
		if errors.Is(serr, store.ErrLeaseLost) {
			return 0, errLeaseLost
		}
		w.loaded = false
		w.log.InfoContext(ctx, "status not written", "account", w.id, "err", serr)
	}
	return pause, w.giveUp(ctx)
}

// workedToday says whether the credentials let us in within the last day.
func (w *worker) workedToday() bool {
	st := w.state.Status
	return st.AuthFailing.IsZero() && time.Since(st.LoggedIn) < secondTryFor && st.LoggedIn.After(w.account().Updated)
}

// giveUp pauses an account whose credentials have been refused for days.
func (w *worker) giveUp(ctx context.Context) error {
	since := w.state.Status.AuthFailing
	if since.IsZero() {
		return nil
	}
	set, err := w.settings(ctx)
	if err != nil || time.Since(since) < time.Duration(set.AuthFailingDays)*24*time.Hour {
		return nil
	}
	if _, err := w.pause(ctx, w.id, "authenticationFailing"); err != nil {
		w.log.WarnContext(ctx, "pause account", "account", w.id, "err", err)
		return nil
	}
	return errUnwanted
}

// pauseFor waits before the next session, unless one is wanted at once.
func (w *worker) pauseFor(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	if w.account().Version != w.tried && w.kind != FaultThrottled { // changed since, before there was a wait to end
		w.failures = 0
		return nil
	}
	until, server := time.Now().Add(d), w.server()
	for {
		sctx, cancel := context.WithCancelCause(ctx)
		w.mu.Lock()
		w.endSession = cancel
		w.mu.Unlock()
		err := wait(sctx, time.Until(until))
		cancel(nil)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !errors.Is(err, errReconnect):
			return nil
		case w.kind != FaultThrottled || w.server() != server:
			w.failures = 0
			return nil
		}
		// Wishing does not make the server bear more.
	}
}

// server is whom the account's sessions are opened with.
func (w *worker) server() string {
	acct := w.account()
	if acct.IMAP == nil {
		return ""
	}
	return fmt.Sprintf("%s:%d %s", acct.IMAP.Host, acct.IMAP.Port, acct.IMAP.User)
}

// throttled waits until the time that the server named to the worker before this one.
func (w *worker) throttled(ctx context.Context) error {
	st := w.state.Status
	if w.kind != "" || st.LastError == nil || st.LastError.Kind != FaultThrottled ||
		st.State != store.StateConnectError && st.State != store.StateDisconnected {
		return nil
	}
	w.kind, w.failures = FaultThrottled, st.Failures
	return w.pauseFor(ctx, time.Until(st.LastError.Until))
}

// account is the present configuration.
func (w *worker) account() store.Account {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.acct
}

// configure takes a changed configuration over and opens a new session with it.
func (w *worker) configure(a store.Account) {
	w.mu.Lock()
	w.acct = a
	end := w.endSession
	w.mu.Unlock()
	if end != nil {
		end(errReconnect)
	}
}

// wake has the worker look again soon. It never blocks.
func (w *worker) wake() {
	w.kicked.Store(true)
	select {
	case w.kick <- struct{}{}:
	default:
	}
	w.mu.Lock()
	sess := w.shared
	w.mu.Unlock()
	if sess != nil {
		sess.Kick()
	}
}

// lastProof is when the server last proved that it lives; zero when it never did.
func (w *worker) lastProof() time.Time {
	w.mu.Lock()
	sess := w.shared
	w.mu.Unlock()
	last := w.alive.Load()
	if sess != nil {
		if p := sess.LastProof(); !p.IsZero() {
			last = max(last, p.UnixNano())
		}
	}
	if last <= 0 {
		return time.Time{}
	}
	return time.Unix(0, last)
}
