package imapsync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
)

// teller adds an event of the account to the commit of a status.
type teller func(events.Payload)

// say changes the account's status, with the events that follow from the change. The
// change MAY be computed again when somebody else said something meanwhile: what
// pointers in the status point to is never changed in place.
func (w *worker) say(ctx context.Context, change func(*store.Status, teller)) error {
	return w.sayWith(ctx, store.Change{}, change)
}

func (w *worker) sayWith(ctx context.Context, c store.Change, change func(*store.Status, teller)) error {
	const tries = 5
	var err error
	for range tries {
		st := w.state.Status
		c.Events = nil
		change(&st, func(p events.Payload) {
			id := statusEvent(w.id, w.state.Epoch, p.EventType(), w.state.StatusVersion)
			c.Events = append(c.Events, events.Event{ID: id, Data: p})
		})
		c.Status = &store.StatusChange{Version: w.state.StatusVersion, Status: st}
		if err = w.commit(ctx, c); err == nil {
			w.state.Status = st
			w.state.StatusVersion++
			return nil
		}
		if !errors.Is(err, store.ErrStale) {
			return err
		}
		fresh, rerr := w.st.State(ctx, w.id)
		if rerr != nil {
			return rerr
		}
		w.state = fresh
	}
	return err
}

// progress counts messages of a first look and shows them, at most once a second.
func (w *worker) progress(ctx context.Context, messages int) {
	w.messages += messages
	if w.whole || time.Since(w.shownAt) < time.Second {
		return
	}
	w.shownAt = time.Now()
	err := w.say(ctx, func(st *store.Status, _ teller) {
		st.State = store.StateSyncing
		st.Sync = w.syncPhase()
	})
	if err != nil {
		w.log.DebugContext(ctx, "progress not written", "account", w.id, "err", err)
	}
}

func (w *worker) syncPhase() store.SyncPhase {
	phase := "catchup"
	if !w.state.Initialized {
		phase = "baseline"
	}
	if len(w.folders) == 0 {
		phase = "list"
	}
	return store.SyncPhase{
		Phase: phase, FoldersTotal: len(w.folders), FoldersDone: min(w.foldersDone, len(w.folders)),
		Messages: w.messages, StartedAt: w.began.UTC(),
	}
}

// loggedIn says that a session is open: the first ever, or the end of an error state.
func (w *worker) loggedIn(ctx context.Context) error {
	now := time.Now().UTC()
	return w.say(ctx, func(st *store.Status, tell teller) {
		if st.LoggedIn.IsZero() || !st.DownSince.IsZero() {
			ok := events.AuthenticationSuccess{User: w.account().IMAP.User, Service: "imap"}
			if !st.DownSince.IsZero() {
				ok.DownFor = int64(now.Sub(st.DownSince).Seconds())
			}
			tell(ok)
		}
		st.State, st.LoggedIn, st.DownSince, st.AuthFailing = store.StateSyncing, now, time.Time{}, time.Time{}
		st.Capabilities, st.Connections = w.info.Capabilities, 1
		st.Sync = w.syncPhase()
	})
}

// initialized says that every folder was looked at once.
func (w *worker) initialized(ctx context.Context, messages int) error {
	reason := w.state.Reason
	if reason == "" {
		reason = store.ReasonAdded
	}
	folders, announced := 0, 0
	for _, f := range w.folders {
		if f.Watched != watchedNo {
			folders++
			announced += int(f.meta.Told)
		}
	}
	started := w.state.Status.Sync.StartedAt
	if started.IsZero() {
		started = w.began
	}
	err := w.sayWith(ctx, store.Change{Initialized: true}, func(st *store.Status, tell teller) {
		tell(events.AccountInitialized{
			Initialized: true, Reason: reason, Folders: folders, Messages: messages,
			Announced: announced, DurationMS: time.Since(started).Milliseconds(),
		})
	})
	if err == nil {
		w.state.Initialized = true
		w.log.InfoContext(ctx, "account initialized", "account", w.id, "folders", folders, "messages", messages, "dur", time.Since(started))
	}
	return err
}

