package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/mail"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/smtpsend/smtptest"
)

// newMail is what tests look at of a messageNew.
type newMail struct {
	ID       string `json:"id"`
	Origin   string `json:"origin"`
	SeemsNew bool   `json:"seemsLikeNew"`

	Attachments []struct {
		ID string `json:"id"`
	} `json:"attachments"`
}

// announced waits for the messageNew of a message in a folder.
func (s *served) announced(account, path, messageID string) (found newMail) {
	s.t.Helper()
	eventually(s.t, 30*time.Second, "messageNew of "+messageID+" in "+path, func() bool {
		for _, e := range s.journal(account) {
			if e.Event == "messageNew" && e.Path == path && e.messageID() == messageID {
				if err := json.Unmarshal(e.Data, &found); err != nil {
					s.t.Fatal(err)
				}
				return true
			}
		}
		return false
	})
	return found
}

// A message of a real mailbox is answered and forwarded: what goes out refers to it and has
// its attachments, taken one by one or all; it is marked once that is sent and not before,
// and the copies in Sent are nobody else's mail.
func TestSendFlow_reply_and_forward(t *testing.T) {
	dot, taken := make(chan struct{}), make(chan struct{}, 10)
	sink := smtptest.StartSink(t, smtptest.SinkOptions{Dot: func(smtptest.Message) error {
		taken <- struct{}{}
		<-dot
		return nil
	}})
	t.Cleanup(func() { close(dot) })
	user := imaptest.StartDovecot(t).User("jo", "right")
	s := startServe(t, loopbackEnv("POSTRIDER_SYNC_PROBE_INTERVAL=1s"))
	host, port := sink.Addr()
	srv := user.Server()
	s.Call("POST", "/v1/account", map[string]any{
		"account": "jo", "name": "Jo", "email": "jo@sender.example",
		"imap": map[string]any{
			"host": srv.Host, "port": srv.Port, "secure": false,
			"auth": map[string]string{"user": srv.User, "pass": srv.Pass}, "tls": map[string]string{"ca": srv.CA},
		},
		"smtp": map[string]any{"host": host, "port": port, "secure": false, "plaintext": true},
	}, nil)
	s.awaitEvent("jo", "accountInitialized", 30*time.Second)

	pdf := bytes.Repeat([]byte("%PDF\x00\xff\r\n.\r\n"), 5000)
	original := "From: Ada <ada@example.com>\r\nReply-To: Desk <desk@example.com>\r\nTo: Jo <jo@sender.example>, Bob <bob@example.com>\r\n" +
		"Cc: carol@example.com, Desk <DESK@example.com>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nMessage-ID: <three@example.com>\r\nReferences: <one@example.com> <two@example.com>\r\n" +
		"Date: Sun, 22 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nHello Jo\r\n" +
		"--b\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename*=UTF-8''r%C3%A9sum%C3%A9.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
		fold(base64.StdEncoding.EncodeToString(pdf)) + "\r\n--b--\r\n"
	uid, err := user.Append(t.Context(), "INBOX", []byte(original), nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	first := s.announced("jo", "INBOX", "<three@example.com>")
	if len(first.Attachments) != 1 {
		t.Fatalf("announced as %+v", first)
	}
	id, file := first.ID, map[string]string{"reference": first.Attachments[0].ID}
	folder := func(name string) map[uint32][]string {
		t.Helper()
		truth, err := user.Truth(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return truth[name].Messages
	}
	// send submits, looks at the mailbox while the server takes the message, and waits for
	// all that follows.
	send := func(ask map[string]any, before, after []string) (row outboxRow, m *mail.Message) {
		t.Helper()
		s.Call("POST", "/v1/account/jo/submit", ask, &row)
		<-taken
		if got := folder("INBOX")[uid]; !slices.Equal(got, before) {
			t.Errorf("before it is sent the original has %q", got)
		}
		dot <- struct{}{}
		var out struct {
			State string
			Copy  struct{ State, Error string }
			Flag  struct{ State, Error string }
		}
		eventually(t, 20*time.Second, "what follows of "+row.QueueID, func() bool {
			s.Call("GET", "/v1/outbox/"+row.QueueID, nil, &out)
			return out.State == "sent" && out.Copy.State != "pending" && out.Flag.State != "pending"
		})
		if out.Copy.State != "done" || out.Flag.State != "done" {
			t.Errorf("afterwards: %+v", out)
		}
		if got := folder("INBOX")[uid]; !slices.Equal(got, after) {
			t.Errorf("after it is sent the original has %q, want %q", got, after)
		}
		all := sink.Messages()
		m, err := mail.ReadMessage(bytes.NewReader(all[len(all)-1].Body))
		if err != nil {
			t.Fatal(err)
		}
		return row, m
	}
	heads := func(m *mail.Message) map[string]string {
		got := map[string]string{}
		for _, name := range []string{"To", "Cc", "Subject", "In-Reply-To", "References"} {
			if v := m.Header.Get(name); v != "" {
				got[name], _ = new(mime.WordDecoder).DecodeHeader(v)
			}
		}
		return got
	}

	const sameFile = "résumé.pdf application/pdf %x"
	answer, m := send(map[string]any{
		"reference": map[string]any{"message": id, "action": "reply-all"}, "text": "Hello Ada\n", "attachments": []any{file},
	}, nil, []string{`\Answered`})
	want := map[string]string{
		"To": "Desk <desk@example.com>", "Cc": "Bob <bob@example.com>, carol@example.com", "Subject": "Re: Grüße", "In-Reply-To": "<three@example.com>",
		"References": "<one@example.com> <two@example.com> <three@example.com>",
	}
	if d := cmp.Diff(want, heads(m)); d != "" {
		t.Errorf("the answer: %s", d)
	}
	if got := sink.Messages()[0].To; !slices.Equal(got, []string{"desk@example.com", "bob@example.com", "carol@example.com"}) {
		t.Errorf("the answer went to %q", got)
	}
	if got := onlyAttachment(t, m); got != fmt.Sprintf(sameFile, sha256.Sum256(pdf)) {
		t.Errorf("attached by reference is %s", got)
	}

	passed, m := send(map[string]any{
		"to": address("", "x@example.net"), "reference": map[string]any{"message": id, "action": "forward", "forwardAttachments": true}, "text": "See there\n",
	}, []string{`\Answered`}, []string{`$Forwarded`, `\Answered`})
	want = map[string]string{"To": "x@example.net", "Subject": "Fwd: Grüße", "References": "<one@example.com> <two@example.com> <three@example.com>"}
	if d := cmp.Diff(want, heads(m)); d != "" {
		t.Errorf("forwarded: %s", d)
	}
	if got := onlyAttachment(t, m); got != fmt.Sprintf(sameFile, sha256.Sum256(pdf)) {
		t.Errorf("the attachment is %s", got)
	}

	for _, row := range []outboxRow{answer, passed} {
		at := s.announced("jo", "Sent", row.MessageID)
		if at.Origin != "ownAppend" || at.SeemsNew {
			t.Errorf("the copy is announced as %+v", at)
		}
	}
	if d := cmp.Diff(map[uint32][]string{1: {`\Seen`}, 2: {`\Seen`}}, folder("Sent")); d != "" {
		t.Errorf("Sent: %s", d)
	}
	var at []string
	for _, e := range s.journal("jo") {
		if e.Event == "messageNew" && e.Path != "INBOX" && e.Path != "Sent" || e.Event == "messageSent" {
			at = append(at, e.Event)
		}
	}
	if !slices.Equal(at, []string{"messageSent", "messageSent"}) {
		t.Errorf("events: %q", at)
	}
}

func fold(s string) string {
	var b strings.Builder
	for line := range slices.Chunk([]byte(s), 76) {
		b.Write(line)
		b.WriteString("\r\n")
	}
	return b.String()
}

// onlyAttachment is name, type and sum of the one attachment of a message.
func onlyAttachment(t *testing.T, m *mail.Message) (found string) {
	t.Helper()
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	for r := multipart.NewReader(m.Body, params["boundary"]); ; {
		p, err := r.NextRawPart()
		if err == io.EOF {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		if p.FileName() == "" {
			continue
		}
		b, err := io.ReadAll(base64.NewDecoder(base64.StdEncoding, p))
		if err != nil {
			t.Fatal(err)
		}
		kind, _, _ := strings.Cut(p.Header.Get("Content-Type"), ";")
		found += fmt.Sprintf("%s %s %x", p.FileName(), kind, sha256.Sum256(b))
	}
}

// The dashboard of the queues shows what waits and what failed, with the server's words
// and without anything of the message.
func TestSendFlow_monitor(t *testing.T) {
	answer := func(code int, enhanced smtp.EnhancedCode, text string) error {
		return &smtp.SMTPError{Code: code, EnhancedCode: enhanced, Message: text}
	}
	sink := smtptest.StartSink(t, smtptest.SinkOptions{Rcpt: func(to string) error {
		switch {
		case strings.HasPrefix(to, "later-"):
			return answer(450, smtp.EnhancedCode{4, 2, 0}, "come back in a moment")
		case strings.HasPrefix(to, "never-"):
			return answer(550, smtp.EnhancedCode{5, 1, 1}, "nobody of that name")
		}
		return nil
	}})
	s := startServe(t, loopbackEnv())
	s.registerSender("jo", sink, "")
	submit := func(to string, more map[string]any) (row outboxRow) {
		ask := map[string]any{"to": address("Otto Normal", to), "subject": "Confidential subject", "text": "Confidential words"}
		maps.Copy(ask, more)
		s.Call("POST", "/v1/account/jo/submit", ask, &row)
		return row
	}
	later, never := submit("later-otto@example.net", nil), submit("never-otto@example.net", nil)
	due := submit("due-otto@example.net", map[string]any{"sendAt": time.Now().Add(time.Hour).Format(time.RFC3339)})
	held := submit("held-otto@example.net", map[string]any{"hold": true})

	tasks := func(state string) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/monitor/api/queues/send/"+state+"_tasks?size=100", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+s.Token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s tasks: %v %d %s", state, err, resp.StatusCode, b)
		}
		return string(b)
	}
	for _, want := range []struct {
		state string
		row   outboxRow
		says  []string
	}{
		{"retry", later, []string{"450 4.2.0 come back in a moment", "attempt 1/10, next "}},
		{"archived", never, []string{"550 5.1.1 nobody of that name"}},
		{"scheduled", due, nil},
	} {
		var got string
		eventually(t, 20*time.Second, want.state, func() bool {
			got = tasks(want.state)
			return strings.Contains(got, want.row.QueueID)
		})
		for _, text := range want.says {
			if !strings.Contains(got, text) {
				t.Errorf("%s: not said: %s\n%s", want.state, text, got)
			}
		}
	}
	for _, state := range []string{"active", "pending", "scheduled", "retry", "archived", "completed"} {
		got := tasks(state)
		for _, secret := range []string{"Confidential", "Otto", "otto@", base64.StdEncoding.EncodeToString([]byte("Confidential words"))} {
			if strings.Contains(got, secret) {
				t.Errorf("%s tasks show %q: %s", state, secret, got)
			}
		}
		if strings.Contains(got, held.QueueID) {
			t.Errorf("what is held for review has a task: %s", got)
		}
	}
	states := map[string]string{}
	for _, row := range s.outbox("jo", "") {
		states[row.QueueID] = row.State
	}
	if d := cmp.Diff(map[string]string{later.QueueID: "queued", never.QueueID: "failed", due.QueueID: "scheduled", held.QueueID: "held"}, states); d != "" {
		t.Error(d)
	}
}

