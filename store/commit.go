package store

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/postrider/postrider/events"
)

// Change is what one commit does: all of it or nothing, with its events.
type Change struct {
	Folders     []FolderChange
	List        *ListChange
	Status      *StatusChange
	Recent      map[Identity][]Place // replaces the places of these identities; an empty list removes
	Seen        map[MessageKey]Identity
	Hold        []Gone         // messages that left and are told of later
	Told        []string       // those that are held no more, by Gone.Event; one that is not held is ErrStale
	Consumed    []string       // intents whose effect was seen, by Intent.ID
	Initialized bool           // sets State.Initialized
	Flush       *FlushChange   // clears it
	Events      []events.Event // appended in this order; Seq and Date are given here
}

// FolderChange is the next state of one folder.
type FolderChange struct {
	Num     uint32
	Version uint64              // the version it was computed from, else ErrStale
	Meta    FolderMeta          // the next meta; its Version is given here
	Blocks  map[uint32][]Record // the blocks that differ, whole, ascending by UID; an empty one is removed
	Reset   bool                // all blocks not in Blocks are removed
	Drop    bool                // the folder and its blocks are removed
}

// ListChange is the next state of the folder list.
type ListChange struct {
	Version uint64 // the version it was computed from, else ErrStale
	Put     []Folder
	Drop    []uint32
	NextNum uint32 // 0: unchanged
	Count   int    // entries there are then; 0: not known. It is what a list that was lost is known by
}

// StatusChange is the next status.
type StatusChange struct {
	Version uint64 // the version it was computed from, else ErrStale
	Status  Status
}

// Committed says what a commit gave its events.
type Committed struct {
	FirstSeq uint64 // of the first event; 0 when there was none
	LastSeq  uint64
	Date     events.Time // of all of them
}

const (
	recentFor  = 48 * time.Hour // how long identities are remembered (events.md section 4)
	recentMost = 20_000         // of each: the identity, and the message it is found by
)

var commitScript = script("commit.lua", "outbox_lib.lua")

// Commit writes a change of the account that l holds, with its events, in one script.
// A repeat after a lost answer is recognised and answered again.
//
// Errors: ErrLeaseLost and ErrStale (nothing was changed), ErrStateLost (the account's
// state is gone), ErrUnavailable (it may have happened: read the versions again).
func (s *Store) Commit(ctx context.Context, l Lease, c Change) (Committed, error) {
	tx := s.begin(l.Account)
	tx.fence = strconv.FormatUint(l.Fence, 10)
	for _, f := range c.Folders {
		if err := tx.folder(f); err != nil {
			return Committed{}, fmt.Errorf("commit: folder %d: %w", f.Num, err)
		}
	}
	if c.List != nil {
		tx.list(*c.List)
	}
	if c.Status != nil {
		tx.status(*c.Status)
	}
	tx.recent(c.Recent, c.Seen)
	tx.gone(c.Hold, c.Told)
	tx.consume(c.Consumed)
	if c.Flush != nil {
		tx.flush(*c.Flush)
	}
	if c.Initialized {
		tx.op("HSET", tx.key(s.k.state(l.Account)), "init", "1")
	}
	return tx.run(ctx, c.Events)
}

// Observe writes a status with its events without holding the lease: for what is seen
// of an account from outside. Errors: ErrStale when the worker said something since.
func (s *Store) Observe(ctx context.Context, id AccountID, c StatusChange, evs ...events.Event) error {
	tx := s.begin(id)
	tx.status(c)
	_, err := tx.run(ctx, evs)
	return err
}

// AppendOnce appends events without holding a lease; those whose id was appended so in
// the last day are skipped. It is how the instance's own journal (id "") is written.
func (s *Store) AppendOnce(ctx context.Context, id AccountID, evs ...events.Event) (Committed, error) {
	tx := s.begin(id)
	tx.need = id != ""
	tx.key(s.k.once(id)) // KEYS[5] of the script
	tx.once = true
	return tx.run(ctx, evs)
}

// tx gathers one call of commit.lua.
type tx struct {
	s      *Store
	id     AccountID
	keys   []string
	need   bool   // the account's state must exist
	fence  string // "": not checked
	once   bool   // events are appended once by id
	guards []any
	nGuard int
	before []any
	nOp    int
	after  []any
	nAfter int
	hint   string
	err    error
}

func (s *Store) begin(id AccountID) *tx {
	return &tx{
		s: s, id: id, need: true,
		keys: []string{s.k.state(id), s.k.lease(id), s.k.journal(id), s.k.feed(Shard(id))},
	}
}

// key gives the number of a key in the call.
func (t *tx) key(name string) int {
	if i := slices.Index(t.keys, name); i >= 0 {
		return i + 1
	}
	t.keys = append(t.keys, name)
	return len(t.keys)
}

// guard demands that a hash's field has a value; "" demands its absence, and further forms
// are in commit.lua.
func (t *tx) guard(key, field, want string) {
	t.guards = append(t.guards, t.key(key), field, want)
	t.nGuard++
}

