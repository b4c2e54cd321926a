package imapsync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/postrider/postrider/internal/aside"
	"github.com/postrider/postrider/store"
)

// subconns are an account's further connections: each waits in a folder of its own and
// tells the worker that something happened there. They know no state and fetch nothing,
// and live no longer than the worker's session.
type subconns struct {
	ctx    context.Context // of the session
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	subs  map[string]*subconn // by the folder's raw name
	dirty map[string]bool     // folders in which something happened
}

// subconn is one of them; its fields are under subconns.mu.
type subconn struct {
	raw  string
	sess Session // nil: it is not live
	why  string  // why it is not
	stop context.CancelCauseFunc
}

// reserved are the connections of an account's budget that are not for subconns: the
// watching one, and one for reading mail on demand.
const reserved = 2

// subRetry is the wait after a subconn ended, doubled up to subRetryMost.
const (
	subRetry     = time.Minute
	subRetryMost = time.Hour
)

// listenApart begins and ends subconns, so that those folders that are wished for, exist,
// and are not watched live otherwise have one, as far as the provider's limit goes.
func (w *worker) listenApart(ctx context.Context) {
	if w.compressed || w.subs == nil && len(w.account().Live) == 0 {
		return
	}
	want := map[string]bool{}
	room := max(w.profile.Connections-reserved, 0)
	for _, f := range w.folders {
		if w.apart(f) && len(want) < room {
			want[f.Raw] = true
		}
	}
	if w.subs == nil {
		w.subs = &subconns{subs: map[string]*subconn{}, dirty: map[string]bool{}}
		w.subs.ctx, w.subs.cancel = context.WithCancelCause(ctx)
	}
	s := w.subs
	s.mu.Lock()
	defer s.mu.Unlock()
	for raw, sub := range s.subs {
		if !want[raw] {
			sub.stop(errUnwanted)
			delete(s.subs, raw)
		}
	}
	acct := w.account()
	for raw := range want {
		if s.subs[raw] != nil {
			continue
		}
		sctx, stop := context.WithCancelCause(s.ctx)
		sub := &subconn{raw: raw, stop: stop, why: "connecting"}
		s.subs[raw] = sub
		s.wg.Go(func() {
			defer stop(nil)
			w.listen(sctx, acct, s, sub)
		})
	}
	now := time.Now()
	for _, sub := range s.subs {
		if sub.sess == nil {
			continue
		}
		if by := sub.sess.SpeakBy(); !by.IsZero() && now.After(by) {
			sub.sess.Close()
		}
	}
}

// apart says whether a folder is to have a connection of its own.
func (w *worker) apart(f *folder) bool {
	return f.Watched == watchedPoll && !w.notified && w.idles() && slices.Contains(w.account().Live, f.Path)
}

// listen keeps one subconn until ctx ends. It runs beside the worker and touches nothing
// of it but what never changes or is shared.
func (w *worker) listen(ctx context.Context, acct *store.Account, s *subconns, sub *subconn) {
	failures := 0
	for {
		began := time.Now()
		err := w.listenOnce(ctx, acct, s, sub, failures > 0)
		if ctx.Err() != nil {
			return
		}
		if failures++; time.Since(began) > backoffReset {
			failures = 1
		}
		pause := min(subRetry<<min(failures-1, 10), subRetryMost)
		s.mu.Lock()
		sub.sess, sub.why = nil, Words(err)
		s.mu.Unlock()
		w.nudge()
		w.log.InfoContext(ctx, "subconnection ended", "account", w.id, "err", err, "next", pause)
		if wait(ctx, pause) != nil {
			return
		}
	}
}

// listenOnce is one connection: EXAMINE, IDLE, and a nudge for each change. A panic in it
// is its end and no more, as one of the worker's is.
func (w *worker) listenOnce(ctx context.Context, acct *store.Account, s *subconns, sub *subconn, retry bool) (err error) {
	defer func() {
		if p := recover(); p != nil {
			w.met.panics.Inc()
			w.log.ErrorContext(ctx, "panic in subconnection", "account", w.id, "err", p, "stack", string(aside.StackOf(p)))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	profile := w.profiles.Match(acct.IMAP.Host, "", nil)
	leave, err := w.pace.enter(ctx, acct.IMAP.Host, profile, retry)
	if err != nil {
		return err
	}
	sess, err := func() (Session, error) {
		defer leave()
		return w.dial(ctx, *acct)
	}()
	if err != nil {
		return err
	}
	defer sess.Close()
	info := sess.Info()
	profile = w.profiles.Match(acct.IMAP.Host, info.ServerName, info.Capabilities)
	if _, err := sess.Select(ctx, sub.raw); err != nil {
		return err
	}
	s.mu.Lock()
	sub.sess = sess
	s.mu.Unlock()
	w.tellOf(s, sub) // what happened before is looked for as well
	for {
		began := time.Now()
		end, err := sess.Idle(ctx, min(w.cfg.ProofInterval, profile.IdleRestart))
		if ctx.Err() != nil {
			if !errors.Is(context.Cause(ctx), errLeaseLost) {
				bye, stop := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
				_ = sess.Logout(bye)
				stop()
			}
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		if sess.Changes().Any() {
			w.tellOf(s, sub)
		}
		if end != IdleTimeout { // one that ends IDLE at once is not asked without end
			if err := wait(ctx, time.Second-time.Since(began)); err != nil {
				return err
			}
		}
	}
}

// tellOf tells the worker that something happened in a folder.
func (w *worker) tellOf(s *subconns, sub *subconn) {
	s.mu.Lock()
	s.dirty[sub.raw] = true
	s.mu.Unlock()
	w.nudge()
}

// nudge has the worker begin a pass, in which only what is due is asked for.
func (w *worker) nudge() {
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

// heardApart marks the folders dirty in which subconns saw something.
func (w *worker) heardApart() {
	if w.subs == nil {
		return
	}
	w.subs.mu.Lock()
	defer w.subs.mu.Unlock()
	for raw := range w.subs.dirty {
		if f := w.byRaw(raw); f != nil && f.Watched != watchedNo {
			f.dirty = true
			w.met.hints.Inc()
		}
	}
	clear(w.subs.dirty)
}

// endApart ends all subconns with a cause, and waits for them.
func (w *worker) endApart(cause error) {
	if w.subs == nil {
		return
	}
	w.subs.cancel(cause)
	w.subs.wg.Wait()
	w.subs = nil
}

// connections is how many the account has, of all kinds.
func (w *worker) connections() int {
	n := 1
	if w.subs != nil {
		w.subs.mu.Lock()
		defer w.subs.mu.Unlock()
		for _, sub := range w.subs.subs {
			if sub.sess != nil {
				n++
			}
		}
	}
	return n
}

// apartPlan says how the folder with a connection of its own is watched; "" when it is as
// all others.
func (w *worker) apartPlan(f *folder) string {
	if !w.apart(f) {
		return ""
	}
	if w.subs != nil {
		w.subs.mu.Lock()
		defer w.subs.mu.Unlock()
		if sub := w.subs.subs[f.Raw]; sub != nil {
			if sub.sess != nil {
				return fmt.Sprintf("%s: live (IDLE, a connection of its own)", f.Path)
			}
			return fmt.Sprintf("%s: every %s (its own connection: %s)", f.Path, short(w.probeEvery()), sub.why)
		}
	}
	return fmt.Sprintf("%s: every %s (the provider's limit of %d leaves no connection for it)", f.Path, short(w.probeEvery()), w.profile.Connections)
}
