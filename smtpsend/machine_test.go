package smtpsend

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/smtpsend/transport"
	"github.com/postrider/postrider/store"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func at(now time.Time) moment { return moment{now: now, maxAge: 5 * 24 * time.Hour} }

func profile() Profile { return builtin().Match("mail.example.com", "") }

// queued is a submission of three recipients that was accepted at noon.
func queued(change ...func(*store.Submission)) store.Submission {
	row := store.Submission{
		ID: "01kf2v7q3m8w5x9d4e6r1t0yza", Account: "support", MessageID: "<1@example.com>", From: "sales@example.com",
		To: []string{"a@x", "b@x", "c@x"}, Attempts: 10, Delays: presets()["standard"],
	}
	row.State, row.Created, row.Pending = store.SubmissionQueued, noon, row.To
	for _, c := range change {
		c(&row)
	}
	return row
}

// claimed is what a claim makes of it.
func claimed(row store.Submission) store.Submission {
	row.State, row.Stage, row.Attempt, row.Owner = store.SubmissionProcessing, store.StageConnect, row.Attempt+1, "me"
	row.Reason, row.Until = "", time.Time{}
	return row
}

func refusals(code int, to ...string) (out []transport.Refusal) {
	for _, r := range to {
		out = append(out, transport.Refusal{Recipient: r, Code: code, Response: fmt.Sprintf("%d %s", code, r)})
	}
	return out
}

// story writes what was told, one line an event.
func story(evs []events.Event) (out []string) {
	for _, e := range evs {
		line := string(e.Data.EventType())
		switch d := e.Data.(type) {
		case events.MessageQueued:
		case events.MessageSent:
			line += fmt.Sprintf(" %v rejected %d deferred %d", d.Envelope.To, len(d.Rejected), len(d.Deferred))
			if d.ConfirmedBy != "" {
				line += " by " + d.ConfirmedBy
			}
		case events.MessageDeliveryError:
			line += fmt.Sprintf(" %v %s %d/%d next %v", d.Envelope.To, d.ErrorCode, d.Job.Attempt, d.Job.Attempts, !d.Job.NextAttempt.IsZero())
		case events.MessageFailed:
			line += fmt.Sprintf(" %v %s of %d", d.Envelope.To, d.Reason, len(d.Recipients))
		case events.MessageHeld:
			line += " " + d.Reason
		}
		out = append(out, line)
	}
	return out
}

