package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// The relay of a shard reads its feed from a stored position. A plain position does the
// work of a consumer group here: there is one reader, it advances only after all of a
// batch was appended, and lanes refuse what they have, so a batch read twice after a
// crash does no harm. It costs one hash instead of a group's pending list.

// RelayLease is the right to relay one shard. Fence is part of every append.
type RelayLease struct {
	Shard    int
	Owner    string
	Fence    uint64
	Position string // feed id of the last entry relayed, "" = none
}

var relayLease = script("relay_lease.lua")

// AcquireRelay takes the relay of a shard when it is free. Errors: ErrLeaseHeld.
func (s *Store) AcquireRelay(ctx context.Context, shard int, owner string, ttl time.Duration) (RelayLease, error) {
	fence, pos, err := s.relay(ctx, s.k.relay(shard), "take", owner, ttl, 0, "")
	if err != nil {
		return RelayLease{}, fmt.Errorf("relay of shard %d: %w", shard, err)
	}
	return RelayLease{Shard: shard, Owner: owner, Fence: fence, Position: pos}, nil
}

// AdvanceRelay stores the position reached ("" = unchanged) and renews the lease.
// Errors: ErrLeaseLost.
func (s *Store) AdvanceRelay(ctx context.Context, l RelayLease, position string, ttl time.Duration) error {
	_, _, err := s.relay(ctx, s.k.relay(l.Shard), "keep", l.Owner, ttl, l.Fence, position)
	if errors.Is(err, ErrLeaseHeld) {
		err = ErrLeaseLost
	}
	if err != nil {
		return fmt.Errorf("relay of shard %d: %w", l.Shard, err)
	}
	return nil
}

// ReleaseRelay gives a relay up. A lease already lost is no error.
func (s *Store) ReleaseRelay(ctx context.Context, l RelayLease) error {
	_, _, err := s.relay(ctx, s.k.relay(l.Shard), "drop", l.Owner, 0, l.Fence, "")
	if err != nil && !errors.Is(err, ErrLeaseHeld) {
		return fmt.Errorf("relay of shard %d: %w", l.Shard, err)
	}
	return nil
}

// AcquireSweeper takes or keeps the right to sweep; there is one sweeper in an
// installation. Errors: ErrLeaseHeld.
func (s *Store) AcquireSweeper(ctx context.Context, owner string, ttl time.Duration) error {
	_, _, err := s.relay(ctx, s.k.sweeper(), "take", owner, ttl, 0, "")
	return err
}

// ReleaseSweeper gives that right up.
func (s *Store) ReleaseSweeper(ctx context.Context, owner string) error {
	h, err := s.rdb.HGetAll(ctx, s.k.sweeper()).Result()
	if err != nil {
		return unavailable("sweeper", err)
	}
	fence, _ := strconv.ParseUint(h["fence"], 10, 64)
	if _, _, err = s.relay(ctx, s.k.sweeper(), "drop", owner, 0, fence, ""); errors.Is(err, ErrLeaseHeld) {
		return nil
	}
	return err
}

func (s *Store) relay(ctx context.Context, key, verb, owner string, ttl time.Duration, fence uint64, pos string) (uint64, string, error) {
	v, err := relayLease.slice(ctx, s.rdb, []string{key}, verb, owner, ttl.Milliseconds(), fence, pos)
	if err != nil {
		return 0, "", err
	}
	if fmt.Sprint(v[0]) != "1" {
		return 0, "", ErrLeaseHeld
	}
	f, err := strconv.ParseUint(fmt.Sprint(v[1]), 10, 64)
	if err != nil {
		return 0, "", fmt.Errorf("fence %v: %w", v[1], err)
	}
	return f, fmt.Sprint(v[2]), nil
}

// DispatchBeat is the heartbeat of a process that delivers; it answers the processes
// alive, itself included. Lanes of the others are swept.
func (s *Store) DispatchBeat(ctx context.Context, proc string, ttl time.Duration) (alive []string, err error) {
	t, err := s.Now(ctx)
	if err != nil {
		return nil, err
	}
	key, now := s.k.dispatchers(), t.UnixMilli()
	pipe := s.rdb.TxPipeline()
	pipe.ZAdd(ctx, key, redis.Z{Score: float64(now + ttl.Milliseconds()), Member: proc})
	pipe.ZRemRangeByScore(ctx, key, "-inf", strconv.FormatInt(now, 10))
	list := pipe.ZRange(ctx, key, 0, -1)
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, unavailable("heartbeat", err)
	}
	return list.Val(), nil
}

// DispatchRetire ends a process's heartbeat.
func (s *Store) DispatchRetire(ctx context.Context, proc string) error {
	return unavailable("retire", s.rdb.ZRem(ctx, s.k.dispatchers(), proc).Err())
}
