package dispatch

import (
	"strings"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
)

// wants says whether a route's selection names an event. Exclusions win; nothing given
// wants nothing. `*` leaves out what is about the installation, which must be named.
func wants(selection []string, t events.Type) bool {
	name, yes := string(t), false
	for _, s := range selection {
		if ex, ok := strings.CutPrefix(s, "!"); ok {
			if matches(ex, name) {
				return false
			}
			continue
		}
		if s == "*" && operational(t) {
			continue
		}
		yes = yes || matches(s, name)
	}
	return yes
}

func matches(pattern, name string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == name
}

// operational are the events that tell of the installation itself. A route that gets
// them must have asked, and none of them is raised about their own delivery.
func operational(t events.Type) bool {
	return strings.HasPrefix(string(t), "webhook") || t == "storagePressure"
}

// Match are the routes that want an event: the account's own in place of the default.
// It is a function of the event and the routes.
func (rs *Routes) Match(e events.Event) []store.Route {
	r, ok := rs.of(store.AccountID(e.Account))
	if !ok || !r.Enabled || !wants(r.Events, e.Type) {
		return nil
	}
	if r.InboxNewOnly && e.Type == events.MessageNewType && specialUse(e) != `\Inbox` {
		return nil
	}
	return []store.Route{r}
}

// needsData says whether Match looks past account and name of such an event.
func (rs *Routes) needsData(account store.AccountID, t events.Type) bool {
	r, ok := rs.of(account)
	return ok && r.InboxNewOnly && t == events.MessageNewType
}

// of is the account's own route, else the default.
func (rs *Routes) of(account store.AccountID) (r store.Route, ok bool) {
	if account != "" {
		if r, ok = rs.byID[store.AccountRouteID(account)]; ok {
			return r, true
		}
	}
	r, ok = rs.byID[store.DefaultRouteID]
	return r, ok
}
