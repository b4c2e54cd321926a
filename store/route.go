package store

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/store/secret"
)

// The kinds of routes. Custom routes come with their REST resource.
const (
	RouteDefault = "default"
	RouteAccount = "account"
)

// DefaultRouteID is the id of the built-in route of the setting `webhooks`.
const DefaultRouteID = "default"

// AccountRouteID is the id of the route of an account's own webhook URL.
func AccountRouteID(id AccountID) string { return "account:" + string(id) }

// The ways of ordering a route's deliveries.
const (
	OrderAccount = "account" // a lane per account; a failing head blocks it for OrderedBudget
	OrderNone    = "none"    // 16 lanes; a failing head leaves at once
	OrderStrict  = "strict"  // a lane per account; a failing head blocks it to its end
)

// The signature profiles.
const (
	SignStandard    = "standard"
	SignEmailEngine = "emailengine"
)

// Route subscribes one URL to events. It is a value made from settings and accounts;
// nobody changes it after it was made.
type Route struct {
	ID, Kind, Name string
	Account        AccountID // the account of a route of kind account, else ""

	Enabled bool        // false: new events are not matched, what is pending waits
	Target  secret.Text // the URL, which may hold credentials in its userinfo
	Headers []Header

	Events       []string // names, `*`, `message*`, `!name`
	InboxNewOnly bool

	Profiles      []string    // signature profiles
	Secret        secret.Text // whsec_…, for standard
	ServiceSecret secret.Text // for emailengine; empty sends no such header

	Timeout       time.Duration
	Schedule      []time.Duration // delays between attempts once out of the lane
	MaxAge        time.Duration   // from the event's date to the last attempt
	Ordering      string
	OrderedBudget time.Duration
	Concurrency   int
	PauseAfter    int // failures in a row; 0 = never
	AutoResume    bool
	DropOn        []int // status codes that drop the delivery

	Version string // of the target and its secrets: another one is a new beginning for the route's health
}

// Standard3d is the default retry schedule, the delays after the first attempt: ten
// attempts in 68 h 36 m 5 s.
func Standard3d() []time.Duration {
	return []time.Duration{
		5 * time.Second, time.Minute, 5 * time.Minute, 30 * time.Minute,
		2 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour, 24 * time.Hour,
	}
}

// RouteSecret is the secret that the default route and the routes of accounts share. It
// is made at the first call, sealed, and the same ever after.
func (s *Store) RouteSecret(ctx context.Context) (secret.Text, error) {
	const field, place = "secret", "route:" + DefaultRouteID
	key := s.k.routeConf(DefaultRouteID)
	for range 2 {
		sealed, err := s.rdb.HGet(ctx, key, field).Result()
		switch {
		case err == nil:
			t, err := s.ring.Open(sealed, place, field)
			if err != nil {
				return secret.Text{}, fmt.Errorf("secret of route %s: %w", DefaultRouteID, err)
			}
			return t, nil
		case !errors.Is(err, redis.Nil):
			return secret.Text{}, unavailable("route secret", err)
		}
		// The first of several processes that come here at once gives the secret to all.
		made := s.ring.Seal(NewRouteSecret(), place, field)
		if err := s.rdb.HSetNX(ctx, key, field, made).Err(); err != nil {
			return secret.Text{}, unavailable("make route secret", err)
		}
	}
	return secret.Text{}, fmt.Errorf("secret of route %s: %w", DefaultRouteID, ErrNotFound)
}

// NewRouteSecret makes a secret of 32 random bytes in the form of Standard Webhooks.
func NewRouteSecret() secret.Text {
	b := make([]byte, 32)
	rand.Read(b) // never fails: crypto/rand ends the program instead
	return secret.New("whsec_" + base64.StdEncoding.EncodeToString(b))
}
