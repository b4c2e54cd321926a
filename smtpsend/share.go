package smtpsend

import (
	"sync"
	"time"

	"github.com/postrider/postrider/store"
)

const (
	asideAfter = 10 * time.Second // a transaction that is older hurries nobody; most take a second
	asideMost  = 200              // places aside, whatever the workers: the pool's connections are for others too
	lookAgain  = 30 * time.Second // at the latest, where a place is to come free
)

// share divides the places for transactions in this process, so that servers that hang keep
// no mail of others waiting. An account has a tenth of the workers at most, a host half of
// them, or a tenth where it hung the last time. While a quarter is busy, an account has one
// place at a host that was not seen to answer. Who takes long steps aside, and is not counted
// among the workers; who hung the last time begins there. It is safe for concurrent use.
type share struct {
	workers, aside int
	mu             sync.Mutex
	held           map[*place]struct{}
	answers        map[string]bool // by host, whether it did the last time; hostsMost of them
}

// place is where one transaction of an account is made, the look for it included. Its fields
// are share's.
type place struct {
	account store.AccountID
	host    string // "": none is known yet
	since   time.Time
	hung    bool // the host did the last time
}

func newShare(workers int) *share {
	return &share{workers: workers, aside: min(workers, asideMost), held: map[*place]struct{}{}, answers: map[string]bool{}}
}

// take gives an account a place to send by its host ("": it has none). own is false where
// the host has no room: what goes elsewhere may be sent. Without place or room, wait is when
// to look again. give gives the place back.
func (s *share) take(account store.AccountID, host string, now time.Time) (p *place, own bool, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tenth := max(s.workers/10, 2)
	var ofAccount, ofHost, both, aside int
	var oldest time.Duration // at the host
	for p := range s.held {
		if p.account == account {
			ofAccount++
		}
		if p.host == host {
			ofHost++
			oldest = max(oldest, now.Sub(p.since))
			if p.account == account {
				both++
			}
		}
		if p.hung || now.Sub(p.since) >= asideAfter {
			aside++
		}
	}
	if ofAccount >= tenth {
		return nil, false, time.Second
	}
	busy := len(s.held) - min(aside, s.aside)
	answers, known := s.answers[host]
	p = &place{account: account, host: host, since: now, hung: known && !answers}
	switch {
	case host == "":
	case !answers && both > 0 && busy >= s.workers/4, p.hung && ofHost >= tenth: // as long again: those who wait may be many
		wait = min(max(oldest, time.Second), lookAgain)
	case ofHost >= max(s.workers/2, 2):
		wait = time.Second
	case p.hung && aside >= s.aside:
		wait = asideAfter
	}
	own = wait == 0
	if !own {
		p.host, p.hung = "", false
	}
	if busy >= s.workers && !p.hung {
		return nil, false, max(wait, time.Second)
	}
	s.held[p] = struct{}{}
	return p, own, wait
}

// goes says by which host the transaction is made.
func (s *share) goes(p *place, host string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.host != host {
		p.host, p.hung = host, false
	}
}

// learn says how a transaction ended: a host that made it wait for long and said nothing to
// the end has hung.
func (s *share) learn(p *place, replied bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.answers) >= hostsMost {
		clear(s.answers)
	}
	s.answers[p.host] = replied || now.Sub(p.since) < asideAfter
}

func (s *share) give(p *place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.held, p)
}
