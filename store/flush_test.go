package store_test

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/store"
)

// flushed is the change that does the flush which is asked for, of the one folder there is.
func flushed(t *testing.T, s *store.Store, id store.AccountID) (store.Change, store.State) {
	t.Helper()
	st, err := s.State(t.Context(), id)
	if err != nil || st.Flush == nil {
		t.Fatalf("%+v, %v", st.Flush, err)
	}
	meta, err := s.FolderMeta(t.Context(), id, 5)
	if err != nil {
		t.Fatal(err)
	}
	return store.Change{
		Flush:   &store.FlushChange{Flush: *st.Flush, Epoch: st.Epoch},
		Folders: []store.FolderChange{{Num: 5, Version: meta.Version, Meta: store.FolderMeta{Incarnation: 1, Unlooked: true}, Reset: true}},
	}, st
}

func testFlush(t *testing.T, s *store.Store, rdb redis.UniversalClient) {
	a, l := create(t, s)
	if _, err := s.Commit(t.Context(), l, folderChange(a)); err != nil {
		t.Fatal(err)
	}
	if err := s.Release(t.Context(), l); err != nil { // nobody has to hold it
		t.Fatal(err)
	}
	from := time.Date(1960, 2, 3, 4, 5, 6, 0, time.UTC)
	marked, err := s.FlushAccount(t.Context(), a.ID, from)
	if err != nil || marked.Version != a.Version+1 || !marked.NotifyFrom.Equal(from) {
		t.Fatalf("version %d, from %v, %v", marked.Version, marked.NotifyFrom, err)
	}
	first, _ := flushed(t, s, a.ID)
	if marked, err = s.FlushAccount(t.Context(), a.ID, time.Time{}); err != nil || time.Since(marked.NotifyFrom).Abs() > time.Minute {
		t.Fatalf("by default from %v, %v", marked.NotifyFrom, err)
	}

	// A stalled holder, one that knows an older wish, or an older state: nothing is changed.
	stalled := l
	if l, err = s.Acquire(t.Context(), a.ID, "p2", time.Minute); err != nil {
		t.Fatal(err)
	}
	next, was := flushed(t, s, a.ID)
	elsewhen := next
	elsewhen.Flush = &store.FlushChange{Flush: next.Flush.Flush, Epoch: was.Epoch + 1}
	for name, try := range map[string]struct {
		lease store.Lease
		c     store.Change
		err   error
	}{
		"stalled": {stalled, next, store.ErrLeaseLost}, "older wish": {l, first, store.ErrStale}, "another epoch": {l, elsewhen, store.ErrStale},
	} {
		if _, err := s.Commit(t.Context(), try.lease, try.c); !errors.Is(err, try.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, still := flushed(t, s, a.ID); !cmp.Equal(was, still, cmpopts.IgnoreUnexported(store.Flush{})) || !still.Initialized {
		t.Errorf("changed: %+v, was %+v", still, was)
	}

	if _, err := s.Commit(t.Context(), l, next); err != nil {
		t.Fatal(err)
	}
	st, err := s.State(t.Context(), a.ID)
	if err != nil || st.Flush != nil || st.Initialized || st.Reason != store.ReasonFlush || st.Epoch <= was.Epoch || st.Seq != was.Seq || !st.NotifyFrom.Equal(marked.NotifyFrom) {
		t.Errorf("%+v, %v", st, err)
	}
	meta, err := s.FolderMeta(t.Context(), a.ID, 5)
	if err != nil || !meta.Unlooked || meta.Count != 0 {
		t.Errorf("folder: %+v, %v", meta, err)
	}
	if left := rdb.Keys(t.Context(), "*:support:b:5").Val(); len(left) != 0 {
		t.Errorf("blocks are left: %v", left)
	}
	if _, err := s.Commit(t.Context(), l, next); !errors.Is(err, store.ErrStale) {
		t.Errorf("done twice: %v", err)
	}
}

// A flush that is asked for outlives the loss of the state around it, and one that was done
// is not done again by it.
func testFlushAndStateLost(t *testing.T, s *store.Store, rdb redis.UniversalClient) {
	a, l := create(t, s)
	if _, err := s.Commit(t.Context(), l, folderChange(a)); err != nil {
		t.Fatal(err)
	}
	state := rdb.Keys(t.Context(), "*:support:state").Val()[0]
	for range 2 {
		if _, err := s.FlushAccount(t.Context(), a.ID, time.Time{}); err != nil {
			t.Fatal(err)
		}
		c, was := flushed(t, s, a.ID)
		fields := rdb.HGetAll(t.Context(), state).Val()
		delete(fields, "flush")
		rdb.HDel(t.Context(), state, slices.Collect(maps.Keys(fields))...)
		st, err := s.RestoreState(t.Context(), l, "missing")
		if err != nil || st.Flush == nil || st.Flush.At != was.Flush.At || st.Reason != store.ReasonStateLost {
			t.Fatalf("%+v, %v", st, err)
		}
		c.Flush.Epoch, c.Folders = st.Epoch, nil
		if _, err := s.Commit(t.Context(), l, c); err != nil {
			t.Fatal(err)
		}
		if now, err := s.State(t.Context(), a.ID); err != nil || now.Epoch <= st.Epoch || now.Flush != nil {
			t.Fatalf("%+v, %v", now, err)
		}
		rdb.Del(t.Context(), state)
		if st, err = s.RestoreState(t.Context(), l, "missing"); err != nil || st.Flush != nil || !st.NotifyFrom.IsZero() {
			t.Fatalf("%+v, %v", st, err)
		}
		if _, err := s.Commit(t.Context(), l, folderChange(a)); err != nil {
			t.Fatal(err)
		}
	}
}
