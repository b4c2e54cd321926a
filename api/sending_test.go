package api_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/store"
)

// smtpVerifier answers as it was told and keeps what it was asked.
type smtpVerifier struct {
	result api.VerifyResult
	asked  *store.Server
	ehlo   *string
}

func (v smtpVerifier) VerifySMTP(_ context.Context, server store.Server, ehloName string) api.VerifyResult {
	*v.asked, *v.ehlo = server, ehloName
	return v.result
}

func TestAccountSends(t *testing.T) {
	f := newFace(t)
	f.call(200, "POST", "/v1/account", jo)
	f.call(200, "PUT", "/v1/account/jo", `{"smtp":{"host":"smtp.example.com","auth":{"user":"jo","pass":"smtp-secret"},"tls":{"minVersion":"TLSv1.3"}},
		"smtpEhloName":"mail.example.com","copy":false,"sendLimits":{"perDay":100,"perHour":0,"maxConnections":2},"aliases":["a@example.com","b@example.com"],"locale":"de","tz":"Europe/Berlin"}`)
	shown := f.call(200, "GET", "/v1/account/jo", "")
	want := map[string]any{
		"host": "smtp.example.com", "port": 465.0, "secure": true, "auth": map[string]any{"user": "jo", "pass": "******"},
		"tls": map[string]any{"minVersion": "1.3", "rejectUnauthorized": true},
	}
	if diff := cmp.Diff(want, shown["smtp"]); diff != "" {
		t.Error(diff)
	}
	for field, want := range map[string]any{
		"smtpEhloName": "mail.example.com", "copy": false, "locale": "de", "tz": "Europe/Berlin", "type": "imap", "sendOnly": nil, "insecure": nil,
		"sendLimits": map[string]any{"perDay": 100.0, "perHour": 0.0, "maxConnections": 2.0}, "aliases": []any{"a@example.com", "b@example.com"},
	} {
		if diff := cmp.Diff(want, shown[field]); diff != "" {
			t.Errorf("%s: %s", field, diff)
		}
	}

	// partial keeps the rest, the password too; another server must be given it again
	f.call(200, "PUT", "/v1/account/jo", `{"smtp":{"partial":true,"auth":{"user":"jo2"}}}`)
	a, err := f.store.Account(t.Context(), "jo")
	if err != nil || a.SMTP.User != "jo2" || a.SMTP.Pass.Reveal() != "smtp-secret" || a.SMTP.TLS.MinVersion != "1.3" || *a.SendLimits.PerHour != 0 || a.SendLimits.PerMinute != nil {
		t.Errorf("partial: %+v %v", a.SMTP, err)
	}
	if got := f.call(400, "PUT", "/v1/account/jo", `{"smtp":{"partial":true,"host":"evil.example"}}`); place(got) != "body.smtp.auth.pass" {
		t.Errorf("a stored secret for a new server: %v", got)
	}

	// taken away one by one: watched only, sending only, neither
	f.call(200, "PUT", "/v1/account/jo", `{"smtp":false,"sendLimits":null,"copy":null,"aliases":null,"locale":null,"tz":null,"smtpEhloName":null}`)
	shown = f.call(200, "GET", "/v1/account/jo", "")
	for _, field := range []string{"smtp", "sendLimits", "copy", "aliases", "locale", "tz", "smtpEhloName"} {
		if v, ok := shown[field]; ok {
			t.Errorf("%s is still %v", field, v)
		}
	}
	f.call(200, "PUT", "/v1/account/jo", `{"imap":false,"smtp":{"host":"relay","port":25,"secure":false}}`)
	shown = f.call(200, "GET", "/v1/account/jo", "")
	if shown["type"] != "sending" || shown["sendOnly"] != true || shown["state"] != "unset" || shown["health"] != "ok" || shown["smtp"].(map[string]any)["auth"] != nil {
		t.Errorf("send-only: %v", shown)
	}
	f.call(409, "PUT", "/v1/account/jo/reconnect", `{"reconnect":true}`)
	f.call(200, "PUT", "/v1/account/jo", `{"smtp":null}`)
	if shown = f.call(200, "GET", "/v1/account/jo", ""); shown["type"] != "unset" {
		t.Errorf("neither: %v", shown)
	}
}

