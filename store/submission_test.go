package store_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/storetest"
)

// letter is a submission as somebody would accept it.
func letter(account store.AccountID) store.Submission {
	return store.Submission{
		ID: store.NewSubmissionID(account, time.Now()), Account: account, Source: "api", MessageID: "<of.7@example.com>",
		From: "sales@example.com", To: []string{"ada@example.net", "bob@example.net"}, Subject: "Offer", Attempts: 10,
	}
}

// sender is a store with the account support, and what a test does with its submissions.
type sender struct {
	*store.Store
	t   *testing.T
	rdb redis.UniversalClient
	a   store.Account
	m   *miniredis.Miniredis // nil on a redis-server
	now time.Time            // of the clocked one
}

func newSender(t *testing.T, rdb redis.UniversalClient) *sender {
	t.Helper()
	f := &sender{Store: storetest.On(t, rdb), t: t, rdb: rdb}
	var err error
	if f.a, err = f.CreateAccount(t.Context(), support()); err != nil {
		t.Fatal(err)
	}
	return f
}

// clockedSender is on a miniredis whose clock the test sets: 10:00:30 on a day.
func clockedSender(t *testing.T) *sender {
	t.Helper()
	m := miniredis.RunT(t)
	now := time.Date(2026, 11, 22, 10, 0, 30, 0, time.UTC)
	m.SetTime(now)
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	f := newSender(t, rdb)
	f.m, f.now = m, now
	return f
}

func (f *sender) pass(d time.Duration) {
	f.now = f.now.Add(d)
	f.m.SetTime(f.now)
	f.m.FastForward(d)
}

func (f *sender) accept(change ...func(*store.Submission)) store.Submission {
	f.t.Helper()
	m := letter(f.a.ID)
	for _, c := range change {
		c(&m)
	}
	done, err := f.AcceptSubmission(f.t.Context(), store.Accept{Submission: m, Body: strings.NewReader("Hello\r\n")})
	if err != nil {
		f.t.Fatal(err)
	}
	return done.Submission
}

func (f *sender) claim(change ...func(*store.Claim)) store.Claimed {
	f.t.Helper()
	c := store.Claim{Account: f.a.ID, Owner: "p1", Lease: time.Minute, Slots: 2}
	for _, ch := range change {
		ch(&c)
	}
	got, err := f.ClaimSubmission(f.t.Context(), c)
	if err != nil {
		f.t.Fatal(err)
	}
	return got
}

// move puts a submission into a state, with the event that belongs to it.
func (f *sender) move(was store.Submission, state store.SubmissionState, ops store.MoveOps, change ...func(*store.Submission)) store.Submission {
	f.t.Helper()
	next := was
	next.State, next.Reason = state, ""
	for _, c := range change {
		c(&next)
	}
	moved, err := f.MoveSubmission(f.t.Context(), was, next, stepEvents(was, state), ops)
	if err != nil {
		f.t.Fatal(err)
	}
	return moved
}

// stepEvents are the events of a step into a state.
func stepEvents(was store.Submission, state store.SubmissionState) []events.Event {
	switch state {
	case store.SubmissionSent:
		return []events.Event{was.Event(events.MessageSent{Delivery: was.Delivery(was.To), Response: "250 OK", Attempt: was.Attempt})}
	case store.SubmissionFailed:
		return []events.Event{was.Event(events.MessageFailed{Delivery: was.Delivery(was.To), Error: "550 no", Reason: "refused", Attempts: was.Attempt})}
	case store.SubmissionCanceled:
		return []events.Event{was.Event(events.MessageFailed{Delivery: was.Delivery(was.To), Reason: "cancelled"})}
	}
	return nil
}

func (f *sender) answer(want store.ClaimAnswer, until time.Duration, got store.Claimed) {
	f.t.Helper()
	var at time.Time
	if until > 0 {
		at = f.now.Add(until)
	}
	if got.Answer != want || !got.Until.Equal(at) {
		f.t.Errorf("claim answers %s until %v, want %s until %v", got.Answer, got.Until, want, at)
	}
}

