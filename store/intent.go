package store

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// IntentKind is what we did on the server ourselves.
type IntentKind string

// The kinds of intents.
const (
	IntentAppend  IntentKind = "append"
	IntentStore   IntentKind = "store"
	IntentMove    IntentKind = "move"
	IntentCopy    IntentKind = "copy"
	IntentExpunge IntentKind = "expunge"
)

// Intent is one change to one message that we are about to make on the server, or just
// made. The step that sees the effect consumes it with its commit.
type Intent struct {
	ID          string     `json:"i"` // given by BeginIntent
	Kind        IntentKind `json:"k"`
	Folder      uint32     `json:"f"`           // where it happens; of an append, where the message comes
	UIDValidity uint32     `json:"v,omitempty"` // of Folder
	UID         uint32     `json:"u,omitempty"` // not of an append
	Target      uint32     `json:"t,omitempty"` // of a move or copy: the other folder
	MessageID   string     `json:"m,omitempty"` // of an append
	Size        int64      `json:"s,omitempty"` // of an append
	Add         []string   `json:"a,omitempty"` // flags, of a store
	Remove      []string   `json:"r,omitempty"` // flags, of a store

	// The result: where the message came by APPENDUID or COPYUID; 0 = the server did not
	// tell. Without Done the command goes on, or nobody knows how it ended.
	Done           bool   `json:"d,omitempty"`
	NewUIDValidity uint32 `json:"w,omitempty"`
	NewUID         uint32 `json:"n,omitempty"`

	// By Redis' clock, where it was read.
	At  time.Time     `json:"-"` // when it was begun
	Age time.Duration `json:"-"` // how long ago that was
}

const (
	intentFor  = 10 * time.Minute
	intentMost = 1000 // of an account
)

// ErrTooMany: as many as there may be are there already.
var ErrTooMany = errors.New("too many at once")

var intentScript = script("intent.lua")

// BeginIntent records what is about to be done, before the command is sent. The answer
// has the id by which it is ended. Errors: ErrStateLost, ErrTooMany, ErrUnavailable.
func (s *Store) BeginIntent(ctx context.Context, id AccountID, i Intent) (Intent, error) {
	i.ID = rand.Text()
	answer, err := s.intent(ctx, id, "begin", i)
	if err == nil && answer == "FULL" {
		err = ErrTooMany
	}
	if err == nil && answer == "LOST" {
		err = ErrStateLost
	}
	if err != nil {
		return Intent{}, fmt.Errorf("begin %s in account %q: %w", i.Kind, id, err)
	}
	return i, nil
}

// EndIntent records the result of a command that succeeded. An intent that was consumed
// meanwhile stays so.
func (s *Store) EndIntent(ctx context.Context, id AccountID, i Intent) error {
	i.Done = true
	_, err := s.intent(ctx, id, "end", i)
	return err
}

// DropIntent forgets one whose command had no effect.
func (s *Store) DropIntent(ctx context.Context, id AccountID, i Intent) error {
	return unavailable("forget intent", s.rdb.HDel(ctx, s.k.intents(id), i.ID).Err())
}

func (s *Store) intent(ctx context.Context, id AccountID, what string, i Intent) (any, error) {
	b, err := json.Marshal(i)
	if err != nil {
		return nil, err
	}
	return intentScript.run(ctx, s.rdb, []string{s.k.intents(id), s.k.state(id)}, what, i.ID, b, intentFor.Milliseconds(), intentMost)
}

// Intents reads those that are not over, in the order in which they were begun.
func (s *Store) Intents(ctx context.Context, id AccountID) ([]Intent, error) {
	var all *redis.MapStringStringCmd
	var clock *redis.TimeCmd
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		all, clock = p.HGetAll(ctx, s.k.intents(id)), p.Time(ctx)
		return nil
	})
	if err != nil {
		return nil, unavailable("read intents", err)
	}
	var out []Intent
	for _, raw := range all.Val() {
		at, value, _ := strings.Cut(raw, " ")
		ms, err := strconv.ParseInt(at, 10, 64)
		var i Intent
		if err != nil || json.Unmarshal([]byte(value), &i) != nil {
			continue // a hint that cannot be read is no hint
		}
		i.At = time.UnixMilli(ms)
		if i.Age = clock.Val().Sub(i.At); i.Age < intentFor {
			out = append(out, i)
		}
	}
	slices.SortFunc(out, func(a, b Intent) int {
		if c := a.At.Compare(b.At); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out, nil
}

// consume removes intents whose effect was seen.
func (t *tx) consume(ids []string) {
	for _, id := range ids {
		t.op("HDEL", t.key(t.s.k.intents(t.id)), id)
	}
}