// How its server was found last is shown, and is the health of an account that only sends.
func TestSMTPStatus(t *testing.T) {
	f := newFace(t)
	f.call(200, "POST", "/v1/account", jo)
	f.call(200, "PUT", "/v1/account/jo", `{"smtp":{"host":"h"}}`)
	f.call(200, "POST", "/v1/account", `{"account":"only","smtp":{"host":"h"}}`)
	if got := f.call(200, "GET", "/v1/account/only", ""); got["smtpStatus"] != nil || got["health"] != "ok" {
		t.Errorf("before anything was sent: %v", got)
	}
	at := time.Date(2026, 11, 22, 7, 51, 30, 0, time.UTC)
	was := store.SMTPStatus{}
	for _, tt := range []struct {
		st   store.SMTPStatus
		only string
	}{
		{store.SMTPStatus{Status: store.SMTPError, Code: "EAUTH", Response: "535 5.7.8 no", ResponseCode: 535, Command: "AUTH PLAIN", Class: "credentials"}, "action-needed"},
		{store.SMTPStatus{Status: store.SMTPError, Code: "ECONNECTION", Description: "no route", Class: "network"}, "down"},
		{store.SMTPStatus{Status: store.SMTPOK}, "ok"},
	} {
		tt.st.Created = at
		for _, account := range []store.AccountID{"jo", "only"} {
			if err := f.store.SetSMTPStatus(t.Context(), account, was, tt.st); err != nil {
				t.Fatal(err)
			}
		}
		was.Version++
		shown := f.call(200, "GET", "/v1/account/only", "")
		want := map[string]any{"status": tt.st.Status, "created": "2026-11-22T07:51:30.000Z"}
		for name, v := range map[string]string{
			"code": tt.st.Code, "response": tt.st.Response, "command": tt.st.Command, "description": tt.st.Description, "class": tt.st.Class,
		} {
			if v != "" {
				want[name] = v
			}
		}
		if tt.st.ResponseCode != 0 {
			want["responseCode"] = float64(tt.st.ResponseCode)
		}
		if diff := cmp.Diff(want, shown["smtpStatus"]); diff != "" || shown["health"] != tt.only {
			t.Errorf("health %v: %s", shown["health"], diff)
		}
		if shown := f.call(200, "GET", "/v1/account/jo", ""); shown["health"] != "starting" || shown["smtpStatus"] == nil {
			t.Errorf("a watched account: %v", shown)
		}
	}
	f.call(200, "PUT", "/v1/account/jo", `{"smtp":false}`)
	if shown := f.call(200, "GET", "/v1/account/jo", ""); shown["smtpStatus"] != nil {
		t.Errorf("without a server: %v", shown)
	}
}

// place is the location of the first fault of a problem.
func place(problem map[string]any) string {
	errs, _ := problem["errors"].([]any)
	if len(errs) == 0 {
		return ""
	}
	return errs[0].(map[string]any)["location"].(string)
}

func TestSMTPDefaults(t *testing.T) {
	f := newFace(t, func(o *api.Options) { o.Config.AllowPlaintext, o.Config.AllowInsecureTLS = true, true })
	for given, want := range map[string][2]any{
		``:                                    {465.0, true},
		`,"secure":true`:                      {465.0, true},
		`,"secure":false`:                     {587.0, false},
		`,"port":587`:                         {587.0, false},
		`,"port":465`:                         {465.0, true},
		`,"port":2525`:                        {2525.0, false},
		`,"port":2525,"secure":true`:          {2525.0, true},
		`,"plaintext":true`:                   {587.0, false},
		`,"port":465,"secure":false`:          {465.0, false},
		`,"tls":{"rejectUnauthorized":false}`: {465.0, true},
	} {
		f.call(200, "POST", "/v1/account", `{"account":"d","smtp":{"host":"h"`+given+`}}`)
		shown := f.call(200, "GET", "/v1/account/d", "")
		if smtp := shown["smtp"].(map[string]any); smtp["port"] != want[0] || smtp["secure"] != want[1] {
			t.Errorf("%s: %v, want %v", given, smtp, want)
		}
		if shown["insecure"] == true != strings.Contains(given, "rejectUnauthorized") {
			t.Errorf("%s: insecure %v", given, shown["insecure"])
		}
	}
}

// In clear to a server on this machine, nobody can listen on the way.
func TestPlaintextToLoopback(t *testing.T) {
	f := newFace(t)
	for host, status := range map[string]int{"127.0.0.1": 200, "::1": 200, "localhost": 200, "10.0.0.1": 400, "localhost.example": 400} {
		f.call(status, "POST", "/v1/account", `{"account":"p","smtp":{"host":"`+host+`","plaintext":true}}`)
	}
}

