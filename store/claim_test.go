package store_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/storetest"
)

func TestClaim_says_why_not(t *testing.T) {
	for name, test := range map[string]func(*testing.T, *sender){
		"nothing is there": func(t *testing.T, f *sender) {
			f.answer(store.ClaimNone, 0, f.claim())
		},
		"nothing is due": func(t *testing.T, f *sender) {
			m := f.accept(func(m *store.Submission) { m.SendAt = f.now.Add(time.Hour) })
			f.answer(store.ClaimNone, time.Hour, f.claim())
			f.answer(store.ClaimNotDue, time.Hour, f.claim(func(c *store.Claim) { c.ID = m.ID }))
			if due, err := f.DueSpools(t.Context(), 0, 10); err != nil || len(due) > 0 {
				t.Error(due, err)
			}
			f.pass(time.Hour)
			if due, err := f.DueSpools(t.Context(), 0, 10); err != nil || len(due) != 1 || !due[0].Since.Equal(f.now) {
				t.Error(due, err)
			}
			c := f.claim()
			f.answer(store.ClaimOK, 0, c)
			if !c.Now.Equal(f.now) || !c.Submission.Lease.Equal(f.now.Add(time.Minute)) || c.Submission.Owner != "p1" {
				t.Errorf("%+v", c)
			}
		},
		"the one asked for does not wait": func(t *testing.T, f *sender) {
			m := f.accept()
			f.move(m, store.SubmissionCanceled, store.MoveOps{})
			for _, id := range []store.SubmissionID{m.ID, store.NewSubmissionID(f.a.ID, f.now)} {
				f.answer(store.ClaimGone, 0, f.claim(func(c *store.Claim) { c.ID = id }))
			}
			f.answer(store.ClaimGone, 0, f.claim(func(c *store.Claim) { c.Account = "nobody" }))
		},
		"its row is lost": func(t *testing.T, f *sender) {
			lost := f.accept()
			f.rdb.Del(t.Context(), f.key("q:"+string(lost.ID)))
			f.pass(time.Second)
			m := f.accept()
			if c := f.claim(); c.Submission.ID != m.ID {
				t.Errorf("%+v", c)
			}
		},
		"all slots are taken": func(t *testing.T, f *sender) {
			for range 3 {
				f.accept()
				f.pass(time.Second)
			}
			first, second := f.claim(), f.claim()
			if !first.Next.Equal(f.now.Add(-2*time.Second)) || !second.Next.Equal(f.now.Add(-time.Second)) {
				t.Errorf("next %v, then %v", first.Next, second.Next)
			}
			f.answer(store.ClaimBusy, 0, f.claim())
			if due, err := f.DueSpools(t.Context(), 0, 10); err != nil || len(due) != 1 || due[0].Active != 2 {
				t.Error(due, err)
			}
			f.move(first.Submission, store.SubmissionSent, store.MoveOps{})
			f.answer(store.ClaimOK, 0, f.claim())
			if c := f.claim(); c.Answer != store.ClaimNone {
				t.Errorf("%+v", c)
			}
		},
		"the account is paused": func(t *testing.T, f *sender) {
			f.accept()
			if _, err := f.PauseAccount(t.Context(), f.a.ID, "api"); err != nil {
				t.Fatal(err)
			}
			f.answer(store.ClaimPaused, 0, f.claim())
			if due, err := f.DueSpools(t.Context(), 0, 10); err != nil || len(due) > 0 {
				t.Error(due, err)
			}
		},
		"the last one was just now": func(t *testing.T, f *sender) {
			f.accept()
			f.accept()
			slow := func(c *store.Claim) { c.Limits.MinInterval = 10 * time.Second }
			f.answer(store.ClaimOK, 0, f.claim(slow))
			f.pass(4 * time.Second)
			c := f.claim(slow)
			f.answer(store.ClaimPaced, 6*time.Second, c)
			if wait := c.Until.Sub(c.Now); wait != 6*time.Second {
				t.Errorf("to be waited for %v", wait)
			}
			if due, err := f.DueSpools(t.Context(), 0, 10); err != nil || len(due) > 0 {
				t.Error(due, err)
			}
			f.pass(6 * time.Second)
			f.answer(store.ClaimOK, 0, f.claim(slow))
		},
		"the spool sleeps, and wakes by one probe": func(t *testing.T, f *sender) {
			for range 4 {
				f.accept()
				f.pass(time.Millisecond)
			}
			// the server is down
			m := f.claim().Submission
			f.move(m, store.SubmissionQueued, store.MoveOps{Sleep: &store.Sleep{Until: f.now.Add(time.Minute), Reason: "server", Level: 3}},
				func(m *store.Submission) { m.NextAttempt = f.now.Add(time.Minute) })
			c := f.claim()
			f.answer(store.ClaimAsleep, time.Minute, c)
			sp, err := f.Spool(t.Context(), f.a.ID)
			if err != nil || c.Reason != "server" || sp.Sleep.Reason != "server" || sp.Sleep.Level != 3 || sp.Active != 0 {
				t.Errorf("%+v, %+v, %v", c, sp, err)
			}
			if due, err := f.DueSpools(t.Context(), 0, 10); err != nil || len(due) > 0 {
				t.Error(due, err)
			}
			f.pass(time.Minute)
			if due, err := f.DueSpools(t.Context(), 0, 10); err != nil || len(due) != 1 {
				t.Error(due, err)
			}
			probe := f.claim()
			if !probe.Probe {
				t.Errorf("%+v", probe)
			}
			c = f.claim()
			f.answer(store.ClaimAsleep, time.Minute, c)
			if c.Reason != "" { // it may wake at any moment
				t.Errorf("%+v", c)
			}
			// still down: it sleeps on
			f.move(probe.Submission, store.SubmissionQueued, store.MoveOps{Sleep: &store.Sleep{Until: f.now.Add(time.Hour), Reason: "server", Level: 4}})
			f.answer(store.ClaimAsleep, time.Hour, f.claim())
			f.pass(time.Hour)
			// its process dies: another one probes
			lost := f.claim().Submission
			f.pass(time.Minute)
			f.move(lost, store.SubmissionQueued, store.MoveOps{Recover: true})
			if probe = f.claim(); !probe.Probe {
				t.Errorf("%+v", probe)
			}
			f.move(probe.Submission, store.SubmissionSent, store.MoveOps{Wake: true})
			if c := f.claim(); c.Answer != store.ClaimOK || c.Probe {
				t.Errorf("%+v", c)
			}
			f.answer(store.ClaimOK, 0, f.claim())
		},
		"the spool sleeps, and what goes by a gateway goes on": func(t *testing.T, f *sender) {
			by := func(m *store.Submission) { m.Gateway = "gw" }
			due := func(want ...time.Duration) {
				t.Helper()
				due, err := f.DueSpools(t.Context(), 0, 10)
				if err != nil || len(due) != len(want) || len(due) > 0 && !due[0].Since.Equal(f.now.Add(want[0])) {
					t.Errorf("due %v, want %v, %v", due, want, err)
				}
			}
			own := f.accept()
			f.pass(time.Millisecond)
			first := f.accept(by)
			f.pass(time.Millisecond)
			second := f.accept(by)
			later := f.accept(by, func(m *store.Submission) { m.SendAt = f.now.Add(time.Minute) })
			if err := f.SleepSpool(t.Context(), f.a.ID, store.Sleep{Until: f.now.Add(time.Hour), Reason: "server", Level: 3}); err != nil {
				t.Fatal(err)
			}
			due(-time.Millisecond)
			f.answer(store.ClaimAsleep, time.Hour, f.claim(func(c *store.Claim) { c.ID = own.ID }))
			if c := f.claim(); c.Answer != store.ClaimOK || c.Submission.ID != first.ID || c.Probe || !c.Next.Equal(f.now) {
				t.Errorf("%+v", c)
			} else {
				f.move(c.Submission, store.SubmissionQueued, store.MoveOps{}, func(m *store.Submission) { m.NextAttempt = f.now.Add(2 * time.Hour) })
			}
			due(0)
			if c := f.claim(func(c *store.Claim) { c.ID = second.ID }); c.Answer != store.ClaimOK || c.Submission.ID != second.ID || c.Probe || !c.Next.Equal(f.now.Add(time.Minute)) {
				t.Errorf("%+v", c)
			} else {
				f.move(c.Submission, store.SubmissionSent, store.MoveOps{})
			}
			due()
			f.answer(store.ClaimAsleep, time.Hour, f.claim())
			f.answer(store.ClaimNotDue, time.Minute, f.claim(func(c *store.Claim) { c.ID = later.ID }))
			f.pass(time.Minute)
			f.move(later, store.SubmissionCanceled, store.MoveOps{})
			f.answer(store.ClaimAsleep, 59*time.Minute, f.claim())
			due()

			f.pass(time.Hour) // the spool's own is the probe, and only that
			probe := f.claim()
			if !probe.Probe || probe.Submission.ID != own.ID {
				t.Errorf("%+v", probe)
			}
			third := f.accept(by)
			if c := f.claim(func(c *store.Claim) { c.ID = third.ID }); c.Answer != store.ClaimOK || c.Probe {
				t.Errorf("%+v", c)
			}
		},
		"only by a gateway": func(t *testing.T, f *sender) {
			elsewhere := func(c *store.Claim) { c.Elsewhere = true }
			own := f.accept()
			f.answer(store.ClaimNone, 0, f.claim(elsewhere))
			f.answer(store.ClaimNone, 0, f.claim(elsewhere, func(c *store.Claim) { c.ID = own.ID }))
			by := f.accept(func(m *store.Submission) { m.Gateway = "gw" })
			if c := f.claim(elsewhere); c.Answer != store.ClaimOK || c.Submission.ID != by.ID {
				t.Errorf("%+v", c)
			}
			f.answer(store.ClaimNone, 0, f.claim(elsewhere))
			f.answer(store.ClaimOK, 0, f.claim())
		},
		"a row by a gateway is lost": func(t *testing.T, f *sender) {
			f.accept()
			lost := f.accept(func(m *store.Submission) { m.Gateway = "gw" })
			f.rdb.Del(t.Context(), f.key("q:"+string(lost.ID)))
			f.rdb.ZRem(t.Context(), f.key("a:"+string(f.a.ID)+":outbox:due"), string(lost.ID))
			if err := f.SleepSpool(t.Context(), f.a.ID, store.Sleep{Until: f.now.Add(time.Hour), Reason: "server"}); err != nil {
				t.Fatal(err)
			}
			f.answer(store.ClaimAsleep, time.Hour, f.claim())
			if due, err := f.DueSpools(t.Context(), 0, 10); err != nil || len(due) > 0 {
				t.Error(due, err)
			}
		},
		"the spool slept until it is woken": func(t *testing.T, f *sender) {
			f.accept()
			sleep := func() {
				if err := f.SleepSpool(t.Context(), f.a.ID, store.Sleep{Until: f.now.Add(4 * time.Hour), Reason: "authentication"}); err != nil {
					t.Fatal(err)
				}
				f.answer(store.ClaimAsleep, 4*time.Hour, f.claim())
			}
			sleep()
			if err := f.WakeSpool(t.Context(), f.a.ID); err != nil {
				t.Fatal(err)
			}
			m := f.claim().Submission
			f.move(m, store.SubmissionQueued, store.MoveOps{})
			sleep()
			if _, err := f.UpdateAccount(t.Context(), f.a.ID, 0, func(a *store.Account) error { a.Name = "Else"; return nil }); err != nil {
				t.Fatal(err)
			}
			f.answer(store.ClaimAsleep, 4*time.Hour, f.claim())
			if _, err := f.UpdateAccount(t.Context(), f.a.ID, 0, func(a *store.Account) error { a.SMTP = &store.Server{Host: "new"}; return nil }); err != nil {
				t.Fatal(err)
			}
			if due, err := f.DueSpools(t.Context(), 0, 10); err != nil || len(due) != 1 {
				t.Error(due, err)
			}
			f.answer(store.ClaimOK, 0, f.claim())
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) { test(t, clockedSender(t)) })
	}
}

