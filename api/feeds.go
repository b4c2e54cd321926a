package api

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/postrider/postrider/store"
)

// feeds tells streams and long polls when to look again. Each shard has a number that
// goes up when there may be something new: by Wake at once, and by a look at the ends
// of all feeds that whoever waits takes at most once a second, one for all of them.
type feeds struct {
	mu      sync.Mutex
	gen     generations
	last    [store.Shards]string
	looked  time.Time
	changed chan struct{} // closed and replaced when gen goes up
	one     singleflight.Group
	waiting atomic.Int64 // long polls
}

// generations is what a waiter has seen.
type generations [store.Shards]uint64

// lookEvery is how late a lost hint makes an event.
const lookEvery = time.Second

func newFeeds() *feeds { return &feeds{changed: make(chan struct{})} }

// wake says that a shard has something new.
func (f *feeds) wake(shard int) {
	if shard < 0 || shard >= store.Shards {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gen[shard]++
	f.signal()
}

// signal is called with the mutex held.
func (f *feeds) signal() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// now is what there is to see, and a channel that closes when there is more. A waiter
// takes it before it reads, so that nothing falls between.
func (f *feeds) now() (generations, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gen, f.changed
}

// look compares the ends of the feeds with those seen last, unless somebody did within
// a second.
func (f *feeds) look(ctx context.Context, s *store.Store) error {
	_, err, _ := f.one.Do("", func() (any, error) {
		f.mu.Lock()
		fresh := time.Since(f.looked) < lookEvery
		f.mu.Unlock()
		if fresh {
			return nil, nil
		}
		ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), storeTime) // others wait for it too
		defer stop()
		var last [store.Shards]string
		for shard := range last {
			id, err := s.FeedLast(ctx, shard)
			if err != nil {
				return nil, err
			}
			last[shard] = id
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		grew := false
		for shard, id := range last {
			if id != f.last[shard] {
				f.gen[shard]++
				grew = true
			}
		}
		f.last, f.looked = last, time.Now()
		if grew {
			f.signal()
		}
		return nil, nil
	})
	return err
}

// wait returns when there may be something new for a reader that has seen seen: in the
// shard of account, or in any. It answers false when ctx or done ended first; errors of
// the store are left to the reader, which will meet them itself.
func (s *Server) wait(ctx context.Context, seen generations, account *store.AccountID) bool {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		gen, changed := s.feeds.now()
		if account == nil && gen != seen {
			return true
		}
		if account != nil && gen[store.Shard(*account)] != seen[store.Shard(*account)] {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-s.drained:
			return false
		case <-changed:
		case <-tick.C:
			if err := s.feeds.look(ctx, s.o.Store); err != nil {
				return true
			}
		}
	}
}
