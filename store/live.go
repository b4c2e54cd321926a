package store

import (
	"context"
	"time"
)

// LiveAnswer is how an asking for the live connection of an account ended.
type LiveAnswer string

// The answers.
const (
	LiveOurs  LiveAnswer = "OURS"
	LiveAsked LiveAnswer = "ASKED" // ours, and another process waits for it
	LiveHeld  LiveAnswer = "HELD"  // another process has it, and was asked for it
)

var liveScript = script("live.lua")

// TakeLive takes or keeps, for ttl, the right to act on an account's server: one
// connection in the installation does. Whoever is refused asks the holder for it, which
// learns so with its next call. Errors: ErrUnavailable.
func (s *Store) TakeLive(ctx context.Context, id AccountID, owner string, ttl time.Duration) (LiveAnswer, error) {
	v, err := liveScript.run(ctx, s.rdb, []string{s.k.live(id), s.k.liveAsk(id)}, owner, ttl.Milliseconds())
	answer, _ := v.(string)
	return LiveAnswer(answer), err
}

// FreeLive gives it back; what is not the owner's stays as it is.
func (s *Store) FreeLive(ctx context.Context, id AccountID, owner string) error {
	_, err := liveScript.run(ctx, s.rdb, []string{s.k.live(id), s.k.liveAsk(id)}, owner, 0)
	return err
}
