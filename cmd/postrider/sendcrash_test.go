package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/smtpsend/smtptest"
	"github.com/postrider/postrider/store/storetest"
)

// registerSender adds an account that only sends, by the sink.
func (s *served) registerSender(id string, sink *smtptest.Sink, hook string) {
	s.t.Helper()
	host, port := sink.Addr()
	body := map[string]any{
		"account": id, "email": id + "@sender.example", "imap": false,
		"smtp": map[string]any{"host": host, "port": port, "secure": false, "plaintext": true},
	}
	if hook != "" {
		body["webhooks"] = hook
	}
	s.Call("POST", "/v1/account", body, nil)
}

// outboxRow is what tests look at of a submission.
type outboxRow struct {
	QueueID   string `json:"queueId"`
	MessageID string `json:"messageId"`
	State     string `json:"state"`
	Reason    string `json:"reason"`
	Attempt   int    `json:"attempt"`
}

// outbox reads all submissions of an account, or those in a state.
func (s *served) outbox(account, state string) (rows []outboxRow) {
	s.t.Helper()
	for page := 0; ; page++ {
		var answer struct {
			Total int         `json:"total"`
			Rows  []outboxRow `json:"messages"`
		}
		s.Call("GET", fmt.Sprintf("/v1/outbox?account=%s&state=%s&page=%d&pageSize=1000", account, state, page), nil, &answer)
		rows = append(rows, answer.Rows...)
		if len(answer.Rows) == 0 || len(rows) >= answer.Total {
			return rows
		}
	}
}

// Submissions pour in while the program is killed at random moments. In the end each of
// them was taken by the server exactly once, or says that nobody knows; none is lost,
// none was taken twice, and the events say the same as the rows.
func TestCrash_kill_9_while_sending(t *testing.T) {
	kills, messages := 50, 1000
	if testing.Short() {
		kills, messages = 5, 100
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	redis := storetest.NewServer(t)
	// It takes its time with both answers, so that kills come in between.
	pause := func() { <-time.After(5 * time.Millisecond) }
	sink := smtptest.StartSink(t, smtptest.SinkOptions{
		Rcpt: func(string) error { pause(); return nil },
		Dot:  func(smtptest.Message) error { pause(); return nil },
	})
	s := startServe(t, loopbackEnv("POSTRIDER_REDIS_URL="+redis.URL()))
	s.registerSender("sender", sink, "")

	// Who submits asks again until there is an answer, as an application would: with its key.
	var url atomic.Pointer[string]
	moved := func() { u := s.URL; url.Store(&u) }
	moved()
	token := s.Token
	queued := make([]string, messages)
	steps, done := make(chan struct{}, messages), make(chan error, 1)
	submitting, stop := errgroup.WithContext(t.Context())
	submitting.SetLimit(8)
	go func() {
		for i := range messages {
			submitting.Go(func() error {
				for stop.Err() == nil {
					c := &apiClient{url: *url.Load(), token: token, http: newHTTPClient()}
					p := sending{client: c}
					var answer outboxRow
					err := p.post(stop, "/v1/account/sender/submit", map[string]any{
						"to": map[string]any{"address": fmt.Sprintf("r%d@example.net", i)}, "subject": fmt.Sprint("message ", i), "text": "Hello",
						"messageId": fmt.Sprintf("<m%d@sender.example>", i),
					}, map[string][]string{"Idempotency-Key": {fmt.Sprint("key-", i)}}, &answer)
					c.http.CloseIdleConnections()
					if err == nil {
						queued[i] = answer.QueueID
						steps <- struct{}{}
						return nil
					}
					if e, refused := errors.AsType[*apiError](err); refused && e.Status != http.StatusServiceUnavailable {
						return err
					}
					if wait(stop, 20*time.Millisecond) != nil {
						break
					}
				}
				return context.Cause(stop)
			})
		}
		done <- submitting.Wait()
	}()
	per := messages / kills
	for range kills {
		for range per {
			select {
			case <-steps:
			case err := <-done:
				if done <- err; err != nil {
					t.Fatal(err)
				}
			case <-time.After(time.Minute):
				t.Fatal("nothing is accepted any more")
			}
		}
		<-time.After(time.Duration(chance.IntN(150)) * time.Millisecond)
		s.Kill()
		s.Start()
		moved()
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}

	var rows []outboxRow
	eventually(t, 3*time.Minute, "every submission to end", func() bool {
		rows = s.outbox("sender", "")
		return len(rows) == messages && !slices.ContainsFunc(rows, func(r outboxRow) bool { return r.State != "sent" && r.State != "unknown" })
	})
	taken := map[string]int{}
	for _, m := range sink.Messages() {
		_, id, _ := bytes.Cut(m.Body, []byte("Message-ID: "))
		id, _, _ = bytes.Cut(id, []byte("\r\n"))
		taken[string(id)]++
	}
	assertSentOnce(t, rows, queued, taken)
	assertSendEvents(t, rows, s.journal("sender"))
}

// assertSentOnce compares rows with what was answered and with what the server took.
func assertSentOnce(t *testing.T, rows []outboxRow, queued []string, taken map[string]int) {
	t.Helper()
	of := map[string]outboxRow{}
	for _, r := range rows {
		of[r.QueueID] = r
	}
	if len(rows) != len(queued) || len(of) != len(queued) {
		t.Errorf("%d rows of %d submissions", len(rows), len(queued))
	}
	unknown := 0
	for i, id := range queued {
		r, ok := of[id]
		n := taken[fmt.Sprintf("<m%d@sender.example>", i)]
		switch {
		case !ok:
			t.Errorf("submission %d (%s) is lost", i, id)
		case n > 1:
			t.Errorf("submission %d (%s, %s) was taken %d times", i, id, r.State, n)
		case r.State == "sent" && n != 1:
			t.Errorf("submission %d (%s) is sent and was taken %d times", i, id, n)
		case r.State == "unknown":
			unknown++
		}
	}
	t.Logf("%d sent, %d unknown", len(rows)-unknown, unknown)
}

// assertSendEvents demands one messageQueued a submission, and one end that its row has.
func assertSendEvents(t *testing.T, rows []outboxRow, list []journalled) {
	t.Helper()
	told := map[string]map[string]int{}
	for _, e := range list {
		var d struct{ QueueID, Reason string }
		_ = json.Unmarshal(e.Data, &d) // events of other kinds have neither
		if d.QueueID == "" {
			continue
		}
		if told[d.QueueID] == nil {
			told[d.QueueID] = map[string]int{}
		}
		told[d.QueueID][e.Event+d.Reason]++
	}
	if len(told) != len(rows) {
		t.Errorf("events tell of %d submissions, there are %d", len(told), len(rows))
	}
	for _, r := range rows {
		want := map[string]int{"messageQueued": 1, "messageSent": 1}
		if r.State == "unknown" {
			want = map[string]int{"messageQueued": 1, "messageHeldoutcomeUnknown": 1}
		}
		got := told[r.QueueID]
		for _, name := range []string{"messageQueued", "messageSent", "messageFailed", "messageHeldoutcomeUnknown"} {
			if got[name] != want[name] {
				t.Errorf("%s is %s, and its events are %v", r.QueueID, r.State, got)
				break
			}
		}
	}
}
