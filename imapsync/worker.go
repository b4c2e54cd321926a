package imapsync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/internal/aside"
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
	cfg   *Config // the manager's
	log   *slog.Logger
	met   *metrics
	pace  *pacer

	dial      func(context.Context, store.Account) (Session, error)
	settings  func(context.Context) (store.Settings, error)
	pause     func(context.Context, store.AccountID, string) (store.Account, error)
	profiles  *Profiles
	baselines chan struct{} // slots for large first looks, shared by the process

	contents *contentRoom // for message contents in work, shared by the process

	// Shared with the manager and the watchdog.
	mu         sync.Mutex
	acct       *store.Account
	shared     Session                 // the open session, for Kick, Close and SpeakBy
	endSession context.CancelCauseFunc // ends the present session or the wait for the next
	kick       chan struct{}           // cap 1: look again
	kicked     atomic.Bool
	stalled    atomic.Bool               // accountStalled was said from outside: the next whole pass ends it
	leaseUntil atomic.Pointer[time.Time] // until when the lease stands for sure, by our monotonic clock; nil = lost
	closedAt   atomic.Int64              // Unix ns when the watchdog closed the session; 0 = not
	alive      atomic.Int64              // Unix ns of the last proof of life of an ended session
	recorded   atomic.Int64              // Unix ns of the proof of life that the store has
	known      atomic.Uint64             // seq of the last event that the store has confirmed to us
	forgotten  atomic.Bool               // the store no longer has it: read everything again
	heldSince  time.Time
	left       sync.Once // the manager waits for it no more: it ended, or was abandoned
	cancel     context.CancelCauseFunc

	// Of the worker's goroutine alone.
	sess        Session
	info        Info
	profile     *Profile // of the provider: by host, and once logged in by all that the server says
	state       store.State
	folders     []*folder
	listVersion uint64
	latches     []store.Latch
	loadedFor   uint64 // version of the configuration that was known before
	nextNum     uint32
	loaded      bool
	labels      bool // the folders that are labels are not watched
	replan      bool // the plan has changed and was not yet shown

	open   *folder // the selected folder, while what follows describes it
	sel    Selected
	hints  Changes
	reopen bool // ask for the selected folder's numbers again

	whole        bool  // a whole pass was done in this session
	told         bool  // events were committed since the last pass, or messages held
	listHint     bool  // the next LIST is asked for because of a hint
	listVain     uint8 // of those, in a row, that showed nothing new, up to 10
	began        time.Time
	activeAt     time.Time // last event
	listAt       time.Time // next LIST
	listLook     time.Time // last complete LIST
	probeAt      time.Time // next probe
	probed       time.Time
	askedAt      time.Time // last STATUS
	attended     time.Time // last look at the main folder, or STATUS of it in the middle of another's
	listed       time.Time // last LIST, believed or not
	slowUntil    time.Time // the server asked to slow down
	mergedAt     time.Time // last end of IDLE
	subs         *subconns
	compressed   bool      // this connection is, and does not idle
	uncompressed bool      // compressing was refused
	plainInbox   bool      // this session's Gmail does not tell categories
	notified     bool      // NOTIFY is on: hints come for all folders
	categoryEnds int       // connections that ended when it was asked for them
	notifyAt     time.Time // when it is asked for again
	notifyFails  int
	shownAt      time.Time // last progress
	suspect      *suspicion
	gone         map[string]store.Gone // held messages, by event id
	heldAt       map[string]uint64     // looks when they were found to be gone
	looks        uint64                // at folders so far: two may be at the same time
	folderError  *store.SyncError
	foldersDone  int
	messages     int
	shortIdles   int
	passedAt     time.Time // the end of the last pass
	vain         int       // passes in a row, one behind the other, that told of nothing
	unwritten    int       // waits for the store since the last commit

	failures  int // in a row, for back-off
	kind      string
	secondTry bool
	tried     uint64 // version of the configuration that the last session was wanted with
}

// run watches the account until ctx ends, the lease is lost, or the account is gone;
// the cause is what it returns. A panic is recovered here, and only here. All that needs
// more stack than the wait in IDLE goes aside: 4 KB of it are kept by each account, not 8.
func (w *worker) run(ctx context.Context) error {
	if w.recall(ctx) == nil { // an error comes again, and is judged then
		if err := w.throttled(ctx); err != nil {
			return err
		}
	}
	for {
		began := time.Now()
		opened, err := w.protected(ctx)
		var pause time.Duration
		if aside.Do(func() { pause, err = w.judge(ctx, err, opened, began) }); err != nil {
			return err
		}
		if err := w.pauseFor(ctx, pause); err != nil {
			return err
		}
	}
}

