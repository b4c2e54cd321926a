package imapsync

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/imapsync/wire"
	"github.com/postrider/postrider/store"
)

const (
	actorQueue = 8                      // requests of an account that wait at most
	actorWait  = 10 * time.Second       // as long as one waits to begin, and for the lease
	actorIdle  = time.Minute            // a connection without requests is closed after that
	actorKeep  = time.Second            // how often the lease is renewed, and looked at who asks for it
	actorLease = 15 * time.Second       // it ends that long after its holder
	actorAsk   = 250 * time.Millisecond // how often a lease that another process has is asked for
	actorStale = 5 * time.Second        // a connection that was idle as long is tried before it is used
	actorEnd   = 5 * time.Second        // to write down a result after the request was cancelled
)

// What an Actor answers beside the errors of the store and of the server (*Error).
var (
	ErrBusy      = errors.New("too much is being done on the account already")
	ErrNoFolder  = errors.New("no such folder")
	ErrNoMessage = errors.New("no such message")
)

// ActorStore is what an Actor needs of durable state. *store.Store is one.
type ActorStore interface {
	Account(ctx context.Context, id store.AccountID) (store.Account, error)
	Folders(ctx context.Context, id store.AccountID) ([]store.Folder, uint64, error)
	FolderMeta(ctx context.Context, id store.AccountID, num uint32) (store.FolderMeta, error)
	BeginIntent(ctx context.Context, id store.AccountID, i store.Intent) (store.Intent, error)
	EndIntent(ctx context.Context, id store.AccountID, i store.Intent) error
	DropIntent(ctx context.Context, id store.AccountID, i store.Intent) error
	TakeLive(ctx context.Context, id store.AccountID, owner string, ttl time.Duration) (store.LiveAnswer, error)
	FreeLive(ctx context.Context, id store.AccountID, owner string) error
}

// ActorOptions are what an Actor is made of.
type ActorOptions struct {
	Store  ActorStore
	Dialer *Dialer
	Kick   func(store.AccountID) // has the account looked at soon; MUST NOT block; nil: nobody does
	// Pace waits for a turn to connect to a host, which leave gives back: Manager.Pace of the
	// same process, so that a host is asked no faster by both. nil: nobody waits.
	Pace func(ctx context.Context, host string) (leave func(), err error)
	Log  *slog.Logger // nil: none
}

// Actor changes things on servers for us, on a connection of an account's own beside the
// one that watches. It writes each change down before the command and its result behind
// it, so that the watching side knows it as ours; cursors and blocks are not its own.
//
// A connection is opened when it is wanted, by one process of the installation at a time,
// and closed after a minute without use or when another process asks for it. One
// goroutine an account owns it, and does one request after another. All methods MAY be
// called concurrently, and block for as long as the server takes, or ctx.
type Actor struct {
	o     ActorOptions
	owner string
	ctx   context.Context
	end   context.CancelCauseFunc

	mu   sync.Mutex
	runs map[store.AccountID]*actorRun
	wg   sync.WaitGroup
}

// NewActor returns an Actor, which Close ends.
func NewActor(o ActorOptions) *Actor {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Kick == nil {
		o.Kick = func(store.AccountID) {}
	}
	if o.Pace == nil {
		o.Pace = func(context.Context, string) (func(), error) { return func() {}, nil }
	}
	a := &Actor{o: o, owner: rand.Text(), runs: map[store.AccountID]*actorRun{}}
	a.ctx, a.end = context.WithCancelCause(context.Background())
	return a
}

// Close ends what is being done, closes all connections and waits for that. Whatever is
// asked for afterwards is refused.
func (a *Actor) Close() {
	a.mu.Lock()
	a.end(errShutdown)
	a.mu.Unlock()
	a.wg.Wait()
}

// request is one thing to be done.
type request struct {
	ctx   context.Context
	do    func(context.Context, *live) error
	claim atomic.Bool // by the goroutine that does it, or by the caller that gives up
	begun chan struct{}
	done  chan error // cap 1
}

// do has f done on the account's connection.
func (a *Actor) do(ctx context.Context, id store.AccountID, f func(context.Context, *live) error) error {
	q := &request{ctx: ctx, do: f, begun: make(chan struct{}), done: make(chan error, 1)}
	if err := a.queue(id, q); err != nil {
		return err
	}
	late := time.NewTimer(actorWait)
	defer late.Stop()
	var why error
	select {
	case <-q.begun:
		return <-q.done
	case <-late.C:
		why = ErrBusy
	case <-ctx.Done():
		why = context.Cause(ctx)
	case <-a.ctx.Done():
		why = errShutdown
	}
	if q.claim.CompareAndSwap(false, true) {
		return why
	}
	return <-q.done
}

func (a *Actor) queue(id store.AccountID, q *request) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ctx.Err() != nil {
		return errShutdown
	}
	r := a.runs[id]
	if r == nil {
		r = &actorRun{a: a, id: id, queue: make(chan *request, actorQueue)}
		a.runs[id] = r
		a.wg.Go(r.run)
	}
	select {
	case r.queue <- q:
		return nil
	default:
		return ErrBusy
	}
}

// actorRun is the goroutine of one account, and what it owns.
type actorRun struct {
	a     *Actor
	id    store.AccountID
	queue chan *request

	conn    *wire.Conn
	version uint64 // of the account's configuration that it was opened with
	used    time.Time
}

