package store

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/events"
)

// OutboxLimits bound what waits to be sent; a value of 0 is the default.
type OutboxLimits struct {
	Bytes        int64 // of bodies, in the whole installation; about, since its shards are counted apart. 1 GiB
	AccountBytes int64 // of bodies of one account; 256 MiB
	AccountRows  int   // submissions of one account; 100,000
}

func (l OutboxLimits) orDefaults() OutboxLimits {
	set := func(v *int64, to int64) {
		if *v == 0 {
			*v = to
		}
	}
	rows := int64(l.AccountRows)
	set(&l.Bytes, 1<<30)
	set(&l.AccountBytes, 256<<20)
	set(&rows, 100_000)
	l.AccountRows = int(rows)
	return l
}

// idempotencyFor is how long a key is remembered.
const idempotencyFor = 48 * time.Hour

// Idempotency is a caller's own name for its request: asked again, it is answered again.
type Idempotency struct {
	Key    string
	Hash   [32]byte        // SHA-256 of the request
	Answer json.RawMessage // what the first request was answered
}

// Accept is a submission that is to be stored. Of Submission ID, MessageID, From, To,
// Attempts and what the request said are the caller's; SendAt in the future schedules it,
// Reason HeldReview holds it.
type Accept struct {
	Submission  Submission
	Body        io.WriterTo // written once
	Idempotency *Idempotency
	Limits      OutboxLimits
}

// Accepted is a submission that was stored, now or before.
type Accepted struct {
	ID         SubmissionID
	Submission Submission      // with Hit only its ID
	Hit        bool            // the idempotency key was used for the same request
	Answer     json.RawMessage // with Hit: of the first request
}

// keyRecord is a used idempotency key as it is stored.
type keyRecord struct {
	ID     SubmissionID    `json:"q"`
	Hash   string          `json:"h"`
	At     int64           `json:"t"` // Unix ms
	Answer json.RawMessage `json:"a,omitempty"`
}

// keyDay is the hash of the keys that are used on a day; it is removed as a whole.
func (k keys) keyDay(id AccountID, at time.Time) string {
	return k.outboxOf(id, "keys:"+strconv.FormatInt(at.Unix()/86400, 10))
}

// keyDays are those in which a key may stand. Tomorrow's is among them: somebody who reads
// the clock behind the next midnight may write before we do.
func (k keys) keyDays(id AccountID, now time.Time) (out [4]string) {
	for i := range out {
		out[i] = k.keyDay(id, now.Add(time.Duration(1-i)*24*time.Hour))
	}
	return out
}

// keyField keeps what people write out of the names of fields.
func keyField(key string) string { return events.Digest(key) }

// UsedKey answers a request whose idempotency key was used before, without Submission;
// Hit is false where it was not. Errors: ErrKeyReused.
func (s *Store) UsedKey(ctx context.Context, account AccountID, i Idempotency) (Accepted, error) {
	now, err := s.Now(ctx)
	if err != nil {
		return Accepted{}, err
	}
	return s.usedKey(ctx, account, i, now)
}

func (s *Store) usedKey(ctx context.Context, account AccountID, i Idempotency, now time.Time) (Accepted, error) {
	var found [4]*redis.StringCmd
	if err := s.pipeline(ctx, "read idempotency key", func(p redis.Pipeliner) { s.readKey(ctx, p, account, i, now, &found) }); err != nil {
		return Accepted{}, err
	}
	return judgeKey(account, i, now, found)
}

func (s *Store) readKey(ctx context.Context, p redis.Pipeliner, account AccountID, i Idempotency, now time.Time, found *[4]*redis.StringCmd) {
	for n, day := range s.k.keyDays(account, now) {
		found[n] = p.HGet(ctx, day, keyField(i.Key))
	}
}

// judgeKey says what the records that were found of a key mean for a request.
func judgeKey(account AccountID, i Idempotency, now time.Time, found [4]*redis.StringCmd) (Accepted, error) {
	for _, f := range found {
		if f.Val() == "" {
			continue
		}
		var r keyRecord
		if err := json.Unmarshal([]byte(f.Val()), &r); err != nil {
			return Accepted{}, fmt.Errorf("idempotency key of account %q: %w", account, err)
		}
		if now.Sub(time.UnixMilli(r.At)) >= idempotencyFor {
			continue
		}
		if r.Hash != hex.EncodeToString(i.Hash[:]) {
			return Accepted{}, fmt.Errorf("account %q: submission %s: %w", account, r.ID, ErrKeyReused)
		}
		return Accepted{ID: r.ID, Submission: Submission{ID: r.ID, Account: account}, Hit: true, Answer: r.Answer}, nil
	}
	return Accepted{}, nil
}

// AcceptSubmission stores a submission with its body, its idempotency key and messageQueued
// (and messageHeld, where it or its account's pause says so) in one script. A body above
// 512 KiB is stored before that, piece by piece, to be forgotten if the script never comes.
// A repeat with the same ID is recognised. A state that was lost is restored first where no
// worker does it.
//
// Errors: ErrNotFound (no such account), ErrOutboxFull, ErrKeyReused, ErrStateLost, and what
// Body answers.
func (s *Store) AcceptSubmission(ctx context.Context, a Accept) (Accepted, error) {
	m, limits := a.Submission, a.Limits.orDefaults()
	u := &upload{s: s, ctx: ctx, m: &m, most: limits.AccountBytes}
	done, err := s.acceptBody(ctx, &m, u, a, limits)
	if done.Hit || err != nil && !errors.Is(err, ErrUnavailable) { // else it may have been accepted
		u.drop()
	}
	return done, err
}