func TestSubmission_from_acceptance_to_sent(t *testing.T) {
	storetest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newSender(t, rdb)
		before := rdb.DBSize(t.Context()).Val()
		body := bytes.Repeat([]byte("0123456789abcdef"), 100_000) // four pieces
		want := letter(f.a.ID)
		want.Metadata, want.DSN, want.Copy = json.RawMessage(`{"k":1}`), &store.DSN{Notify: []string{"failure"}}, new(true)
		want.Delays = []time.Duration{time.Second}
		acc, err := f.AcceptSubmission(t.Context(), store.Accept{Submission: want, Body: bytes.NewReader(body)})
		if err != nil {
			t.Fatal(err)
		}
		m, err := f.Submission(t.Context(), want.ID)
		if diff := cmp.Diff(acc.Submission, m); err != nil || diff != "" {
			t.Error(diff, err)
		}
		if ttl := rdb.TTL(t.Context(), f.key("q:"+string(m.ID)+":body")).Val(); ttl != -1 {
			t.Errorf("the body ends in %v", ttl)
		}
		sum, err := f.OutboxTotals(t.Context())
		if err != nil || sum.Bytes != int64(len(body)) || sum.States[store.SubmissionQueued] != 1 || sum.Oldest.IsZero() {
			t.Errorf("%+v, %v", sum, err)
		}
		c := f.claim()
		m = c.Submission
		if c.Answer != store.ClaimOK || m.ID != want.ID || m.Attempt != 1 || m.Fence != 1 || m.State != store.SubmissionProcessing || m.Stage != store.StageConnect {
			t.Fatalf("%+v", c)
		}
		r, err := f.OpenBody(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if n, err := io.CopyN(&got, r, 7); err != nil || n != 7 {
			t.Error(n, err)
		}
		if _, err := r.WriteTo(&got); err != nil || !bytes.Equal(got.Bytes(), body) {
			t.Errorf("body of %d bytes, %v", got.Len(), err)
		}
		if err := f.MarkSubmission(t.Context(), m.ID, m.Fence, m.Attempt); err != nil {
			t.Error(err)
		}
		if err := f.RenewSubmission(t.Context(), m.ID, m.Fence, m.Attempt, time.Minute); err != nil {
			t.Error(err)
		}
		done := f.move(m, store.SubmissionSent, store.MoveOps{Wake: true}, func(m *store.Submission) { m.Ended = c.Now })
		if stored, err := f.Submission(t.Context(), m.ID); err != nil || cmp.Diff(done, stored) != "" {
			t.Error(cmp.Diff(done, stored), err)
		}
		if got := journal(t, f.Store, f.a.ID); fmt.Sprint(got) != "[1 accountAdded 2 messageQueued 3 messageSent]" {
			t.Error(got)
		}
		if after := rdb.DBSize(t.Context()).Val(); after != before+5 { // row, body, sent of account and shard, ended
			t.Errorf("%d keys, %d before: %v", after, before, rdb.Keys(t.Context(), "*").Val())
		}
		if err := f.DropBody(t.Context(), m.ID); err != nil {
			t.Error(err)
		}
		if _, err := f.OpenBody(t.Context(), m); !errors.Is(err, store.ErrNotFound) {
			t.Error(err)
		}
		// sent long ago: it is forgotten, with every trace
		f.move(done, store.SubmissionSent, store.MoveOps{Forget: time.Now().Add(-time.Hour)})
		if n, err := f.SweepOutbox(t.Context()); err != nil || n != 1 {
			t.Errorf("%d removed, %v", n, err)
		}
		if after := rdb.DBSize(t.Context()).Val(); after != before {
			t.Errorf("%d keys, %d before: %v", after, before, rdb.Keys(t.Context(), "*").Val())
		}
	})
}

// key is a key of the account's shard.
func (f *sender) key(rest string) string { return fmt.Sprintf("{s%02d}:%s", store.Shard(f.a.ID), rest) }

