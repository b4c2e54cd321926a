package dispatch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"

	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/secret"
)

// sourced is what the routes of a test are made of.
type sourced struct {
	set      store.Settings
	versions [store.Shards]uint64
	accounts map[int][]store.Account
	err      error // of the accounts of shard 2
}

func (s *sourced) Settings(context.Context) (store.Settings, error) { return s.set, nil }

func (s *sourced) RouteSecret(context.Context) (secret.Text, error) { return secret.New("s"), nil }

func (s *sourced) ShardVersions(context.Context) ([store.Shards]uint64, error) {
	return s.versions, nil
}

func (s *sourced) ShardAccounts(_ context.Context, n int) ([]store.Account, error) {
	if n == 2 && s.err != nil {
		return nil, s.err
	}
	return s.accounts[n], nil
}

func (s *sourced) put(n int, a store.Account) {
	s.accounts[n] = append(s.accounts[n], a)
	s.versions[n]++
}

// Routes are made anew when something changed that they are made of, and only then; what
// changed before an error is not forgotten.
func TestTable_follows_changes(t *testing.T) {
	src := &sourced{set: store.DefaultSettings(), accounts: map[int][]store.Account{}}
	src.put(1, store.Account{ID: "a", Webhooks: secret.New("http://a.example")})
	for i := range 100 {
		src.put(3, store.Account{ID: store.AccountID(fmt.Sprint("x", i)), Webhooks: secret.New("http://x.example")})
	}
	table := newTable(src, Config{})
	refresh := func() *Routes {
		t.Helper()
		rs, err := table.Refresh(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return rs
	}
	target := func(rs *Routes, id store.AccountID) string {
		r, _ := rs.Route(store.AccountRouteID(id))
		return r.Target.Reveal()
	}
	first := refresh()
	if again := refresh(); !maps.EqualFunc(first.byID, again.byID, func(a, b store.Route) bool { return a.ID == b.ID && a.Version == b.Version }) {
		t.Errorf("unchanged, the routes are %v, and were %v", again.IDs(), first.IDs())
	}
	if n := testing.AllocsPerRun(10, func() { refresh() }); n > 20 {
		t.Errorf("%v allocations for nothing new", n)
	}

	src.put(1, store.Account{ID: "b", Webhooks: secret.New("http://b.example")})
	src.put(2, store.Account{ID: "c", Webhooks: secret.New("http://c.example")})
	src.err = errors.New("away")
	if _, err := table.Refresh(t.Context()); err == nil {
		t.Fatal("the error of a shard is lost")
	}
	src.err, src.accounts[2] = nil, nil // what shard 2 had is gone again, and so is its version's change
	src.versions[2] = 0
	if rs := refresh(); target(rs, "b") != "http://b.example" || target(rs, "c") != "" {
		t.Errorf("behind an error the routes are %v", rs.IDs())
	}

	src.set.WebhooksEnabled = false
	if r, _ := refresh().Route(store.AccountRouteID("a")); r.Enabled {
		t.Error("switched off, the route of an account is not")
	}
	src.set.WebhooksEnabled = true
	src.set.WebhooksCustomHeaders = []store.Header{{Key: "X-A", Value: secret.New("1")}}
	if r, _ := refresh().Route(store.AccountRouteID("a")); !r.Enabled || len(r.Headers) != 1 {
		t.Errorf("headers of the default route changed; of the account's it has %v, enabled: %v", r.Headers, r.Enabled)
	}
	if first.byID[store.DefaultRouteID].Headers != nil {
		t.Error("an older snapshot was changed")
	}
}
