package imapsync

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/internal/redact"
	"github.com/postrider/postrider/store"
)

// What is not used for an account once it did not behave, in the words of capabilities.
const (
	latchQResync   = "QRESYNC"
	latchCondstore = "CONDSTORE"
	latchIdle      = "IDLE"
)

// latchFor is how long something is left alone before it is tried again, and how long a
// first misbehaviour is remembered (sync.md §4.3).
const latchFor = 7 * 24 * time.Hour

// latched says whether something is not used for the account.
func (w *worker) latched(name string) bool {
	l := w.findLatch(name)
	return l != nil && !l.Once && time.Since(l.At) < latchFor
}

func (w *worker) findLatch(name string) *store.Latch {
	i := slices.IndexFunc(w.latches, func(l store.Latch) bool { return l.Name == name })
	if i < 0 {
		return nil
	}
	return &w.latches[i]
}

// latch switches something off because it did not behave.
func (w *worker) latch(name, reason string) {
	if !w.latched(name) {
		w.setLatch(store.Latch{Name: name, Reason: reason})
		w.met.latched.WithLabelValues(name).Inc()
		w.log.Info("capability switched off", "account", w.id, "capability", name, "reason", reason)
	}
}

// distrust is latch for what a server may do once: the second time within latchFor
// switches it off.
func (w *worker) distrust(name, reason string) {
	if l := w.findLatch(name); l != nil && time.Since(l.At) < latchFor {
		w.latch(name, reason)
		return
	}
	w.setLatch(store.Latch{Name: name, Reason: reason, Once: true})
	w.log.Info("capability misbehaved", "account", w.id, "capability", name, "reason", reason)
}

func (w *worker) setLatch(l store.Latch) {
	l.At, l.Server = time.Now().UTC(), w.serverVersion()
	// What a status points to is never changed in place.
	rest := slices.DeleteFunc(slices.Clone(w.latches), func(o store.Latch) bool { return o.Name == l.Name })
	w.latches = append(rest, l)
	w.replan = true // shown, and kept, with the end of the pass
}

// unlatch ends what is over: after a week, or when the server is another one by now, it
// is tried again.
func (w *worker) unlatch(now time.Time) {
	rest := slices.DeleteFunc(slices.Clone(w.latches), func(l store.Latch) bool {
		return now.Sub(l.At) >= latchFor || l.Server != w.serverVersion()
	})
	if len(rest) < len(w.latches) {
		w.latches, w.replan = rest, true
	}
}

// mergeLatches takes over what is stored, beside what was learnt and is not stored yet.
func (w *worker) mergeLatches(stored []store.Latch) {
	own := w.latches
	w.latches = slices.Clone(stored)
	for i := range w.latches { // by another machine's clock
		w.latches[i].At = earliest(w.latches[i].At, time.Now())
	}
	for _, l := range own {
		if s := w.findLatch(l.Name); s == nil {
			w.latches = append(w.latches, l)
		} else if l.At.After(s.At) {
			*s = l
		}
	}
}

// serverVersion is what the server says that it is, as far as it does.
func (w *worker) serverVersion() string {
	version := strings.TrimSpace(w.info.ServerName + " " + w.info.Version)
	if s := w.account().IMAP; s != nil {
		version = redact.New(s.Pass.Reveal(), s.AccessToken.Reveal()).Hide(version) // it is stored
	}
	return version
}

// tierPlan says how changes to known messages are found, and what is not used.
func (w *worker) tierPlan() []string {
	modseq := uint64(0)
	if w.info.CondStore {
		modseq = 1
	}
	var plan []string
	switch chooseTier(w.info, modseq, w.latched) {
	case tierQResync:
		plan = append(plan, "changes: by what the server says changed and vanished (QRESYNC)")
	case tierCondStore:
		plan = append(plan, "changes: by what the server says changed (CONDSTORE), deletions by counting")
	default:
		plan = append(plan, "flags: when a folder is looked at, all of them within an hour (10,000 messages) or a day")
	}
	for _, l := range w.latches {
		if !l.Once {
			plan = append(plan, fmt.Sprintf("%s: not used since %s: %s", l.Name, l.At.Format(time.RFC3339), l.Reason))
		}
	}
	return plan
}