// A day's limit of ten: said at the ninth, exceeded at the eleventh, each once, and room when
// what was sent is a day old.
func TestClaim_daily_limit(t *testing.T) {
	f := clockedSender(t)
	daily := func(c *store.Claim) { c.Limits.PerDay = 10 }
	var told []string
	tell := func(c store.Claimed) {
		for _, l := range c.Limits {
			if err := f.TellLimit(t.Context(), f.a.ID, l, 1); err != nil {
				t.Error(err)
			}
			if err := f.TellLimit(t.Context(), f.a.ID, l, 1); err != nil { // another process, at the same time
				t.Error(err)
			}
			told = append(told, fmt.Sprintf("%v %d of %d", l.Exceeded, l.Volume, l.Limit))
		}
	}
	for range 25 {
		f.accept()
	}
	first := f.now
	for i := range 10 {
		c := f.claim(daily)
		tell(c)
		if want := []string{"false 9 of 10"}; (i == 8) != (cmp.Diff(want, told) == "" && len(c.Limits) > 0) {
			t.Errorf("message %d: %v", i+1, told)
		}
		f.move(c.Submission, store.SubmissionSent, store.MoveOps{})
		f.pass(time.Minute)
	}
	for range 3 {
		c := f.claim(daily)
		tell(c)
		f.answer(store.ClaimLimit, first.Truncate(time.Hour).Add(24*time.Hour).Sub(f.now), c)
	}
	if diff := cmp.Diff([]string{"false 9 of 10", "true 10 of 10"}, told); diff != "" {
		t.Error(diff)
	}
	if due, err := f.DueSpools(t.Context(), 0, 10); err != nil || len(due) > 0 {
		t.Error(due, err)
	}
	f.pass(first.Truncate(time.Hour).Add(24 * time.Hour).Sub(f.now))
	if due, err := f.DueSpools(t.Context(), 0, 10); err != nil || len(due) != 1 {
		t.Error(due, err)
	}
	f.answer(store.ClaimOK, 0, f.claim(daily))
	var got []events.SendLimit
	for e, err := range f.Journal(t.Context(), f.a.ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
		switch p, _ := events.Decode(e); p := p.(type) {
		case events.SendLimitApproaching:
			got = append(got, p.SendLimit)
		case events.SendLimitExceeded:
			got = append(got, p.SendLimit)
		}
	}
	day := events.Window{Start: events.TimeOf(first.Truncate(24 * time.Hour)), End: events.TimeOf(first.Truncate(24 * time.Hour).Add(24 * time.Hour))}
	want := []events.SendLimit{
		{LimitName: "perDay", Unit: "messages", Volume: 9, Limit: 10, Window: day, Held: 1},
		{LimitName: "perDay", Unit: "messages", Volume: 10, Limit: 10, Window: day, Held: 1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestClaim_limits(t *testing.T) {
	for name, tt := range map[string]struct {
		limits store.Limits
		fits   int           // messages of two recipients
		until  time.Duration // from 10:00:30
	}{
		"per minute":         {store.Limits{PerMinute: 3}, 3, 30 * time.Second},
		"per hour":           {store.Limits{PerHour: 4}, 4, 59*time.Minute + 30*time.Second},
		"per day":            {store.Limits{PerDay: 2}, 2, 24*time.Hour - 30*time.Second},
		"recipients":         {store.Limits{RecipientsPerDay: 5}, 2, 24*time.Hour - 30*time.Second},
		"recipients of one":  {store.Limits{RecipientsPerDay: 1}, 1, 24*time.Hour - 30*time.Second},
		"the last that ends": {store.Limits{PerMinute: 1, PerHour: 1}, 1, 59*time.Minute + 30*time.Second},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			f := clockedSender(t)
			limited := func(c *store.Claim) { c.Limits, c.Slots = tt.limits, 100 }
			for range tt.fits + 1 {
				f.accept()
			}
			var last store.Submission
			for range tt.fits {
				c := f.claim(limited)
				f.answer(store.ClaimOK, 0, c)
				last = c.Submission
			}
			f.answer(store.ClaimLimit, tt.until, f.claim(limited))
			// what the server did not accept does not count
			back := store.MoveOps{GiveBack: store.Charge{Messages: 1, Recipients: 2}}
			later := func(m *store.Submission) { m.NextAttempt = f.now.Add(48 * time.Hour) }
			last = f.move(last, store.SubmissionQueued, back, later)
			f.move(last, store.SubmissionQueued, back, later) // it is given back once
			f.answer(store.ClaimOK, 0, f.claim(limited))
			f.accept()
			f.answer(store.ClaimLimit, tt.until, f.claim(limited))
			f.pass(tt.until - time.Millisecond)
			f.answer(store.ClaimLimit, time.Millisecond, f.claim(limited))
			f.pass(time.Millisecond)
			f.answer(store.ClaimOK, 0, f.claim(limited))
			if sp, err := f.Spool(t.Context(), f.a.ID); err != nil || !sp.Limit.IsZero() {
				t.Errorf("%+v, %v", sp, err)
			}
			f.pass(26 * time.Hour)
			if left := f.rdb.Keys(t.Context(), "*:limits").Val(); len(left) > 0 {
				t.Error(left)
			}
		})
	}
}

// Minutes and hours leave a limit one by one.
func TestClaim_limits_roll(t *testing.T) {
	f := clockedSender(t)
	hourly := func(c *store.Claim) { c.Limits, c.Slots = store.Limits{PerHour: 3}, 100 }
	for range 6 {
		f.accept()
	}
	start := f.now.Truncate(time.Minute)
	for range 3 {
		f.answer(store.ClaimOK, 0, f.claim(hourly))
		f.pass(10 * time.Minute)
	}
	for i := range 3 {
		f.answer(store.ClaimLimit, start.Add(time.Hour+time.Duration(i)*10*time.Minute).Sub(f.now), f.claim(hourly))
		f.pass(start.Add(time.Hour + time.Duration(i)*10*time.Minute).Sub(f.now))
		f.answer(store.ClaimOK, 0, f.claim(hourly))
	}
	if n := f.rdb.HLen(t.Context(), f.key("a:support:outbox:limits")).Val(); n > 12 {
		t.Errorf("%d buckets are kept: %v", n, f.rdb.HGetAll(t.Context(), f.key("a:support:outbox:limits")).Val())
	}
}

// Many processes claim at once: never more than the slots, each submission once.
func TestClaim_slots_hold_between_processes(t *testing.T) {
	storetest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newSender(t, rdb)
		const n = 60
		for range n {
			f.accept()
		}
		var mu sync.Mutex
		sent := map[store.SubmissionID]int{}
		active, most := 0, 0
		var wg sync.WaitGroup
		for i := range 6 {
			s := storetest.On(t, rdb)
			wg.Go(func() {
				for {
					c, err := s.ClaimSubmission(t.Context(), store.Claim{Account: f.a.ID, Owner: fmt.Sprint(i), Lease: time.Minute, Slots: 2, Limits: store.Limits{PerHour: 1000, RecipientsPerDay: 1000}})
					if err != nil {
						t.Error(err)
						return
					}
					if c.Answer == store.ClaimNone {
						return
					}
					if c.Answer != store.ClaimOK {
						continue
					}
					mu.Lock()
					active++
					most = max(most, active)
					sent[c.Submission.ID]++
					active--
					mu.Unlock()
					if sp, err := s.Spool(t.Context(), f.a.ID); err != nil || sp.Active > 2 {
						t.Errorf("%+v, %v", sp, err)
					}
					next := c.Submission
					next.State = store.SubmissionSent
					if _, err := s.MoveSubmission(t.Context(), c.Submission, next, stepEvents(c.Submission, next.State), store.MoveOps{}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		for id, times := range sent {
			if times != 1 {
				t.Errorf("%s was claimed %d times", id, times)
			}
		}
		if got := journal(t, f.Store, f.a.ID); len(sent) != n || len(got) != 1+2*n {
			t.Errorf("%d sent, %d events", len(sent), len(got))
		}
	})
}

func TestKeep_refuses_whoever_lost_the_claim(t *testing.T) {
	f := clockedSender(t)
	f.accept()
	m := f.claim().Submission
	mark := func(m store.Submission) error { return f.MarkSubmission(t.Context(), m.ID, m.Fence, m.Attempt) }
	for range 2 {
		if err := mark(m); err != nil {
			t.Error(err)
		}
	}
	read, err := f.Submission(t.Context(), m.ID)
	if err != nil || read.Stage != store.StageData || read.Version != m.Version || read.Marked != nil {
		t.Errorf("%+v, %v", read, err)
	}
	if err := f.MarkSubmission(t.Context(), m.ID, m.Fence, m.Attempt, 1); err != nil {
		t.Error(err)
	}
	if read, err = f.Submission(t.Context(), m.ID); err != nil || len(read.Marked) != 1 || read.Marked[0] != m.To[1] {
		t.Errorf("%q, %v", read.Marked, err)
	}
	// it renews: nobody takes it away by what was read before
	f.pass(59 * time.Second)
	if err := f.RenewSubmission(t.Context(), m.ID, m.Fence, m.Attempt, time.Minute); err != nil {
		t.Fatal(err)
	}
	f.pass(time.Second)
	if lost, err := f.LostSubmissions(t.Context(), 10); err != nil || len(lost) > 0 {
		t.Errorf("%+v, %v", lost, err)
	}
	next := read
	next.State = store.SubmissionQueued
	if _, err := f.MoveSubmission(t.Context(), read, next, nil, store.MoveOps{Recover: true}); !errors.Is(err, store.ErrStale) {
		t.Error(err)
	}
	// it does not: the sweeper finds it, and so does who knows its owner
	f.pass(time.Minute)
	lost, err := f.LostSubmissions(t.Context(), 10)
	if err != nil || len(lost) != 1 || lost[0].Stage != store.StageData {
		t.Fatalf("%+v, %v", lost, err)
	}
	if all, err := f.ProcessingSubmissions(t.Context(), 10); err != nil || cmp.Diff(lost, all) != "" {
		t.Errorf("%+v, %v", all, err)
	}
	held, told := lost[0].Hold(store.HeldOutcomeUnknown, time.Time{}, lost[0].Attempt)
	if _, err := f.MoveSubmission(t.Context(), lost[0], held, []events.Event{told}, store.MoveOps{Recover: true}); err != nil {
		t.Fatal(err)
	}
	if err := mark(m); !errors.Is(err, store.ErrStale) {
		t.Error(err)
	}
	if err := f.RenewSubmission(t.Context(), m.ID, m.Fence, m.Attempt, time.Minute); !errors.Is(err, store.ErrStale) {
		t.Error(err)
	}
	// the old worker's reply comes all the same
	next = m
	next.State = store.SubmissionSent
	if _, err := f.MoveSubmission(t.Context(), m, next, stepEvents(m, next.State), store.MoveOps{}); !errors.Is(err, store.ErrStale) {
		t.Error(err)
	}
	read, err = f.Submission(t.Context(), m.ID)
	if err != nil || read.State != store.SubmissionUnknown || read.Reason != store.HeldOutcomeUnknown || read.Marked != nil {
		t.Errorf("%+v, %v", read, err)
	}
	f.move(read, store.SubmissionSent, store.MoveOps{})
	want := []string{"1 accountAdded", "2 messageQueued", "3 messageHeld", "4 messageSent"}
	if diff := cmp.Diff(want, journal(t, f.Store, f.a.ID)); diff != "" {
		t.Error(diff)
	}
	// claimed again after a recovery: the first holder is told apart by its fence
	f.accept()
	first := f.claim().Submission
	f.pass(2 * time.Minute)
	f.move(first, store.SubmissionQueued, store.MoveOps{Recover: true})
	second := f.claim().Submission
	if err := mark(first); !errors.Is(err, store.ErrStale) || second.Fence != 2 || second.Attempt != 2 {
		t.Errorf("%v, %+v", err, second)
	}
	if err := mark(second); err != nil {
		t.Error(err)
	}
}

// BenchmarkSubmission is what the store costs a submission of 4 KiB from acceptance to sent,
// against as many bare round trips.
func BenchmarkSubmission(b *testing.B) {
	rdb := storetest.NewServer(b).Client()
	s, ctx := storetest.On(b, rdb), b.Context()
	a, err := s.CreateAccount(ctx, support())
	if err != nil {
		b.Fatal(err)
	}
	body := strings.Repeat("x", 4<<10)
	var ours, base time.Duration
	for b.Loop() {
		start := time.Now()
		if _, err := s.AcceptSubmission(ctx, store.Accept{Submission: letter(a.ID), Body: strings.NewReader(body)}); err != nil {
			b.Fatal(err)
		}
		c, err := s.ClaimSubmission(ctx, store.Claim{Account: a.ID, Owner: "p1", Lease: time.Minute, Slots: 1, Limits: store.Limits{PerDay: 1 << 30}})
		if err != nil || c.Answer != store.ClaimOK {
			b.Fatal(c, err)
		}
		m := c.Submission
		if err := s.MarkSubmission(ctx, m.ID, m.Fence, m.Attempt); err != nil {
			b.Fatal(err)
		}
		next := m
		next.State = store.SubmissionSent
		log := &store.SentLog{MessageIDs: []string{string(m.ID)}, Recipients: m.To, At: c.Now}
		if _, err := s.MoveSubmission(ctx, m, next, stepEvents(m, next.State), store.MoveOps{Wake: true, SentLog: log}); err != nil {
			b.Fatal(err)
		}
		ours += time.Since(start)
		start = time.Now()
		for range 6 {
			rdb.Ping(ctx)
		}
		base += time.Since(start)
	}
	b.ReportMetric(float64(ours)/float64(base), "x-pings")
	b.ReportMetric(float64(b.N)/ours.Seconds(), "submissions/s")
}
