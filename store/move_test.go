package store_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/storetest"
)

func TestMove_is_guarded_and_repeatable(t *testing.T) {
	storetest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newSender(t, rdb)
		was := f.accept()
		canceled := f.move(was, store.SubmissionCanceled, store.MoveOps{})
		// the same again is the same answer and no second event
		if again := f.move(was, store.SubmissionCanceled, store.MoveOps{}); cmp.Diff(canceled, again) != "" {
			t.Error(cmp.Diff(canceled, again))
		}
		// something else from the same beginning is refused whole
		next := was
		next.State = store.SubmissionFailed
		if _, err := f.MoveSubmission(t.Context(), was, next, stepEvents(was, next.State), store.MoveOps{Sleep: &store.Sleep{Reason: "x"}}); !errors.Is(err, store.ErrStale) {
			t.Error(err)
		}
		gone := letter(f.a.ID)
		if _, err := f.MoveSubmission(t.Context(), gone, gone, nil, store.MoveOps{}); !errors.Is(err, store.ErrNotFound) {
			t.Error(err)
		}
		if got := journal(t, f.Store, f.a.ID); fmt.Sprint(got) != "[1 accountAdded 2 messageQueued 3 messageFailed]" {
			t.Error(got)
		}
		if sp, err := f.Spool(t.Context(), f.a.ID); err != nil || sp != (store.Spool{}) {
			t.Errorf("%+v, %v", sp, err)
		}
	})
}

// Many that wait for a limit are held in one script, all or none.
func TestMove_many_at_once(t *testing.T) {
	storetest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newSender(t, rdb)
		for range 100 {
			f.accept()
		}
		until := time.Now().Add(time.Hour)
		hold := func() ([]store.Move, error) {
			waiting, err := f.WaitingSubmissions(t.Context(), f.a.ID, time.Now().Add(time.Second), 0, 200)
			if err != nil || len(waiting) != 100 {
				t.Fatal(len(waiting), err)
			}
			var moves []store.Move
			for _, m := range waiting {
				if m.State == store.SubmissionQueued {
					held, e := m.Hold(store.HeldSendLimit, until, m.Attempt+1)
					moves = append(moves, store.Move{Was: m, Next: held, Events: []events.Event{e}})
				}
			}
			_, err = f.MoveSubmissions(t.Context(), moves, store.MoveOps{})
			return moves, err
		}
		moves, err := hold()
		if err != nil || len(moves) != 100 {
			t.Fatal(len(moves), err)
		}
		if _, err := f.MoveSubmissions(t.Context(), moves, store.MoveOps{}); err != nil {
			t.Errorf("the same again: %v", err)
		}
		if moves, err := hold(); err != nil || len(moves) > 0 {
			t.Error(len(moves), err)
		}
		page, err := f.Submissions(t.Context(), store.SubmissionQuery{States: []store.SubmissionState{store.SubmissionHeld}, Limit: 3})
		if err != nil || page.Total != 100 || page.Submissions[0].Until.UnixMilli() != until.UnixMilli() || page.Submissions[0].Holds != 1 {
			t.Errorf("%+v, %v", page, err)
		}
		// what is held by itself is claimed like the rest, silently
		if c := f.claim(); c.Answer != store.ClaimOK || c.Submission.Reason != "" || !c.Submission.Until.IsZero() {
			t.Errorf("%+v", c)
		}
		if got := journal(t, f.Store, f.a.ID); len(got) != 201 {
			t.Error(len(got))
		}
		if _, err := f.MoveSubmissions(t.Context(), slices.Concat(moves, moves[:1]), store.MoveOps{}); err == nil {
			t.Error("a hundred and one are moved")
		}
	})
}

