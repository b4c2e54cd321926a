package smtpsend_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/smtpsend"
	"github.com/postrider/postrider/smtpsend/transport"
	"github.com/postrider/postrider/store"
)

func TestSend(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		h.account("ada")
		id := h.submit(request("ada", "bob@example.net"))
		time.Sleep(5 * time.Second)
		if row := h.row(id); row.State != store.SubmissionSent || row.Attempt != 1 || len(row.Pending) != 0 {
			t.Errorf("%+v", row)
		}
		got := h.sink.taken()
		if len(got) != 1 || !strings.Contains(got[0].body, "Good day.") || got[0].to[0] != "bob@example.net" {
			t.Errorf("%+v", got)
		}
		if told := h.told("ada"); !slices.Equal(told, []string{"messageQueued", "messageSent"}) {
			t.Error(told)
		}
		if _, err := h.store.OpenBody(t.Context(), h.row(id)); err == nil {
			t.Error("the body of what is sent is kept")
		}
	})
}

// No reply to the dot: nothing is sent again, for as long as nobody asks for it.
func TestSend_unknown(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		h.sink.set(func(x *tx) error {
			if err := x.mark(); err != nil {
				return err
			}
			return &transport.Error{Phase: transport.PhaseDot, Kind: transport.KindSocket, Unknown: true, Accepted: x.env.To}
		})
		h.account("ada")
		id := h.submit(request("ada", "bob@example.net"))
		time.Sleep(time.Hour)
		if row := h.row(id); row.State != store.SubmissionUnknown || row.Attempt != 1 {
			t.Errorf("%+v", row)
		}
		if told := h.told("ada"); !slices.Equal(told, []string{"messageQueued", "messageHeld"}) {
			t.Error(told)
		}
		h.sink.set(nil)
		if _, err := h.Queue.Resolve(t.Context(), id, smtpsend.ResolveRetry); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		sent := h.events("ada", events.MessageSentType)
		if row := h.row(id); row.State != store.SubmissionSent || !row.PossibleDuplicate || len(sent) != 1 || len(h.sink.tried()) != 2 {
			t.Errorf("%+v, %d sent", row, len(sent))
		}
	}, slowly)
}

// A first failure puts off what the preset says: attempts come at its times, within jitter.
func TestSend_times_of_the_preset(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		h.sink.set(func(*tx) error { return refused(transport.PhaseData, 451, [3]int{4, 7, 1}) })
		h.account("ada")
		r := request("ada", "bob@example.net")
		r.Preset, r.Attempts = "code", 4
		id := h.submit(r)
		time.Sleep(3 * time.Minute)
		tries := h.sink.tried()
		if len(tries) != 4 {
			t.Fatalf("%d tries", len(tries))
		}
		for i, want := range []time.Duration{5 * time.Second, 15 * time.Second, 30 * time.Second} {
			// asynq keeps whole seconds and looks once a second.
			if d := tries[i+1].at.Sub(tries[i].at); d < want || d > want+want/5+3*time.Second {
				t.Errorf("try %d after %v, want %v", i+2, d, want)
			}
		}
		row := h.row(id)
		if row.State != store.SubmissionFailed || row.Reason != "attemptsUsed" {
			t.Errorf("%+v", row)
		}
		want := append([]string{"messageQueued"}, append(slices.Repeat([]string{"messageDeliveryError"}, 4), "messageFailed")...)
		if told := h.told("ada"); !slices.Equal(told, want) {
			t.Error(told)
		}
		archived, err := h.inspector().ListArchivedTasks(smtpsend.TaskQueue)
		if err != nil || len(archived) != 1 || !strings.Contains(archived[0].LastErr, "451 no · attempt 4/4 · failed (attemptsUsed)") {
			t.Errorf("%+v, %v", archived, err)
		}
	})
}

// What is put off shows in asynq under retry, with what the server said, and no address,
// subject or word of the message.
func TestTasks_show_what_became_of_it(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		h.sink.set(func(*tx) error { return refused(transport.PhaseData, 451, [3]int{4, 7, 1}) })
		h.account("ada")
		id := h.submit(request("ada", "bob@example.net"))
		time.Sleep(3 * time.Second)
		tasks, err := h.inspector().ListRetryTasks(smtpsend.TaskQueue)
		if err != nil || len(tasks) != 1 {
			t.Fatalf("%+v, %v", tasks, err)
		}
		if want := "451 no · attempt 1/10, next "; !strings.HasPrefix(tasks[0].LastErr, want) {
			t.Errorf("%q", tasks[0].LastErr)
		}
		if p := string(tasks[0].Payload); !strings.Contains(p, string(id)) || strings.ContainsAny(p, "@") || strings.Contains(p, "Hello") {
			t.Error(p)
		}
	})
}

