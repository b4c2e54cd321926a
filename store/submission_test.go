package store_test

import (
	"bytes"
	"io"
	"testing"
	"time"

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

func accept(t *testing.T, s *store.Store, m store.Submission, body []byte) store.Submission {
	t.Helper()
	done, err := s.AcceptSubmission(t.Context(), store.Accept{Submission: m, Body: bytes.NewReader(body)})
	if err != nil {
		t.Fatal(err)
	}
	return done.Submission
}

func claim(t *testing.T, s *store.Store, account store.AccountID) store.Claimed {
	t.Helper()
	c, err := s.ClaimSubmission(t.Context(), store.Claim{Account: account, Owner: "p1", Lease: time.Minute, Slots: 2})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSubmission_from_acceptance_to_sent(t *testing.T) {
	storetest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := storetest.On(t, rdb)
		a, err := s.CreateAccount(t.Context(), support())
		if err != nil {
			t.Fatal(err)
		}
		before := rdb.DBSize(t.Context()).Val()
		body := bytes.Repeat([]byte("0123456789abcdef"), 100_000) // four pieces
		m := accept(t, s, letter(a.ID), body)
		c := claim(t, s, a.ID)
		if c.Answer != store.ClaimOK || c.Submission.ID != m.ID || c.Submission.Attempt != 1 || c.Submission.Fence != 1 {
			t.Fatalf("%+v", c)
		}
		m = c.Submission
		r, err := s.OpenBody(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, body) {
			t.Errorf("body of %d bytes, %v", len(got), err)
		}
		if err := s.MarkSubmission(t.Context(), m.ID, m.Fence, m.Attempt); err != nil {
			t.Error(err)
		}
		if err := s.RenewSubmission(t.Context(), m.ID, m.Fence, m.Attempt, time.Minute); err != nil {
			t.Error(err)
		}
		next := m
		next.State, next.Ended = store.SubmissionSent, c.Now
		sent := m.Event(events.MessageSent{Delivery: m.Delivery(m.To), Response: "250 OK", Attempt: m.Attempt})
		done, err := s.MoveSubmission(t.Context(), m, next, []events.Event{sent}, store.MoveOps{Wake: true})
		if err != nil || done.State != store.SubmissionSent {
			t.Fatalf("%+v, %v", done, err)
		}
		if got := journal(t, s, a.ID); len(got) != 3 || got[1] != "2 messageQueued" || got[2] != "3 messageSent" {
			t.Error(got)
		}
		if after := rdb.DBSize(t.Context()).Val(); after != before+5 { // row, body, two sets of sent, ended
			t.Errorf("%d keys, %d before: %v", after, before, rdb.Keys(t.Context(), "*").Val())
		}
	})
}
