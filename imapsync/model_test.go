package imapsync

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
)

// flakyStore fails commits: before they happen, or after, as a lost answer does.
type flakyStore struct {
	*store.Store
	rnd  *rand.Rand // of the worker's goroutine
	rate atomic.Int64
}

func (f *flakyStore) Commit(ctx context.Context, l store.Lease, c store.Change) (store.Committed, error) {
	switch n := f.rnd.Int64N(100); {
	case n < f.rate.Load():
		return store.Committed{}, fmt.Errorf("planted: %w", store.ErrUnavailable)
	case n < 2*f.rate.Load():
		if _, err := f.Store.Commit(ctx, l, c); err != nil {
			return store.Committed{}, err
		}
		return store.Committed{}, fmt.Errorf("planted, and done: %w", store.ErrUnavailable)
	}
	return f.Store.Commit(ctx, l, c)
}

// What another client does, with connections cut, commits failing and the engine
// restarted in between: when all is quiet, the events folded up are the server's
// folders, and so is the state; no id came twice, no number is missing.
func TestModel(t *testing.T) {
	histories := uint64(2)
	if n, err := strconv.ParseUint(os.Getenv("POSTRIDER_MODEL"), 10, 32); err == nil {
		histories = n // a longer run: POSTRIDER_MODEL=100 go test -run TestModel
	}
	for seed := range histories {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			eachTier(t, func(d *den) { history(d, seed) })
		})
	}
}

func history(d *den, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	flaky := &flakyStore{Store: d.st, rnd: rand.New(rand.NewPCG(seed, 2))}
	d.wrap = func(Store) Store { return flaky }
	d.srv.listStatus = seed%2 == 0
	d.up()
	d.pass(3 * time.Second)
	flaky.rate.Store(8)
	names := func() []string { return slices.Sorted(maps.Keys(d.srv.folders)) }
	n := 0
	for range 120 {
		folder := names()[rnd.IntN(len(d.srv.folders))]
		var uids []uint32
		d.srv.act(func() { uids = slices.Sorted(maps.Keys(d.srv.folders[folder].msgs)) })
		one := func() uint32 { return uids[rnd.IntN(len(uids))] }
		switch op := rnd.IntN(20); {
		case op < 8:
			n++
			d.srv.put(folder, fakeID(n))
		case op < 11 && len(uids) > 0:
			d.srv.flag(folder, one(), [][]string{nil, {`\Seen`}, {`\Flagged`, `\Seen`}}[rnd.IntN(3)]...)
		case op < 13 && len(uids) > 0:
			d.srv.expunge(folder, one())
		case op < 14 && len(uids) > 0:
			to := names()[rnd.IntN(len(d.srv.folders))]
			d.srv.act(func() {
				m := d.srv.folders[folder].msgs[one()]
				delete(d.srv.folders[folder].msgs, m.uid)
				u := d.srv.add(to, "x", m.date, m.flags...)
				d.srv.folders[to].msgs[u].id = m.id
			})
		case op < 15 && len(d.srv.folders) < 6:
			d.srv.act(func() { n++; d.srv.create(fmt.Sprintf("F%d", n)) })
		case op < 16 && len(d.srv.folders) > 4:
			name := names()[0]
			if name != "INBOX" && name != "Archive" {
				d.srv.act(func() { delete(d.srv.folders, name) })
			}
		case op < 17:
			d.srv.act(func() {
				for _, x := range d.srv.sessions {
					x.Close()
				}
			})
		case op < 18:
			d.down()
			d.up()
		case op < 19:
			n++
			d.srv.act(func() {
				for range 30 {
					n++
					d.srv.add(folder, fakeID(n), time.Now())
				}
			})
		}
		d.pass(time.Duration(rnd.Int64N(int64([]time.Duration{time.Millisecond, time.Second, time.Minute}[rnd.IntN(3)]))))
	}
	flaky.rate.Store(0)
	settle := 15 * time.Minute
	if !d.srv.condstore {
		settle = 75 * time.Minute // a slow round over flags
	}
	d.pass(settle)
	d.converged()
}

// converged compares events and state with the server.
func (d *den) converged() {
	d.t.Helper()
	type msgs = map[uint32][]string
	want, folded, state := map[string]msgs{}, map[string]msgs{}, map[string]msgs{}
	d.srv.act(func() {
		for name, f := range d.srv.folders {
			want[name] = msgs{}
			for uid, m := range f.msgs {
				want[name][uid] = append([]string{}, m.flags...)
			}
		}
	})
	if d.truth != nil {
		want = d.truth()
	}
	ids := map[events.ID]bool{}
	seq := uint64(0)
	for e, err := range d.st.Journal(d.t.Context(), denAccount, 0) {
		d.ok(err)
		if seq++; e.Seq != seq {
			d.t.Fatalf("seq %d where %d belongs", e.Seq, seq)
		}
		if ids[e.ID] {
			d.t.Fatalf("%s %s twice", e.Type, e.ID)
		}
		ids[e.ID] = true
		var p struct {
			UID      uint32
			Flags    []string
			Previous struct {
				Path string
				UID  uint32
			}
			Related *struct{ Path string }
			Changes struct{ Flags struct{ Value []string } }
		}
		d.ok(json.Unmarshal(e.Data.(events.Raw), &p))
		switch e.Type {
		case events.MailboxNewType:
			folded[e.Path] = msgs{}
			if p.Related != nil {
				folded[e.Path] = folded["renamed from "+p.Related.Path]
			}
		case events.MailboxDeletedType:
			folded["renamed from "+e.Path] = folded[e.Path]
			delete(folded, e.Path)
		case events.MessageNewType:
			if _, there := folded[e.Path][p.UID]; there {
				d.t.Fatalf("seq %d: UID %d of %s is new twice", e.Seq, p.UID, e.Path)
			}
			folded[e.Path][p.UID] = append([]string{}, p.Flags...)
		case events.MessageUpdatedType:
			folded[e.Path][p.UID] = append([]string{}, p.Changes.Flags.Value...)
		case events.MessageDeletedType:
			delete(folded[e.Path], p.UID)
		case events.MessageMovedType:
			delete(folded[p.Previous.Path], p.Previous.UID)
			folded[e.Path][p.UID] = append([]string{}, p.Flags...)
		}
	}
	maps.DeleteFunc(folded, func(name string, _ msgs) bool { _, ok := want[name]; return !ok })
	if diff := cmp.Diff(want, folded); diff != "" {
		d.t.Errorf("events folded up (-server +events):\n%s", diff)
	}
	folders, _, err := d.st.Folders(d.t.Context(), denAccount)
	d.ok(err)
	for _, f := range folders {
		if f.Watched == "no" {
			continue
		}
		meta, err := d.st.FolderMeta(d.t.Context(), denAccount, f.Num)
		d.ok(err)
		blocks, err := d.st.Blocks(d.t.Context(), denAccount, f.Num, meta)
		d.ok(err)
		state[f.Path] = msgs{}
		for _, recs := range blocks {
			for _, r := range recs {
				state[f.Path][r.UID] = append([]string{}, r.Flags...)
			}
		}
	}
	if diff := cmp.Diff(want, state); diff != "" {
		d.t.Errorf("state (-server +state):\n%s", diff)
	}
}
