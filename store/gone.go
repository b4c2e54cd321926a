package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// Gone is a message that left a folder's state while its messageDeleted waits to be
// told: it may be one half of a move, of which the other was not looked at yet. It holds
// all that the event says.
type Gone struct {
	Event       string `json:"e"` // id of its messageDeleted, by which it is known
	Folder      uint32 `json:"f"`
	UID         uint32 `json:"u"`
	Incarnation uint32 `json:"n"`
	Path        string `json:"p"`
	SpecialUse  string `json:"s,omitempty"`

	Identity     Identity `json:"i,omitempty"`
	InternalDate int64    `json:"d,omitempty"` // Unix seconds; 0 = not known
	Print        uint64   `json:"h,omitempty"` // as Record.Print; 0 = not known
	EmailID      string   `json:"m,omitempty"`
	ThreadID     string   `json:"t,omitempty"`
	MessageID    string   `json:"g,omitempty"`
	Flags        []string `json:"l,omitempty"`
	Labels       []string `json:"b,omitempty"`

	// What our own command did, and where the message went by COPYUID; zero = not known.
	Cause string     `json:"c,omitempty"` // "api": our own command did it
	To    MessageKey `json:"o,omitzero"`

	At    int64 `json:"a"` // Unix ms when it was found to be gone
	Until int64 `json:"x"` // Unix ms by which it is told
}

// Gones reads the messages of an account that are held, in no order. Errors: ErrCorrupt,
// beside those that can be read, for each that cannot; such entries stay.
func (s *Store) Gones(ctx context.Context, id AccountID) ([]Gone, error) {
	all, err := s.rdb.HGetAll(ctx, s.k.gone(id)).Result()
	if err != nil {
		return nil, unavailable("read held messages", err)
	}
	out := make([]Gone, 0, len(all))
	var broken []error
	for event, raw := range all {
		var g Gone
		err := json.Unmarshal([]byte(raw), &g)
		if err == nil && g.Event != event {
			err = fmt.Errorf("it is that of event %q", g.Event)
		}
		if err != nil {
			broken = append(broken, fmt.Errorf("held message of event %q of account %q: %w: %w", event, id, ErrCorrupt, err))
			continue
		}
		out = append(out, g)
	}
	return out, errors.Join(broken...)
}

// gone adds and removes held messages.
func (t *tx) gone(hold []Gone, told []string) {
	if len(hold)+len(told) == 0 {
		return
	}
	key := t.key(t.s.k.gone(t.id))
	for _, event := range told {
		// No folder's version stands for it: a commit whose answer was lost may come late.
		t.guard(t.s.k.gone(t.id), event, "!")
		t.op("HDEL", key, event)
	}
	for _, g := range hold {
		t.op("HSET", key, g.Event, t.json(g))
	}
}

// MessageKey is a message as the server knows it: what an identity is found by when the
// message is gone and nothing else of it is known.
type MessageKey struct{ Folder, UIDValidity, UID uint32 }

// field is its name in the hash of recent identities, where no identity begins with @.
func (k MessageKey) field() string {
	n := func(v uint32) string { return strconv.FormatUint(uint64(v), 10) }
	return "@" + n(k.Folder) + "." + n(k.UIDValidity) + "." + n(k.UID)
}

// IdentitiesAt reads the identities of messages that were announced lately; others are
// absent.
func (s *Store) IdentitiesAt(ctx context.Context, id AccountID, of []MessageKey) (map[MessageKey]Identity, error) {
	if len(of) == 0 {
		return nil, nil
	}
	fields := make([]string, len(of))
	for i, k := range of {
		fields[i] = k.field()
	}
	values, err := s.rdb.HMGet(ctx, s.k.recent(id), fields...).Result()
	if err != nil {
		return nil, unavailable("read recent identities", err)
	}
	out := make(map[MessageKey]Identity, len(of))
	for i, v := range values {
		if ident, ok := v.(string); ok {
			out[of[i]] = Identity(ident)
		}
	}
	return out, nil
}

// recent writes the places of identities, and by which messages they are found.
func (t *tx) recent(places map[Identity][]Place, seen map[MessageKey]Identity) {
	if len(places)+len(seen) == 0 {
		return
	}
	hash, at := t.key(t.s.k.recent(t.id)), t.key(t.s.k.recentAt(t.id))
	for id, p := range places {
		if len(p) == 0 {
			t.op("HDEL", hash, string(id))
			t.op("ZREM", at, string(id))
			continue
		}
		t.op("HSET", hash, string(id), t.json(p))
		t.op("ZNOW", at, string(id))
	}
	for k, id := range seen {
		t.op("HSET", hash, k.field(), string(id))
		t.op("ZNOW", at, k.field())
	}
	t.op("FORGET", at, hash, recentFor.Milliseconds(), recentMost)
}

// Recents reads where messages of these identities were or are; unknown ones are absent.
func (s *Store) Recents(ctx context.Context, id AccountID, of []Identity) (map[Identity][]Place, error) {
	if len(of) == 0 {
		return nil, nil
	}
	fields := make([]string, len(of))
	for i, x := range of {
		fields[i] = string(x)
	}
	values, err := s.rdb.HMGet(ctx, s.k.recent(id), fields...).Result()
	if err != nil {
		return nil, unavailable("read recent identities", err)
	}
	places := make(map[Identity][]Place, len(of))
	for i, v := range values {
		raw, ok := v.(string)
		if !ok {
			continue
		}
		var p []Place
		if err := json.Unmarshal([]byte(raw), &p); err != nil {
			continue // a hint that cannot be read is no hint; it is written anew with the next change
		}
		places[of[i]] = p
	}
	return places, nil
}
