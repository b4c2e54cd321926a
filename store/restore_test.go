package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/storetest"
)

// Where no worker watches, the state that was lost is restored once, by whoever needs it.
func TestRestoreUnwatched(t *testing.T) {
	sendOnly := support()
	sendOnly.IMAP, sendOnly.SMTP = nil, sendOnly.IMAP
	storetest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := storetest.On(t, rdb)
		if _, err := s.CreateAccount(t.Context(), sendOnly); err != nil {
			t.Fatal(err)
		}
		for i, loss := range []func(){
			func() { lose(t, rdb, "*:support:state", "*:leases") },
			func() { // it is behind its journal
				if err := rdb.HSet(t.Context(), rdb.Keys(t.Context(), "*:support:state").Val()[0], "seq", 1).Err(); err != nil {
					t.Fatal(err)
				}
			},
		} {
			loss()
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					if err := s.RestoreUnwatched(t.Context(), "support"); err != nil && !errors.Is(err, store.ErrStateLost) {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if err := s.RestoreUnwatched(t.Context(), "support"); err != nil {
				t.Error(err)
			}
			if st, err := s.State(t.Context(), "support"); err != nil || st.Status.State != store.StateUnset || st.Owner != "" || st.Seq != uint64(i)+2 {
				t.Errorf("%+v, %v", st, err)
			}
		}
		if got := journal(t, s, "support"); !slices.Equal(got, []string{"1 accountAdded", "2 accountStateLost", "3 accountStateLost"}) {
			t.Error(got)
		}
	})
}

func TestRestoreUnwatched_leaves_what_a_worker_watches(t *testing.T) {
	rdb := storetest.MiniredisClient(t)
	s := storetest.On(t, rdb)
	create(t, s)
	lose(t, rdb, "*:support:state")
	if err := s.RestoreUnwatched(t.Context(), "support"); !errors.Is(err, store.ErrStateLost) {
		t.Error(err)
	}
	if err := s.RestoreUnwatched(t.Context(), "nobody"); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
	if got := journal(t, s, "support"); len(got) != 1 {
		t.Error(got)
	}
}

// A paused account whose state is lost can be resumed.
func TestResume_after_the_state_was_lost(t *testing.T) {
	rdb := storetest.MiniredisClient(t)
	s := storetest.On(t, rdb)
	a, _ := create(t, s)
	if _, err := s.PauseAccount(t.Context(), a.ID, "api"); err != nil {
		t.Fatal(err)
	}
	lose(t, rdb, "*:support:state")
	if a, err := s.ResumeAccount(t.Context(), a.ID, "api"); err != nil || a.Paused != nil {
		t.Errorf("%v, %v", a.Paused, err)
	}
	if got := fmt.Sprint(journal(t, s, a.ID)); !strings.HasSuffix(got, "accountPaused 3 accountStateLost 4 accountResumed]") {
		t.Error(got)
	}
}

// So is it by who accepts a submission, moves it, or resumes the account.
func TestRestored_on_the_way(t *testing.T) {
	sendOnly := support()
	sendOnly.IMAP, sendOnly.SMTP = nil, sendOnly.IMAP
	rdb := storetest.MiniredisClient(t)
	s, ctx := storetest.On(t, rdb), t.Context()
	if _, err := s.CreateAccount(ctx, sendOnly); err != nil {
		t.Fatal(err)
	}
	lose(t, rdb, "*:support:state")
	m := store.Submission{ID: store.NewSubmissionID("support", time.Now()), Account: "support", To: []string{"b@x"}}
	a, err := s.AcceptSubmission(ctx, store.Accept{Submission: m, Body: strings.NewReader("message")})
	if err != nil {
		t.Fatal(err)
	}
	lose(t, rdb, "*:support:state")
	next := a.Submission
	next.State = store.SubmissionCanceled
	if _, err := s.MoveSubmission(ctx, a.Submission, next, nil, store.MoveOps{}); err != nil {
		t.Error(err)
	}
	if _, err := s.PauseAccount(ctx, "support", "api"); err != nil {
		t.Error(err)
	}
	lose(t, rdb, "*:support:state")
	if _, err := s.ResumeAccount(ctx, "support", "api"); err != nil {
		t.Error(err)
	}
	const want = "1 accountAdded 2 accountStateLost 3 messageQueued 4 accountStateLost 5 accountPaused 6 accountStateLost 7 accountResumed"
	if got := strings.Join(journal(t, s, "support"), " "); got != want {
		t.Error(got)
	}
}