// The command for the shell says what is wrong once, and is a success only when every
// recipient was taken.
func TestSendFlow_command(t *testing.T) {
	sink := smtptest.StartSink(t, smtptest.SinkOptions{Rcpt: func(to string) error {
		switch to, _, _ := strings.Cut(to, "@"); to {
		case "never":
			return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "nobody of that name"}
		case "later":
			return &smtp.SMTPError{Code: 450, EnhancedCode: smtp.EnhancedCode{4, 2, 0}, Message: "come back in a moment"}
		}
		return nil
	}})
	strict := smtptest.StartSink(t, smtptest.SinkOptions{Users: map[string]string{"ann": "another password"}})
	s := startServe(t, loopbackEnv())
	s.registerSender("jo", sink, "")
	s.registerSender("locked", strict, "")
	s.Call("PUT", "/v1/account/locked", map[string]any{"smtp": map[string]any{"partial": true, "auth": map[string]string{"user": "ann", "pass": "wrong"}}}, nil)
	s.registerSender("away", sink, "")
	s.Call("PUT", "/v1/account/away/pause", map[string]any{}, nil)
	for _, tt := range []struct {
		text, args string
		code       int
		says       string
	}{
		{"Hello\n", "--account jo --to ann@example.net", 0, "sent: 250 "},
		{"Hello\n", "--account jo --to ann@example.net --to never@example.net", exitFailed, "not to never@example.net (rejected): 550 5.1.1 nobody of that name\n"},
		{"Hello\n", "--account jo --to never@example.net", exitFailed, "failed (refused): 550 5.1.1 nobody of that name\n"},
		{"Hello\n", "--account jo --to ann", exitFailed, "ValidationFailed: body.to[0].address: not an address of the form local@domain, or too long\n"},
		{"Hello\n", "--account locked --to ann@example.net", exitFailed, "it is held until the account has credentials that the server accepts\n  it stays in the outbox: GET " + s.URL + "/v1/outbox/01"},
		{"Hello\n", "--account away --to ann@example.net", exitFailed, "it is held until the account is resumed\n"},
		{"Hello\n", "--account jo --to later@example.net --wait 400ms", exitFailed, "it is not sent after 400ms\n  it stays in the outbox: GET "},
		{"Gr\xfc\xdfe", "--account jo --to ann@example.net", exitUsage, "not UTF-8"},
	} {
		code, out, errOut := runHere(t, nil, tt.text, append([]string{"send", "--data", s.Dir}, strings.Fields(tt.args)...)...)
		if code != tt.code || !strings.Contains(out+errOut, tt.says) {
			t.Errorf("send %s: exit %d, want %d and %q:\n%s%s", tt.args, code, tt.code, tt.says, out, errOut)
		}
	}
}
