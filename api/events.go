package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
)

// eventJSON is an envelope as the journal gave it.
type eventJSON json.RawMessage

// MarshalJSON gives it as it is.
func (e eventJSON) MarshalJSON() ([]byte, error) { return e, nil }

// Schema describes the envelope; data differs by event.
func (eventJSON) Schema(huma.Registry) *huma.Schema {
	text := func(doc string) *huma.Schema { return &huma.Schema{Type: huma.TypeString, Description: doc} }
	orNull := func(s *huma.Schema) *huma.Schema { s.Nullable = true; return s }
	return &huma.Schema{
		Type: huma.TypeObject, Required: []string{"serviceUrl", "account", "date", "event", "eventId", "seq", "data"},
		Properties: map[string]*huma.Schema{
			"serviceUrl": orNull(text("the setting when the event was appended")),
			"account":    orNull(text("null for events of the installation itself")),
			"date":       {Type: huma.TypeString, Format: "date-time"},
			"path":       text("the folder, in message and mailbox events"),
			"specialUse": text("that folder's role"),
			"event":      text("name of the event"),
			"eventId":    text("the same for the same fact, however often it is told"),
			"seq":        {Type: huma.TypeInteger, Format: "int64", Description: "per account, without gaps"},
			"data":       {Type: huma.TypeObject, AdditionalProperties: true, Description: "the event's own fields"},
		},
		AdditionalProperties: true,
	}
}

// maxWaiting is how many long polls wait at once; more are answered at once, empty.
const maxWaiting = 1000

// maxWait is the longest a poll waits, in seconds.
const maxWait = 60

type eventsIn struct {
	Cursor  string `query:"cursor" maxLength:"512" doc:"where an earlier answer ended; or begin, now, or a time; default begin"`
	Account string `query:"account" maxLength:"256" doc:"only this account's events"`
	Events  string `query:"events" maxLength:"4096" doc:"only these events, by comma; the cursor moves over the others"`
	Limit   int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Wait    int    `query:"wait" minimum:"0" maximum:"60" default:"0" doc:"seconds to wait for an event if there is none"`
}

type eventsOut struct {
	Body eventsBody
}

type eventsBody struct {
	Events []eventJSON `json:"events" nullable:"false"`
	Cursor string      `json:"cursor" doc:"every event before it was in this answer or an earlier one; store it after processing"`
	More   bool        `json:"more"`
}