func TestSend_later(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		h.account("ada")
		at := time.Now().Add(time.Hour)
		r := request("ada", "bob@example.net")
		r.SendAt = at
		id := h.submit(r)
		gone := h.submit(r)
		time.Sleep(time.Minute)
		if tasks, err := h.inspector().ListScheduledTasks(smtpsend.TaskQueue); err != nil || len(tasks) != 2 {
			t.Errorf("%+v, %v", tasks, err)
		}
		for range 2 {
			if row, err := h.Queue.Cancel(t.Context(), gone); err != nil || row.State != store.SubmissionCanceled {
				t.Errorf("%+v, %v", row, err)
			}
		}
		time.Sleep(time.Hour)
		got := h.sink.taken()
		if len(got) != 1 || got[0].at.Sub(at) > 45*time.Second || got[0].at.Before(at) {
			t.Fatalf("%+v", got)
		}
		if !strings.Contains(got[0].body, "Date: "+at.Format("Mon, 02 Jan 2006 15:04:05")) && !strings.Contains(got[0].body, "Date: "+at.UTC().Format("Mon, 2 Jan 2006 15:04:05")) {
			t.Error(got[0].body)
		}
		if row := h.row(id); row.State != store.SubmissionSent {
			t.Errorf("%+v", row)
		}
	}, slowly)
}

// The server's host is down for half an hour: one connection is tried a wake, and afterwards
// everything is sent, first in first out.
func TestSend_host_down(t *testing.T) {
	const n = 40
	bubble(t, func(t *testing.T, h *house) {
		up := time.Now().Add(30 * time.Minute)
		h.sink.set(func(*tx) error {
			if time.Now().Before(up) {
				return lost(transport.PhaseConnect)
			}
			return nil
		})
		h.account("ada")
		for i := range n {
			h.submit(request("ada", fmt.Sprintf("to%d@example.net", i)))
		}
		time.Sleep(30 * time.Minute)
		if tries := len(h.sink.tried()); tries > 10 { // wakes after 10 s to 15 min, and two slots at first
			t.Errorf("%d tries while it was down", tries)
		}
		time.Sleep(20 * time.Minute)
		if got := len(h.sink.taken()); got != n {
			t.Errorf("%d sent", got)
		}
	}, slowly)
}

// Refused credentials: nobody is tried but a probe, and new ones send all at once.
func TestSend_credentials(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		h.sink.set(func(x *tx) error {
			if x.server.User != "right" {
				return &transport.Error{Phase: transport.PhaseAuth, Code: 535, Line: "535 5.7.8 no", Kind: transport.KindAuth}
			}
			return nil
		})
		h.account("ada", func(a *store.Account) { one := 1; a.SendLimits.MaxConnections = &one })
		for i := range 5 {
			h.submit(request("ada", fmt.Sprintf("to%d@example.net", i)))
		}
		time.Sleep(time.Minute)
		page, err := h.store.Submissions(t.Context(), store.SubmissionQuery{Account: "ada", States: []store.SubmissionState{store.SubmissionHeld}, Limit: 10})
		if err != nil || page.Total != 5 || len(h.sink.tried()) != 1 {
			t.Errorf("%d held, %d tried, %v", page.Total, len(h.sink.tried()), err)
		}
		charged := 0
		for _, row := range page.Submissions {
			charged += row.Charged
		}
		if charged != 1 {
			t.Errorf("%d charged", charged)
		}
		if _, err := h.store.UpdateAccount(t.Context(), "ada", 0, func(a *store.Account) error { a.SMTP.User = "right"; return nil }); err != nil {
			t.Fatal(err)
		}
		if err := h.Queue.Wake(t.Context(), "ada"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if got := len(h.sink.taken()); got != 5 {
			t.Errorf("%d sent", got)
		}
	})
}

// A limit of the provider holds all mail of the account and fails none.
func TestSend_provider_limit(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		enough := time.Now().Add(10 * time.Minute)
		h.sink.set(func(*tx) error {
			if time.Now().Before(enough) {
				return refused(transport.PhaseMail, 550, [3]int{5, 4, 5})
			}
			return nil
		})
		h.account("ada")
		for i := range 5 {
			h.submit(request("ada", fmt.Sprintf("to%d@example.net", i)))
		}
		time.Sleep(2 * time.Minute)
		page, _ := h.store.Submissions(t.Context(), store.SubmissionQuery{Account: "ada", States: []store.SubmissionState{store.SubmissionHeld}, Limit: 10})
		if page.Total != 5 {
			t.Errorf("%d held", page.Total)
		}
		time.Sleep(75 * time.Minute)
		if got := len(h.sink.taken()); got != 5 {
			t.Errorf("%d sent", got)
		}
	}, slowly)
}

