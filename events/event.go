package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// Event is one thing that happened, as the journal keeps it and webhooks carry it.
type Event struct {
	ServiceURL string  // the setting serviceUrl at the moment of the append; "" is written as null
	Account    string  // account id; "" (written as null) for events of the instance itself
	Date       Time    // when it was appended, by Redis time; set inside the commit
	Path       string  // the folder, in message and mailbox events; "" is absent
	SpecialUse string  // that folder's role, like `\Sent`; "" is absent
	Type       Type    // name of the event
	ID         ID      // derived from the facts, see NewID
	Seq        uint64  // per account, gap-free, from 1; set inside the commit
	Data       Payload // the event's own fields; Raw when the event was read back
}

// Payload is the event's own fields. The interface is sealed: there is one struct
// per Type, and Raw for an event that was read back.
type Payload interface {
	// EventType is the name of the event the payload belongs to; "" for Raw.
	EventType() Type
	sealed()
}

// Raw is the payload of an event that was read back from its JSON.
type Raw json.RawMessage

// EventType is "": the envelope knows the name.
func (Raw) EventType() Type { return "" }
func (Raw) sealed()         {}

// MarshalJSON gives the bytes as they came.
func (r Raw) MarshalJSON() ([]byte, error) {
	if len(r) == 0 {
		return []byte("{}"), nil
	}
	return r, nil
}

// TimeFormat is the layout of every date in an event: UTC, always three decimals.
const TimeFormat = "2006-01-02T15:04:05.000Z"

// Time is a moment in an event's JSON: UTC with exactly three decimals.
type Time struct{ time.Time }

// TimeOf cuts t to the milliseconds that the JSON has room for.
func TimeOf(t time.Time) Time { return Time{t.UTC().Truncate(time.Millisecond)} }

// String is the JSON form without quotes.
func (t Time) String() string { return t.UTC().Format(TimeFormat) }

// MarshalJSON writes the string form.
func (t Time) MarshalJSON() ([]byte, error) { return []byte(`"` + t.String() + `"`), nil }

// UnmarshalJSON reads RFC 3339.
func (t *Time) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	v, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return fmt.Errorf("date %q: %w", s, err)
	}
	*t = Time{v.UTC()}
	return nil
}

// envelope is the JSON of an Event; the order of its fields is the order of the keys.
type envelope struct {
	ServiceURL *string `json:"serviceUrl"`
	Account    *string `json:"account"`
	Date       Time    `json:"date"`
	Path       string  `json:"path,omitempty"`
	SpecialUse string  `json:"specialUse,omitempty"`
	Type       Type    `json:"event"`
	ID         ID      `json:"eventId"`
	Seq        uint64  `json:"seq"`
	Data       any     `json:"data"`
}

// MarshalJSON gives the envelope with its keys in the documented order, `<>&`
// unescaped and no newline at the end. The bytes are a function of the event.
func (e Event) MarshalJSON() ([]byte, error) {
	env := envelope{Date: e.Date, Path: e.Path, SpecialUse: e.SpecialUse, Type: e.Type, ID: e.ID, Seq: e.Seq, Data: e.Data}
	if e.ServiceURL != "" {
		env.ServiceURL = &e.ServiceURL
	}
	if e.Account != "" {
		env.Account = &e.Account
	}
	b, err := marshal(env)
	if err != nil {
		return nil, fmt.Errorf("event %s: %w", e.Type, err)
	}
	return b, nil
}

// Encode is the event's JSON as it travels. Prefer it to json.Marshal, which
// escapes `<>&` again.
func (e Event) Encode() ([]byte, error) { return e.MarshalJSON() }

// UnmarshalJSON reads an envelope back; Data becomes Raw.
func (e *Event) UnmarshalJSON(b []byte) error {
	var data json.RawMessage
	env := envelope{Data: &data}
	if err := json.Unmarshal(b, &env); err != nil {
		return fmt.Errorf("event: %w", err)
	}
	*e = Event{
		Date: env.Date, Path: env.Path, SpecialUse: env.SpecialUse,
		Type: env.Type, ID: env.ID, Seq: env.Seq, Data: Raw(data),
	}
	if env.ServiceURL != nil {
		e.ServiceURL = *env.ServiceURL
	}
	if env.Account != nil {
		e.Account = *env.Account
	}
	return nil
}

// marshal is json.Marshal without the escaping of `<>&` that is meant for HTML.
func marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}