type journalIn struct {
	AccountPath
	After  uint64 `query:"after" maximum:"9007199254740991" default:"0" doc:"seq of the last event that is known; 0: from the oldest kept"`
	Events string `query:"events" maxLength:"4096" doc:"only these events, by comma"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Wait   int    `query:"wait" minimum:"0" maximum:"60" default:"0" doc:"seconds to wait for an event if there is none"`
}

type journalOut struct {
	Body journalBody
}

type journalBody struct {
	Events []eventJSON `json:"events" nullable:"false"`
	After  uint64      `json:"after" doc:"to ask for next: seq of the last event that was looked at"`
	More   bool        `json:"more"`
	Oldest uint64      `json:"oldest" doc:"seq of the oldest event kept; 0: none"`
	Newest uint64      `json:"newest"`
	Epoch  int64       `json:"epoch,omitempty" doc:"absent for an account that was deleted"`
}

func (s *Server) eventRoutes() {
	scopes, tags := []string{scopeEvents}, []string{"events"}
	register(s, huma.Operation{
		OperationID: "readEvents", Method: http.MethodGet, Path: "/v1/events", Tags: tags,
		Summary:     "Read events by cursor",
		Description: "Per account strictly by seq; between accounts there is no order. A token bound to an account sees that account's events. A cursor older than the journal is 410 CursorExpired.",
		Metadata:    map[string]any{"time": time.Duration(0)},
	}, scopes, s.readEvents)
	register(s, huma.Operation{
		OperationID: "readJournal", Method: http.MethodGet, Path: "/v1/account/{account}/events", Tags: tags,
		Summary:  "Read an account's events by seq",
		Metadata: map[string]any{"time": time.Duration(0)},
	}, scopes, s.readJournal)
}

// whose is the account whose events a caller may and wants to see; nil means all.
func whose(ctx context.Context, account string) (*store.AccountID, error) {
	id := store.AccountID(account)
	if bound := callOf(ctx).token.Account; bound != "" {
		if account != "" && id != bound {
			return nil, problem(Forbidden, "this token may not do that")
		}
		return &bound, nil
	}
	if account == "" {
		return nil, nil
	}
	if bad := badID(account); bad != "" {
		return nil, invalid("query.account", "Invalid", "%s", bad)
	}
	return &id, nil
}

// namesOf reads the list of events that are wanted.
func namesOf(list string) ([]string, error) {
	if list == "" {
		return nil, nil
	}
	names := strings.Split(list, ",")
	for _, name := range names {
		if name != "*" && !events.Known(events.Type(name)) {
			if near := nearest(name, eventNames()); near != "" {
				return nil, invalid("query.events", "Unknown", "names an unknown event; did you mean %s?", near)
			}
			return nil, invalid("query.events", "Unknown", "names an unknown event")
		}
	}
	return names, nil
}

func eventNames() []string {
	var names []string
	for _, t := range events.All() {
		names = append(names, string(t))
	}
	return names
}

// mayWait lets a request wait without a place among those in work; false means that too
// many do.
func (s *Server) mayWait(ctx context.Context) (done func(), ok bool) {
	if s.feeds.waiting.Add(1) > maxWaiting {
		s.feeds.waiting.Add(-1)
		return nil, false
	}
	if leave := callOf(ctx).leave; leave != nil {
		leave()
	}
	return func() { s.feeds.waiting.Add(-1) }, true
}

func (s *Server) readEvents(ctx context.Context, in *eventsIn) (*eventsOut, error) {
	account, err := whose(ctx, in.Account)
	if err != nil {
		return nil, err
	}
	types, err := namesOf(in.Events)
	if err != nil {
		return nil, err
	}
	q := store.EventQuery{Cursor: in.Cursor, Account: account, Types: types, Limit: in.Limit}
	seen, _ := s.feeds.now()
	page, err := s.page(ctx, q)
	if err != nil {
		return nil, err
	}
	if in.Wait > 0 && len(page.Events) == 0 {
		if done, ok := s.mayWait(ctx); ok {
			defer done()
			ctx, stop := context.WithTimeout(ctx, time.Duration(min(in.Wait, maxWait))*time.Second)
			defer stop()
			for len(page.Events) == 0 && ctx.Err() == nil && (page.More || s.wait(ctx, seen, account)) {
				q.Cursor = page.Cursor
				seen, _ = s.feeds.now()
				next, err := s.page(context.WithoutCancel(ctx), q) // bounded by page itself
				if err != nil {
					return nil, err
				}
				page = next
			}
		}
	}
	body := eventsBody{Events: make([]eventJSON, 0, len(page.Events)), Cursor: page.Cursor, More: page.More}
	for _, e := range page.Events {
		b, err := e.Encode()
		if err != nil {
			return nil, err
		}
		body.Events = append(body.Events, b)
	}
	return &eventsOut{body}, nil
}

// page reads once, under its own deadline, and says where a cursor that expired could
// go on.
func (s *Server) page(ctx context.Context, q store.EventQuery) (store.EventPage, error) {
	ctx, stop := context.WithTimeout(ctx, storeTime)
	defer stop()
	page, err := s.o.Store.ReadEvents(ctx, q)
	if errors.Is(err, store.ErrCursorExpired) {
		p := problemOf(err)
		p.Oldest = "begin"
		return page, p
	}
	return page, err
}

func (s *Server) readJournal(ctx context.Context, in *journalIn) (*journalOut, error) {
	types, err := namesOf(in.Events)
	if err != nil {
		return nil, err
	}
	id := in.id()
	seen, _ := s.feeds.now()
	body, err := s.journal(ctx, id, in.After, types, in.Limit)
	if err != nil {
		return nil, err
	}
	if in.Wait > 0 && len(body.Events) == 0 {
		if done, ok := s.mayWait(ctx); ok {
			defer done()
			ctx, stop := context.WithTimeout(ctx, time.Duration(min(in.Wait, maxWait))*time.Second)
			defer stop()
			for len(body.Events) == 0 && ctx.Err() == nil && (body.More || s.wait(ctx, seen, &id)) {
				seen, _ = s.feeds.now()
				if body, err = s.journal(context.WithoutCancel(ctx), id, body.After, types, in.Limit); err != nil {
					return nil, err
				}
			}
		}
	}
	return &journalOut{body}, nil
}

// scanPages bounds how far one answer looks for events of rare types.
const scanPages = 10

// journal reads an account's own events once.
func (s *Server) journal(ctx context.Context, id store.AccountID, after uint64, types []string, limit int) (journalBody, error) {
	ctx, stop := context.WithTimeout(ctx, storeTime)
	defer stop()
	body := journalBody{Events: []eventJSON{}, After: after}
	st, err := s.o.Store.State(ctx, id)
	known := err == nil || errors.Is(err, store.ErrStateLost)
	if err != nil && !known && !errors.Is(err, store.ErrNotFound) {
		return body, err
	}
	body.Epoch = st.Epoch
	if body.Oldest, body.Newest, err = s.o.Store.JournalBounds(ctx, id); err != nil && !errors.Is(err, store.ErrNotFound) {
		return body, err
	}
	switch {
	case !known && body.Newest == 0:
		return body, noAccount(id)
	case after > body.Newest: // numbers that were never given, or that a lost Redis gave before
		return body, refused(InvalidCursor, Fault{"query.after", "OutOfRange", "is beyond the newest event"})
	case after > 0 && after+1 < body.Oldest:
		p := problem(CursorExpired, "events after %d are gone; the oldest kept is %d", after, body.Oldest)
		p.Oldest = strconv.FormatUint(body.Oldest, 10)
		return body, p
	}
	body.More = true
	bytes := 0
	for range scanPages {
		part, err := s.o.Store.JournalPage(ctx, id, body.After, limit)
		if err != nil {
			return body, err
		}
		for _, e := range part {
			if len(types) > 0 && !slices.Contains(types, "*") && !slices.Contains(types, string(e.Type)) {
				body.After = e.Seq
				continue
			}
			if len(body.Events) == limit {
				return body, nil
			}
			b, err := e.Encode()
			if err != nil {
				return body, err
			}
			body.Events, body.After = append(body.Events, b), e.Seq
			bytes += len(b)
		}
		if len(part) == 0 || body.After >= body.Newest {
			body.More = false
			return body, nil
		}
		if len(body.Events) == limit || bytes >= store.PageBytes {
			return body, nil
		}
	}
	return body, nil
}