// So does one that comes for some recipients only: the next attempt of the row is the one that
// will be, and is not charged.
func TestSend_provider_limit_for_some(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		h.sink.set(func(x *tx) error {
			if x.n == 0 {
				x.receipt.Accepted = x.env.To[:1]
				x.receipt.Refused = []transport.Refusal{{Recipient: x.env.To[1], Code: 550, Enhanced: "5.4.5", Response: "550 5.4.5 Daily user sending limit exceeded"}}
			}
			return nil
		})
		h.account("ada")
		r := request("ada", "bob@example.net", "cem@example.net")
		r.Attempts = 1
		id := h.submit(r)
		time.Sleep(2 * time.Minute)
		sp, err := h.store.Spool(t.Context(), "ada")
		row := h.row(id)
		if row.State != store.SubmissionHeld || row.NextAttempt.Before(sp.Sleep.Until) || row.Charged != 0 || row.Last.Scope != "account" || err != nil {
			t.Errorf("%s %s, charged %d, next %v, last %+v; the spool %+v, %v", row.State, row.Reason, row.Charged, row.NextAttempt, row.Last, sp.Sleep, err)
		}
		if err := h.Queue.Wake(t.Context(), "ada"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if row := h.row(id); row.State != store.SubmissionSent || len(h.sink.taken()) != 2 {
			t.Errorf("%s %s, told %v", row.State, row.Reason, h.short("ada"))
		}
	}, slowly)
}

func TestSend_own_limit(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		h.account("ada", func(a *store.Account) { ten := 10; a.SendLimits.PerHour = &ten })
		for i := range 12 {
			h.submit(request("ada", fmt.Sprintf("to%d@example.net", i)))
			time.Sleep(30 * time.Second)
		}
		time.Sleep(time.Minute)
		if got := len(h.sink.taken()); got != 10 {
			t.Errorf("%d sent", got)
		}
		counts := map[string]int{}
		for _, e := range h.told("ada") {
			counts[e]++
		}
		if counts["sendLimitApproaching"] != 1 || counts["sendLimitExceeded"] != 1 || counts["messageHeld"] != 2 {
			t.Errorf("%v", counts)
		}
		time.Sleep(64 * time.Minute)
		if got := len(h.sink.taken()); got != 12 {
			t.Errorf("%d sent an hour later", got)
		}
	}, slowly)
}

// A pause of a tenth of a second between two messages is no pause of a second.
func TestSend_own_pace(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		ms := 100
		h.account("ada", func(a *store.Account) { a.SendLimits.MinInterval = &ms })
		for range 20 {
			h.submit(request("ada", "bob@example.net"))
		}
		time.Sleep(4 * time.Second)
		got := h.sink.taken()
		if len(got) != 20 {
			t.Errorf("%d sent", len(got))
		}
		for i := 1; i < len(got); i++ {
			if d := got[i].at.Sub(got[i-1].at); d < 99*time.Millisecond { // Redis' clock cuts what ours rounds
				t.Errorf("message %d after %v", i, d)
			}
		}
	}, func(o *smtpsend.Options) { o.Config.TaskCheck = 50 * time.Millisecond })
}

// What was queued while nothing could be sent has no tasks of its own any more: an account
// that wakes uses its slots all the same.
func TestSend_wakes_into_all_slots(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		h.sink.set(func(*tx) error {
			time.Sleep(10 * time.Second)
			return nil
		})
		slots := 4
		h.account("ada", func(a *store.Account) { a.SendLimits.MaxConnections = &slots })
		if _, err := h.store.PauseAccount(t.Context(), "ada", "api"); err != nil {
			t.Fatal(err)
		}
		for range 8 {
			h.submit(request("ada", "bob@example.net"))
		}
		time.Sleep(5 * time.Second) // their tasks come, find the account paused, and end
		if _, err := h.store.ResumeAccount(t.Context(), "ada", "api"); err != nil {
			t.Fatal(err)
		}
		if err := h.Queue.Wake(t.Context(), "ada"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(25 * time.Second)
		if got, most := len(h.sink.taken()), h.sink.atOnce(); got != 8 || most != slots {
			t.Errorf("%d were sent, %d at once at most", got, most)
		}
	})
}

