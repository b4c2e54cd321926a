package dispatch

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
)

// logged is an entry of the attempt log.
type logged struct {
	Delivery string      `json:"id"`
	EventID  events.ID   `json:"eventId"`
	Event    events.Type `json:"event"`
	Account  string      `json:"account"`
	Seq      uint64      `json:"seq"`
	N        int         `json:"n"`
	Kind     string      `json:"kind"` // "lane", "scheduled" or "probe"
	At       events.Time `json:"at"`
	Duration int64       `json:"durationMs"`
	Class    Class       `json:"class"`
	Status   int         `json:"statusCode,omitempty"`
	Error    string      `json:"error,omitempty"`
	Remote   string      `json:"remoteAddress,omitempty"`
	Bytes    int         `json:"bytes"`
}

func (h *haul) entry(c *parcel, rec store.Delivery, x exchange, v Verdict) string {
	e := logged{
		Delivery: c.id, EventID: rec.EventID, Event: rec.Event, Account: string(rec.Account), Seq: rec.Seq, N: rec.Attempts,
		Kind: h.kind(), At: events.TimeOf(x.start), Duration: x.took.Milliseconds(), Class: v.Class, Status: x.status,
		Remote: x.remote, Bytes: len(c.body),
	}
	if v.Class != ClassOK {
		e.Error = h.message(x)
	}
	b, err := json.Marshal(e)
	if err != nil {
		return "{}" // cannot be: strings and numbers only
	}
	return string(b)
}

func (h *haul) kind() string {
	switch {
	case h.probe:
		return "probe"
	case h.lane.Late():
		return "scheduled"
	}
	return "lane"
}

// message is what is told of a failure: one line without secrets.
func (h *haul) message(x exchange) string {
	return oneLine(redact(x.summary(), h.secrets), shownError)
}

// logAttempt writes the one line of an attempt. Failures of one route warn once a minute;
// the rest is there for whoever looks.
func (h *haul) logAttempt(c *parcel, rec store.Delivery, x exchange, v Verdict, next time.Time) {
	level := slog.LevelDebug
	if v.Class != ClassOK && h.quiet.may(h.route.ID) {
		level = slog.LevelWarn
	}
	if !h.log.Enabled(context.Background(), level) {
		return
	}
	attrs := []any{
		"route", h.route.ID, "account", rec.Account, "event", rec.Event, "lane", h.lane, "delivery", c.id,
		"attempt", rec.Attempts, "class", string(v.Class), "status", x.status, "dur", x.took,
	}
	if v.Class != ClassOK {
		attrs = append(attrs, "err", h.message(x))
	}
	if !next.IsZero() {
		attrs = append(attrs, "next", next.UTC().Truncate(time.Second))
	}
	h.log.Log(context.Background(), level, "webhook attempt", attrs...)
}
