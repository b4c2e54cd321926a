package main

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/internal/message/messagetest"
)

// TestDovecot_content: webhooks carry the very text of messages, and no message, whatever
// it is made of, stops the others; none is marked as seen.
func TestDovecot_content(t *testing.T) {
	t.Parallel()
	w := watchDovecot(t, "content")
	set := func(settings map[string]any) { w.Call("POST", "/v1/settings", settings, nil, http.StatusOK) }
	well := messagetest.Well()
	// Once each part is asked for by itself, once all of it comes with the source.
	set(map[string]any{"notifyText": true, "notifyHeaders": []string{"MIME-Version", "subject"}, "notifyAttachments": true, "notifyCalendarEvents": true})
	for round, source := range []bool{false, true} {
		set(map[string]any{"notifySource": source})
		for _, m := range well {
			_, err := w.user.Append(t.Context(), "INBOX", []byte(m.Raw), nil, time.Now())
			w.ok(err)
		}
		var told []events.MessageNew
		eventually(t, 60*time.Second, "every message", func() bool {
			told = told[:0]
			for _, a := range w.hook.all() {
				var e events.MessageNew
				if a.event.Event == "messageNew" && json.Unmarshal(a.event.Data, &e) == nil {
					told = append(told, e)
				}
			}
			return len(told) >= (round+1)*len(well)
		})
		for i, m := range well {
			checkContent(t, m, &told[round*len(well)+i], source)
		}
	}

	odd := messagetest.Odd()
	w.ok(w.user.Fill(len(odd), time.Now(), func(i int) []byte { return []byte(odd[i].Raw) }, nil))
	eventually(t, 90*time.Second, "every odd message", func() bool { return w.hook.distinct() >= w.told+2*len(well)+len(odd) })
	w.received()
	folders, err := w.user.Truth(t.Context())
	w.ok(err)
	for uid, flags := range folders["INBOX"].Messages {
		if len(flags) > 0 {
			t.Errorf("message %d has %v", uid, flags)
		}
	}
	if n := len(folders["INBOX"].Messages); n != 2*len(well)+len(odd) {
		t.Errorf("%d messages, want %d", n, 2*len(well)+len(odd))
	}
}

func checkContent(t *testing.T, m messagetest.Mail, e *events.MessageNew, source bool) {
	t.Helper()
	var files []string
	for _, a := range e.Attachments {
		files = append(files, strings.TrimSpace(a.ContentType+" "+a.Filename))
		if a.Content == "" {
			t.Errorf("%s: %s has no content", m.Name, a.ContentType)
		}
	}
	if e.Text.Plain != m.Plain || e.Text.HTML != m.HTML || e.Text.HasMore || !slices.Equal(files, m.Files) {
		t.Errorf("%s: %+v %q, want %q %q %q", m.Name, e.Text, files, m.Plain, m.HTML, m.Files)
	}
	want := ""
	if source {
		want = base64.StdEncoding.EncodeToString([]byte(m.Raw))
	}
	if e.Source != want {
		t.Errorf("%s: source %q", m.Name, e.Source)
	}
	if h := e.Headers["mime-version"]; len(h) != 1 || h[0] != "1.0" || e.Headers["subject"][0] != "odd" || len(e.Headers) != 2 {
		t.Errorf("%s: headers %v", m.Name, e.Headers)
	}
	if len(e.Truncated)+len(e.Incomplete)+len(e.DecodeWarnings) > 0 {
		t.Errorf("%s: truncated %v, incomplete %v, warnings %v", m.Name, e.Truncated, e.Incomplete, e.DecodeWarnings)
	}
	if m.Name == "invitation" && (len(e.CalendarEvents) != 1 || e.CalendarEvents[0].Summary != "Lunch" || e.CalendarEvents[0].Attachment != e.Attachments[0].ID) {
		t.Errorf("calendar events %+v", e.CalendarEvents)
	}
}