// A gateway in trouble has what goes by it wait, alone: the account's own server is used all
// the while, and a probe by a gateway says nothing of it.
func TestSend_gateway_in_trouble(t *testing.T) {
	for name, tt := range map[string]struct {
		err    error // of the gateway; nil: it was deleted
		state  store.SubmissionState
		reason string
		least  time.Duration // until the next attempt
	}{
		"refuses the credentials": {&transport.Error{Phase: transport.PhaseAuth, Code: 535, Line: "535 no", Kind: transport.KindAuth}, store.SubmissionHeld, "authentication", 15 * time.Minute},
		"takes no more":           {refused(transport.PhaseMail, 550, [3]int{5, 4, 5}), store.SubmissionHeld, "sendLimit", time.Hour},
		"is down":                 {lost(transport.PhaseConnect), store.SubmissionQueued, "", 10 * time.Second},
		"was deleted":             {nil, store.SubmissionQueued, "", 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, h *house) {
				h.sink.set(func(x *tx) error {
					if x.server.Host == "gw.example.com" {
						return tt.err
					}
					return nil
				})
				if _, err := h.store.CreateGateway(t.Context(), store.Gateway{ID: "gw", Server: store.Server{Host: "gw.example.com", Port: 587}}); err != nil {
					t.Fatal(err)
				}
				h.account("ada")
				r := request("ada", "bob@example.net")
				r.Gateway, r.SendAt = "gw", time.Now().Add(4*time.Second)
				by, also := h.submit(r), h.submit(r)
				if tt.err == nil {
					if err := h.store.DeleteGateway(t.Context(), "gw"); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(8 * time.Second)
				own := h.submit(request("ada", "cem@example.net"))
				time.Sleep(3 * time.Second)
				sp, err := h.store.Spool(t.Context(), "ada")
				if row := h.row(own); row.State != store.SubmissionSent || err != nil || sp.Sleep.Reason != "" {
					t.Errorf("by the account's own server: %s %s, %+v, %v", row.State, row.Reason, sp.Sleep, err)
				}
				for _, id := range []store.SubmissionID{by, also} {
					row := h.row(id)
					if row.State != tt.state || row.Reason != tt.reason || row.Attempt != 1 || row.NextAttempt.Sub(row.Last.At) < tt.least {
						t.Errorf("by the gateway: %s %s, attempt %d at %v, next %v", row.State, row.Reason, row.Attempt, row.Last.At, row.NextAttempt)
					}
				}
			})
		})
	}
}

// Settings of their own that cannot work are no fault of the host: whose are right is served
// at once.
func TestSend_wrong_settings_of_others(t *testing.T) {
	for name, tt := range map[string]struct {
		wrong func(*store.Account)
		err   error
	}{
		"pins": {
			func(a *store.Account) { a.SMTP.TLS.Pin = []string{"AAAA"} },
			&transport.Error{Phase: transport.PhaseTLS, Kind: transport.KindTLS, Err: errors.New("pin does not fit")},
		},
		"EHLO names": {
			func(a *store.Account) { a.SMTPEHLOName = "localhost" },
			&transport.Error{Phase: transport.PhaseHello, Code: 550, Line: "550 5.7.1 you are not", Kind: transport.KindProtocol},
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, h *house) {
				h.sink.set(func(x *tx) error {
					if len(x.server.TLS.Pin) > 0 || x.server.EHLOName != "" {
						return tt.err
					}
					return nil
				})
				for _, id := range []store.AccountID{"b1", "b2", "b3", "b4"} {
					h.account(id, tt.wrong)
					for range 4 {
						h.submit(request(id, "bob@example.net"))
					}
				}
				time.Sleep(50 * time.Second)
				if tried := len(h.sink.tried()); tried < 12 {
					t.Errorf("%d tried", tried)
				}
				h.account("ada")
				id := h.submit(request("ada", "bob@example.net"))
				time.Sleep(3 * time.Second)
				if row := h.row(id); row.State != store.SubmissionSent {
					t.Errorf("%s", row.State)
				}
			})
		})
	}
}

// The host of everybody's own servers is down: mail by a gateway does not wait for it, and is
// no probe of it either.
func TestSend_gateway_beside_a_host_that_is_down(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		h.sink.set(func(x *tx) error {
			if x.server.Host == "gw.example.com" {
				return nil
			}
			return lost(transport.PhaseConnect)
		})
		if _, err := h.store.CreateGateway(t.Context(), store.Gateway{ID: "gw", Server: store.Server{Host: "gw.example.com", Port: 587}}); err != nil {
			t.Fatal(err)
		}
		for _, id := range []store.AccountID{"b1", "b2", "b3", "b4"} {
			h.account(id)
			for range 4 {
				h.submit(request(id, "bob@example.net"))
			}
		}
		time.Sleep(50 * time.Second)
		h.account("ada")
		later := request("ada", "bob@example.net")
		later.SendAt = time.Now().Add(time.Hour) // an empty spool does not sleep
		h.submit(later)
		if err := h.store.SleepSpool(t.Context(), "ada", store.Sleep{Until: time.Now(), Reason: smtpsend.SleepServer, Level: 5}); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			r := request("ada", "bob@example.net")
			r.Gateway = "gw"
			h.submit(r)
			time.Sleep(3 * time.Second)
		}
		sp, err := h.store.Spool(t.Context(), "ada")
		if got := len(h.sink.taken()); got != 3 || err != nil || sp.Sleep.Level != 5 {
			t.Errorf("%d sent, the spool %+v, %v", got, sp.Sleep, err)
		}
	})
}
