package smtpsend_test

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/smtpsend"
	"github.com/postrider/postrider/smtpsend/compose"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/storetest"
)

// queue is a Queue on a fresh Redis, with nobody who sends.
func queue(t *testing.T, change ...func(*smtpsend.Options)) *house {
	rdb := storetest.MiniredisClient(t)
	h := &house{t: t, rdb: rdb, store: storetest.On(t, rdb)}
	h.opts = smtpsend.Options{Store: h.store, Redis: rdb}
	for _, c := range change {
		c(&h.opts)
	}
	s, err := smtpsend.New(h.opts)
	if err != nil {
		t.Fatal(err)
	}
	h.Sender = s
	h.account("ada")
	return h
}

func TestSubmit_refuses(t *testing.T) {
	h := queue(t, func(o *smtpsend.Options) { o.Config.MaxRecipients = 2 })
	h.account("mute", func(a *store.Account) { a.SMTP = nil })
	for name, tt := range map[string]struct {
		account store.AccountID
		change  func(*smtpsend.Request)
		want    error
	}{
		"no such account":      {"nobody", nil, store.ErrNotFound},
		"no server":            {"mute", nil, smtpsend.ErrNoServer},
		"no such gateway":      {"mute", func(r *smtpsend.Request) { r.Gateway = "g" }, smtpsend.ErrNoGateway},
		"unknown preset":       {"ada", func(r *smtpsend.Request) { r.Preset = "often" }, smtpsend.ErrRetry},
		"too many attempts":    {"ada", func(r *smtpsend.Request) { r.Attempts = 51 }, smtpsend.ErrRetry},
		"no mailbox to answer": {"ada", func(r *smtpsend.Request) { r.Reference = &smtpsend.Reference{Message: "x"} }, smtpsend.ErrMailbox},
	} {
		t.Run(name, func(t *testing.T) {
			r := request(tt.account, "bob@example.net")
			if tt.change != nil {
				tt.change(&r)
			}
			if _, err := h.Queue.Submit(t.Context(), r); !errors.Is(err, tt.want) {
				t.Errorf("%v", err)
			}
		})
	}
	_, err := h.Queue.Submit(t.Context(), request("ada", "a@x.example", "b@x.example", "c@x.example"))
	if e, ok := errors.AsType[*compose.Error](err); !ok || !e.Has(compose.TooManyRecipients) {
		t.Errorf("%v", err)
	}
	if totals, err := h.store.OutboxTotals(t.Context()); err != nil || totals.States[store.SubmissionQueued] != 0 {
		t.Errorf("%+v, %v", totals, err)
	}
}