// op adds a command that runs before the events are appended.
func (t *tx) op(cmd string, key int, args ...any) {
	t.before = append(t.before, cmd, key, len(args))
	t.before = append(t.before, args...)
	t.nOp++
}

// finally adds a command that runs after the events were appended.
func (t *tx) finally(cmd string, key int, args ...any) {
	t.after = append(t.after, cmd, key, len(args))
	t.after = append(t.after, args...)
	t.nAfter++
}

// version is how a version stands in Redis: absent before the first commit.
func version(v uint64) string {
	if v == 0 {
		return ""
	}
	return strconv.FormatUint(v, 10)
}

func (t *tx) folder(f FolderChange) error {
	metaKey, blocksKey := t.s.k.folder(t.id, f.Num), t.s.k.blocks(t.id, f.Num)
	t.guard(metaKey, "v", version(f.Version))
	if f.Drop {
		t.op("DEL", t.key(metaKey))
		t.op("DEL", t.key(blocksKey))
		return nil
	}
	if f.Reset {
		t.op("DEL", t.key(blocksKey))
	}
	meta, err := json.Marshal(f.Meta.sealed())
	if err != nil {
		return err
	}
	t.op("HSET", t.key(metaKey), "v", version(f.Version+1), "m", meta)
	for idx, recs := range f.Blocks {
		field := strconv.FormatUint(uint64(idx), 10)
		if len(recs) == 0 {
			t.op("HDEL", t.key(blocksKey), field)
			continue
		}
		b, err := encodeBlock(idx, recs)
		if err != nil {
			return err
		}
		t.op("HSET", t.key(blocksKey), field, b)
	}
	return nil
}

func (t *tx) list(c ListChange) {
	state, folders := t.s.k.state(t.id), t.s.k.folders(t.id)
	t.guard(state, "listV", version(c.Version))
	t.op("HSET", 1, "listV", version(c.Version+1))
	if c.NextNum > 0 {
		t.op("HSET", 1, "nextNum", c.NextNum)
	}
	if c.Count > 0 {
		t.op("HSET", 1, "listN", c.Count)
	} else {
		t.op("HDEL", 1, "listN")
	}
	for _, f := range c.Put {
		t.op("HSET", t.key(folders), f.Num, t.json(f))
	}
	for _, num := range c.Drop {
		t.op("HDEL", t.key(folders), num)
	}
}

func (t *tx) status(c StatusChange) {
	t.guard(t.s.k.state(t.id), "sv", version(c.Version))
	t.op("HSET", 1, "sv", version(c.Version+1), "status", t.json(c.Status))
}

// json encodes a value of ours; the first failure is what run answers.
func (t *tx) json(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil && t.err == nil {
		t.err = err
	}
	return b
}

// run appends the events and calls the script.
func (t *tx) run(ctx context.Context, evs []events.Event) (Committed, error) {
	var serviceURL string
	if len(evs) > 0 {
		set, err := t.s.Settings(ctx)
		if err != nil {
			return Committed{}, err
		}
		serviceURL = set.ServiceURL
	}
	need := "0"
	if t.need {
		need = "1"
	}
	args := append([]any{rand.Text(), need, t.fence, t.nGuard}, t.guards...)
	args = append(append(args, t.nOp), t.before...)
	args = append(args, string(t.id), len(evs))
	once := "0"
	if t.once {
		once = "1"
	}
	for _, e := range evs {
		e.Account, e.Type, e.ServiceURL = string(t.id), e.Data.EventType(), serviceURL
		if e.Type == "" || e.ID == "" {
			return Committed{}, fmt.Errorf("event %q of %T has no type or id", e.ID, e.Data)
		}
		b, err := e.Encode()
		if err != nil {
			return Committed{}, err
		}
		args = append(args, string(e.Type), once, string(e.ID), b)
	}
	args = append(append(args, t.nAfter), t.after...)
	args = append(args, t.s.k.hints(), t.hint, feedHint(Shard(t.id)))
	if t.err != nil {
		return Committed{}, fmt.Errorf("commit: %w", t.err)
	}
	answer, err := commitScript.slice(ctx, t.s.rdb, t.keys, args...)
	if err != nil {
		return Committed{}, err
	}
	return readCommitted(answer)
}

// readCommitted reads the answer of commit.lua.
func readCommitted(answer []any) (Committed, error) {
	if len(answer) == 0 {
		return Committed{}, fmt.Errorf("script commit.lua answered nothing")
	}
	switch answer[0] {
	case "LEASE":
		return Committed{}, ErrLeaseLost
	case "STALE":
		return Committed{}, ErrStale
	case "FULL":
		return Committed{}, ErrOutboxFull
	case "LOST":
		return Committed{}, ErrStateLost
	}
	var n [3]uint64
	for i := range n {
		v, err := strconv.ParseUint(fmt.Sprint(answer[i+1]), 10, 64)
		if err != nil {
			return Committed{}, fmt.Errorf("script commit.lua answered %v", answer)
		}
		n[i] = v
	}
	return Committed{FirstSeq: n[0], LastSeq: n[1], Date: events.TimeOf(time.UnixMilli(int64(n[2])))}, nil
}