func TestSendingRefusals(t *testing.T) {
	f := newFace(t)
	smtp := func(s string) string { return `{"smtp":{"host":"h","auth":{"user":"u","pass":"p"}` + s + `}}` }
	for _, tt := range []struct{ name, body, location, says string }{
		{"no host", `{"smtp":{"auth":{"user":"u","pass":"p"}}}`, "body.smtp.host", "required"},
		{"no user", `{"smtp":{"host":"h","auth":{"pass":"p"}}}`, "body.smtp.auth.user", "required"},
		{"no password", `{"smtp":{"host":"h","auth":{"user":"u"}}}`, "body.smtp.auth.pass", "partial"},
		{"both secrets", `{"smtp":{"host":"h","auth":{"user":"u","pass":"p","accessToken":"t"}}}`, "body.smtp.auth.accessToken", "together"},
		{"a mask", `{"smtp":{"host":"h","auth":{"user":"u","pass":"******"}}}`, "body.smtp.auth.pass", "mask"},
		{"user of two lines", `{"smtp":{"host":"h","auth":{"user":"u\r\nX","pass":"p"}}}`, "body.smtp.auth.user", "single line"},
		{"plaintext", smtp(`,"plaintext":true`), "body.smtp.plaintext", "mail.allowPlaintext"},
		{"insecure", smtp(`,"tls":{"rejectUnauthorized":false}`), "body.smtp.tls.rejectUnauthorized", "mail.allowInsecureTLS"},
		{"plaintext and secure", smtp(`,"plaintext":true,"secure":true`), "body.smtp.plaintext", "contradicts"},
		{"pin", smtp(`,"tls":{"pin":["x"]}`), "body.smtp.tls.pin[0]", "SHA-256"},
		{"a field of imap", smtp(`,"sentMailPath":"Sent"`), "body.smtp.sentMailPath", "unknown"},
		{"localhost", `{"smtpEhloName":"localhost"}`, "body.smtpEhloName", "localhost"},
		{"localhost.localdomain", `{"smtpEhloName":"LOCALHOST.localdomain"}`, "body.smtpEhloName", "localhost"},
		{"injected EHLO", `{"smtpEhloName":"a\r\nMAIL FROM:<x>"}`, "body.smtpEhloName", "host name"},
		{"alias", `{"aliases":["jo@example.com","not an address"]}`, "body.aliases[1]", "address"},
		{"alias with a name", `{"aliases":"Jo <jo@example.com>"}`, "body.aliases[0]", "address"},
		{"locale", `{"locale":"not a language"}`, "body.locale", "pt-BR"},
		{"zone", `{"tz":"Mars/Olympus"}`, "body.tz", "time zone"},
		{"zone by path", `{"tz":"../../etc/passwd"}`, "body.tz", "time zone"},
		{"limit below none", `{"sendLimits":{"perDay":-1}}`, "body.sendLimits.perDay", "0 to"},
		{"no connection at all", `{"sendLimits":{"maxConnections":0}}`, "body.sendLimits.maxConnections", "1 to"},
		{"unknown limit", `{"sendLimits":{"perWeek":7}}`, "body.sendLimits.perWeek", "unknown"},
		{"copy", `{"copy":"yes"}`, "body.copy", "true or false"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := f.send(f.request("POST", "/v1/account", tt.body))
			if w.Code != 400 || !strings.Contains(w.Body.String(), `"location":"`+tt.location+`"`) || !strings.Contains(w.Body.String(), tt.says) {
				t.Errorf("%d, want 400 at %s saying %q: %s", w.Code, tt.location, tt.says, w.Body)
			}
			if ids, err := f.store.AccountIDs(t.Context()); err != nil || len(ids) != 0 {
				t.Errorf("something was stored: %v %v", ids, err)
			}
		})
	}
}

func TestVerifySMTP(t *testing.T) {
	var asked store.Server
	var ehlo string
	refused := api.VerifyResult{Error: "the server refused the password", Kind: "authDead", Code: "EAUTH"}
	f := newFace(t, func(o *api.Options) {
		o.Verifier, o.SMTPVerifier = verifier{api.VerifyResult{Success: true}}, smtpVerifier{refused, &asked, &ehlo}
	})
	both := `{"imap":{"host":"h","auth":{"user":"u","pass":"p"}},"smtp":{"host":"s","port":587,"auth":{"user":"su","pass":"sp"}},"smtpEhloName":"me.example.com"}`
	got := f.call(200, "POST", "/v1/verifyAccount", both)
	if got["imap"].(map[string]any)["success"] != true || got["smtp"].(map[string]any)["code"] != "EAUTH" {
		t.Errorf("both: %v", got)
	}
	if asked.Host != "s" || asked.Secure || asked.Pass.Reveal() != "sp" || ehlo != "me.example.com" {
		t.Errorf("asked %+v as %s", asked, ehlo)
	}
	if got := f.call(200, "POST", "/v1/verifyAccount", `{"smtp":{"host":"s"}}`); got["imap"] != nil || got["smtp"] == nil {
		t.Errorf("smtp alone: %v", got)
	}
	for body, location := range map[string]string{
		`{}`: "body.imap", `{"smtp":null}`: "body.imap", `{"smtp":{"partial":true,"host":"s"}}`: "body.smtp.partial",
		`{"smtp":{"host":"s"},"smtpEhloName":"localhost"}`: "body.smtpEhloName", `{"smtp":{}}`: "body.smtp.host",
	} {
		if got := f.call(400, "POST", "/v1/verifyAccount", body); place(got) != location {
			t.Errorf("%s: %v", body, got)
		}
	}
	// before it is stored: whichever fails refuses
	got = f.call(503, "POST", "/v1/account?verify=true", strings.TrimSuffix(jo, "}")+`,"smtp":{"host":"s"}}`)
	if got["code"] != "AuthenticationFails" || !strings.HasPrefix(got["detail"].(string), "smtp: ") {
		t.Errorf("verify first: %v", got)
	}
	f.call(200, "POST", "/v1/account?verify=true", jo)
}