func TestSubmissionID(t *testing.T) {
	at := time.UnixMilli(1795305600000)
	older := store.NewSubmissionID("support", at)
	if newer := store.NewSubmissionID("other", at.Add(time.Millisecond)); older >= newer || len(older) != 26 {
		t.Errorf("%s, then %s", older, newer)
	}
	if got, err := store.ParseSubmissionID(strings.ToUpper(string(older))); err != nil || got != older {
		t.Error(got, err)
	}
	for _, s := range []string{"", "01kf2v7q3m8w5x9d4e6r1t0yz", "01kf2v7q3m8w5x9d4e6r1t0yzl", "81kf2v7q3m8w5x9d4e6r1t0yza", "01kf2v7q3m8w5x9d4e6r1t0y:a"} {
		if _, err := store.ParseSubmissionID(s); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// The vector of events.md section 3, and what ids of other events are made of.
func TestSubmission_event_ids(t *testing.T) {
	m := store.Submission{ID: "01kf2v7q3m8w5x9d4e6r1t0yza", Account: "support", Epoch: 1795305600000, Attempt: 1}
	if e := m.Event(events.MessageSent{}); e.ID != "evt_vwx6o536lyz7jqxkerbsysxcey" {
		t.Error(e.ID)
	}
	id := func(typ events.Type, key ...string) events.ID {
		return events.NewID("support", 1795305600000, typ, append([]string{string(m.ID)}, key...)...)
	}
	held, heldEvent := m.Hold(store.HeldSendLimit, time.Time{}, 2)
	_, again := held.Hold(store.HeldSendLimit, time.Time{}, 2)
	for _, tt := range []struct{ got, want events.ID }{
		{m.Event(events.MessageQueued{}).ID, id(events.MessageQueuedType, "0")},
		{m.Event(events.MessageDeliveryError{}).ID, id(events.MessageDeliveryErrorType, "1")},
		{m.Event(events.MessageFailed{Reason: "expired"}).ID, id(events.MessageFailedType, "1", "expired")},
		{heldEvent.ID, id(events.MessageHeldType, "1")},
		{again.ID, id(events.MessageHeldType, "2")},
	} {
		if tt.got != tt.want {
			t.Errorf("got %s, want %s", tt.got, tt.want)
		}
	}
}

func TestAccept_begins_in_the_state_that_fits(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*store.Submission)
		paused bool
		state  store.SubmissionState
		reason string
		events string
		claim  store.ClaimAnswer
	}{
		"now":        {nil, false, "queued", "", "messageQueued", "OK"},
		"past":       {func(m *store.Submission) { m.SendAt = time.Now().Add(-time.Hour) }, false, "queued", "", "messageQueued", "OK"},
		"later":      {func(m *store.Submission) { m.SendAt = time.Now().Add(time.Hour) }, false, "scheduled", "", "messageQueued", "NONE"},
		"for review": {func(m *store.Submission) { m.Reason = store.HeldReview }, false, "held", "review", "messageQueued messageHeld", "NONE"},
		"paused":     {nil, true, "held", "accountPaused", "messageQueued messageHeld", "PAUSED"},
		"both":       {func(m *store.Submission) { m.Reason = store.HeldReview }, true, "held", "review", "messageQueued messageHeld", "PAUSED"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			f := newSender(t, storetest.MiniredisClient(t))
			skip := 1
			if tt.paused {
				if _, err := f.PauseAccount(t.Context(), f.a.ID, "api"); err != nil {
					t.Fatal(err)
				}
				skip = 2
			}
			if tt.change == nil {
				tt.change = func(*store.Submission) {}
			}
			m := f.accept(tt.change)
			if m.State != tt.state || m.Reason != tt.reason || m.Version != 1 || m.Epoch != f.a.Epoch {
				t.Errorf("%+v", m)
			}
			var told []string
			for _, e := range journal(t, f.Store, f.a.ID)[skip:] {
				told = append(told, strings.Fields(e)[1])
			}
			if strings.Join(told, " ") != tt.events {
				t.Error(told)
			}
			if c := f.claim(); c.Answer != tt.claim {
				t.Errorf("claim: %+v", c)
			}
			if tt.paused { // resumed, what was held for that alone is sent, silently
				if _, err := f.ResumeAccount(t.Context(), f.a.ID, "api"); err != nil {
					t.Fatal(err)
				}
				due, err := f.DueSpools(t.Context(), 0, 10)
				if c := f.claim(); (c.Answer == store.ClaimOK) != (tt.reason != "review") || (len(due) == 1) != (c.Answer == store.ClaimOK) || err != nil {
					t.Errorf("claim: %+v, due %+v, %v", c, due, err)
				}
			}
		})
	}
}

