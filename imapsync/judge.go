package imapsync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/postrider/postrider/store"
)

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
	if note := w.profile.hint(w.user()); note != "" && fault.login() {
		fault.Action = strings.TrimSpace(fault.Action + " " + note)
	}
	if e, ok := errors.AsType[*Error](err); ok && e.Kind == ErrTimeout && opened {
		fault.Kind = FaultSilent
	}
	if fault.Planned && lived > plannedAfter || opened && w.whole && lived > backoffReset && fault.Kind == FaultServerDown {
		w.met.connects.WithLabelValues("ok").Inc()
		w.log.DebugContext(ctx, "session ended", "account", w.id, "err", err, "dur", lived)
		return upTo(max(plannedWait, w.pace.lost(w.host()))), nil
	}
	w.met.connects.WithLabelValues(fault.Kind).Inc()
	if fault.Kind != w.kind && !opened {
		w.failures = 0
	}
	w.kind = fault.Kind
	w.failures++
	pause := backoff(fault, w.failures)
	switch {
	case fault.Kind == FaultThrottled:
		w.met.throttled.WithLabelValues("account").Inc()
		if w.pace.throttle(w.host(), w.id) {
			w.met.throttled.WithLabelValues("host").Inc()
			w.log.WarnContext(ctx, "host throttles several accounts: slowed down", "host", w.host(), "dur", slowedFor)
		}
	case opened && (fault.Kind == FaultServerDown || fault.Kind == FaultSilent):
		// Whom one outage threw out comes back spread, not at once.
		pause = max(pause, upTo(w.pace.lost(w.host())))
	}
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

// upTo is full jitter.
func upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(rand.Int64N(int64(d)))
}

// user is who logs in.
func (w *worker) user() string {
	if acct := w.account(); acct.IMAP != nil {
		return acct.IMAP.User
	}
	return ""
}

// host is the name that the account's server is paced by.
func (w *worker) host() string {
	if acct := w.account(); acct.IMAP != nil {
		return acct.IMAP.Host
	}
	return ""
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
	return w.pauseFor(ctx, min(time.Until(st.LastError.Until), maxRetryAfter))
}