func TestMove_keeps_bodies_and_rows_as_long_as_needed(t *testing.T) {
	for name, tt := range map[string]struct {
		to        store.SubmissionState
		copied    string
		body, row time.Duration // until they are gone; 0 at once
	}{
		"sent":                   {store.SubmissionSent, store.AfterPending, 24 * time.Hour, 24 * time.Hour},
		"failed":                 {store.SubmissionFailed, store.AfterPending, 24 * time.Hour, 7 * 24 * time.Hour},
		"canceled":               {store.SubmissionCanceled, "", 0, 7 * 24 * time.Hour},
		"sent to some, canceled": {store.SubmissionCanceled, store.AfterPending, 24 * time.Hour, 7 * 24 * time.Hour},
		"copied, canceled":       {store.SubmissionCanceled, "done", 0, 7 * 24 * time.Hour},
		"unknown":                {store.SubmissionUnknown, store.AfterPending, 30 * 24 * time.Hour, 30 * 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			f := clockedSender(t)
			m := f.move(f.accept(), tt.to, store.MoveOps{}, func(m *store.Submission) {
				m.Ended, m.CopyState, m.Last = f.now, tt.copied, &store.Outcome{At: f.now}
			})
			left := func() (body, row bool) {
				if _, err := f.SweepOutbox(t.Context()); err != nil {
					t.Fatal(err)
				}
				_, err := f.Submission(t.Context(), m.ID)
				return f.rdb.Exists(t.Context(), f.key("q:"+string(m.ID)+":body")).Val() == 1, err == nil
			}
			for _, at := range slices.Compact([]time.Duration{tt.body, tt.row}) {
				if at > 0 {
					f.pass(at - time.Second - f.now.Sub(m.Ended))
					if body, row := left(); body != (at <= tt.body) || !row {
						t.Errorf("before %v: body %v, row %v", at, body, row)
					}
				}
				f.pass(at - f.now.Sub(m.Ended))
				if body, row := left(); body != (at < tt.body) || row != (at < tt.row) {
					t.Errorf("after %v: body %v, row %v", at, body, row)
				}
			}
			if left := f.rdb.Keys(t.Context(), "*outbox*").Val(); len(left) > 0 {
				t.Error(left)
			}
		})
	}
}

// What failed is sent again while its body is there.
func TestMove_retries_what_failed(t *testing.T) {
	f := clockedSender(t)
	fail := func() store.Submission {
		f.accept()
		return f.move(f.claim().Submission, store.SubmissionFailed, store.MoveOps{}, func(m *store.Submission) { m.Ended = f.now })
	}
	m := fail()
	f.pass(time.Hour)
	again := f.move(m, store.SubmissionQueued, store.MoveOps{}, func(m *store.Submission) { m.Charged = 0 })
	f.pass(100 * time.Hour)
	c := f.claim()
	if c.Submission.ID != m.ID || c.Submission.Attempt != 2 {
		t.Errorf("%+v", c)
	}
	if _, err := f.OpenBody(t.Context(), again); err != nil {
		t.Error(err)
	}
	if n, err := f.SweepOutbox(t.Context()); n > 0 || err != nil {
		t.Error(n, err)
	}
	f.move(c.Submission, store.SubmissionSent, store.MoveOps{})
	m = fail()
	f.pass(25 * time.Hour)
	next := m
	next.State = store.SubmissionQueued
	if _, err := f.MoveSubmission(t.Context(), m, next, nil, store.MoveOps{}); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
}

