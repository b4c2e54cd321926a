package store

import (
	"context"
	"strconv"
	"strings"
)

// Hint says that there is something to look at. Hints travel by publish/subscribe and
// may be lost: whoever acts on them also looks by itself from time to time.
type Hint struct {
	Shard   int
	Account AccountID // "": the shard's feed has new entries; else look at this account again
}

func feedHint(shard int) string       { return "f:" + strconv.Itoa(shard) }
func accountHint(id AccountID) string { return "a:" + string(id) }

// Listen calls f for every hint until ctx ends. f must not block. It reconnects by
// itself.
func (s *Store) Listen(ctx context.Context, f func(Hint)) error {
	sub := s.rdb.Subscribe(ctx, s.k.hints())
	defer sub.Close()
	ch := sub.Channel()
	for {
		select {
		case <-ctx.Done():
			return nil
		case m, ok := <-ch:
			if !ok {
				return nil
			}
			kind, rest, _ := strings.Cut(m.Payload, ":")
			switch kind {
			case "f":
				if n, err := strconv.Atoi(rest); err == nil && n >= 0 && n < Shards {
					f(Hint{Shard: n})
				}
			case "a":
				f(Hint{Shard: Shard(AccountID(rest)), Account: AccountID(rest)})
			}
		}
	}
}

// Kick asks every process to look at an account again.
func (s *Store) Kick(ctx context.Context, id AccountID) error {
	return unavailable("kick", s.rdb.Publish(ctx, s.k.hints(), accountHint(id)).Err())
}
