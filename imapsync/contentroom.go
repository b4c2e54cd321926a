package imapsync

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// A server that gives a message's content slowly keeps the memory for it from all other
// accounts. So what is read for longer than contentQuick may hold a quarter of it at most,
// together; beyond that the connection is given up, and the message is read again on another.
const (
	contentQuick = 10 * time.Second
	contentLong  = 5 * time.Minute // reading one message's content, at most
)

var errSlowContent = errors.New("the server gives the message's content too slowly")

// contentRoom is the memory for contents of messages in work, of all accounts.
type contentRoom struct {
	*semaphore.Weighted       // bytes
	most                int64 // all of them
	slow                *semaphore.Weighted
	mostSlow            int64
}

func newContentRoom(bytes int64) *contentRoom {
	return &contentRoom{semaphore.NewWeighted(bytes), bytes, semaphore.NewWeighted(bytes / 4), bytes / 4}
}

// enter waits for room. It is held until leave is called, and what is read under the
// context that it answers ends when that takes too long.
func (c *contentRoom) enter(ctx context.Context, weight int64) (reading context.Context, leave func(), err error) {
	weight = min(weight, c.most)
	if err := c.Acquire(ctx, weight); err != nil {
		return nil, nil, err
	}
	whole, end := context.WithTimeoutCause(ctx, contentLong, errSlowContent)
	reading, cancel := context.WithCancelCause(whole)
	var mu sync.Mutex
	over, held := false, false
	slow := min(weight, c.mostSlow)
	late := time.AfterFunc(contentQuick, func() {
		mu.Lock()
		defer mu.Unlock()
		if over {
			return
		}
		if held = c.slow.TryAcquire(slow); !held {
			cancel(errSlowContent)
		}
	})
	return reading, func() {
		late.Stop()
		mu.Lock()
		defer mu.Unlock()
		over = true
		cancel(nil)
		end()
		if held {
			c.slow.Release(slow)
		}
		c.Release(weight)
	}, nil
}
