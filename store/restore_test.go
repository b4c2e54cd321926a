package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

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
