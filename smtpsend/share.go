package smtpsend

import (
	"sync"

	"github.com/postrider/postrider/store"
)

// share keeps one account from having all workers of this process: its server may hang in
// each of its transactions. It is safe for concurrent use.
type share struct {
	most int // an account
	mu   sync.Mutex
	has  map[store.AccountID]int
}

// newShare is of that many workers: a tenth for an account, but two.
func newShare(workers int) *share {
	return &share{most: max(workers/10, 2), has: map[store.AccountID]int{}}
}

// take says whether an account may have one more; give gives that back.
func (s *share) take(account store.AccountID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.has[account] >= s.most {
		return false
	}
	s.has[account]++
	return true
}

func (s *share) give(account store.AccountID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.has[account]--; s.has[account] == 0 {
		delete(s.has, account)
	}
}