func TestMachine(t *testing.T) {
	type result struct {
		State    store.SubmissionState
		Reason   string
		Pending  []string
		Next     time.Duration // after noon; 0 = none
		Charged  int
		Sleep    string
		Rejected int
		Deferred int
	}
	all := []string{"a@x", "b@x", "c@x"}
	dot := func(code int) *transport.Error {
		return &transport.Error{Phase: transport.PhaseDot, Code: code, Line: fmt.Sprint(code), Kind: transport.KindMessage, Accepted: all}
	}
	lost := &transport.Error{Phase: transport.PhaseDot, Kind: transport.KindSocket, Unknown: true, Err: errors.New("EOF"), Accepted: all}
	for name, tt := range map[string]struct {
		row    store.Submission
		do     func(moment, store.Submission) *step
		want   result
		events []string
	}{
		"all accepted": {
			do: func(m moment, r store.Submission) *step {
				return m.sent(r, profile(), transport.Receipt{Accepted: all})
			},
			want:   result{State: store.SubmissionSent},
			events: []string{"messageSent [a@x b@x c@x] rejected 0 deferred 0"},
		},
		"one refused, one put off": {
			do: func(m moment, r store.Submission) *step {
				return m.sent(r, profile(), transport.Receipt{Accepted: all[:1], Refused: append(refusals(550, "b@x"), refusals(450, "c@x")...)})
			},
			want:   result{State: store.SubmissionQueued, Pending: all[2:], Next: 10 * time.Second, Charged: 1, Rejected: 1, Deferred: 1},
			events: []string{"messageSent [a@x] rejected 1 deferred 1"},
		},
		"too many recipients": {
			do: func(m moment, r store.Submission) *step {
				return m.sent(r, profile(), transport.Receipt{Accepted: all[:1], TooMany: all[1:]})
			},
			want:   result{State: store.SubmissionQueued, Pending: all[1:], Next: -1},
			events: []string{"messageSent [a@x] rejected 0 deferred 0"},
		},
		"too many and one put off": {
			do: func(m moment, r store.Submission) *step {
				return m.sent(r, profile(), transport.Receipt{Accepted: all[:1], Refused: refusals(450, "b@x"), TooMany: all[2:]})
			},
			want:   result{State: store.SubmissionQueued, Pending: all[2:], Next: -1, Deferred: 1},
			events: []string{"messageSent [a@x] rejected 0 deferred 1"},
		},
		"all refused for good": {
			do: func(m moment, r store.Submission) *step {
				return m.failed(r, profile(), &transport.Error{Phase: transport.PhaseRcpt, Code: 550, Kind: transport.KindEnvelope, Refused: refusals(550, all...)})
			},
			want:   result{State: store.SubmissionFailed, Reason: "refused", Pending: all, Rejected: 3},
			events: []string{"messageDeliveryError [a@x b@x c@x] EENVELOPE 1/10 next false", "messageFailed [a@x b@x c@x] refused of 3"},
		},
		"none accepted, one put off": {
			do: func(m moment, r store.Submission) *step {
				return m.failed(r, profile(), &transport.Error{Phase: transport.PhaseRcpt, Code: 550, Refused: append(refusals(550, "a@x", "c@x"), refusals(450, "b@x")...)})
			},
			want:   result{State: store.SubmissionQueued, Pending: []string{"b@x"}, Next: 10 * time.Second, Charged: 1, Rejected: 2, Deferred: 1},
			events: []string{"messageDeliveryError [a@x b@x c@x] EENVELOPE 1/10 next true"},
		},
		"refused at the dot": {
			do:     func(m moment, r store.Submission) *step { return m.failed(r, profile(), dot(554)) },
			want:   result{State: store.SubmissionFailed, Reason: "refused", Pending: all, Rejected: 3},
			events: []string{"messageDeliveryError [a@x b@x c@x] EMESSAGE 1/10 next false", "messageFailed [a@x b@x c@x] refused of 3"},
		},
		"put off at the dot": {
			do:     func(m moment, r store.Submission) *step { return m.failed(r, profile(), dot(451)) },
			want:   result{State: store.SubmissionQueued, Pending: all, Next: 10 * time.Second, Charged: 1},
			events: []string{"messageDeliveryError [a@x b@x c@x] EMESSAGE 1/10 next true"},
		},
		"421 at the dot is an answer": {
			do:     func(m moment, r store.Submission) *step { return m.failed(r, profile(), dot(421)) },
			want:   result{State: store.SubmissionQueued, Pending: all, Next: 10 * time.Second, Charged: 1, Sleep: SleepServer},
			events: []string{"messageDeliveryError [a@x b@x c@x] ECONNECTION 1/10 next true"},
		},
		"the last attempt": {
			row:    claimed(queued(func(r *store.Submission) { r.Attempts = 1 })),
			do:     func(m moment, r store.Submission) *step { return m.failed(r, profile(), dot(451)) },
			want:   result{State: store.SubmissionFailed, Reason: "attemptsUsed", Pending: all, Charged: 1, Rejected: 3},
			events: []string{"messageDeliveryError [a@x b@x c@x] EMESSAGE 1/1 next false", "messageFailed [a@x b@x c@x] attemptsUsed of 3"},
		},
		"put off beyond its time": {
			row: claimed(queued(func(r *store.Submission) { r.Delays = []time.Duration{12 * time.Hour} })),
			do: func(m moment, r store.Submission) *step {
				m.maxAge = time.Hour
				return m.failed(r, profile(), dot(451))
			},
			want:   result{State: store.SubmissionFailed, Reason: "expired", Pending: all, Charged: 1, Rejected: 3},
			events: []string{"messageDeliveryError [a@x b@x c@x] EMESSAGE 1/10 next false", "messageFailed [a@x b@x c@x] expired of 3"},
		},
		"credentials refused": {
			do: func(m moment, r store.Submission) *step {
				return m.failed(r, profile(), &transport.Error{Phase: transport.PhaseAuth, Code: 535, Line: "535 no", Kind: transport.KindAuth})
			},
			want:   result{State: store.SubmissionHeld, Reason: "authentication", Pending: all, Next: 15 * time.Minute, Charged: 1, Sleep: SleepAuthentication},
			events: []string{"messageDeliveryError [a@x b@x c@x] EAUTH 1/10 next true", "messageHeld authentication"},
		},
		"a limit of the provider": {
			do: func(m moment, r store.Submission) *step {
				return m.failed(r, profile(), &transport.Error{Phase: transport.PhaseMail, Code: 550, Enhanced: [3]int{5, 4, 5}, Line: "550 5.4.5 enough"})
			},
			want:   result{State: store.SubmissionHeld, Reason: "sendLimit", Pending: all, Next: time.Hour, Sleep: SleepLimit},
			events: []string{"messageDeliveryError [a@x b@x c@x] EENVELOPE 1/10 next true", "messageHeld sendLimit"},
		},
		"a limit of the provider for some": {
			row: claimed(queued(func(r *store.Submission) { r.Attempts = 1 })),
			do: func(m moment, r store.Submission) *step {
				limit := transport.Refusal{Recipient: "b@x", Code: 550, Enhanced: "5.4.5", Response: "550 5.4.5 enough"}
				return m.sent(r, profile(), transport.Receipt{Accepted: all[:1], Refused: []transport.Refusal{limit}, TooMany: all[2:]})
			},
			want:   result{State: store.SubmissionHeld, Reason: "sendLimit", Pending: []string{"c@x", "b@x"}, Next: time.Hour, Sleep: SleepLimit, Deferred: 2},
			events: []string{"messageSent [a@x] rejected 0 deferred 1", "messageHeld sendLimit"},
		},
		"credentials refused for some": {
			do: func(m moment, r store.Submission) *step {
				return m.sent(r, profile(), transport.Receipt{Accepted: all[:1], Refused: append(refusals(450, "b@x"), refusals(530, "c@x")...)})
			},
			want:   result{State: store.SubmissionHeld, Reason: "authentication", Pending: all[1:], Next: 15 * time.Minute, Charged: 1, Sleep: SleepAuthentication, Deferred: 2},
			events: []string{"messageSent [a@x] rejected 0 deferred 2", "messageHeld authentication"},
		},
		"421 for some": {
			do: func(m moment, r store.Submission) *step {
				m.fails = 3
				return m.sent(r, profile(), transport.Receipt{Accepted: all[:1], Refused: refusals(421, all[1:]...)})
			},
			want:   result{State: store.SubmissionQueued, Pending: all[1:], Next: 2 * time.Minute, Charged: 1, Sleep: SleepServer, Deferred: 2},
			events: []string{"messageSent [a@x] rejected 0 deferred 2"},
		},
		"host down": {
			do: func(m moment, r store.Submission) *step {
				m.fails = 3
				return m.failed(r, profile(), &transport.Error{Phase: transport.PhaseConnect, Kind: transport.KindConnect, Err: errors.New("refused")})
			},
			want:   result{State: store.SubmissionQueued, Pending: all, Next: 2 * time.Minute, Charged: 1, Sleep: SleepServer},
			events: []string{"messageDeliveryError [a@x b@x c@x] ECONNECTION 1/10 next true"},
		},
		"no reply to the dot": {
			do:     func(m moment, r store.Submission) *step { return m.failed(r, profile(), lost) },
			want:   result{State: store.SubmissionUnknown, Reason: "outcomeUnknown", Pending: all, Charged: 1, Sleep: SleepServer},
			events: []string{"messageHeld outcomeUnknown"},
		},
		"no reply to the dot, some put off": {
			do: func(m moment, r store.Submission) *step {
				return m.failed(r, profile(), &transport.Error{
					Phase: transport.PhaseDot, Kind: transport.KindTimeout, Unknown: true, Accepted: all[:1], TooMany: all[1:2], Refused: refusals(550, "c@x"),
				})
			},
			want:   result{State: store.SubmissionUnknown, Reason: "outcomeUnknown", Pending: all[:1], Charged: 1, Sleep: SleepServer, Rejected: 1, Deferred: 1},
			events: []string{"messageHeld outcomeUnknown"},
		},
		"no reply to the dot, to be sent again": {
			row:    claimed(queued(func(r *store.Submission) { r.OnUnknown = OnUnknownResend })),
			do:     func(m moment, r store.Submission) *step { return m.failed(r, profile(), lost) },
			want:   result{State: store.SubmissionQueued, Pending: all, Next: -1, Charged: 1, Sleep: SleepServer},
			events: []string{"messageDeliveryError [a@x b@x c@x] ESOCKET 1/10 next true"},
		},
		"its process died before the mark": {
			do:   func(m moment, r store.Submission) *step { return m.recover(r) },
			want: result{State: store.SubmissionQueued, Pending: all, Next: -1},
		},
		"its process died for the third time": {
			row:    claimed(queued(func(r *store.Submission) { r.Crashes = 2 })),
			do:     func(m moment, r store.Submission) *step { return m.recover(r) },
			want:   result{State: store.SubmissionFailed, Reason: "attemptsUsed", Pending: all, Rejected: 3},
			events: []string{"messageDeliveryError [a@x b@x c@x]  1/10 next false", "messageFailed [a@x b@x c@x] attemptsUsed of 3"},
		},
		"its process died behind the mark": {
			do:     func(m moment, r store.Submission) *step { r.Stage = store.StageData; return m.recover(r) },
			want:   result{State: store.SubmissionUnknown, Reason: "outcomeUnknown", Pending: all, Charged: 1},
			events: []string{"messageHeld outcomeUnknown"},
		},
		"its process died behind the mark, some were put off": {
			do: func(m moment, r store.Submission) *step {
				r.Stage, r.Marked = store.StageData, all[1:2]
				return m.recover(r)
			},
			want:   result{State: store.SubmissionUnknown, Reason: "outcomeUnknown", Pending: all[1:2], Charged: 1, Deferred: 2},
			events: []string{"messageHeld outcomeUnknown"},
		},
		"put off, and some were not asked for": {
			do: func(m moment, r store.Submission) *step {
				return m.failed(r, profile(), &transport.Error{Phase: transport.PhaseRcpt, Code: 450, Refused: refusals(450, "a@x", "b@x"), TooMany: all[2:]})
			},
			want:   result{State: store.SubmissionQueued, Pending: all[2:], Next: -1, Deferred: 2},
			events: []string{"messageDeliveryError [a@x b@x] EENVELOPE 1/10 next true"},
		},
		"put off at the dot, and some were not asked for": {
			do: func(m moment, r store.Submission) *step {
				e := dot(451)
				e.Accepted, e.TooMany = all[:2], all[2:]
				return m.failed(r, profile(), e)
			},
			want:   result{State: store.SubmissionQueued, Pending: []string{"c@x", "a@x", "b@x"}, Next: 10 * time.Second, Charged: 1},
			events: []string{"messageDeliveryError [a@x b@x c@x] EMESSAGE 1/10 next true"},
		},
		"421 behind a refusal": {
			do: func(m moment, r store.Submission) *step {
				return m.failed(r, profile(), &transport.Error{Phase: transport.PhaseRcpt, Code: 421, Line: "421 bye", Refused: refusals(550, "a@x")})
			},
			want:   result{State: store.SubmissionQueued, Pending: all[1:], Next: 10 * time.Second, Charged: 1, Sleep: SleepServer, Rejected: 1},
			events: []string{"messageDeliveryError [a@x b@x c@x] ECONNECTION 1/10 next true"},
		},
		"given back by a process that ends": {
			do:   func(m moment, r store.Submission) *step { return m.putBack(r) },
			want: result{State: store.SubmissionQueued, Pending: all, Next: -1},
		},
		"waited too long": {
			row:    queued(),
			do:     func(m moment, r store.Submission) *step { return m.expire(r) },
			want:   result{State: store.SubmissionFailed, Reason: "expired", Pending: all, Rejected: 3},
			events: []string{"messageFailed [a@x b@x c@x] expired of 3"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			row := tt.row
			if row.ID == "" {
				row = claimed(queued())
			}
			s := tt.do(at(noon), row)
			got := result{
				State: s.row.State, Reason: s.row.Reason, Pending: s.row.Pending, Charged: s.row.Charged, Sleep: s.sleep,
				Rejected: len(s.row.Rejected), Deferred: len(s.row.Deferred),
			}
			if !s.row.NextAttempt.IsZero() {
				if got.Next = s.row.NextAttempt.Sub(noon); got.Next == 0 {
					got.Next = -1
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.events, story(s.events)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A sender that was thought dead finds its reply: what was made unknown becomes the truth.
func TestMachine_late_truth(t *testing.T) {
	dead := claimed(queued())
	dead.Stage = store.StageData
	unknown := at(noon).recover(dead).row
	if s := at(noon).sent(unknown, profile(), transport.Receipt{Accepted: unknown.Pending}); s.row.State != store.SubmissionSent {
		t.Errorf("%+v", s.row)
	}
	s := at(noon).failed(unknown, profile(), &transport.Error{Phase: transport.PhaseDot, Code: 554, Line: "554 no", Accepted: unknown.Pending})
	if s.row.State != store.SubmissionFailed {
		t.Errorf("%+v", s.row)
	}
}

// What servers say of 500 recipients stays small, and whole characters.
func TestMachine_keeps_little_of_replies(t *testing.T) {
	long := "550 " + strings.Repeat("é", 498)
	m, row := at(noon), claimed(queued())
	refused := []transport.Refusal{{Recipient: row.To[0], Code: 550, Response: long}, {Recipient: row.To[1], Code: 450, Response: long}}
	sent := m.sent(row, profile(), transport.Receipt{Accepted: row.To[2:], Refused: refused}).row
	failed := m.failed(row, profile(), &transport.Error{Phase: transport.PhaseMail, Code: 550, Line: long, Kind: transport.KindMessage}).row
	kept := slices.Concat(sent.Rejected, sent.Deferred, failed.Rejected)
	if len(kept) != 2+len(row.To) {
		t.Fatalf("%d are kept", len(kept))
	}
	for _, r := range kept {
		if r.Response != "550 "+strings.Repeat("é", 123) {
			t.Errorf("%s: %q", r.Recipient, r.Response)
		}
	}
}

// What is given up twice for one reason, without an attempt in between, is told of twice.
func TestMachine_expires_again(t *testing.T) {
	first := at(noon).expire(queued())
	again, err := at(noon).retry(first.row)
	if err != nil {
		t.Fatal(err)
	}
	second := at(noon).expire(again.row)
	if first.events[0].ID == second.events[0].ID || second.row.State != store.SubmissionFailed {
		t.Errorf("%s twice", first.events[0].ID)
	}
}

func TestDeeds(t *testing.T) {
	states := []store.SubmissionState{
		store.SubmissionScheduled, store.SubmissionQueued, store.SubmissionProcessing, store.SubmissionHeld,
		store.SubmissionSent, store.SubmissionFailed, store.SubmissionCanceled, store.SubmissionUnknown,
	}
	const (
		scheduled, queuedNow, processing, held = store.SubmissionScheduled, store.SubmissionQueued, store.SubmissionProcessing, store.SubmissionHeld
		sent, failed, canceled, unknown        = store.SubmissionSent, store.SubmissionFailed, store.SubmissionCanceled, store.SubmissionUnknown
	)
	type states2 = map[store.SubmissionState]store.SubmissionState
	later := noon.Add(time.Hour)
	for name, tt := range map[string]struct {
		do   func(store.Submission) (*step, error)
		want states2 // where it leads; others are refused
	}{
		"cancel":            {func(r store.Submission) (*step, error) { return at(noon).cancel(r) }, states2{scheduled: canceled, queuedNow: canceled, held: canceled, canceled: ""}},
		"reschedule":        {func(r store.Submission) (*step, error) { return at(noon).reschedule(r, later) }, states2{scheduled: scheduled, queuedNow: scheduled, held: scheduled}},
		"reschedule to now": {func(r store.Submission) (*step, error) { return at(noon).reschedule(r, noon) }, states2{scheduled: queuedNow, queuedNow: queuedNow, held: queuedNow}},
		"retry":             {func(r store.Submission) (*step, error) { return at(noon).retry(r) }, states2{scheduled: queuedNow, queuedNow: queuedNow, held: queuedNow, failed: queuedNow}},
		"release":           {func(r store.Submission) (*step, error) { return at(noon).release(r) }, states2{}},
		"release a review": {
			func(r store.Submission) (*step, error) { r.Reason = store.HeldReview; return at(noon).release(r) },
			states2{held: queuedNow},
		},
		"resolve as sent":   {func(r store.Submission) (*step, error) { return at(noon).resolve(r, ResolveSent) }, states2{unknown: sent}},
		"resolve as failed": {func(r store.Submission) (*step, error) { return at(noon).resolve(r, ResolveFailed) }, states2{unknown: failed}},
		"resolve as retry":  {func(r store.Submission) (*step, error) { return at(noon).resolve(r, ResolveRetry) }, states2{unknown: queuedNow}},
		"resolve as nonsense": {
			func(r store.Submission) (*step, error) { return at(noon).resolve(r, "maybe") },
			states2{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, state := range states {
				row := queued()
				row.State, row.Reason = state, store.HeldSendLimit
				s, err := tt.do(row)
				want, ok := tt.want[state]
				switch {
				case !ok && state == processing && !errors.Is(err, ErrActive), !ok && state != processing && !errors.Is(err, ErrState):
					t.Errorf("%s: %v", state, err)
				case ok && err != nil:
					t.Errorf("%s: %v", state, err)
				case ok && want == "" && s != nil:
					t.Errorf("%s: changed to %s", state, s.row.State)
				case ok && want != "" && s.row.State != want:
					t.Errorf("%s: %s, want %s", state, s.row.State, want)
				}
			}
		})
	}
}

// Whatever servers, people and crashes do: every recipient ends in exactly one event that
// says how, no id is used twice, and what events say is what the row says.
func TestMachine_properties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		row := queued(func(r *store.Submission) {
			r.Attempts = rapid.IntRange(1, 5).Draw(t, "attempts")
			r.OnUnknown = rapid.SampledFrom([]string{"", OnUnknownResend}).Draw(t, "onUnknown")
		})
		now := noon
		ids, fate := map[events.ID]bool{}, map[string]string{}
		take := func(s *step) {
			for _, e := range s.events {
				if ids[e.ID] {
					t.Fatalf("%s told twice under one id", e.Data.EventType())
				}
				ids[e.ID] = true
				how, to := "", []string(nil)
				switch d := e.Data.(type) {
				case events.MessageSent:
					how, to = "sent", d.Envelope.To
					for _, r := range d.Rejected {
						if fate[r.Recipient] != "" {
							t.Fatalf("%s is refused after it was %s", r.Recipient, fate[r.Recipient])
						}
						fate[r.Recipient] = "refused"
					}
				case events.MessageFailed:
					how, to = "failed", d.Envelope.To
				case events.MessageDeliveryError:
					if next := d.Job.NextAttempt.Time.Time; !next.Equal(s.row.NextAttempt.Truncate(time.Millisecond)) {
						t.Fatalf("the event says %v, the row %v", next, s.row.NextAttempt)
					}
					if d.Job.AttemptsMade != s.row.Attempt-1 || d.Job.Attempt != s.row.Attempt {
						t.Fatalf("%+v, row %d", d.Job, s.row.Attempt)
					}
				}
				for _, to := range to {
					if fate[to] != "" && !s.row.PossibleDuplicate {
						t.Fatalf("%s is %s after it was %s", to, how, fate[to])
					}
					fate[to] = how
				}
			}
			row = s.row
		}
		for range 40 {
			if row.State == store.SubmissionUnknown && rapid.IntRange(0, 9).Draw(t, "abandoned") == 0 {
				take(at(now).abandon(row))
				break
			}
			if row.State == store.SubmissionUnknown {
				s, err := at(now).resolve(row, rapid.SampledFrom([]Resolution{ResolveSent, ResolveFailed, ResolveRetry}).Draw(t, "resolution"))
				if err != nil {
					t.Fatal(err)
				}
				take(s)
			}
			if row.State.Final() {
				break
			}
			now = row.Due()
			row = claimed(row)
			if len(row.Pending) == 0 {
				t.Fatal("an attempt for nobody")
			}
			take(happening(t, at(now), row))
			if row.Charged > row.Attempts && row.State != store.SubmissionUnknown && !strings.Contains(row.Reason, "attempts") {
				t.Fatalf("%d of %d attempts charged", row.Charged, row.Attempts)
			}
		}
		if row.State.Final() || row.State == store.SubmissionUnknown {
			for _, to := range row.To {
				if fate[to] == "" && (row.State.Final() || !slices.Contains(row.Pending, to)) {
					t.Fatalf("nobody was told of %s, which is %s", to, row.State)
				}
			}
		}
	})
}

// happening draws what becomes of an attempt.
func happening(t *rapid.T, m moment, row store.Submission) *step {
	switch rapid.IntRange(0, 9).Draw(t, "crash") {
	case 0:
		row.Stage = rapid.SampledFrom([]string{store.StageConnect, store.StageData}).Draw(t, "stage")
		return m.recover(row)
	case 1:
		return m.putBack(row)
	}
	var r transport.Receipt
	for _, to := range row.Pending {
		switch code := rapid.SampledFrom([]int{250, 250, 452, 450, 550, 530}).Draw(t, "rcpt"); {
		case code == 250:
			r.Accepted = append(r.Accepted, to)
		case code == 452 && len(r.Accepted) > 0:
			r.TooMany = append(r.TooMany, to)
		default:
			r.Refused = append(r.Refused, refusals(code, to)...)
		}
	}
	if len(r.Accepted) == 0 {
		return m.failed(row, profile(), &transport.Error{Phase: transport.PhaseRcpt, Code: r.Refused[0].Code, Refused: r.Refused})
	}
	code := rapid.SampledFrom([]int{250, 250, 0, 451, 554, 421}).Draw(t, "dot")
	if code == 250 {
		return m.sent(row, profile(), r)
	}
	return m.failed(row, profile(), &transport.Error{
		Phase: transport.PhaseDot, Code: code, Kind: transport.KindSocket, Unknown: code == 0, Accepted: r.Accepted, Refused: r.Refused, TooMany: r.TooMany,
	})
}

func TestRewritten(t *testing.T) {
	for _, tt := range []struct{ host, reply, want string }{
		{"smtp.office365.com", "250 2.0.0 OK <AM0PR01@AM0PR01.eurprd01.prod.exchangelabs.com> [Hostname=AM0PR01]", "<AM0PR01@AM0PR01.eurprd01.prod.exchangelabs.com>"},
		{"smtp.office365.com", "250 2.0.0 OK", ""},
		{"email-smtp.eu-west-1.amazonaws.com", "250 Ok 0102018c-8a-000000", "<0102018c-8a-000000@eu-west-1.amazonses.com>"},
		{"email-smtp.us-east-1.amazonaws.com", "250 Ok 0100018c-8a-000000", "<0100018c-8a-000000@email.amazonses.com>"},
		{"mail.example.com", "250 Ok <x@y>", ""},
	} {
		p := builtin().Match(tt.host, "")
		if got := p.rewritten(tt.reply); got != tt.want {
			t.Errorf("%s %q: %q", tt.host, tt.reply, got)
		}
	}
}

func TestWithout(t *testing.T) {
	if got := without([]string{"a@x", "b@x"}, []string{"a@x"}); len(got) != 1 || got[0] != "b@x" {
		t.Errorf("%v", got)
	}
}
