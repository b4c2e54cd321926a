package store_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/storetest"
)

// Accounts whose places among leases and proofs of life are gone get them back; those
// that are there keep theirs, and one that was deleted meanwhile does not come back.
func TestEnlist(t *testing.T) {
	storetest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := storetest.On(t, rdb)
		ctx := t.Context()
		a, _ := create(t, s)
		gone := a
		gone.ID = "gone"
		n, err := s.Enlist(ctx, []*store.Account{&a, &gone})
		if err != nil || n != 0 {
			t.Fatalf("%d places missing, %v", n, err)
		}
		if free, _, err := s.FreeLeases(ctx); err != nil || len(free) != 0 {
			t.Fatalf("free: %v, %v", free, err)
		}
		lose(t, rdb, "*:leases", "*:alive")
		if n, err = s.Enlist(ctx, []*store.Account{&a, &gone}); err != nil || n != 2 {
			t.Fatalf("%d places missing, %v", n, err)
		}
		if free, _, err := s.FreeLeases(ctx); err != nil || len(free) != 1 || free[0] != a.ID {
			t.Fatalf("free: %v, %v", free, err)
		}
		if err := s.SetAlive(ctx, map[store.AccountID]time.Time{a.ID: time.Now()}); err != nil {
			t.Fatal(err)
		}
		if st, err := s.State(ctx, a.ID); err != nil || st.LastAlive.IsZero() {
			t.Fatalf("last proof %v, %v", st.LastAlive, err)
		}
	})
}

// Redis comes back with an older fence: those that it gave since are not given again.
func TestAcquire_repeats_no_fence(t *testing.T) {
	storetest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := storetest.On(t, rdb)
		ctx := t.Context()
		a, l := create(t, s)
		key, err := rdb.Keys(ctx, "*:"+string(a.ID)+":lease").Result()
		if err != nil || len(key) != 1 {
			t.Fatal(key, err)
		}
		if err := rdb.HSet(ctx, key[0], "fence", "1700000000000").Err(); err != nil {
			t.Fatal(err)
		}
		again, err := s.Acquire(ctx, a.ID, l.Owner, time.Minute)
		if err != nil || again.Fence < l.Fence {
			t.Errorf("fence %d behind %d, %v", again.Fence, l.Fence, err)
		}
	})
}
