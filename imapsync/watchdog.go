package imapsync

import (
	"context"
	"runtime"
	"time"
)

// abandonAfter is how long a worker may take to come back after its session was closed
// under it.
const abandonAfter = 5 * time.Second

// watchdog looks each second, from outside of all connections, at the time by which
// each of them must have spoken. One that is past it is closed.
func (m *Manager) watchdog(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		for _, w := range m.snapshot() {
			m.check(w, time.Now())
		}
	}
}

// check judges one worker.
func (m *Manager) check(w *worker, now time.Time) {
	if closed := w.closedAt.Load(); closed != 0 {
		if now.Sub(time.Unix(0, closed)) > abandonAfter {
			m.abandon(w)
		}
		return
	}
	w.mu.Lock()
	sess, end := w.shared, w.endSession
	if sess == nil {
		w.mu.Unlock()
		return
	}
	if by := sess.SpeakBy(); by.IsZero() || now.Before(by) {
		w.mu.Unlock()
		return
	}
	w.closedAt.Store(now.UnixNano()) // under the lock: the worker unsets it as it comes back
	w.mu.Unlock()
	m.met.silent.Inc()
	m.log.Info("session silent", "account", w.id)
	end(errSilent)
	sess.Close()
}

// abandon gives up a worker that does not end: its lease goes to another, with a new
// fence, so that nothing it still does can be written.
func (m *Manager) abandon(w *worker) {
	m.mu.Lock()
	if m.workers[w.id] != w {
		m.mu.Unlock()
		return
	}
	delete(m.workers, w.id)
	m.mu.Unlock()
	m.met.lost.Inc()
	stack := make([]byte, 64<<10)
	stack = stack[:runtime.Stack(stack, true)]
	m.log.Error("worker does not end: abandoned", "account", w.id, "stack", string(stack))
	w.cancel(errAbandoned)
	ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
	defer stop()
	if err := m.st.Release(ctx, w.lease); err != nil {
		m.log.Warn("release lease", "account", w.id, "err", err)
	}
	w.left.Do(m.wg.Done) // it may never end: a shutdown does not wait for it
}
