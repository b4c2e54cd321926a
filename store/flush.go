package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/postrider/postrider/events"
)

// Flush is a flush that was asked for and not done yet: what is known of the account's
// folders is to be forgotten, and looked at again as if for the first time. It stays until
// the commit that does it, whoever holds the account then.
type Flush struct {
	At   int64     `json:"at"`   // when it was asked for, Unix ms by Redis' clock
	From time.Time `json:"from"` // the first looks announce what arrived at or after it

	raw string // as it is stored
}

// FlushChange does a flush: the state begins anew under a new epoch. The change has all
// folders beside it, with their numbers, reset to what was never looked at.
type FlushChange struct {
	Flush Flush
	Epoch int64 // the epoch that ends, else ErrStale
}

// FlushAccount asks for a flush, in one script, and for a new connection, which does it. From
// is the account's NotifyFrom from now on; zero is now. Where a flush is asked for already
// this one takes its place. Errors: ErrNotFound.
func (s *Store) FlushAccount(ctx context.Context, id AccountID, from time.Time) (Account, error) {
	return s.updateAccount(ctx, id, 0, func(a *Account) error {
		a.NotifyFrom = from
		if from.IsZero() {
			now, err := s.Now(ctx)
			if err != nil {
				return err
			}
			a.NotifyFrom = now.UTC()
		}
		return nil
	}, func(tx *tx, a Account) ([]events.Event, error) {
		tx.op("HSET", 1, "flush", tx.json(Flush{At: a.Updated.UnixMilli(), From: a.NotifyFrom}))
		return nil, nil
	})
}

// readFlush reads what FlushAccount wrote; nil where nothing is asked for.
func readFlush(raw string) (*Flush, error) {
	if raw == "" {
		return nil, nil
	}
	f := Flush{raw: raw}
	if err := json.Unmarshal([]byte(raw), &f); err != nil {
		return nil, fmt.Errorf("flush: %w", err)
	}
	return &f, nil
}

// flush begins the state anew. The new epoch follows from what is stored, so that the same
// flush, done again after Redis has forgotten it, gives the same event ids.
func (t *tx) flush(c FlushChange) {
	state := t.s.k.state(t.id)
	t.guard(state, "flush", c.Flush.raw)
	t.guard(state, "epoch", strconv.FormatInt(c.Epoch, 10))
	t.op("HDEL", 1, "flush", "init")
	t.op("HSET", 1, "epoch", max(c.Flush.At, c.Epoch+1), "reason", ReasonFlush, "from", c.Flush.From.Format(time.RFC3339Nano))
}
