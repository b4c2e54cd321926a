package dispatch

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/secret"
)

func hdr(k, v string) store.Header { return store.Header{Key: k, Value: secret.New(v)} }

func TestCheckHeaders(t *testing.T) {
	if err := CheckHeaders([]store.Header{hdr("X-Api-Key", "abc\tdef ~!"), hdr("User-Agent", "mine"), hdr("Authorization", "Bearer x")}, false); err != nil {
		t.Error(err)
	}
	for name, list := range map[string][]store.Header{
		"carriage return": {hdr("X-A", "a\rb")}, "line feed": {hdr("X-A", "a\nSet: b")}, "non-ASCII": {hdr("X-A", "grün")},
		"NUL": {hdr("X-A", "a\x00")}, "no name": {hdr("", "a")}, "blank in name": {hdr("X A", "a")}, "colon in name": {hdr("X:A", "a")},
		"Host": {hdr("Host", "a")}, "content-length": {hdr("content-length", "1")}, "Content-Type": {hdr("Content-Type", "a")},
		"Connection": {hdr("Connection", "a")}, "TE": {hdr("TE", "a")}, "Expect": {hdr("Expect", "100-continue")},
		"Proxy-Authorization": {hdr("Proxy-Authorization", "a")}, "Sec-X": {hdr("Sec-X", "a")}, "webhook-id": {hdr("Webhook-Id", "a")},
		"X-EE-Wh-Id": {hdr("X-Ee-Wh-Id", "a")}, "X-Postrider-Seq": {hdr("X-Postrider-Seq", "a")}, "X-Webhook-Signature": {hdr("X-Webhook-Signature", "a")},
		"too many": make([]store.Header, 33), "too large": {hdr("X-A", strings.Repeat("a", 4097))},
	} {
		if CheckHeaders(list, false) == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if CheckHeaders([]store.Header{hdr("authorization", "Bearer x")}, true) == nil {
		t.Error("Authorization beside credentials in the URL was accepted")
	}
}

func TestCheckTarget(t *testing.T) {
	if err := CheckTarget("https://user:p%40ss@hook.example/x?y=z", func(u string) error {
		if u != "https://hook.example/x?y=z" {
			t.Errorf("the policy was asked about %s", u)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	refused := errors.New("no")
	if err := CheckTarget("https://hook.example", func(string) error { return refused }); !errors.Is(err, refused) {
		t.Error(err)
	}
	for _, bad := range []string{"", "hook.example", "ftp://h/", "file:///etc/passwd", "http://", "https:opaque", "http://%zz/", "https://h/" + strings.Repeat("a", 2048)} {
		err := CheckTarget(bad, nil)
		if err == nil {
			t.Errorf("%q was accepted", bad)
		} else if strings.Contains(err.Error(), "%zz") {
			t.Errorf("the error repeats the URL: %v", err)
		}
	}
}

func TestHeaders(t *testing.T) {
	r := testRoute()
	r.Profiles = []string{store.SignStandard, store.SignEmailEngine}
	r.Secret, r.ServiceSecret = secret.New(secret1), secret.New(service)
	r.Headers = []store.Header{hdr("X-Api-Key", "k"), hdr("User-Agent", "mine"), hdr("X-Postrider-Seq", "9")}
	tg, err := parseTarget("https://user:p%40ss@hook.example/x")
	if err != nil {
		t.Fatal(err)
	}
	got, err := headers(r, tg, letter{
		id: "dlv_3ketpmdpm5jf455vvceu2bllt4", eventID: vectorEvent, seq: 1207, date: vectorTime.Add(-5900 * time.Millisecond),
		attempt: 2, late: true, body: []byte(vectorBody), now: vectorTime, userAgent: "Postrider/1",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := http.Header{
		"Content-Type": {"application/json"}, "User-Agent": {"mine"}, "X-Api-Key": {"k"},
		"Authorization": {"Basic dXNlcjpwQHNz"}, "X-Postrider-Seq": {"1207"}, "X-Postrider-Attempt": {"2"},
		"X-Postrider-Hop": {"1"}, "X-Postrider-Late": {"1"}, "Webhook-Id": {"dlv_3ketpmdpm5jf455vvceu2bllt4"},
		"Webhook-Timestamp": {"1795335302"}, "Webhook-Signature": {"v1,BSATU9OCHZNCOMgGGoMhrh10F2UWmy4d3Y4bbRUFgrc="},
		"X-Ee-Wh-Event-Id": {vectorEvent}, "X-Ee-Wh-Id": {"dlv_3ketpmdpm5jf455vvceu2bllt4"}, "X-Ee-Wh-Attempts-Made": {"1"},
		"X-Ee-Wh-Queued-Time": {"5s"}, "X-Ee-Wh-Signature": {"lKYbNBfyFCsfDsAInryDnvetxrmu1xMQ7lTZnQDu2E0"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	r.ServiceSecret = secret.Text{}
	if got, err = headers(r, tg, letter{userAgent: "p"}); err != nil || got.Get("X-EE-Wh-Signature") != "" {
		t.Errorf("without a service secret: %q, %v", got.Get("X-EE-Wh-Signature"), err)
	}
}

func TestWants(t *testing.T) {
	for _, tt := range []struct {
		selection string
		event     events.Type
		want      bool
	}{
		{"*", events.MessageNewType, true},
		{"*", events.WebhookPausedType, false},
		{"*", "storagePressure", false},
		{"* webhookPaused", events.WebhookPausedType, true},
		{"webhook*", events.WebhookPausedType, true},
		{"message*", events.MessageDeletedType, true},
		{"message*", events.MailboxNewType, false},
		{"* !messageUpdated", events.MessageUpdatedType, false},
		{"!messageUpdated messageUpdated", events.MessageUpdatedType, false},
		{"* !message*", events.MessageNewType, false},
		{"messageNew", events.MessageNewType, true},
		{"messageNew", "messageNewer", false},
		{"", events.MessageNewType, false},
	} {
		if got := wants(strings.Fields(tt.selection), tt.event); got != tt.want {
			t.Errorf("%q, %s: %v", tt.selection, tt.event, got)
		}
	}
}

func TestMatch(t *testing.T) {
	def := testRoute()
	def.Events = []string{"*"}
	acc := def
	acc.ID, acc.Kind = store.AccountRouteID("own"), store.RouteAccount
	off := acc
	off.ID, off.Enabled = store.AccountRouteID("off"), false
	rs := &Routes{byID: map[string]store.Route{def.ID: def, acc.ID: acc, off.ID: off}}
	inbox := def
	inbox.InboxNewOnly = true
	only := &Routes{byID: map[string]store.Route{def.ID: inbox}}
	for _, tt := range []struct {
		name  string
		rs    *Routes
		event events.Event
		want  string
	}{
		{"default", rs, events.Event{Account: "a", Type: "messageNew"}, "default"},
		{"the account's own", rs, events.Event{Account: "own", Type: "messageNew"}, "account:own"},
		{"the account's own is off", rs, events.Event{Account: "off", Type: "messageNew"}, ""},
		{"of the instance", rs, events.Event{Type: "webhookPaused"}, ""},
		{"nothing there", &Routes{}, events.Event{Account: "a", Type: "messageNew"}, ""},
		{"inbox only, inbox", only, events.Event{Type: "messageNew", Account: "a", Data: events.Raw(`{"messageSpecialUse":"\\Inbox"}`)}, "default"},
		{"inbox only, typed", only, events.Event{Type: "messageNew", Account: "a", Data: events.MessageNew{MessageSpecialUse: `\Inbox`}}, "default"},
		{"inbox only, elsewhere", only, events.Event{Type: "messageNew", Account: "a", Data: events.Raw(`{"messageSpecialUse":"\\Sent"}`)}, ""},
		{"inbox only, another event", only, events.Event{Type: "messageDeleted", Account: "a", Data: events.Raw(`{}`)}, "default"},
	} {
		var got strings.Builder
		for _, r := range tt.rs.Match(tt.event) {
			got.WriteString(r.ID)
		}
		if got.String() != tt.want {
			t.Errorf("%s: %q", tt.name, got.String())
		}
	}
}

func TestRedact(t *testing.T) {
	tg, err := parseTarget("https://user:hunter22@hook.example/x?token=abcdef&bare#f")
	if err != nil {
		t.Fatal(err)
	}
	if got := tg.String(); got != "https://hook.example/x?token=******&******" {
		t.Error(got)
	}
	r := store.Route{Secret: secret.New(secret1), Headers: []store.Header{hdr("X-K", "topsecret")}}
	got := redact("hunter22 said topsecret to abcdef, "+secret1, secretsOf(r, tg))
	if got != "****** said ****** to ******, ******" {
		t.Error(got)
	}
	if got := oneLine("a\r\nb\x00  c \xff", 100); got != "a b c" {
		t.Errorf("%q", got)
	}
	if got := oneLine("äöü", 3); got != "ä" {
		t.Errorf("%q", got)
	}
}

func TestSlow(t *testing.T) {
	s := &speed{}
	if s.slow() {
		t.Error("unknown is slow")
	}
	for range 20 {
		s.took[s.n%20] = time.Second
		s.n++
	}
	if s.slow() {
		t.Error("1 s is slow")
	}
	s.took[3], s.took[4] = 3*time.Second, 3*time.Second
	if !s.slow() {
		t.Error("a tenth over 2 s is not slow")
	}
}
