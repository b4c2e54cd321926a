package api

import (
	"slices"
	"time"

	"github.com/postrider/postrider/store"
)

// Health is what an account's state means for a person.
type Health string

// The healths there are.
const (
	HealthOK       Health = "ok"            // a whole pass succeeded, and the connection proves to be alive
	HealthStarting Health = "starting"      // the first look, or a new connection after nothing bad
	HealthDegraded Health = "degraded"      // watched, but not all of it or not at full speed
	HealthDown     Health = "down"          // not watched at present; it is being tried again
	HealthAction   Health = "action-needed" // trying again will not help: somebody must change something
	HealthPaused   Health = "paused"        // not watched because somebody wanted so
)

// needsAction are the kinds of error that only a person mends.
var needsAction = []string{"authDead", "config"}

// HealthOf derives the health of an account, a pure function of what is stored. alive is
// the last proof of life, zero if there was none; silent is how long it may be ago. It
// does not believe a state that nobody upholds: a connected account without recent
// proof of life is down, whatever its worker wrote last.
func HealthOf(a store.Account, st store.Status, alive time.Time, silent time.Duration, now time.Time) Health {
	switch {
	case a.Paused != nil && a.Paused.Reason != "api": // it paused itself: its credentials have failed for days
		return HealthAction
	case a.Paused != nil:
		return HealthPaused
	case a.IMAP == nil && a.SMTP != nil: // there is nothing to watch
		return HealthOK
	case a.IMAP == nil:
		return HealthAction
	case a.IMAP.Disabled:
		return HealthPaused
	}
	blames := st.LastError != nil && slices.Contains(needsAction, st.LastError.Kind)
	stalled := !st.Stalled.IsZero()
	switch st.State {
	case store.StateAuthenticationError, store.StateUnset:
		return HealthAction
	case store.StateConnectError, store.StateDisconnected:
		switch {
		case blames:
			return HealthAction
		case st.Failures == 0 && !stalled && st.State == store.StateDisconnected:
			return HealthStarting // an ordinary end of a connection; the next one comes at once
		}
		return HealthDown
	case store.StateConnected, store.StateSyncing:
		switch {
		case stalled || !alive.IsZero() && now.Sub(alive) > silent:
			return HealthDown
		case st.SyncError != nil || throttled(st, now) || st.Failures > 0:
			return HealthDegraded
		case st.State == store.StateSyncing:
			return HealthStarting
		}
		return HealthOK
	}
	// init and connecting
	switch {
	case st.Failures > 0 && blames:
		return HealthAction
	case st.Failures > 0 || stalled:
		return HealthDown
	}
	return HealthStarting
}

// sendingHealth is the health of an account that only sends.
func sendingHealth(s store.SMTPStatus) Health {
	switch {
	case s.Status != store.SMTPError:
		return HealthOK
	case s.Class == "credentials" || s.Class == "consent" || s.Class == "blocked":
		return HealthAction
	}
	return HealthDown
}

// throttled says whether the server holds us back at present.
func throttled(st store.Status, now time.Time) bool {
	return st.LastError != nil && st.LastError.Kind == "throttled" && now.Before(st.LastError.Until)
}