// What is stored is what dryRun shows, but for what is made anew each time.
func TestSubmit_dry_run(t *testing.T) {
	h := queue(t)
	r := request("ada", "bob@example.net")
	r.Message.MessageID = "<1@example.com>"
	var preview bytes.Buffer
	r.DryRun = &preview
	dry, err := h.Queue.Submit(t.Context(), r)
	if err != nil || !bytes.Contains(preview.Bytes(), []byte("Good day.")) || !bytes.Contains(preview.Bytes(), []byte("From: Sales <ada@example.com>")) {
		t.Fatalf("%s, %v", preview.Bytes(), err)
	}
	if _, err := h.store.Submission(t.Context(), dry.QueueID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if totals, _ := h.store.OutboxTotals(t.Context()); totals.Bytes != 0 {
		t.Errorf("%+v", totals)
	}
}

// What the server said it takes within the last day is not exceeded.
func TestSubmit_too_large(t *testing.T) {
	h := queue(t)
	for age, want := range map[time.Duration]error{time.Hour: smtpsend.ErrTooLarge, 25 * time.Hour: nil} {
		old, err := h.store.Sending(t.Context(), "ada")
		if err != nil {
			t.Fatal(err)
		}
		st := store.SMTPStatus{Status: store.SMTPOK, MaxSize: 100, SizeAt: time.Now().Add(-age)}
		if err := h.store.SetSMTPStatus(t.Context(), "ada", old.SMTP, st); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Queue.Submit(t.Context(), request("ada", "bob@example.net")); !errors.Is(err, want) {
			t.Errorf("%v ago: %v", age, err)
		}
	}
}

// Two requests with one key at once are one submission, and the same answer.
func TestSubmit_idempotency(t *testing.T) {
	h := queue(t)
	r := request("ada", "bob@example.net")
	r.IdempotencyKey, r.Fingerprint = "order-17", [32]byte{1}
	var wg sync.WaitGroup
	results := make([]smtpsend.Result, 8)
	for i := range results {
		wg.Go(func() {
			res, err := h.Queue.Submit(t.Context(), r)
			if err != nil {
				t.Error(err)
			}
			results[i] = res
		})
	}
	wg.Wait()
	fresh := 0
	for _, res := range results {
		if !res.Hit {
			fresh++
		}
		if res.QueueID != results[0].QueueID || res.MessageID != results[0].MessageID || res.MessageID == "" {
			t.Errorf("%+v, %+v", res, results[0])
		}
	}
	if fresh != 1 {
		t.Errorf("%d were queued", fresh)
	}
	r.Fingerprint = [32]byte{2}
	if _, err := h.Queue.Submit(t.Context(), r); !errors.Is(err, store.ErrKeyReused) {
		t.Errorf("%v", err)
	}
}

func TestSubmit_reference_is_missing(t *testing.T) {
	box := &mailbox{err: smtpsend.ErrNoMessage}
	h := queue(t, func(o *smtpsend.Options) { o.Reader = box })
	r := request("ada", "bob@example.net")
	r.Reference = &smtpsend.Reference{Message: "AAAAAQAAAAE", Action: compose.Reply}
	if _, err := h.Queue.Submit(t.Context(), r); !errors.Is(err, smtpsend.ErrNoReference) {
		t.Errorf("%v", err)
	}
	r.Reference.IgnoreMissing = true
	res, err := h.Queue.Submit(t.Context(), r)
	if err != nil || res.Reference == nil || res.Reference.Success || res.Reference.Error == "" {
		t.Errorf("%+v, %v", res.Reference, err)
	}
	long := r
	long.Reference = &smtpsend.Reference{Message: strings.Repeat("A", 1025), Action: compose.Reply, IgnoreMissing: true}
	if _, err := h.Queue.Submit(t.Context(), long); !errors.Is(err, smtpsend.ErrNoReference) { // it would stand in the row
		t.Errorf("%v", err)
	}
	box.fail(errors.New("server is away"))
	if _, err := h.Queue.Submit(t.Context(), r); !errors.Is(err, smtpsend.ErrMailbox) {
		t.Errorf("%v", err)
	}
}

func TestQueue_deeds(t *testing.T) {
	h := queue(t)
	hold := request("ada", "bob@example.net")
	hold.Hold = true
	id := h.submit(hold)
	if row := h.row(id); row.State != store.SubmissionHeld || row.Reason != store.HeldReview {
		t.Fatalf("%+v", row)
	}
	at := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	if row, err := h.Queue.Reschedule(t.Context(), id, at); err != nil || row.State != store.SubmissionHeld || !row.SendAt.Equal(at) {
		t.Errorf("%+v, %v", row, err)
	}
	if row, err := h.Queue.Release(t.Context(), id); err != nil || row.State != store.SubmissionScheduled || !row.Due().Equal(at) {
		t.Errorf("%+v, %v", row, err)
	}
	if row, err := h.Queue.Retry(t.Context(), id); err != nil || row.State != store.SubmissionQueued || row.Due().After(time.Now()) {
		t.Errorf("%+v, %v", row, err)
	}
	h.claim(id, "me", false)
	if _, err := h.Queue.Cancel(t.Context(), id); !errors.Is(err, smtpsend.ErrActive) {
		t.Errorf("%v", err)
	}
	if _, err := h.Queue.Cancel(t.Context(), "01kf2v7q3m8w5x9d4e6r1t0yza"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if told := strings.Join(h.short("ada"), " "); told != "Queued Held" {
		t.Error(told)
	}
}
