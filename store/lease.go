package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// Lease is the right to watch one account. Every write under it checks Fence, which
// grows with every taking: a holder that slept through its lease can write nothing.
type Lease struct {
	Account AccountID
	Owner   string
	Fence   uint64
}

var (
	acquireScript = script("acquire.lua")
	renewScript   = script("renew.lua")
	enlistScript  = script("enlist.lua")
)

// Enlist gives accounts their places among the leases and the proofs of life where these
// were lost: without the first no process would take an account, without the second
// nobody would notice that it is silent. It says how many were missing.
func (s *Store) Enlist(ctx context.Context, accounts []*Account) (missing int, err error) {
	byShard := map[int][]any{}
	for _, a := range accounts {
		watched := "0"
		if a.Watchable() {
			watched = "1"
		}
		byShard[Shard(a.ID)] = append(byShard[Shard(a.ID)], string(a.ID), watched)
	}
	const atOnce = 1000
	for n, args := range byShard {
		keys := []string{s.k.registry(n), s.k.leases(n), s.k.alive(n)}
		for part := range slices.Chunk(args, 2*atOnce) {
			answer, err := enlistScript.slice(ctx, s.rdb, keys, part...)
			if err != nil {
				return missing, err
			}
			n, _ := answer[0].(int64)
			missing += int(n)
		}
	}
	return missing, nil
}

// Acquire takes an account's lease for ttl, by Redis' clock. An owner that holds it
// already gets a new fence. Errors: ErrLeaseHeld, ErrNotFound.
func (s *Store) Acquire(ctx context.Context, id AccountID, owner string, ttl time.Duration) (Lease, error) {
	answer, err := acquireScript.slice(ctx, s.rdb, []string{s.k.lease(id), s.k.leases(Shard(id))}, string(id), owner, ttl.Milliseconds())
	if err != nil {
		return Lease{}, err
	}
	switch answer[0] {
	case "HELD":
		return Lease{}, fmt.Errorf("account %q: %w", id, ErrLeaseHeld)
	case "NONE":
		return Lease{}, fmt.Errorf("account %q: %w", id, ErrNotFound)
	}
	fence, err := strconv.ParseUint(fmt.Sprint(answer[1]), 10, 64)
	if err != nil {
		return Lease{}, fmt.Errorf("script acquire.lua answered %v", answer)
	}
	return Lease{Account: id, Owner: owner, Fence: fence}, nil
}

// Held is a lease with the seq of the account's last event that its holder knows.
type Held struct {
	Lease
	Seq uint64
}

// Renew prolongs leases by ttl from now, one script a shard. It names those that are no
// longer ours, and those whose account has a seq below the known one: Redis came back
// without the last it had confirmed, and what is known of them must be read again.
func (s *Store) Renew(ctx context.Context, leases []Held, ttl time.Duration) (lost, behind []AccountID, err error) {
	byShard := map[int][]Held{}
	for _, l := range leases {
		byShard[Shard(l.Account)] = append(byShard[Shard(l.Account)], l)
	}
	for n, part := range byShard {
		// all leases of a call have one owner; split where they do not
		for len(part) > 0 {
			owner, k := part[0].Owner, 0
			keys, args := []string{s.k.leases(n)}, []any{owner, ttl.Milliseconds()}
			for ; k < len(part) && part[k].Owner == owner && k < 1000; k++ {
				keys = append(keys, s.k.lease(part[k].Account), s.k.state(part[k].Account))
				args = append(args, string(part[k].Account), strconv.FormatUint(part[k].Fence, 10), strconv.FormatUint(part[k].Seq, 10))
			}
			part = part[k:]
			answer, e := renewScript.slice(ctx, s.rdb, keys, args...)
			if e != nil || len(answer) != 2 {
				err = errors.Join(err, e)
				continue
			}
			gone, _ := answer[0].([]any) // an empty list may be anything
			old, _ := answer[1].([]any)
			lost, behind = append(lost, accountIDs(gone)...), append(behind, accountIDs(old)...)
		}
	}
	return lost, behind, err
}

// accountIDs reads a list of them.
func accountIDs[T any](list []T) []AccountID {
	ids := make([]AccountID, len(list))
	for i, id := range list {
		ids[i] = AccountID(fmt.Sprint(id))
	}
	return ids
}

// Release gives a lease back; one that is no longer ours stays as it is.
func (s *Store) Release(ctx context.Context, l Lease) error {
	_, _, err := s.Renew(ctx, []Held{{Lease: l}}, 0)
	return err
}

// FreeLeases lists the accounts, paused ones included, that no process holds, and counts
// the processes that live.
func (s *Store) FreeLeases(ctx context.Context) (free []AccountID, procs int, err error) {
	now, err := s.Now(ctx)
	if err != nil {
		return nil, 0, err
	}
	cmds := make([]*redis.StringSliceCmd, Shards)
	ms := strconv.FormatInt(now.UnixMilli(), 10)
	var alive *redis.IntCmd
	_, err = s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for n := range cmds {
			cmds[n] = p.ZRangeByScore(ctx, s.k.leases(n), &redis.ZRangeBy{Min: "-inf", Max: ms})
		}
		alive = p.ZCount(ctx, s.k.procs(), "("+ms, "+inf")
		return nil
	})
	if err != nil {
		return nil, 0, unavailable("look for free leases", err)
	}
	for _, c := range cmds {
		free = append(free, accountIDs(c.Val())...)
	}
	return free, int(alive.Val()), nil
}

// OwnedLeases lists the accounts whose lease stands in the name of owner.
func (s *Store) OwnedLeases(ctx context.Context, owner string) ([]AccountID, error) {
	held := make([]*redis.StringSliceCmd, Shards)
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for n := range held {
			held[n] = p.ZRangeByScore(ctx, s.k.leases(n), &redis.ZRangeBy{Min: "(0", Max: "+inf"})
		}
		return nil
	})
	if err != nil {
		return nil, unavailable("read leases", err)
	}
	var owned []AccountID
	for _, c := range held {
		ids := accountIDs(c.Val())
		owners := make([]*redis.StringCmd, len(ids))
		_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, id := range ids {
				owners[i] = p.HGet(ctx, s.k.lease(id), "owner")
			}
			return nil
		})
		if err != nil && !errors.Is(err, redis.Nil) { // Nil: released meanwhile
			return nil, unavailable("read leases", err)
		}
		for i, id := range ids {
			if owners[i].Val() == owner {
				owned = append(owned, id)
			}
		}
	}
	return owned, nil
}

// Heartbeat says that a process lives, for ttl, and lists those that do, itself too.
func (s *Store) Heartbeat(ctx context.Context, proc string, ttl time.Duration) (alive []string, err error) {
	now, err := s.Now(ctx)
	if err != nil {
		return nil, err
	}
	var live *redis.StringSliceCmd
	_, err = s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.ZAdd(ctx, s.k.procs(), redis.Z{Score: float64(now.Add(ttl).UnixMilli()), Member: proc})
		p.ZRemRangeByScore(ctx, s.k.procs(), "-inf", strconv.FormatInt(now.UnixMilli(), 10))
		live = p.ZRange(ctx, s.k.procs(), 0, -1)
		return nil
	})
	if err != nil {
		return nil, unavailable("heartbeat", err)
	}
	return live.Val(), nil
}

// Retire takes a process off the list of those that live.
func (s *Store) Retire(ctx context.Context, proc string) error {
	return unavailable("retire", s.rdb.ZRem(ctx, s.k.procs(), proc).Err())
}
