package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"
)

// restoreFor is the lease of who restores a state.
const restoreFor = 10 * time.Second

// RestoreUnwatched restores the state of an account for which no worker does it: of one
// that only sends, or is paused. A state that is there stays as it is.
//
// Errors: ErrStateLost (a worker, or somebody else, sees to it), ErrNotFound,
// ErrUnavailable.
func (s *Store) RestoreUnwatched(ctx context.Context, id AccountID) error {
	a, err := s.Account(ctx, id)
	if err != nil {
		return err
	}
	if a.Watchable() {
		return fmt.Errorf("account %q: %w", id, ErrStateLost)
	}
	if _, err := s.Enlist(ctx, []*Account{&a}); err != nil { // its lease's place may be lost as well
		return err
	}
	l, err := s.Acquire(ctx, id, "restore:"+rand.Text(), restoreFor)
	if errors.Is(err, ErrLeaseHeld) {
		return fmt.Errorf("%w: %w", ErrStateLost, err)
	}
	if err != nil {
		return err
	}
	defer func() {
		ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer stop()
		if err := s.Release(ctx, l); err != nil {
			s.log.Debug("lease not released", "account", id, "err", err) // it ends by itself
		}
	}()
	switch known, err := s.stateKnown(ctx, id); {
	case err != nil:
		return err
	case known: // somebody was quicker
		return nil
	}
	s.log.Warn("account state lost", "account", id)
	_, err = s.RestoreState(ctx, l, "missing")
	if errors.Is(err, ErrLeaseLost) || errors.Is(err, ErrStale) {
		return fmt.Errorf("%w: %w", ErrStateLost, err)
	}
	return err
}

// restored does f, and once more where it found the account's state gone and
// RestoreUnwatched brought it back.
func (s *Store) restored(ctx context.Context, id AccountID, f func() error) error {
	err := f()
	if errors.Is(err, ErrStateLost) && s.RestoreUnwatched(ctx, id) == nil {
		return f()
	}
	return err
}

// stateKnown says whether an account's state is there, and not behind its journal.
func (s *Store) stateKnown(ctx context.Context, id AccountID) (bool, error) {
	st, err := s.State(ctx, id)
	if errors.Is(err, ErrStateLost) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, newest, err := s.JournalBounds(ctx, id)
	return newest <= st.Seq, err
}
