package api_test

import (
	"testing"
	"time"
)

// A flush is asked for at once, of a paused account too; who cannot be looked at is told so.
func TestFlush(t *testing.T) {
	f := newFace(t)
	f.call(200, "POST", "/v1/account", jo)
	f.call(200, "POST", "/v1/account", `{"account":"sender","smtp":{"host":"smtp.example.com","auth":{"user":"u","pass":"p"}}}`)

	if got := f.call(200, "PUT", "/v1/account/jo/flush", `{"flush":true,"notifyFrom":"2026-11-01T00:00:00Z"}`); got["flush"] != true {
		t.Errorf("answer: %v", got)
	}
	st, err := f.store.State(t.Context(), "jo")
	if err != nil || st.Flush == nil || !st.Flush.From.Equal(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)) {
		t.Fatalf("asked for: %+v, %v", st.Flush, err)
	}
	shown := f.call(200, "GET", "/v1/account/jo", "")
	if shown["notifyFrom"] != "2026-11-01T00:00:00.000Z" || shown["version"] != 2.0 {
		t.Errorf("shown: %v, version %v", shown["notifyFrom"], shown["version"])
	}
	if len(f.kicks.ids) != 1 || f.kicks.ids[0] != "jo" {
		t.Errorf("kicks: %v", f.kicks.ids)
	}

	f.call(200, "PUT", "/v1/account/jo/pause", "")
	f.call(200, "PUT", "/v1/account/jo/flush", `{"flush":true}`)
	if st, err = f.store.State(t.Context(), "jo"); err != nil || time.Since(st.Flush.From).Abs() > time.Minute {
		t.Errorf("by default from %v, %v", st.Flush.From, err)
	}

	f.call(404, "PUT", "/v1/account/nobody/flush", `{"flush":true}`)
	if got := f.call(409, "PUT", "/v1/account/sender/flush", `{"flush":true}`); got["code"] != "IMAPUnavailable" {
		t.Errorf("an account that only sends: %v", got)
	}
	f.call(400, "PUT", "/v1/account/jo/flush", `{}`)
}
