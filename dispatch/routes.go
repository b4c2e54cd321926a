package dispatch

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/secret"
)

// RouteSource is what routes are made of. All methods may block; each is called again
// after an error.
type RouteSource interface {
	Settings(ctx context.Context) (store.Settings, error)
	RouteSecret(ctx context.Context) (secret.Text, error)
	// ShardVersions MUST change in a shard with every change of an account there.
	ShardVersions(ctx context.Context) ([store.Shards]uint64, error)
	ShardAccounts(ctx context.Context, shard int) ([]store.Account, error)
}

// Routes is a snapshot of all routes. It is immutable.
type Routes struct {
	byID map[string]store.Route
	at   time.Time
}

// Route is the route of that id.
func (rs *Routes) Route(id string) (store.Route, bool) {
	r, ok := rs.byID[id]
	return r, ok
}

// IDs are the ids of all routes, sorted.
func (rs *Routes) IDs() []string {
	ids := make([]string, 0, len(rs.byID))
	for id := range rs.byID {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// snapshotAge is how old a snapshot may be when it is used.
const snapshotAge = time.Second

// Table keeps the snapshot. It is safe for concurrent use and has no goroutine: whoever
// finds the snapshot too old renews it.
type Table struct {
	src  RouteSource
	cfg  Config
	cur  atomic.Pointer[Routes]
	lock chan struct{} // cap 1: held by the one who renews; guards what is below

	versions [store.Shards]uint64
	loaded   [store.Shards]bool
	accounts [store.Shards][]routed

	stale   bool // accounts were read that cur does not have
	def     store.Route
	enabled bool // Settings.WebhooksEnabled, as cur has it
}

func newTable(src RouteSource, cfg Config) *Table {
	return &Table{src: src, cfg: cfg, lock: make(chan struct{}, 1)}
}

// Routes answers a snapshot at most a second old. While another goroutine renews it, an
// older one does.
func (t *Table) Routes(ctx context.Context) (*Routes, error) {
	rs := t.cur.Load()
	if rs != nil && time.Since(rs.at) < snapshotAge {
		return rs, nil
	}
	if rs == nil {
		return t.Refresh(ctx)
	}
	select {
	case t.lock <- struct{}{}:
		defer func() { <-t.lock }()
		fresh, err := t.load(ctx)
		if err != nil && time.Since(rs.at) < 5*snapshotAge {
			return rs, nil // the caller's own writes will tell whether Redis is away
		}
		return fresh, err
	default:
		return rs, nil
	}
}

// Refresh answers a snapshot made after it was called.
func (t *Table) Refresh(ctx context.Context) (*Routes, error) {
	select {
	case t.lock <- struct{}{}:
		defer func() { <-t.lock }()
		return t.load(ctx)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (t *Table) load(ctx context.Context) (*Routes, error) {
	at := time.Now()
	set, err := t.src.Settings(ctx)
	if err != nil {
		return nil, fmt.Errorf("routes: %w", err)
	}
	sec, err := t.src.RouteSecret(ctx)
	if err != nil {
		return nil, fmt.Errorf("routes: %w", err)
	}
	versions, err := t.src.ShardVersions(ctx)
	if err != nil {
		return nil, fmt.Errorf("routes: %w", err)
	}
	for n := range store.Shards {
		if t.loaded[n] && versions[n] == t.versions[n] {
			continue
		}
		// An untouched shard has no accounts; a shard read after its version is at least as new.
		if versions[n] != 0 {
			accounts, err := t.src.ShardAccounts(ctx, n)
			if err != nil {
				return nil, fmt.Errorf("routes of shard %d: %w", n, err)
			}
			t.accounts[n] = withRoute(accounts)
		}
		t.versions[n], t.loaded[n], t.stale = versions[n], true, true
	}
	def, cur := defaultRoute(set, sec, t.cfg), t.cur.Load()
	if cur != nil && !t.stale && set.WebhooksEnabled == t.enabled && reflect.DeepEqual(def, t.def) {
		rs := &Routes{byID: cur.byID, at: at}
		t.cur.Store(rs)
		return rs, nil
	}
	rs := &Routes{byID: map[string]store.Route{def.ID: def}, at: at}
	for n := range t.accounts {
		for _, a := range t.accounts[n] {
			r := accountRoute(def, set, a)
			rs.byID[r.ID] = r
		}
	}
	t.cur.Store(rs)
	t.stale, t.def, t.enabled = false, def, set.WebhooksEnabled
	return rs, nil
}

// defaultRoute is the built-in route of the settings.
func defaultRoute(set store.Settings, sec secret.Text, cfg Config) store.Route {
	r := store.Route{
		ID: store.DefaultRouteID, Kind: store.RouteDefault, Name: store.DefaultRouteID,
		Enabled: set.WebhooksEnabled && !set.Webhooks.Empty(), Target: set.Webhooks,
		Headers: set.WebhooksCustomHeaders, Events: set.WebhookEvents, InboxNewOnly: set.InboxNewOnly,
		Profiles: []string{store.SignStandard, store.SignEmailEngine}, Secret: sec, ServiceSecret: set.ServiceSecret,
		Timeout: cfg.Timeout, Schedule: store.Standard3d(), MaxAge: 72 * time.Hour,
		Ordering: store.OrderAccount, OrderedBudget: time.Minute,
		Concurrency: 4, PauseAfter: 100, AutoResume: true,
	}
	r.Version = version(r)
	return r
}

// routed is what a route of its own needs of an account, and no more: it is kept for each.
type routed struct {
	id       store.AccountID
	webhooks secret.Text
	headers  []store.Header
}

func withRoute(accounts []store.Account) []routed {
	var kept []routed
	for _, a := range accounts {
		if !a.Webhooks.Empty() {
			kept = append(kept, routed{a.ID, a.Webhooks, a.Headers})
		}
	}
	return slices.Clip(kept)
}

// accountRoute stands in for the default route for one account: the same but for URL,
// headers, lanes and health. It exists for a deleted account too, until its last event
// has ended.
func accountRoute(def store.Route, set store.Settings, a routed) store.Route {
	r := def
	r.ID, r.Kind, r.Name, r.Account = store.AccountRouteID(a.id), store.RouteAccount, string(a.id), a.id
	r.Enabled, r.Target = set.WebhooksEnabled, a.webhooks
	r.Headers = slices.Clone(a.headers)
	for _, h := range def.Headers {
		if !slices.ContainsFunc(a.headers, func(own store.Header) bool { return strings.EqualFold(own.Key, h.Key) }) {
			r.Headers = append(r.Headers, h)
		}
	}
	r.Version = version(r)
	return r
}

// version changes with what makes an endpoint another one.
func version(r store.Route) string {
	return events.Digest("postrider/route/1", r.Target.Reveal(), r.Secret.Reveal())
}

// ref is what scripts must know of a route.
func ref(r store.Route) store.RouteRef {
	slots := r.Concurrency
	if !r.Enabled {
		slots = 0
	}
	return store.RouteRef{ID: r.ID, Slots: slots, Version: r.Version}
}

// specialUse is the role of the folder a messageNew is in; journal events are read back
// as Raw, fresh ones are typed.
func specialUse(e events.Event) string {
	if p, ok := e.Data.(events.MessageNew); ok {
		return string(p.MessageSpecialUse)
	}
	return rawSpecialUse(e.Data)
}
