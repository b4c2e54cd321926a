package api

import (
	"slices"

	"github.com/postrider/postrider/store"
)

// The scopes of a token.
const (
	scopeAll      = "*"
	scopeAccounts = "accounts" // register, change, delete, pause
	scopeRead     = "read"     // mailboxes, messages
	scopeWrite    = "write"    // flags, moves, deletes, uploads, folders
	scopeSend     = "send"     // submit, outbox
	scopeEvents   = "events"   // cursor, stream, history
	scopeWebhooks = "webhooks"
	scopeSettings = "settings"
	scopeTokens   = "tokens"
	scopeMonitor  = "monitor" // stats, logs, the queue dashboard read-only
	scopeMetrics  = "metrics"
	scopeAPI      = "api" // all but tokens and settings
	// scopeAny marks a route that decides by itself; every token passes.
	scopeAny = "any"
)

// unbound are the scopes that make no sense for a token bound to an account, since what
// they open is everybody's.
var unbound = []string{scopeAll, scopeSettings, scopeTokens, scopeMetrics, scopeMonitor}

// holds says whether having these scopes includes want.
func holds(have []string, want string) bool {
	switch {
	case want == scopeAny || slices.Contains(have, scopeAll) || slices.Contains(have, want):
		return true
	case slices.Contains(have, scopeAPI):
		return want != scopeAll && want != scopeTokens && want != scopeSettings
	}
	return false
}

// mayGrant says whether a token may make one with these scopes: nobody grants more than
// they hold.
func mayGrant(have, give []string) bool {
	return !slices.ContainsFunc(give, func(g string) bool {
		if g == scopeAPI && !slices.Contains(have, scopeAll) {
			return !slices.Contains(have, scopeAPI)
		}
		return !holds(have, g)
	})
}

// allows decides whether a token may call a route: scopes are the alternatives that the
// route accepts, route its path, account the one in its path ("" where it has none).
// Whether an account exists is not asked: what is refused is refused alike.
func allows(t store.Token, scopes []string, route, account string) bool {
	if !slices.ContainsFunc(scopes, func(want string) bool { return holds(t.Scopes, want) }) {
		return false
	}
	switch {
	case t.Account == "":
		return true
	case account != "":
		return account == string(t.Account)
	}
	return slices.Contains(boundRoutes, route)
}

// boundRoutes are open to account-bound tokens though no account is in their path: they
// show the part of the token's account, and a token may delete itself.
var boundRoutes = []string{
	"/v1/events", "/v1/events/stream", "/v1/tokens/{id}",
	"/v1/outbox", "/v1/outbox/{queueId}", "/v1/outbox/{queueId}/raw", "/v1/outbox/{queueId}/retry", "/v1/outbox/{queueId}/release", "/v1/outbox/{queueId}/resolve",
}