// failed writes what ended a session, or kept it from beginning, and when the next is
// tried. An event comes per new kind of failure to open one; a session that is lost is
// none until the next try fails.
func (w *worker) failed(ctx context.Context, f Fault, opened bool, next time.Time) error {
	now := time.Now().UTC()
	return w.say(ctx, func(st *store.Status, tell teller) {
		le := store.LastError{
			Kind: f.Kind, Class: f.Class, Service: f.Service, Response: f.Response, Code: f.Code,
			At: now, Since: now, Count: 1, NextTry: next.UTC(), Action: f.Action, Docs: f.Docs,
		}
		if f.Kind == FaultThrottled {
			le.Until = next.UTC()
		}
		same := st.LastError != nil && st.LastError.Kind == le.Kind && st.LastError.Class == le.Class && st.LastError.Code == le.Code
		said := same && !st.DownSince.IsZero()
		if same && !st.LastError.At.Before(st.SyncTime) {
			le.Since, le.Count = st.LastError.Since, st.LastError.Count+1
		}
		st.LastError, st.Connections, st.Failures = &le, 0, w.failures
		switch {
		case f.Kind == FaultInternal:
			return // our fault: the account's state stays what it was
		case opened:
			st.State = store.StateDisconnected
			return
		case w.secondTry:
			return // refused once with credentials that worked today: not believed yet
		}
		if st.DownSince.IsZero() {
			st.DownSince = now
		}
		if f.login() {
			st.State = store.StateAuthenticationError
			if st.AuthFailing.IsZero() {
				st.AuthFailing = now
			}
			if !said {
				tell(events.AuthenticationError{Response: f.Response, ServerResponseCode: f.Code, Service: "imap", Class: f.Class})
			}
			return
		}
		st.State = store.StateConnectError
		if !said {
			imap, at := w.account().IMAP, events.TimeOf(next)
			tell(events.ConnectError{
				Response: f.Response, ServerResponseCode: f.Code, Service: "imap",
				Host: imap.Host, Port: imap.Port, Class: f.Class, NextAttempt: &at,
			})
		}
	})
}

// plan says in words what is watched how.
func (w *worker) plan() []string {
	var plan []string
	polled := 0
	for _, f := range w.folders {
		switch f.Watched {
		case watchedIdle:
			how := "live (IDLE)"
			if !w.idles() {
				how = fmt.Sprintf("every %s to %s", short(min(pollOften, w.profile.IdleRestart)), short(min(pollSeldom, w.profile.IdleRestart)))
			}
			plan = append(plan, fmt.Sprintf("%s: %s", f.Path, how))
		case watchedPoll:
			if line := w.apartPlan(f); line != "" {
				plan = append(plan, line)
			} else {
				polled++
			}
		}
	}
	if polled > 0 {
		how := "every " + short(w.probeEvery())
		switch most := w.askEvery(&folder{}, time.Now()); {
		case w.notified:
			how = "live (NOTIFY)"
		case !w.info.ListStatus && most > w.probeEvery():
			how += " to " + short(most)
		}
		plan = append(plan, fmt.Sprintf("%d folders: %s", polled, how))
	}
	for _, f := range w.folders {
		if f.meta.Skew != 0 {
			plan = append(plan, fmt.Sprintf("%s: the server counts %d messages that it does not list; compared every %s", f.Path, f.meta.Skew, short(auditSkewed)))
		}
	}
	changes := w.tierPlan()
	fast, all := w.fastPlan()
	if all {
		changes = changes[1:]
	}
	return slices.Concat(plan, w.labelPlan(), fast, changes)
}

// short writes a duration without its zeroes.
func short(d time.Duration) string {
	if d >= time.Minute && d%time.Minute == 0 {
		return fmt.Sprintf("%d min", d/time.Minute)
	}
	if d%time.Second == 0 {
		return fmt.Sprintf("%d s", d/time.Second)
	}
	return d.String()
}

// settingOf is the account's own value of a setting, else the one of all accounts.
func settingOf[T any](ctx context.Context, w *worker, own *T, of func(store.Settings) T) T {
	if own != nil {
		return *own
	}
	return of(w.common(ctx))
}

// common are the settings of all accounts; where they cannot be read, what they are unset.
func (w *worker) common(ctx context.Context) store.Settings {
	set, err := w.settings(ctx)
	if err != nil {
		return store.DefaultSettings()
	}
	return set
}

func (w *worker) newFolderLimit(ctx context.Context) int {
	return settingOf(ctx, w, w.account().Override.NewFolderLimit, func(s store.Settings) int { return s.NewFolderLimit })
}

// storeIdentity is what folder state keeps of a message beside UID and flags.
func (w *worker) storeIdentity(ctx context.Context) string {
	return settingOf(ctx, w, w.account().Override.StoreIdentity, func(s store.Settings) string { return s.StoreIdentity })
}

func (w *worker) notifyMoves(ctx context.Context) bool {
	return settingOf(ctx, w, w.account().Override.NotifyMoves, func(s store.Settings) bool { return s.NotifyMoves })
}

func (w *worker) gmailCategories(ctx context.Context) bool {
	return settingOf(ctx, w, w.account().Override.GmailCategories, func(s store.Settings) bool { return s.GmailCategories })
}

func (w *worker) stallAfter(ctx context.Context) time.Duration {
	return stallAfter(w.account(), w.common(ctx))
}

// stallAfter is how long an account may be without proof of life.
func stallAfter(a *store.Account, set store.Settings) time.Duration {
	n := set.StallAfter
	if a.Override.StallAfter != nil {
		n = *a.Override.StallAfter
	}
	return time.Duration(n) * time.Second
}