func TestSubmissions_pages(t *testing.T) {
	storetest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newSender(t, rdb)
		if _, err := f.CreateAccount(t.Context(), store.Account{ID: "sales"}); err != nil {
			t.Fatal(err)
		}
		var all []store.SubmissionID // newest first
		for i := range 9 {
			id := []store.AccountID{"support", "sales"}[i%2]
			m := f.accept(func(m *store.Submission) {
				m.Account, m.ID = id, store.NewSubmissionID(id, time.UnixMilli(1795305600000+int64(i)))
			})
			all = slices.Insert(all, 0, m.ID)
		}
		f.claim()
		for name, tt := range map[string]struct {
			q     store.SubmissionQuery
			total int
			want  []store.SubmissionID
		}{
			"all":        {store.SubmissionQuery{Limit: 20}, 9, all},
			"second":     {store.SubmissionQuery{Offset: 4, Limit: 4}, 9, all[4:8]},
			"last":       {store.SubmissionQuery{Offset: 8, Limit: 4}, 9, all[8:]},
			"behind":     {store.SubmissionQuery{Offset: 12, Limit: 4}, 9, nil},
			"account":    {store.SubmissionQuery{Account: "sales", Offset: 1, Limit: 2}, 4, []store.SubmissionID{all[3], all[5]}},
			"processing": {store.SubmissionQuery{States: []store.SubmissionState{"processing", "sent"}, Limit: 2}, 1, all[8:]},
			"none":       {store.SubmissionQuery{Account: "support", States: []store.SubmissionState{"sent"}, Limit: 2}, 0, nil},
			"no account": {store.SubmissionQuery{Account: "nobody", Limit: 2}, 0, nil},
		} {
			page, err := f.Submissions(t.Context(), tt.q)
			var got []store.SubmissionID
			for _, m := range page.Submissions {
				got = append(got, m.ID)
			}
			if diff := cmp.Diff(tt.want, got); err != nil || page.Total != tt.total || diff != "" {
				t.Errorf("%s: total %d, %v: %s", name, page.Total, err, diff)
			}
		}
	})
}