// run does requests until there were none for actorIdle.
func (r *actorRun) run() {
	defer r.close()
	keep := time.NewTicker(actorKeep)
	defer keep.Stop()
	r.used = time.Now()
	for {
		select {
		case <-r.a.ctx.Done():
			return
		case q := <-r.queue:
			r.serve(q)
		case <-keep.C:
			r.keep()
			if time.Since(r.used) < actorIdle {
				continue
			}
			r.close()
			r.a.mu.Lock()
			over := len(r.queue) == 0
			if over {
				delete(r.a.runs, r.id)
			}
			r.a.mu.Unlock()
			if over {
				return
			}
		}
	}
}

// keep renews the lease of an open connection, and gives it up when that is asked for.
func (r *actorRun) keep() {
	if r.conn == nil {
		return
	}
	ctx, stop := context.WithTimeout(r.a.ctx, actorKeep)
	defer stop()
	switch answer, err := r.a.o.Store.TakeLive(ctx, r.id, r.a.owner, actorLease); {
	case err != nil: // it stands for a while yet
		r.a.o.Log.DebugContext(ctx, "keep live lease", "account", r.id, "err", err)
	case answer != store.LiveOurs:
		r.close()
	}
}

// serve does one request, if its caller still waits.
func (r *actorRun) serve(q *request) {
	if !q.claim.CompareAndSwap(false, true) {
		return
	}
	close(q.begun)
	ctx, cancel := context.WithCancelCause(q.ctx)
	defer cancel(nil)
	defer context.AfterFunc(r.a.ctx, func() { cancel(errShutdown) })()
	err := r.open(ctx)
	if err == nil {
		stopped := make(chan struct{})
		var kept sync.WaitGroup
		kept.Go(func() { r.renew(stopped) })
		err = q.do(ctx, &live{a: r.a, id: r.id, c: r.conn})
		close(stopped)
		kept.Wait()
		if err != nil && r.conn.Err() != nil {
			r.close()
		}
	}
	r.used = time.Now()
	q.done <- err
}

// renew keeps the lease while a request is done, which may take longer than it.
func (r *actorRun) renew(stopped <-chan struct{}) {
	tick := time.NewTicker(actorLease / 3)
	defer tick.Stop()
	for {
		select {
		case <-stopped:
			return
		case <-tick.C:
		}
		ctx, stop := context.WithTimeout(r.a.ctx, actorKeep)
		if _, err := r.a.o.Store.TakeLive(ctx, r.id, r.a.owner, actorLease); err != nil {
			r.a.o.Log.DebugContext(ctx, "keep live lease", "account", r.id, "err", err)
		}
		stop()
	}
}

// open makes the connection usable, with the account's present configuration.
func (r *actorRun) open(ctx context.Context) error {
	acct, err := r.a.o.Store.Account(ctx, r.id)
	if err != nil {
		return err
	}
	if acct.IMAP == nil || !acct.Watchable() {
		r.close()
		return fmt.Errorf("account %q is not watched: %w", r.id, store.ErrNotFound)
	}
	stale := r.conn != nil && time.Since(r.used) > actorStale && r.conn.Noop(ctx) != nil
	if r.conn != nil && (stale || r.version != acct.Version) {
		r.close()
	}
	if r.conn != nil {
		return nil
	}
	if p := r.a.o.Dialer.o.Profiles.Match(acct.IMAP.Host, "", nil); p.Connections < 2 {
		return fmt.Errorf("the provider allows the watching connection only: %w", ErrBusy)
	}
	for end := time.Now().Add(actorWait); ; {
		answer, err := r.a.o.Store.TakeLive(ctx, r.id, r.a.owner, actorLease)
		if err != nil {
			return err
		}
		if answer != store.LiveHeld {
			break
		}
		if time.Now().After(end) {
			return ErrBusy
		}
		if err := wait(ctx, actorAsk); err != nil {
			return err
		}
	}
	if r.conn, err = r.dial(ctx, acct); err != nil {
		r.conn = nil
		r.free(ctx)
		return err
	}
	r.version = acct.Version
	return nil
}

func (r *actorRun) dial(ctx context.Context, acct store.Account) (*wire.Conn, error) {
	leave, err := r.a.o.Pace(ctx, acct.IMAP.Host)
	if err != nil {
		return nil, err
	}
	defer leave()
	return r.a.o.Dialer.open(ctx, *acct.IMAP, r.a.o.Dialer.trace(ctx, acct))
}

// close ends the connection, if there is one, and gives the lease back.
func (r *actorRun) close() {
	if r.conn == nil {
		return
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(r.a.ctx), actorEnd)
	defer stop()
	if r.conn.Err() == nil {
		bye, enough := context.WithTimeout(ctx, time.Second)
		if err := r.conn.Logout(bye); err != nil {
			r.a.o.Log.DebugContext(ctx, "logout", "account", r.id, "err", err)
		}
		enough()
	}
	r.conn.Close()
	r.conn = nil
	r.free(ctx)
}

func (r *actorRun) free(ctx context.Context) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), actorEnd)
	defer stop()
	if err := r.a.o.Store.FreeLive(ctx, r.id, r.a.owner); err != nil {
		r.a.o.Log.DebugContext(ctx, "free live lease", "account", r.id, "err", err) // it ends by itself
	}
}
