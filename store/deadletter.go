package store

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// DeadLetter is a delivery that was given up, with the body it would send again.
type DeadLetter struct {
	Entry    string // id in the stream
	At       time.Time
	Delivery Delivery
	Body     []byte // nil when it was never rendered
}

// DeadLetters are the newest given-up deliveries of a route, older than the entry
// before ("" = from the newest).
func (s *Store) DeadLetters(ctx context.Context, route, before string, limit int) ([]DeadLetter, error) {
	from := "+"
	if before != "" {
		from = "(" + before
	}
	msgs, err := s.rdb.XRevRangeN(ctx, s.k.dead(route), from, "-", int64(limit)).Result()
	if err != nil {
		return nil, unavailable("dead letters", err)
	}
	out := make([]DeadLetter, 0, len(msgs))
	for _, m := range msgs {
		h := make(map[string]string, len(m.Values))
		for k, v := range m.Values {
			h[k] = fmt.Sprint(v)
		}
		body, err := thaw([]byte(h["body"]))
		if err != nil {
			return nil, fmt.Errorf("body of dead letter %s: %w", m.ID, err)
		}
		out = append(out, DeadLetter{Entry: m.ID, At: milli(h["at"]), Delivery: deliveryOf(h["id"], h), Body: body})
	}
	return out, nil
}

// LoggedAttempt is an entry of a route's attempt log.
type LoggedAttempt struct {
	Entry string // id in the stream
	JSON  string // as it was given to DoneLane or FailLane
}

// Attempts are the newest entries of a route's log, newest first.
func (s *Store) Attempts(ctx context.Context, route string, limit int) ([]LoggedAttempt, error) {
	msgs, err := s.rdb.XRevRangeN(ctx, s.k.attempts(route), "+", "-", int64(limit)).Result()
	if err != nil {
		return nil, unavailable("attempt log", err)
	}
	out := make([]LoggedAttempt, 0, len(msgs))
	for _, m := range msgs {
		out = append(out, LoggedAttempt{m.ID, strings.TrimSpace(fmt.Sprint(m.Values["a"]))})
	}
	return out, nil
}