// A deleted account's outbox is gone at once for whoever would send, and then altogether;
// a new account of the same name has none of it.
func TestDeleteAccount_drops_its_outbox(t *testing.T) {
	storetest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newSender(t, rdb)
		if err := f.DeleteAccount(t.Context(), f.a.ID); err != nil {
			t.Fatal(err)
		}
		before := rdb.DBSize(t.Context()).Val() // journal, feed, tomb
		if _, err := f.CreateAccount(t.Context(), support()); err != nil {
			t.Fatal(err)
		}
		for range 6 {
			f.accept()
		}
		idem := store.Idempotency{Key: "k"}
		if _, err := f.AcceptSubmission(t.Context(), store.Accept{Submission: letter(f.a.ID), Body: strings.NewReader("x"), Idempotency: &idem}); err != nil {
			t.Fatal(err)
		}
		sent, flying := f.claim(), f.claim()
		f.move(sent.Submission, store.SubmissionSent, store.MoveOps{SentLog: &store.SentLog{MessageIDs: []string{"<a@b>"}, At: time.Now()}})
		if err := f.DeleteAccount(t.Context(), f.a.ID); err != nil {
			t.Fatal(err)
		}
		m := flying.Submission
		if err := f.MarkSubmission(t.Context(), m.ID, m.Fence, m.Attempt); !errors.Is(err, store.ErrStale) {
			t.Error(err)
		}
		if c := f.claim(); c.Answer != store.ClaimGone {
			t.Errorf("%+v", c)
		}
		var last events.Event
		for e := range f.Journal(t.Context(), f.a.ID, 0) {
			last = e
		}
		if p, err := events.Decode(last); err != nil || p != (events.AccountDeleted{Account: "support", OutboxDropped: 6}) {
			t.Errorf("%+v, %v", p, err)
		}
		if after := rdb.DBSize(t.Context()).Val(); after != before {
			t.Errorf("%d keys, %d before: %v", after, before, rdb.Keys(t.Context(), "*").Val())
		}
		if _, err := f.CreateAccount(t.Context(), support()); err != nil {
			t.Fatal(err)
		}
		next := m
		next.State = store.SubmissionSent
		if _, err := f.MoveSubmission(t.Context(), m, next, stepEvents(m, next.State), store.MoveOps{}); !errors.Is(err, store.ErrNotFound) {
			t.Error(err)
		}
		if c := f.claim(); c.Answer != store.ClaimNone {
			t.Errorf("%+v", c)
		}
		if got, err := f.UsedKey(t.Context(), f.a.ID, idem); err != nil || got.Hit {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

// A large outbox of a deleted account goes in slices, and what the deletion leaves a sweep takes.
func TestSweepOutbox_takes_what_a_deletion_leaves(t *testing.T) {
	swept := 0
	for at := 1; at < 14; at++ {
		f := newSender(t, storetest.MiniredisClient(t))
		rows := 3
		if at == 1 {
			rows = 130
		}
		for range rows {
			f.accept()
		}
		f.move(f.claim().Submission, store.SubmissionUnknown, store.MoveOps{}, func(m *store.Submission) {
			m.Deferred, m.FlagState, m.Last = []store.Refusal{{Recipient: "b@x"}}, store.AfterPending, &store.Outcome{At: time.Now()}
		})
		f.rdb.AddHook(&fault{at: at})
		for range 3 {
			if err := f.DeleteAccount(t.Context(), f.a.ID); err == nil {
				break
			}
		}
		n, err := f.SweepOutbox(t.Context())
		if errors.Is(err, store.ErrUnavailable) {
			n, err = f.SweepOutbox(t.Context())
		}
		if swept += n; err != nil {
			t.Error(err)
		}
		if left := f.rdb.Keys(t.Context(), "*outbox*").Val(); len(left) > 0 {
			t.Error(left)
		}
		if sum, err := f.OutboxTotals(t.Context()); err != nil || sum.Bytes != 0 {
			t.Errorf("%+v, %v", sum, err)
		}
	}
	if swept == 0 {
		t.Error("no deletion left anything to a sweep")
	}
}

func TestSentLog(t *testing.T) {
	f := clockedSender(t)
	f.accept()
	m := f.claim().Submission
	log := &store.SentLog{MessageIDs: []string{"<theirs@x>", "<of.7@example.com>", ""}, Recipients: []string{"Ada@example.net", "bob@example.net"}, At: f.now}
	f.move(m, store.SubmissionSent, store.MoveOps{SentLog: log})
	for _, id := range log.MessageIDs[:2] {
		es, err := f.SentMessage(t.Context(), f.a.ID, id)
		if err != nil || len(es) != 1 {
			t.Fatalf("%s: %+v, %v", id, es, err)
		}
		if e := es[0]; e.ID != m.ID || !e.At.Equal(f.now) || !f.WasSentTo(e, "ada@EXAMPLE.net") || f.WasSentTo(e, "eve@example.net") {
			t.Errorf("%s: %+v", id, e)
		}
	}
	for _, k := range f.rdb.Keys(t.Context(), "*:log:*").Val() {
		if text := fmt.Sprint(f.rdb.HGetAll(t.Context(), k).Val()); strings.Contains(text, "ada") || strings.Contains(text, "theirs") {
			t.Error(text)
		}
	}
	if _, err := f.SentMessage(t.Context(), "other", "<theirs@x>"); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
	f.pass(90*24*time.Hour - time.Second)
	if _, err := f.SentMessage(t.Context(), f.a.ID, "<theirs@x>"); err != nil {
		t.Error(err)
	}
	f.pass(time.Second)
	if _, err := f.SentMessage(t.Context(), f.a.ID, "<theirs@x>"); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
	if _, err := f.UpdateSettings(t.Context(), map[string]json.RawMessage{"sendLogDays": json.RawMessage(`92`)}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.SentMessage(t.Context(), f.a.ID, "<theirs@x>"); err != nil {
		t.Error(err)
	}
	f.pass(8 * 24 * time.Hour)
	if left := f.rdb.Keys(t.Context(), "*:log:*").Val(); len(left) > 0 {
		t.Error(left)
	}
}

// A message that was sent to some, later to others, was sent to all of them.
func TestSentLog_several_transactions(t *testing.T) {
	f := clockedSender(t)
	f.accept()
	for i, to := range []string{"ada@example.net", "bob@example.net", "bob@example.net"} {
		log := &store.SentLog{MessageIDs: []string{"<of.7@example.com>"}, Recipients: []string{to}, At: f.now}
		f.move(f.claim().Submission, store.SubmissionQueued, store.MoveOps{SentLog: log})
		es, err := f.SentMessage(t.Context(), f.a.ID, "<of.7@example.com>")
		if err != nil || len(es) != 1 {
			t.Fatalf("transaction %d: %+v, %v", i+1, es, err)
		}
		if e := es[0]; !e.At.Equal(f.now) || !f.WasSentTo(e, "ada@example.net") || f.WasSentTo(e, "bob@example.net") != (i > 0) {
			t.Errorf("transaction %d: %+v", i+1, e)
		}
		f.pass(8 * 24 * time.Hour) // another week's table
	}
}

// A Message-ID that its caller gave to several submissions: each is known with whom it was
// sent to, whichever came last.
func TestSentLog_one_id_of_several(t *testing.T) {
	storetest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newSender(t, rdb)
		sent := func(m store.Submission, state store.SubmissionState, to string) {
			f.move(m, state, store.MoveOps{SentLog: &store.SentLog{MessageIDs: []string{m.MessageID}, Recipients: []string{to}, At: time.Now()}})
		}
		known := func() (out []string) {
			es, err := f.SentMessage(t.Context(), f.a.ID, "<of.7@example.com>")
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range es {
				var who strings.Builder
				for _, name := range []string{"ada", "bob", "cem"} {
					if f.WasSentTo(e, name+"@example.net") {
						who.WriteString(" " + name)
					}
				}
				out = append(out, string(e.ID)+who.String())
			}
			return out
		}
		f.accept()
		f.accept()
		a, b := f.claim().Submission, f.claim().Submission
		sent(a, store.SubmissionQueued, "ada@example.net")
		sent(b, store.SubmissionSent, "bob@example.net")
		if diff := cmp.Diff([]string{string(b.ID) + " bob", string(a.ID) + " ada"}, known()); diff != "" {
			t.Error(diff)
		}
		sent(f.claim().Submission, store.SubmissionSent, "cem@example.net")
		if diff := cmp.Diff([]string{string(a.ID) + " ada cem", string(b.ID) + " bob"}, known()); diff != "" {
			t.Error(diff)
		}
		var want []string
		for range 10 {
			f.accept()
			m := f.claim().Submission
			sent(m, store.SubmissionSent, "eve@example.net")
			want = append([]string{string(m.ID)}, want...)
		}
		if diff := cmp.Diff(want, known()); diff != "" {
			t.Errorf("the latest ten are not: %s", diff)
		}
	})
}

// Any command of a submission's life may fail, before or after its effect: repeated, it is
// one submission, claimed and sent once.
func TestFault_submission(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			ft := &fault{at: at, after: after}
			rdb := storetest.MiniredisClient(t)
			f := newSender(t, rdb)
			rdb.AddHook(ft)
			until := func(what string, try func() error) {
				t.Helper()
				for range 5 {
					err := try()
					if err == nil {
						return
					}
					if !errors.Is(err, store.ErrUnavailable) {
						t.Fatalf("command %d, after its effect %v: %s: %v", at, after, what, err)
					}
				}
				t.Fatalf("%s does not come through", what)
			}
			idem := store.Idempotency{Key: "k", Hash: [32]byte{7}}
			want := letter(f.a.ID)
			until("accept", func() error {
				body := strings.NewReader(strings.Repeat("x", 700<<10))
				got, err := f.AcceptSubmission(t.Context(), store.Accept{Submission: want, Body: body, Idempotency: &idem})
				if err == nil && (got.Hit || got.ID != want.ID || got.Submission.Pieces != 2) {
					t.Errorf("command %d, after its effect %v: accepted %+v", at, after, got)
				}
				return err
			})
			if ttl := rdb.TTL(t.Context(), f.key("q:"+string(want.ID)+":body")).Val(); ttl > 0 {
				t.Errorf("command %d, after its effect %v: the body ends in %v", at, after, ttl)
			}
			var c store.Claimed
			until("claim", func() (err error) {
				c, err = f.ClaimSubmission(t.Context(), store.Claim{Account: f.a.ID, Owner: "p1", Lease: time.Minute, Slots: 1, Op: "claim"})
				return err
			})
			m := c.Submission
			until("mark", func() error { return f.MarkSubmission(t.Context(), m.ID, m.Fence, m.Attempt) })
			until("renew", func() error { return f.RenewSubmission(t.Context(), m.ID, m.Fence, m.Attempt, time.Minute) })
			next := m
			next.State = store.SubmissionSent
			until("move", func() error {
				_, err := f.MoveSubmission(t.Context(), m, next, stepEvents(m, next.State), store.MoveOps{SentLog: &store.SentLog{MessageIDs: []string{"<a@b>"}, At: time.Now()}})
				return err
			})
			if ft.n < at {
				if at < 10 {
					t.Fatalf("only %d commands", at)
				}
				break
			}
			ttl := rdb.TTL(t.Context(), f.key("q:"+string(m.ID)+":body")).Val()
			if sp, err := f.Spool(t.Context(), f.a.ID); err != nil || sp != (store.Spool{}) || ttl < 23*time.Hour {
				t.Errorf("command %d, after its effect %v: %+v, %v, body for %v", at, after, sp, err, ttl)
			}
			if got := journal(t, f.Store, f.a.ID); fmt.Sprint(got) != "[1 accountAdded 2 messageQueued 3 messageSent]" {
				t.Errorf("command %d, after its effect %v: %v", at, after, got)
			}
			if page, err := f.Submissions(t.Context(), store.SubmissionQuery{Limit: 9}); err != nil || page.Total != 1 {
				t.Errorf("command %d, after its effect %v: %d submissions, %v", at, after, page.Total, err)
			}
		}
	}
}