// One request sent many times at once is one submission; another under its key is refused.
func TestAccept_idempotency(t *testing.T) {
	storetest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newSender(t, rdb)
		other := storetest.On(t, rdb) // another process
		idem := store.Idempotency{Key: "order 7", Hash: [32]byte{1}, Answer: json.RawMessage(`{"queueId":"first"}`)}
		large := bytes.Repeat([]byte("x"), 600<<10)
		var wg sync.WaitGroup
		var misses atomic.Int32
		ids := make([]store.SubmissionID, 50)
		for i := range ids {
			wg.Go(func() {
				body := large
				if i%10 > 0 {
					body = large[:100]
				}
				a := store.Accept{Submission: letter(f.a.ID), Body: bytes.NewReader(body), Idempotency: &idem}
				got, err := []*store.Store{f.Store, other}[i%2].AcceptSubmission(t.Context(), a)
				if err != nil {
					t.Error(err)
				}
				if ids[i] = got.ID; !got.Hit {
					misses.Add(1)
				} else if string(got.Answer) != string(idem.Answer) {
					t.Errorf("answer %s", got.Answer)
				}
			})
		}
		wg.Wait()
		page, err := f.Submissions(t.Context(), store.SubmissionQuery{Account: f.a.ID, Limit: 100})
		if err != nil || page.Total != 1 || misses.Load() != 1 {
			t.Fatalf("%d submissions, %d accepted, %v", page.Total, misses.Load(), err)
		}
		for _, id := range ids {
			if id != page.Submissions[0].ID {
				t.Errorf("%s was answered, %s is there", id, page.Submissions[0].ID)
			}
		}
		if got := journal(t, f.Store, f.a.ID); len(got) != 2 {
			t.Error(got)
		}
		if n := len(rdb.Keys(t.Context(), "*:body").Val()); n != 1 {
			t.Errorf("%d bodies are left", n)
		}
		changed := idem
		changed.Hash[0] = 2
		_, err = f.AcceptSubmission(t.Context(), store.Accept{Submission: letter(f.a.ID), Body: bytes.NewReader(large), Idempotency: &changed})
		if !errors.Is(err, store.ErrKeyReused) {
			t.Error(err)
		}
		if _, err := f.UsedKey(t.Context(), f.a.ID, changed); !errors.Is(err, store.ErrKeyReused) {
			t.Error(err)
		}
		if got, err := f.UsedKey(t.Context(), f.a.ID, idem); err != nil || !got.Hit || got.ID != ids[0] {
			t.Errorf("%+v, %v", got, err)
		}
		if got, err := f.UsedKey(t.Context(), "someone", idem); err != nil || got.Hit {
			t.Errorf("the key of another account: %+v, %v", got, err)
		}
		if n := len(rdb.Keys(t.Context(), "*:body").Val()); n != 1 {
			t.Errorf("%d bodies are left", n)
		}
	})
}

func TestAccept_forgets_keys_after_two_days(t *testing.T) {
	f := clockedSender(t)
	idem := store.Idempotency{Key: "k", Hash: [32]byte{1}}
	try := func(want bool) {
		t.Helper()
		got, err := f.AcceptSubmission(t.Context(), store.Accept{Submission: letter(f.a.ID), Body: strings.NewReader("x"), Idempotency: &idem})
		if err != nil || got.Hit != want {
			t.Errorf("hit %v, %v", got.Hit, err)
		}
	}
	try(false)
	f.pass(48*time.Hour - time.Second)
	try(true)
	f.pass(time.Second)
	try(false)
	f.pass(80 * time.Hour)
	if left := f.rdb.Keys(t.Context(), "*:keys:*").Val(); len(left) > 0 {
		t.Error(left)
	}
}

// meanwhile does something once, in front of a process' next script.
type meanwhile struct{ do func() }

func (w *meanwhile) DialHook(next redis.DialHook) redis.DialHook { return next }

func (w *meanwhile) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if do := w.do; do != nil && strings.HasPrefix(cmd.Name(), "eval") {
			w.do = nil
			do()
		}
		return next(ctx, cmd)
	}
}

