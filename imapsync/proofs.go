package imapsync

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
)

// proofs records when our accounts last proved that they live, and looks for those that
// did not: our own and those nobody holds. Before that it sees to it that none of them
// has fallen off the lists that this is read from.
func (m *Manager) proofs(ctx context.Context) {
	t := time.NewTicker(m.cfg.AliveInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if err := m.enlist(ctx); err != nil && ctx.Err() == nil {
			m.log.InfoContext(ctx, "lists of accounts not mended", "err", err)
		}
		if err := m.recordProofs(ctx); err != nil && ctx.Err() == nil {
			m.log.InfoContext(ctx, "proofs of life not recorded", "err", err)
			continue // without ours the others' ages prove nothing
		}
		if err := m.findSilent(ctx); err != nil && ctx.Err() == nil {
			m.log.InfoContext(ctx, "silent accounts not looked for", "err", err)
		}
	}
}

func (m *Manager) enlist(ctx context.Context) error {
	missing, err := m.st.Enlist(ctx, slices.Collect(maps.Values(m.known())))
	if missing > 0 {
		m.log.WarnContext(ctx, "redis has lost which accounts there are to watch: mended", "places", missing)
	}
	return err
}

func (m *Manager) recordProofs(ctx context.Context) error {
	at := map[store.AccountID]time.Time{}
	for _, w := range m.snapshot() {
		if p := w.lastProof(); !p.IsZero() && p.UnixNano() != w.recorded.Load() {
			at[w.id] = p
		}
	}
	if len(at) == 0 {
		return nil
	}
	if err := m.st.SetAlive(ctx, at); err != nil {
		return err
	}
	for _, w := range m.snapshot() {
		if p, ok := at[w.id]; ok {
			w.recorded.Store(p.UnixNano())
		}
	}
	return nil
}

// findSilent says accountStalled of accounts without proof of life for as long as their
// setting allows. The status version makes sure that one process says it, once.
func (m *Manager) findSilent(ctx context.Context) error {
	set, err := m.st.Settings(ctx)
	if err != nil {
		return err
	}
	accounts := m.known()
	least := time.Duration(set.StallAfter) * time.Second
	for _, a := range accounts {
		least = min(least, stallAfter(a, set))
	}
	now := time.Now()
	ids, err := m.st.Silent(ctx, now.Add(-least))
	if err != nil {
		return err
	}
	var look []store.AccountID
	for _, id := range ids {
		if a, ok := accounts[id]; ok && a.Watchable() {
			look = append(look, id)
		}
	}
	states, err := m.st.States(ctx, look)
	if err != nil {
		return err
	}
	for id, st := range states {
		a := accounts[id]
		last := st.LastAlive
		since := last
		if a.Updated.After(since) {
			since = a.Updated // resumed, or registered, after that
		}
		if !st.Status.Stalled.IsZero() || now.Sub(since) < stallAfter(a, set) || st.Owner != "" && m.worker(id) == nil {
			continue
		}
		if err := m.stalled(ctx, id, st, last, now); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) stalled(ctx context.Context, id store.AccountID, st store.State, last, now time.Time) error {
	data := events.AccountStalled{Reason: stallReason(st), State: st.Status.State}
	if !last.IsZero() {
		t := events.TimeOf(last)
		data.LastProvenAlive = &t
	}
	status := st.Status
	status.Stalled = now.UTC()
	err := m.st.Observe(ctx, id, store.StatusChange{Version: st.StatusVersion, Status: status}, events.Event{
		ID: statusEvent(id, st.Epoch, events.AccountStalledType, st.StatusVersion), Data: data,
	})
	switch {
	case errors.Is(err, store.ErrStale), errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrStateLost):
		return nil // its worker, or another process, said something since
	case err != nil:
		return err
	}
	m.met.stalled.Inc()
	if w := m.worker(id); w != nil {
		w.stalled.Store(true)
		w.wake()
	}
	m.log.WarnContext(ctx, "account stalled", "account", id, "reason", data.Reason, "state", data.State)
	return nil
}

// unwatched says, of an account that begins to be watched, that nobody did for longer than may
// go unsaid. Its first whole pass is the end of that.
func (w *worker) unwatched(ctx context.Context) error {
	last := w.state.LastAlive
	if last.IsZero() || time.Since(later(last, w.account().Updated)) < w.stallAfter(ctx) {
		return nil
	}
	return w.say(ctx, func(st *store.Status, tell teller) {
		if st.Stalled.IsZero() {
			w.met.stalled.Inc()
			alive := events.TimeOf(last)
			tell(events.AccountStalled{LastProvenAlive: &alive, Reason: "noOwner", State: store.StateInit})
			st.Stalled = time.Now().UTC()
		}
	})
}

// stallReason says why nothing was heard of an account, as far as its status tells.
func stallReason(st store.State) string {
	switch {
	case st.Owner == "":
		return "noOwner"
	case st.Status.LastError != nil && st.Status.LastError.Kind == FaultThrottled && st.Status.State != store.StateConnected:
		return "throttled"
	case st.Status.State == store.StateConnected, st.Status.State == store.StateSyncing:
		return "noAnswer"
	}
	return "notConnected"
}