// rescue makes an error of a panic. It MUST be deferred.
func (w *worker) rescue(ctx context.Context, err *error) {
	if p := recover(); p != nil {
		w.met.panics.Inc()
		w.log.ErrorContext(ctx, "panic in account worker", "account", w.id, "err", p, "stack", string(aside.StackOf(p)))
		w.loaded = false
		if w.sess != nil {
			w.sess.Close()
		}
		*err = fmt.Errorf("panic: %v", p)
	}
}

// recall reads what is stored, and says how long nobody looked.
func (w *worker) recall(ctx context.Context) (err error) {
	defer w.rescue(ctx, &err)
	aside.Do(func() {
		if err = w.load(ctx); err == nil {
			err = w.unwatched(ctx)
		}
	})
	return err
}

// protected is one session, with panics made errors.
func (w *worker) protected(ctx context.Context) (opened bool, err error) {
	defer w.rescue(ctx, &err)
	defer func() { aside.Do(func() { w.closeSession(ctx, err) }) }()
	sctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w.mu.Lock()
	w.endSession = cancel
	w.tried = w.acct.Version
	w.mu.Unlock()
	if aside.Do(func() { err = w.begin(sctx) }); err != nil {
		return false, err
	}
	w.met.sessions.Inc()
	defer w.met.sessions.Dec()
	if aside.Do(func() { err = w.sayLoggedIn(sctx) }); err != nil {
		return true, err
	}
	w.secondTry = false
	return true, w.watch(sctx)
}

// begin opens a session for what is stored of the account.
func (w *worker) begin(ctx context.Context) error {
	if err := w.ready(ctx); err != nil {
		return err
	}
	return w.connect(ctx)
}

// sayLoggedIn is loggedIn, as soon as the store takes it.
func (w *worker) sayLoggedIn(ctx context.Context) error {
	err := w.loggedIn(ctx)
	for ; errors.Is(err, store.ErrUnavailable); err = w.loggedIn(ctx) {
		if err := w.awaitStore(ctx); err != nil {
			return err
		}
	}
	return err
}

// ready reads what is stored of the account, and begins anew where that is gone, or where
// that is wished for: a wish comes with a new version of the configuration.
func (w *worker) ready(ctx context.Context) error {
	if !w.loaded || w.loadedFor != w.account().Version {
		if err := w.loadOrRestore(ctx); err != nil {
			return err
		}
	}
	if w.state.Flush != nil {
		return w.flush(ctx)
	}
	return nil
}

func (w *worker) loadOrRestore(ctx context.Context) error {
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
		err = w.load(ctx)
	}
	return err
}

// load reads the account's state and folders.
func (w *worker) load(ctx context.Context) error {
	version := w.account().Version // what is stored may be newer
	st, err := w.st.State(ctx, w.id)
	if err != nil {
		return err
	}
	w.state = st
	w.mergeLatches(st.Status.Latches)
	w.known.Store(st.Seq)
	if w.listLook.IsZero() {
		w.listLook = earliest(st.Status.SyncTime, time.Now())
	}
	if err := w.loadFolders(ctx); err != nil {
		return err
	}
	if err := w.loadGone(ctx); err != nil {
		return err
	}
	w.loaded, w.loadedFor = true, version
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
	w.profile = w.profiles.Match(acct.IMAP.Host, "", nil)
	leave, err := w.pace.enter(ctx, acct.IMAP.Host, w.profile, w.failures > 0)
	if err != nil {
		return err
	}
	defer leave()
	sess, err := w.dial(ctx, *acct)
	if err != nil {
		return err
	}
	w.sess, w.info = sess, sess.Info()
	w.profile = w.profiles.Match(acct.IMAP.Host, w.info.ServerName, w.info.Capabilities)
	w.learn()
	w.open, w.hints, w.whole, w.reopen = nil, Changes{}, false, false
	w.notified, w.compressed, w.plainInbox = false, false, false
	w.began, w.foldersDone, w.shortIdles = time.Now(), 0, 0
	w.unlatch(w.began)
	w.afterSilence(w.began)
	if w.activeAt.IsZero() {
		w.activeAt = w.began
	}
	w.mu.Lock()
	w.shared = sess
	w.mu.Unlock()
	return nil
}

// learn takes over what the session knows of the server, as far as its provider's
// profile lets it be used.
func (w *worker) learn() {
	w.info = w.profile.allowed(w.sess.Info())
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
	w.endApart(cmp.Or(cause, errReconnect))
	if err != nil && !errors.Is(err, errSilent) && !errors.Is(cause, errLeaseLost) && !errors.Is(err, store.ErrLeaseLost) {
		if _, broken := errors.AsType[*Error](err); !broken || usable(err) {
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

// account is the present configuration; it is shared and MUST NOT be changed.
func (w *worker) account() *store.Account {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.acct
}

// configure takes a changed configuration over and opens a new session with it.
func (w *worker) configure(a *store.Account) {
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
	w.nudge()
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
