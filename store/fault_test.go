package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/storetest"
)

// fault makes one Redis command fail: before it reaches Redis, or after its effect, so
// that only the answer is lost.
type fault struct {
	n, at int
	after bool
}

func (f *fault) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (f *fault) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if f.n++; f.n != f.at {
			return next(ctx, cmd)
		}
		if f.after {
			_ = next(ctx, cmd)
		}
		cmd.SetErr(io.EOF)
		return io.EOF
	}
}

func (f *fault) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if f.n++; f.n != f.at {
			return next(ctx, cmds)
		}
		if f.after {
			_ = next(ctx, cmds)
		}
		for _, c := range cmds {
			c.SetErr(io.EOF)
		}
		return io.EOF
	}
}

// An account's life is repeated call by call until each is through, with every single
// Redis command failing once, before or after its effect: the journal is the same.
func TestFault_every_command_may_fail(t *testing.T) {
	want := []string{"1 accountAdded", "2 messageDeleted", "3 messageDeleted", "4 accountPaused", "5 accountResumed", "6 accountDeleted"}
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			f := &fault{at: at, after: after}
			rdb := storetest.MiniredisClient(t)
			rdb.AddHook(f)
			s := storetest.On(t, rdb)
			life(t, s)
			if f.n < at {
				if at < 20 {
					t.Fatalf("only %d commands", at)
				}
				break
			}
			if diff := cmp.Diff(want, journal(t, s, "support")); diff != "" {
				t.Errorf("command %d, after its effect: %v: %s", at, after, diff)
			}
		}
	}
}

// life does what a person and a worker do with an account, repeating what fails.
func life(t *testing.T, s *store.Store) {
	t.Helper()
	ctx := t.Context()
	until := func(what string, f func() error, done ...error) {
		t.Helper()
		for range 5 {
			err := f()
			if err == nil {
				return
			}
			for _, d := range done {
				if errors.Is(err, d) {
					return
				}
			}
			if !errors.Is(err, store.ErrUnavailable) {
				t.Fatalf("%s: %v", what, err)
			}
		}
		t.Fatalf("%s does not come through", what)
	}
	var a store.Account
	until("create", func() (err error) { _, err = s.CreateAccount(ctx, support()); return err }, store.ErrExists)
	until("read", func() (err error) { a, err = s.Account(ctx, "support"); return err })
	var l store.Lease
	until("acquire", func() (err error) { l, err = s.Acquire(ctx, a.ID, "p1", time.Minute); return err })
	// a worker that lost an answer reads the version again: stale means done
	until("commit", func() (err error) { _, err = s.Commit(ctx, l, folderChange(a)); return err }, store.ErrStale)
	until("pause", func() (err error) { _, err = s.PauseAccount(ctx, a.ID, "api"); return err })
	until("resume", func() (err error) { _, err = s.ResumeAccount(ctx, a.ID, "api"); return err })
	until("delete", func() error { return s.DeleteAccount(ctx, a.ID) })
}

// Restoring lost state with every command failing once says so exactly once an epoch.
func TestFault_restore(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := 1; at < 12; at++ {
			rdb := storetest.MiniredisClient(t)
			s := storetest.On(t, rdb)
			a, l := create(t, s)
			lose(t, rdb, "*:support:state")
			f := &fault{at: at, after: after}
			rdb.AddHook(f)
			for try := 0; ; try++ {
				_, err := s.State(t.Context(), a.ID)
				if errors.Is(err, store.ErrStateLost) {
					_, err = s.RestoreState(t.Context(), l, "missing")
				}
				if err == nil {
					break
				}
				if try == 5 || !errors.Is(err, store.ErrUnavailable) {
					t.Fatal(err)
				}
			}
			if got := journal(t, s, a.ID); fmt.Sprint(got) != "[1 accountAdded 2 accountStateLost]" {
				t.Errorf("command %d, after its effect: %v: %v", at, after, got)
			}
		}
	}
}