func (w *meanwhile) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// Of two requests under one key one read the clock before midnight, and comes second.
func TestAccept_idempotency_at_midnight(t *testing.T) {
	f := clockedSender(t)
	f.pass(14*time.Hour - 31*time.Second) // 23:59:59
	slow := redis.NewClient(&redis.Options{Addr: f.m.Addr()})
	t.Cleanup(func() { _ = slow.Close() })
	idem := store.Idempotency{Key: "order 7", Hash: [32]byte{1}}
	accept := func(s *store.Store) store.Accepted {
		t.Helper()
		got, err := s.AcceptSubmission(t.Context(), store.Accept{Submission: letter(f.a.ID), Body: strings.NewReader("x"), Idempotency: &idem})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	var quick store.Accepted
	slow.AddHook(&meanwhile{do: func() {
		f.pass(2 * time.Second)
		quick = accept(f.Store)
	}})
	if got := accept(storetest.On(t, slow)); quick.Hit || !got.Hit || got.ID != quick.ID {
		t.Errorf("first %s, hit %v; then %s, hit %v", quick.ID, quick.Hit, got.ID, got.Hit)
	}
	if page, err := f.Submissions(t.Context(), store.SubmissionQuery{Account: f.a.ID, Limit: 10}); err != nil || page.Total != 1 {
		t.Errorf("%d submissions under one key, %v", page.Total, err)
	}
	f.pass(-2 * time.Second) // who deletes the account read the clock before midnight, too
	if err := f.DeleteAccount(t.Context(), f.a.ID); err != nil {
		t.Fatal(err)
	}
	if left := f.rdb.Keys(t.Context(), "*:keys:*").Val(); len(left) > 0 {
		t.Error(left)
	}
}

func TestAccept_is_bounded(t *testing.T) {
	for name, tt := range map[string]store.OutboxLimits{
		"rows":  {AccountRows: 2},
		"bytes": {AccountBytes: 1300 << 10},
		"all":   {Bytes: 1300 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			f := newSender(t, storetest.MiniredisClient(t))
			body := bytes.Repeat([]byte("x"), 600<<10)
			accept := func() error {
				_, err := f.AcceptSubmission(t.Context(), store.Accept{Submission: letter(f.a.ID), Body: bytes.NewReader(body), Limits: tt})
				return err
			}
			if err := errors.Join(accept(), accept()); err != nil {
				t.Fatal(err)
			}
			if err := accept(); !errors.Is(err, store.ErrOutboxFull) {
				t.Error(err)
			}
			if n := len(f.rdb.Keys(t.Context(), "*:body").Val()); n != 2 {
				t.Errorf("%d bodies", n)
			}
			m := f.claim().Submission
			f.move(m, store.SubmissionSent, store.MoveOps{})
			if sp, err := f.Spool(t.Context(), f.a.ID); err != nil || sp.Rows != 1 || sp.Bytes != int64(len(body)) || sp.Active != 0 {
				t.Errorf("%+v, %v", sp, err)
			}
			if tt.Bytes == 0 { // the sum of the installation is a second old
				if err := accept(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	f := newSender(t, storetest.MiniredisClient(t))
	_, err := f.AcceptSubmission(t.Context(), store.Accept{Submission: letter("nobody"), Body: bytes.NewReader(make([]byte, 1<<20))})
	if !errors.Is(err, store.ErrNotFound) || len(f.rdb.Keys(t.Context(), "*:body").Val()) > 0 {
		t.Error(err, f.rdb.Keys(t.Context(), "*").Val())
	}
	broken := errors.New("the attachment cannot be read")
	_, err = f.AcceptSubmission(t.Context(), store.Accept{Submission: letter(f.a.ID), Body: failing{broken}})
	if !errors.Is(err, broken) || len(f.rdb.Keys(t.Context(), "*:body").Val()) > 0 {
		t.Error(err, f.rdb.Keys(t.Context(), "*").Val())
	}
}

// failing is a body that breaks off.
type failing struct{ err error }

func (f failing) WriteTo(w io.Writer) (int64, error) {
	n, _ := w.Write(make([]byte, 1<<20))
	return int64(n), f.err
}

// Bodies are sealed, each piece for its place.
func TestBody_is_sealed(t *testing.T) {
	f := newSender(t, storetest.MiniredisClient(t))
	ctx := t.Context()
	secret := bytes.Repeat([]byte("planted secret"), 50_000) // two pieces
	acc, err := f.AcceptSubmission(ctx, store.Accept{Submission: letter(f.a.ID), Body: bytes.NewReader(secret)})
	if err != nil {
		t.Fatal(err)
	}
	key := f.key("q:" + string(acc.ID) + ":body")
	pieces := f.rdb.HGetAll(ctx, key).Val()
	if len(pieces) != 2 || strings.Contains(fmt.Sprint(pieces), "planted") {
		t.Errorf("%d pieces", len(pieces))
	}
	f.rdb.HSet(ctx, key, "0", pieces["1"], "1", pieces["0"])
	if _, err := f.OpenBody(ctx, acc.Submission); err == nil {
		t.Error("exchanged pieces open")
	}
	for _, bad := range []string{"", "\x01", "\x02abc", pieces["0"][:20]} {
		f.rdb.HSet(ctx, key, "0", bad)
		if _, err := f.OpenBody(ctx, acc.Submission); err == nil {
			t.Errorf("%q opens", bad)
		}
	}
	plain := store.New(store.Options{Client: f.rdb, Secrets: storetest.Keyring(t), OpenBodies: true})
	acc, err = plain.AcceptSubmission(ctx, store.Accept{Submission: letter(f.a.ID), Body: bytes.NewReader(secret)})
	if err != nil {
		t.Fatal(err)
	}
	r, err := f.OpenBody(ctx, acc.Submission) // whoever reads is not asked how it was written
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, secret) {
		t.Error(len(got), err)
	}
}