func (s *Store) acceptBody(ctx context.Context, m *Submission, u *upload, a Accept, limits OutboxLimits) (Accepted, error) {
	if _, err := a.Body.WriteTo(u); err != nil {
		return Accepted{}, fmt.Errorf("body of submission %s: %w", m.ID, err)
	}
	if u.pieces > 0 && len(u.buf) > 0 {
		if err := u.store(); err != nil {
			return Accepted{}, err
		}
	}
	m.Size, m.Pieces = u.size, max(u.pieces, 1)
	if err := s.roomFor(ctx, m.Size, limits.Bytes); err != nil {
		return Accepted{}, err
	}
	for try := 0; ; try++ {
		var done Accepted
		err := s.restored(ctx, m.Account, func() (err error) {
			done, err = s.accept(ctx, *m, u, a.Idempotency, limits)
			return err
		})
		if !errors.Is(err, ErrStale) || try == 4 {
			return done, err
		}
	}
}

// accept is one try; ErrStale asks for another.
func (s *Store) accept(ctx context.Context, m Submission, u *upload, idem *Idempotency, limits OutboxLimits) (Accepted, error) {
	n := Shard(m.Account)
	now, err := s.Now(ctx)
	if err != nil {
		return Accepted{}, err
	}
	var record *redis.StringCmd
	var used [4]*redis.StringCmd
	if err := s.pipeline(ctx, "read account", func(p redis.Pipeliner) {
		record = p.HGet(ctx, s.k.registry(n), string(m.Account))
		if idem != nil {
			s.readKey(ctx, p, m.Account, *idem, now, &used)
		}
	}); err != nil {
		return Accepted{}, err
	}
	if record.Val() == "" {
		return Accepted{}, fmt.Errorf("account %q: %w", m.Account, ErrNotFound)
	}
	if idem != nil {
		if hit, err := judgeKey(m.Account, *idem, now, used); err != nil || hit.Hit && hit.ID != m.ID {
			return hit, err
		}
	}
	account, err := s.unseal(m.Account, []byte(record.Val()))
	if err != nil {
		return Accepted{}, err
	}
	evs := m.begin(account, now)

	tx := s.begin(m.Account)
	row, body := s.k.submission(m.ID), s.k.submissionBody(m.ID)
	spool := s.k.outboxOf(m.Account, "spool")
	tx.guard(row, "op", "")
	tx.guard(s.k.registry(n), string(m.Account), record.Val())
	tx.guard(spool, "n", "<"+strconv.Itoa(limits.AccountRows))
	tx.guard(spool, "bytes", "<"+strconv.FormatInt(limits.AccountBytes-m.Size+1, 10))
	if idem != nil {
		for i, day := range s.k.keyDays(m.Account, now) {
			tx.guard(day, keyField(idem.Key), used[i].Val()) // none, or one that is over
		}
		today := tx.key(s.k.keyDay(m.Account, now))
		tx.op("HSET", today, keyField(idem.Key), tx.json(keyRecord{m.ID, hex.EncodeToString(idem.Hash[:]), now.UnixMilli(), idem.Answer}))
		tx.op("PEXPIRE", today, (idempotencyFor + 24*time.Hour).Milliseconds())
		m.IdempotencyKey = idem.Key
	}
	if u.pieces > 0 {
		tx.guard(body, "", "#"+strconv.Itoa(u.pieces))
		tx.op("PERSIST", tx.key(body))
	} else {
		tx.op("HSET", tx.key(body), 0, s.encodePiece(&m, 0, u.buf))
	}
	fields, err := m.row()
	if err != nil {
		return Accepted{}, err
	}
	tx.op("HSET", tx.key(row), fields...)
	tx.outboxSets(Submission{}, m)
	tx.tally(m, 1)
	if account.Paused != nil { // also where it was paused by a version that did not send
		tx.op("HSET", tx.key(spool), "paused", 1)
	} else {
		tx.op("HDEL", tx.key(spool), "paused")
	}
	tx.schedule()
	_, err = tx.run(ctx, evs)
	if !errors.Is(err, ErrStale) {
		return Accepted{ID: m.ID, Submission: m}, err
	}

	// Something was not as it was: our own answer was lost, the upload ran out, or the key or
	// the account changed and we look again.
	if stored, err := s.Submission(ctx, m.ID); err == nil && stored.Account == m.Account {
		return Accepted{ID: m.ID, Submission: stored}, nil
	} else if !errors.Is(err, ErrNotFound) {
		return Accepted{}, err
	}
	if u.pieces > 0 {
		if have, err := s.rdb.HLen(ctx, body).Result(); err != nil || have != int64(u.pieces) {
			return Accepted{}, unavailable("keep body", errors.Join(err, fmt.Errorf("submission %s: %d of %d pieces are left", m.ID, have, u.pieces)))
		}
	}
	return Accepted{}, ErrStale
}

// begin gives a submission its first state, and tells of it.
func (m *Submission) begin(a Account, now time.Time) []events.Event {
	review := m.Reason == HeldReview
	m.Epoch, m.Created, m.State, m.Reason, m.Version = a.Epoch, now.UTC(), SubmissionQueued, "", 1
	m.Op = events.Digest(string(m.ID), "accept")
	if !m.SendAt.After(now) {
		m.SendAt = time.Time{}
	} else {
		m.State = SubmissionScheduled
	}
	queued := events.MessageQueued{Delivery: m.Delivery(m.To), SendAt: timeOrNil(m.SendAt), Source: m.Source}
	evs := []events.Event{m.Event(queued)}
	var held events.Event
	switch {
	case review:
		*m, held = m.Hold(HeldReview, time.Time{}, 1)
	case a.Paused != nil:
		*m, held = m.Hold(HeldAccountPaused, time.Time{}, 1)
	default:
		return evs
	}
	return append(evs, held)
}