// Whatever happens in whatever order, each submission stands in the sets of its state and in
// no other, counters agree, and what waits can be claimed.
func TestSubmission_books_agree(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f := clockedSender(t)
		defer f.m.Close()
		rows := map[store.SubmissionID]store.Submission{}
		pick := func(states ...store.SubmissionState) (store.Submission, bool) {
			var fit []store.SubmissionID
			for id, m := range rows {
				if slices.Contains(states, m.State) {
					fit = append(fit, id)
				}
			}
			if len(fit) == 0 {
				return store.Submission{}, false
			}
			slices.Sort(fit)
			return rows[rapid.SampledFrom(fit).Draw(rt, "which")], true
		}
		step := func(to store.SubmissionState, ops store.MoveOps, from ...store.SubmissionState) {
			if m, ok := pick(from...); ok {
				rows[m.ID] = f.move(m, to, ops, func(m *store.Submission) {
					m.Ended, m.Deferred, m.Last, m.CopyState = f.now, nil, &store.Outcome{At: f.now}, ""
					if rapid.Bool().Draw(rt, "copy") {
						m.CopyState = store.AfterPending
					}
					if rapid.Bool().Draw(rt, "behind") {
						m.Deferred = []store.Refusal{{Recipient: "b@x"}}
					}
					if to == store.SubmissionHeld {
						m.Reason = rapid.SampledFrom([]string{store.HeldReview, store.HeldSendLimit}).Draw(rt, "reason")
					}
				})
			}
		}
		const queued, processing, held, sent, failed, canceled, unknown = store.SubmissionQueued, store.SubmissionProcessing, store.SubmissionHeld,
			store.SubmissionSent, store.SubmissionFailed, store.SubmissionCanceled, store.SubmissionUnknown
		none := store.MoveOps{}
		steps := map[string]func(){
			"accept": func() {
				m := f.accept(func(m *store.Submission) {
					m.SendAt = f.now.Add(time.Duration(rapid.IntRange(-1, 2).Draw(rt, "later")) * time.Minute)
					m.Gateway = rapid.SampledFrom([]string{"", "gw"}).Draw(rt, "gateway")
				})
				rows[m.ID] = m
			},
			"claim": func() {
				if c := f.claim(func(c *store.Claim) { c.Slots = 3 }); c.Answer == store.ClaimOK {
					rows[c.Submission.ID] = c.Submission
				}
			},
			"sent":   func() { step(sent, store.MoveOps{Wake: true}, processing, unknown) },
			"error":  func() { step(queued, none, processing) },
			"sleep":  func() { step(queued, store.MoveOps{Sleep: &store.Sleep{Until: f.now.Add(time.Minute)}}, processing) },
			"fail":   func() { step(failed, none, processing, queued, held) },
			"lose":   func() { step(unknown, none, processing, unknown) },
			"hold":   func() { step(held, none, queued, processing) },
			"retry":  func() { step(queued, none, failed, held, unknown) },
			"cancel": func() { step(canceled, none, queued, held, store.SubmissionScheduled) },
			"wait":   func() { f.pass(time.Duration(rapid.IntRange(1, 100).Draw(rt, "seconds")) * time.Second) },
		}
		names := []string{"accept", "claim", "sent", "error", "sleep", "fail", "lose", "hold", "retry", "cancel", "wait"}
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			steps[rapid.SampledFrom(names).Draw(rt, "step")]()
		}
		ctx := t.Context()
		active, waiting, due, dueElsewhere := 0, 0, false, false
		for _, st := range store.SubmissionStates {
			var want []string
			for id, m := range rows {
				if m.State == st {
					want = append(want, string(id))
				}
			}
			slices.Sort(want)
			for _, set := range []string{"a:support:outbox:", "outbox:"} {
				if got := f.rdb.ZRange(ctx, f.key(set+string(st)), 0, -1).Val(); !slices.Equal(got, want) {
					rt.Errorf("%s%s has %v, want %v", set, st, got, want)
				}
			}
		}
		for id, m := range rows {
			stored, err := f.Submission(ctx, id)
			if diff := cmp.Diff(m, stored); err != nil || diff != "" {
				rt.Error(diff, err)
			}
			score, err := f.rdb.ZScore(ctx, f.key("a:support:outbox:due"), string(id)).Result()
			if (err == nil) != m.Waiting() || err == nil && int64(score) != m.Due().UnixMilli() {
				rt.Errorf("%s is %s %s and due at %v, %v", id, m.State, m.Reason, score, err)
			}
			by, err := f.rdb.ZScore(ctx, f.key("a:support:outbox:gateway"), string(id)).Result()
			if (err == nil) != (m.Waiting() && m.Gateway != "") || err == nil && by != score {
				rt.Errorf("%s by gateway %q is %s and due there at %v, %v", id, m.Gateway, m.State, by, err)
			}
			ends := map[bool]string{true: "ended"}[m.State.Final() || m.State == unknown]
			if m.State == unknown && len(m.Deferred) > 0 {
				ends = "unsettled"
			}
			for _, set := range []string{"ended", "unsettled"} {
				if in := f.rdb.ZScore(ctx, f.key("outbox:"+set), string(id)).Err() == nil; in != (set == ends) {
					rt.Errorf("%s is %s, in %s %v", id, m.State, set, in)
				}
			}
			if in := f.rdb.ZScore(ctx, f.key("outbox:after"), string(id)).Err() == nil; in != (m.CopyState != "") {
				rt.Errorf("%s, copy %q, is looked after %v", id, m.CopyState, in)
			}
			if m.State == processing {
				active++
			}
			if !m.State.Final() {
				waiting++
			}
			due = due || m.Waiting() && !m.Due().After(f.now)
			dueElsewhere = dueElsewhere || m.Waiting() && !m.Due().After(f.now) && m.Gateway != ""
		}
		sp, err := f.Spool(ctx, f.a.ID)
		if err != nil || sp.Active != active || sp.Rows != waiting || sp.Bytes != int64(waiting)*7 {
			rt.Errorf("%+v, %v; want %d active, %d waiting", sp, err, active, waiting)
		}
		spools, err := f.DueSpools(ctx, 0, 10)
		if asleep := sp.Sleep.Until.After(f.now); err != nil || (len(spools) == 1) != (due && !asleep || dueElsewhere) {
			rt.Errorf("due %v, by a gateway %v, asleep %v: %+v, %v", due, dueElsewhere, asleep, spools, err)
		}
		if n := f.rdb.ZCard(ctx, f.key("outbox:leases")).Val(); n != int64(active) {
			rt.Errorf("%d leases, %d active", n, active)
		}
	})
}
