package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/store/secret"
)

// Store is all durable state, in Redis. It is safe for concurrent use. Every method
// may block for as long as the client's timeouts allow; all of them may be repeated
// after an error.
type Store struct {
	rdb  redis.UniversalClient
	k    keys
	ring *secret.Keyring
	log  *slog.Logger

	openBodies bool
	settings   settingsCache
	tokens     tokenCache
	queued     bytesCache
}

// Options are what a Store is made of.
type Options struct {
	Client  redis.UniversalClient // required; the caller closes it
	Prefix  string                // put before every key
	Secrets *secret.Keyring       // required; seals credentials at rest
	Logger  *slog.Logger          // nil discards

	OpenBodies bool // bodies of submissions are stored without being sealed
}

// New makes a Store. It does no I/O: see Check.
func New(o Options) *Store {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Store{rdb: o.Client, k: keys{o.Prefix}, ring: o.Secrets, log: o.Logger, openBodies: o.OpenBodies}
}

// Ping writes and reads one key. It is what readiness asks.
func (s *Store) Ping(ctx context.Context) error {
	key := s.k.prefix + "{ping}"
	if err := s.rdb.Set(ctx, key, time.Now().UnixMilli(), time.Minute).Err(); err != nil {
		return unavailable("write", err)
	}
	return unavailable("read", s.rdb.Get(ctx, key).Err())
}

// Now is Redis' clock, the only one that processes compare by.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	t, err := s.rdb.Time(ctx).Result()
	return t, unavailable("time", err)
}

// unavailable says what was being done, and marks the errors that are Redis being
// away, loading, full or read-only as ErrUnavailable.
func unavailable(doing string, err error) error {
	if err == nil {
		return nil
	}
	var netErr net.Error
	if errors.As(err, &netErr) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, redis.ErrClosed) || errors.Is(err, context.DeadlineExceeded) ||
		notNow(err) {
		return fmt.Errorf("redis %s: %w: %w", doing, ErrUnavailable, err)
	}
	return fmt.Errorf("redis %s: %w", doing, err)
}

// notNow says whether Redis answered that it cannot at the moment: it loads, is full,
// read-only, busy with a script, without its master, or has too many clients.
func notNow(err error) bool {
	for _, prefix := range []string{
		"LOADING", "READONLY", "OOM", "MISCONF", "BUSY", "NOREPLICAS", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "max number of clients",
	} {
		if redis.HasErrorPrefix(err, prefix) {
			return true
		}
	}
	// Redis 6.2 puts what a script ran into behind words of its own.
	text := err.Error()
	return strings.HasPrefix(text, "ERR Error running script") &&
		(strings.Contains(text, "-OOM ") || strings.Contains(text, "-READONLY ") || strings.Contains(text, "-MISCONF "))
}
