package smtpsend

import (
	"sync"
	"time"

	"github.com/postrider/postrider/store"
)

const (
	hostFails    = 10 // in a row
	hostAccounts = 3  // of that many accounts at least
	hostProbe    = 30 * time.Second
	fewerFor     = 10 * time.Minute // how long an account has a slot less whose server takes fewer connections
	hostsMost    = 10_000           // remembered, of each; beyond, the oldest knowledge is dropped
)

// hosts remembers in this process which submission servers fail for everybody, and which
// accounts should use fewer connections, and what was held until when. It is safe for concurrent use.
type hosts struct {
	mu    sync.Mutex
	down  map[string]*hostState
	fewer map[store.AccountID]fewer
	held  map[store.AccountID]time.Time
}

type hostState struct {
	fails    int
	accounts map[store.AccountID]struct{} // hostAccounts of them at most
	next     time.Time                    // when the next probe may be made
}

type fewer struct {
	n     int
	until time.Time
}

func newHosts() *hosts {
	return &hosts{down: map[string]*hostState{}, fewer: map[store.AccountID]fewer{}, held: map[store.AccountID]time.Time{}}
}

// enter says whether an account may try a host now, else when to look again. Of a host
// that fails for everybody, one account is let through every 30 s.
func (h *hosts) enter(host string, now time.Time) (again time.Time, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.down[host] // none where an account has no server of its own
	if !s.isDown() {
		return time.Time{}, true
	}
	if now.Before(s.next) {
		return s.next, false
	}
	s.next = now.Add(hostProbe)
	return time.Time{}, true
}

// leave takes back that an account entered: nothing was asked of the host.
func (h *hosts) leave(host string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.down[host]; s.isDown() {
		s.next = time.Time{}
	}
}

// isDown says whether the host fails for everybody. It is asked under the lock of hosts.
func (s *hostState) isDown() bool {
	return s != nil && s.fails >= hostFails && len(s.accounts) >= hostAccounts
}

// report says how an attempt at a host ended: whether the server failed as a server.
func (h *hosts) report(host string, account store.AccountID, failed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if host == "" { // none was asked
		return
	}
	if !failed {
		delete(h.down, host)
		return
	}
	s := h.down[host]
	if s == nil {
		if len(h.down) >= hostsMost {
			clear(h.down)
		}
		s = &hostState{accounts: map[store.AccountID]struct{}{}}
		h.down[host] = s
	}
	s.fails++
	if len(s.accounts) < hostAccounts {
		s.accounts[account] = struct{}{}
	}
}

// tooMany has an account use a connection less for a while, but one.
func (h *hosts) tooMany(account store.AccountID, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.fewer) >= hostsMost {
		clear(h.fewer)
	}
	f := h.fewer[account]
	if now.After(f.until) {
		f.n = 0
	}
	h.fewer[account] = fewer{f.n + 1, now.Add(fewerFor)}
}

// slots are those that an account may use now.
func (h *hosts) slots(account store.AccountID, slots int, now time.Time) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	f, ok := h.fewer[account]
	if ok && now.After(f.until) {
		delete(h.fewer, account)
		ok = false
	}
	if !ok {
		return slots
	}
	return max(1, slots-f.n)
}

// holds says whether what an account has due is to be held until a time now: it was not yet.
func (h *hosts) holds(account store.AccountID, until time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held[account].Equal(until) {
		return false
	}
	if len(h.held) >= hostsMost {
		clear(h.held)
	}
	h.held[account] = until
	return true
}
