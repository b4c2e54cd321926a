package dispatch

import (
	"encoding/json"
	"strconv"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
)

// announcement is the event of a change of health.
func announcement(r store.Route, a store.Announcement) (events.Payload, bool) {
	route := events.Route{ID: r.ID, Name: r.Name}
	arg := func(i int) string {
		if i < len(a.Args) {
			return a.Args[i]
		}
		return ""
	}
	num := func(i int) int { n, _ := strconv.Atoi(arg(i)); return n } // our own scripts' integers
	switch a.Kind {
	case "failing":
		return events.WebhookFailing{Route: route, ConsecutiveFailures: num(0), LastStatus: num(1), LastError: arg(2)}, true
	case "paused":
		return events.WebhookPaused{Route: route, Reason: arg(0), Failures: num(1)}, true
	case "resumed":
		return events.WebhookResumed{Route: route, Mode: arg(0), Held: num(1)}, true
	case "recovered":
		return events.WebhookRecovered{Route: route, Failures: num(0), DownFor: int64(num(1))}, true
	case "auth":
		return events.WebhookAuthFailing{Route: route, Status: num(0), Count: num(1)}, true
	case "exhausted":
		return events.WebhookExhausted{
			Route: route, DeliveryID: arg(0), DeliveryEventID: events.ID(arg(1)), DeliveryEvent: events.Type(arg(2)),
			Attempts: num(3), Count: num(4),
		}, true
	case "dropped":
		return events.WebhookDropped{Route: route, Count: num(0), Reason: arg(1)}, true
	}
	return nil, false
}

// rawSpecialUse reads data.messageSpecialUse of an event that was read back.
func rawSpecialUse(data events.Payload) string {
	raw, ok := data.(events.Raw)
	if !ok {
		return ""
	}
	var d struct {
		MessageSpecialUse string `json:"messageSpecialUse"`
	}
	if json.Unmarshal(raw, &d) != nil {
		return ""
	}
	return d.MessageSpecialUse
}
