package api_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/mail"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/smtpsend"
	"github.com/postrider/postrider/smtpsend/compose"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/storetest"
)

// withQueue makes a face with the engine's queue behind it, and an account jo that can send.
func withQueue(t *testing.T) *face {
	t.Helper()
	rdb := storetest.MiniredisClient(t)
	f := newFaceOn(t, rdb, func(o *api.Options) {
		sender, err := smtpsend.New(smtpsend.Options{Store: o.Store, Redis: rdb, Config: smtpsend.Config{MaxMessageSize: 6 << 20}})
		if err != nil {
			t.Fatal(err)
		}
		o.Submitter, o.Outbox = sender.Queue, sender.Queue
	})
	f.call(200, "POST", "/v1/account", strings.TrimSuffix(jo, "}")+`,"smtp":{"host":"smtp.example.com"}}`)
	return f
}

const submitPath = "/v1/account/jo/submit"

// waiting is how many submissions there are.
func (f *face) waiting() int {
	f.t.Helper()
	return int(f.call(200, "GET", "/v1/outbox", "")["total"].(float64))
}

// submitter keeps what it was asked and answers as it was told.
type submitter struct {
	mu    sync.Mutex
	asked []smtpsend.Request
	wakes []store.AccountID
	err   error
}

func (s *submitter) Submit(_ context.Context, r smtpsend.Request) (smtpsend.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r)
	return smtpsend.Result{QueueID: "01kf2v7q3m8w5x9d4e6r1t0yza", MessageID: "<a@b>", State: store.SubmissionQueued}, s.err
}

func (s *submitter) Wake(_ context.Context, id store.AccountID) error {
	s.wakes = append(s.wakes, id)
	return nil
}

// Every field of a request arrives at the engine as what it means.
func TestSubmitFields(t *testing.T) {
	engine := &submitter{}
	f := newFace(t, func(o *api.Options) { o.Submitter = engine })
	at := time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond)
	r := f.request("POST", submitPath, fmt.Sprintf(`{
		"from":{"name":"Jo","address":"jo@example.com"},"to":{"address":"one@example.com"},"cc":[{"name":"C","address":"c@example.com"}],
		"bcc":[{"address":"b@example.com"}],"replyTo":[{"address":"r@example.com"}],"subject":"S","text":"T","html":null,
		"attachments":[{"filename":"a.txt","content":"QUJD","encoding":"base64"},{"contentId":"<pic@x>","content":"QUI=","contentType":"image/png"},
			{"cid":"c","contentDisposition":"attachment","content":""}],
		"headers":{"X-B":"1","X-A":["2","3"]},"messageId":"<m@example.com>","envelope":{"from":"","to":["e@example.com"]},
		"reference":{"message":"AAAB","inline":true,"ignoreMissing":true,"messageId":"<o@x>"},
		"sendAt":%d,"deliveryAttempts":3,"retry":[5,60],"gateway":"relay","dsn":{"id":"d1","return":"full","notify":["success","delay"],"recipient":"o@x"},
		"requireTLS":true,"copy":false,"sentMailPath":"Out","hold":true,"tag":"t1","metadata":{"k": 1},"onUnknown":"resend","locale":"de","tz":"UTC"}`, at.UnixMilli()))
	r.Header.Set("Idempotency-Key", "key-1")
	if w := f.send(r); w.Code != 200 || !strings.Contains(w.Body.String(), `"idempotency":{"key":"key-1","status":"MISS"}`) {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	got := engine.asked[0]
	no, text := false, "T"
	addr := func(name, address string) []compose.Address { return []compose.Address{{Name: name, Address: address}} }
	want := smtpsend.Request{
		Account: "jo",
		Message: compose.Message{
			From: addr("Jo", "jo@example.com")[0], To: addr("", "one@example.com"), Cc: addr("C", "c@example.com"), Bcc: addr("", "b@example.com"),
			ReplyTo: addr("", "r@example.com"), Subject: "S", Text: &text, MessageID: "<m@example.com>",
			Attachments: []compose.Attachment{
				{Filename: "a.txt", Size: 3}, {ContentType: "image/png", Inline: true, CID: "<pic@x>", Size: 2}, {CID: "c"},
			},
			Headers:  []compose.Header{{Name: "X-B", Value: "1"}, {Name: "X-A", Value: "2"}, {Name: "X-A", Value: "3"}},
			Envelope: &compose.Envelope{To: []string{"e@example.com"}},
		},
		Reference: &smtpsend.Reference{Message: "AAAB", Action: compose.Reply, Inline: true, IgnoreMissing: true, MessageID: "<o@x>"},
		SendAt:    at, Attempts: 3, Delays: []time.Duration{5 * time.Second, time.Minute}, Gateway: "relay",
		DSN:        &store.DSN{ID: "d1", Return: "full", Notify: []string{"success", "delay"}, Recipient: "o@x"},
		RequireTLS: true, Copy: &no, SentMailPath: "Out", Hold: true, Tag: "t1", Metadata: json.RawMessage(`{"k":1}`), OnUnknown: "resend",
		Locale: "de", TZ: "UTC", IdempotencyKey: "key-1",
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(smtpsend.Request{}, "Fingerprint"), cmpopts.IgnoreFields(compose.Attachment{}, "Open")); diff != "" {
		t.Error(diff)
	}
	for range 2 { // it may be opened again
		body, err := got.Message.Attachments[0].Open()
		if err != nil {
			t.Fatal(err)
		}
		if octets, err := io.ReadAll(body); err != nil || string(octets) != "ABC" {
			t.Errorf("content %q %v", octets, err)
		}
	}
	if got.Fingerprint == [32]byte{} {
		t.Error("no fingerprint")
	}

	// a raw message, a preset, and what is derived of an envelope that has only one half
	f.call(200, "POST", "/v1/account", jo)
	f.call(200, "POST", submitPath, `{"raw":"QUJD","retry":"code","dryRun":true}`)
	f.call(200, "POST", submitPath, `{"to":{"address":"a@x.example"},"bcc":[{"address":"b@x.example"}],"envelope":{}}`)
	if r := engine.asked[1]; string(r.Message.Raw) != "ABC" || r.Preset != "code" || r.DryRun == nil || r.Message.Envelope != nil {
		t.Errorf("raw: %+v", r)
	}
	f.call(200, "POST", submitPath, `{"to":{"address":"a@x.example"},"attachments":[{"content":""},{"reference":"AAAC","cid":"c"}]}`)
	if r := engine.asked[3]; len(r.Attached) != 1 || r.Attached[0] != (smtpsend.Attached{At: 1, ID: "AAAC"}) || !r.Message.Attachments[1].Inline {
		t.Errorf("of the mailbox: %+v", r)
	}
	f.call(400, "POST", submitPath, `{"to":{"address":"a@x.example"},"attachments":[{"content":"","reference":"AAAC"}]}`)
	if e := engine.asked[2].Message.Envelope; e == nil || e.From != "jo@example.com" || strings.Join(e.To, " ") != "a@x.example b@x.example" {
		t.Errorf("envelope: %+v", e)
	}
}

// What is wrong with a request is named by its place, and nothing is queued.
func TestSubmitRefusals(t *testing.T) {
	f := withQueue(t)
	to := `"to":{"address":"a@x.example"}`
	long := strings.Repeat("l", 65)
	for _, tt := range []struct {
		name, body     string
		status         int
		code, at, says string
	}{
		// acceptance 30: CR, LF and NUL, and what else would become another command
		{"CRLF in subject", `{` + to + `,"subject":"a\r\nBcc: evil@x"}`, 400, "ValidationFailed", "body.subject", "HeaderInjection"},
		{"LF in subject", `{` + to + `,"subject":"a\nb"}`, 400, "ValidationFailed", "body.subject", "HeaderInjection"},
		{"NUL in subject", `{` + to + `,"subject":"a\u0000b"}`, 400, "ValidationFailed", "body.subject", "NULByte"},
		{"name", `{"to":{"name":"a\r\nX: y","address":"a@x.example"}}`, 400, "ValidationFailed", "body.to[0].name", "HeaderInjection"},
		{"address", `{"to":[{"address":"a@x.example\r\nRCPT TO:<b@x>"}]}`, 400, "ValidationFailed", "body.to[0].address", "HeaderInjection"},
		{"from", `{` + to + `,"from":{"address":"j\n@x.example"}}`, 400, "ValidationFailed", "body.from.address", "HeaderInjection"},
		{"replyTo", `{` + to + `,"replyTo":{"name":"a\nb","address":"r@x.example"}}`, 400, "ValidationFailed", "body.replyTo[0].name", "HeaderInjection"},
		{"filename", `{` + to + `,"attachments":[{"filename":"a\r\nb.txt","content":"QQ=="}]}`, 400, "ValidationFailed", "body.attachments[0].filename", "HeaderInjection"},
		{"cid", `{` + to + `,"attachments":[{"cid":"a\nb","content":"QQ=="}]}`, 400, "ValidationFailed", "body.attachments[0].cid", "HeaderInjection"},
		{"contentType", `{` + to + `,"attachments":[{"contentType":"text/plain\r\nX: y","content":"QQ=="}]}`, 400, "ValidationFailed", "body.attachments[0].contentType", "HeaderInjection"},
		{"messageId", `{` + to + `,"messageId":"<a\r\n@b>"}`, 400, "ValidationFailed", "body.messageId", "HeaderInjection"},
		{"header name", `{` + to + `,"headers":{"X-A\r\nBcc":"x"}}`, 400, "ValidationFailed", "body.headers", "HeaderInjection"},
		{"header value", `{` + to + `,"headers":{"X-A":["a","b\nc"]}}`, 400, "ValidationFailed", "body.headers.X-A", "HeaderInjection"},
		{"envelope", `{` + to + `,"envelope":{"from":"a\n@x.example","to":["a@x.example"]}}`, 400, "ValidationFailed", "body.envelope.from", "HeaderInjection"},
		{"parameters", `{"to":{"address":"a@b> SIZE=1"}}`, 400, "ValidationFailed", "body.to[0].address", "AddressInvalid"},
		{"long local part", `{"to":{"address":"` + long + `@x.example"}}`, 400, "ValidationFailed", "body.to[0].address", "AddressInvalid"},
		{"group", `{"to":{"address":"friends: a@x.example;"}}`, 400, "ValidationFailed", "body.to[0].address", "AddressInvalid"},
		{"dsn id", `{` + to + `,"dsn":{"id":"a\r\nb"}}`, 400, "ValidationFailed", "body.dsn.id", "Invalid"},
		{"sentMailPath", `{` + to + `,"sentMailPath":"a\r\nb"}`, 400, "ValidationFailed", "body.sentMailPath", "HeaderInjection"},

		{"nobody", `{"subject":"x"}`, 400, "ValidationFailed", "body.to", "NoRecipients"},
		{"our own field", `{` + to + `,"headers":{"Bcc":"x@x"}}`, 400, "ValidationFailed", "body.headers.Bcc", "HeaderNotAllowed"},
		{"base64", `{` + to + `,"attachments":[{"content":"QQ=="},{"content":"no!"}]}`, 400, "ValidationFailed", "body.attachments[1].content", "Base64Invalid"},
		{"raw base64", `{"raw":"***"}`, 400, "ValidationFailed", "body.raw", "Base64Invalid"},
		{"content of the wrong type", `{` + to + `,"attachments":[{"content":7}]}`, 400, "ValidationFailed", "body.attachments[0].content", "WrongType"},
		{"no content", `{` + to + `,"attachments":[{"filename":"x"}]}`, 400, "ValidationFailed", "body.attachments[0].content", "Required"},
		{"another encoding", `{` + to + `,"attachments":[{"content":"QQ==","encoding":"hex"}]}`, 400, "ValidationFailed", "body.attachments[0].encoding", "base64"},
		{"two names of one", `{` + to + `,"attachments":[{"content":"QQ==","cid":"a","contentId":"b"}]}`, 400, "ValidationFailed", "body.attachments[0].contentId", "ConflictingFields"},
		{"one cid twice", `{` + to + `,"html":"x","attachments":[{"content":"QQ==","cid":"a"},{"content":"QQ==","cid":"<a>"}]}`, 400, "ValidationFailed", "body.attachments[1].cid", "ContentIdDuplicate"},
		{"raw and subject", `{"raw":"RnJvbTogYUBiLmV4YW1wbGUNClRvOiBhQGIuZXhhbXBsZQ0KDQp4","subject":"x"}`, 400, "ValidationFailed", "body.subject", "ConflictingFields"},
		{"raw and half an envelope", `{"raw":"QQ==","envelope":{"to":["a@x.example"]}}`, 400, "ValidationFailed", "body.envelope.from", "Required"},
		{"NUL in raw", `{"raw":"` + base64.StdEncoding.EncodeToString([]byte("To: a@x.example\r\n\r\na\x00b")) + `"}`, 400, "ValidationFailed", "body.raw", "NULByte"},
		{"two years ahead", `{` + to + `,"sendAt":"` + time.Now().Add(750*24*time.Hour).Format(time.RFC3339) + `"}`, 400, "ValidationFailed", "body.sendAt", "SendAtOutOfRange"},
		{"no attempt", `{` + to + `,"deliveryAttempts":0}`, 400, "ValidationFailed", "body.deliveryAttempts", "1 to 50"},
		{"preset", `{` + to + `,"retry":"often"}`, 400, "ValidationFailed", "body.retry", "standard"},
		{"delays", `{` + to + `,"retry":[0]}`, 400, "ValidationFailed", "body.retry[0]", "1 to 86400"},
		{"never and else", `{` + to + `,"dsn":{"notify":["never","delay"]}}`, 400, "ValidationFailed", "body.dsn.notify", "ConflictingFields"},
		{"notify", `{` + to + `,"dsn":{"notify":"always"}}`, 400, "ValidationFailed", "body.dsn.notify[0]", "never"},
		{"metadata", `{` + to + `,"metadata":{"x":"` + strings.Repeat("y", 2048) + `"}}`, 400, "ValidationFailed", "body.metadata", "2048"},
		{"tag", `{` + to + `,"tag":"` + strings.Repeat("y", 129) + `"}`, 400, "ValidationFailed", "body.tag", "128"},
		{"id of a message", `{` + to + `,"reference":{"message":"` + strings.Repeat("A", 1025) + `","ignoreMissing":true}}`, 400, "ValidationFailed", "body.reference.message", "1024"},
		{"Message-ID of a message", `{` + to + `,"reference":{"message":"AAAA","messageId":"` + strings.Repeat("A", 1025) + `"}}`, 400, "ValidationFailed", "body.reference.messageId", "1024"},
		{"locale", `{` + to + `,"locale":"??"}`, 400, "ValidationFailed", "body.locale", "pt-BR"},
		{"unknown field", `{` + to + `,"subjekt":"x"}`, 400, "ValidationFailed", "body.subjekt", "did you mean subject?"},
		{"unknown field within", `{"to":{"address":"a@x.example","adress":"b"}}`, 400, "ValidationFailed", "body.to.adress", "did you mean address?"},
		{"given twice", `{"raw":"QQ==","raw":"QQ=="}`, 400, "InvalidJSON", "body.raw", "Duplicate"},
		{"no JSON", `{"raw":"QQ=="`, 400, "InvalidJSON", "body", "Syntax"},
		{"no gateway", `{` + to + `,"gateway":"none"}`, 404, "GatewayNotFound", "body.gateway", "no such gateway"},
		{"text too large", `{` + to + `,"text":"` + strings.Repeat("x", 5<<20+1) + `"}`, 413, "MessageTooLarge", "body.text", "5242880"},
		{"message too large", `{` + to + `,"attachments":[{"content":"` + strings.Repeat("AAAA", 3<<19) + `"}]}`, 413, "MessageTooLarge", "body", "octets"},
		{"all else too large", `{` + to + `,"text":"` + strings.Repeat("x", 17<<20) + `"}`, 413, "BodyTooLarge", "", "without its attachments"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := f.call(tt.status, "POST", submitPath, tt.body)
			raw, _ := json.Marshal(got)
			if got["code"] != tt.code || place(got) != tt.at || !strings.Contains(string(raw), tt.says) {
				t.Errorf("want %s at %s saying %q: %s", tt.code, tt.at, tt.says, raw)
			}
		})
	}
	if n := f.waiting(); n != 0 {
		t.Errorf("%d are queued", n)
	}
	f.call(404, "POST", "/v1/account/nobody/submit", `{`+to+`}`)
	f.call(200, "POST", "/v1/account", `{"account":"deaf"}`)
	if got := f.call(409, "POST", "/v1/account/deaf/submit", `{"from":{"address":"d@x.example"},`+to+`}`); got["code"] != "SMTPUnavailable" {
		t.Errorf("without a server: %v", got)
	}
	r := f.request("POST", submitPath, `{`+to+`}`)
	r.Header.Set("Idempotency-Key", strings.Repeat("k", 256))
	if w := f.send(r); w.Code != 400 || !strings.Contains(w.Body.String(), "header.Idempotency-Key") {
		t.Errorf("long key: %d %s", w.Code, w.Body)
	}
}

// Fields of later versions are refused in words of their own.
func TestSubmitLater(t *testing.T) {
	f := withQueue(t)
	for _, field := range []string{
		"template", "render", "mailMerge", "proxy", "localAddress", "previewText", "trackOpens", "trackClicks", "trackingEnabled", "listId", "baseUrl",
	} {
		got := f.call(400, "POST", submitPath, `{"to":{"address":"a@x.example"},"`+field+`":"x"}`)
		if e := got["errors"].([]any)[0].(map[string]any); e["code"] != "FieldNotSupported" || e["location"] != "body."+field {
			t.Errorf("%s: %v", field, got)
		}
	}
}

// Acceptance 24: one key is one submission, however often and wherever it is used.
func TestIdempotencyKeys(t *testing.T) {
	f := withQueue(t)
	other, err := api.New(func() api.Options { // another process
		sender, err := smtpsend.New(smtpsend.Options{Store: storetest.On(t, f.rdb), Redis: f.rdb})
		if err != nil {
			t.Fatal(err)
		}
		return api.Options{Store: storetest.On(t, f.rdb), Kicker: f.kicks, Submitter: sender.Queue, Outbox: sender.Queue}
	}())
	if err != nil {
		t.Fatal(err)
	}
	submit := func(s *api.Server, account, key, body string) (int, map[string]any) {
		r := f.request("POST", "/v1/account/"+account+"/submit", body)
		r.Header.Set("Idempotency-Key", key)
		g := *f
		g.s = s
		w := g.send(r)
		out := map[string]any{}
		_ = json.Unmarshal(w.Body.Bytes(), &out)
		return w.Code, out
	}
	const body = `{"to":{"address":"a@x.example"},"subject":"once"}`
	ids, misses := map[any]int{}, 0
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			code, got := submit([]*api.Server{f.s, other}[i%2], "jo", "k1", body)
			mu.Lock()
			defer mu.Unlock()
			ids[got["queueId"]]++
			if got["idempotency"].(map[string]any)["status"] == "MISS" {
				misses++
			}
			if code != 200 {
				t.Errorf("%d %v", code, got)
			}
		})
	}
	wg.Wait()
	if len(ids) != 1 || misses != 1 || f.waiting() != 1 {
		t.Errorf("%d ids, %d first answers, %d queued", len(ids), misses, f.waiting())
	}
	if code, got := submit(f.s, "jo", "k1", strings.Replace(body, "once", "twice", 1)); code != 422 || got["code"] != "IdempotencyKeyReused" {
		t.Errorf("another body: %d %v", code, got)
	}
	f.call(200, "POST", "/v1/account", `{"account":"eve","email":"eve@x.example","smtp":{"host":"h"}}`)
	if code, got := submit(f.s, "eve", "k1", body); code != 200 || ids[got["queueId"]] != 0 {
		t.Errorf("the same key of another account: %d %v", code, got)
	}
	if code, got := submit(f.s, "jo", "k1", `{"dryRun":true,`+body[1:]); code != 200 || got["idempotency"] != nil { // it queues nothing that could be repeated
		t.Errorf("a dry run: %d %v", code, got)
	}
	if f.waiting() != 2 {
		t.Errorf("%d queued", f.waiting())
	}
}

// The message is what was asked for, octet by octet, and Bcc stands nowhere in it
// (acceptance 29).
func TestSubmittedMessage(t *testing.T) {
	f := withQueue(t)
	octets := bytes.Repeat([]byte("0123456789abcdef\x00\xff"), 50_000)
	body := fmt.Sprintf(`{"to":[{"name":"Ada","address":"ada@x.example"}],"bcc":[{"address":"hidden@x.example"}],"subject":"Grüße","text":"Hallo",
		"attachments":[{"filename":"a.bin","content":"%s"}]%%s}`, base64.StdEncoding.EncodeToString(octets))
	dry := f.call(200, "POST", submitPath, fmt.Sprintf(body, `,"dryRun":true`))
	preview, err := base64.StdEncoding.DecodeString(dry["preview"].(string))
	if err != nil || dry["queueId"] != nil || f.waiting() != 0 {
		t.Fatalf("dry run: %v, %d queued", err, f.waiting())
	}
	got := f.call(200, "POST", submitPath, fmt.Sprintf(body, ""))
	if got["state"] != "queued" || got["response"] != "Queued for delivery" || got["idempotency"] != nil || got["preview"] != nil {
		t.Errorf("answer: %v", got)
	}
	w := f.send(f.request("GET", "/v1/outbox/"+got["queueId"].(string)+"/raw", ""))
	if w.Code != 200 || w.Header().Get("Content-Type") != "message/rfc822" || w.Header().Get("Content-Length") != fmt.Sprint(w.Body.Len()) {
		t.Errorf("raw: %d %v", w.Code, w.Header())
	}
	for name, message := range map[string][]byte{"preview": preview, "raw": w.Body.Bytes()} {
		m, err := mail.ReadMessage(bytes.NewReader(message))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(message, []byte("hidden")) || bytes.Contains(bytes.ToLower(message), []byte("\nbcc")) {
			t.Errorf("%s tells of the hidden recipient", name)
		}
		if m.Header.Get("To") != `"Ada" <ada@x.example>` && m.Header.Get("To") != "Ada <ada@x.example>" || m.Header.Get("From") == "" {
			t.Errorf("%s: %v", name, m.Header)
		}
		packed := base64.StdEncoding.EncodeToString(octets)
		if !strings.Contains(strings.ReplaceAll(string(message), "\r\n", ""), packed) {
			t.Errorf("%s does not have the attachment as it was", name)
		}
	}
	row := f.call(200, "GET", "/v1/outbox/"+got["queueId"].(string), "")
	if diff := cmp.Diff([]any{"ada@x.example", "hidden@x.example"}, row["envelope"].(map[string]any)["to"]); diff != "" {
		t.Error(diff)
	}

	raw := base64.StdEncoding.EncodeToString([]byte("From: jo@example.com\nTo: a@x.example\nBcc: secret@x.example\nSubject: raw\n\nbody\n"))
	got = f.call(200, "POST", submitPath, `{"raw":"`+raw+`"}`)
	message := f.send(f.request("GET", "/v1/outbox/"+got["queueId"].(string)+"/raw", "")).Body.String()
	if strings.Contains(message, "secret") || !strings.HasSuffix(message, "\r\n\r\nbody\r\n") {
		t.Errorf("raw: %q", message)
	}
	row = f.call(200, "GET", "/v1/outbox/"+got["queueId"].(string), "")
	if diff := cmp.Diff([]any{"a@x.example", "secret@x.example"}, row["envelope"].(map[string]any)["to"]); diff != "" {
		t.Error(diff)
	}
}

// Each error of the engine is an answer of its own.
func TestSubmitErrors(t *testing.T) {
	engine := &submitter{}
	f := newFace(t, func(o *api.Options) { o.Submitter = engine })
	for _, tt := range []struct {
		err    error
		status int
		code   string
	}{
		{store.ErrNotFound, 404, "AccountNotFound"},
		{store.ErrUnavailable, 503, "StoreUnavailable"},
		{store.ErrStateLost, 503, "StoreUnavailable"},
		{store.ErrOutboxFull, 503, "OutboxFull"},
		{store.ErrKeyReused, 422, "IdempotencyKeyReused"},
		{smtpsend.ErrNoServer, 409, "SMTPUnavailable"},
		{smtpsend.ErrNoGateway, 404, "GatewayNotFound"},
		{smtpsend.ErrNoReference, 404, "ReferenceNotFound"},
		{&smtpsend.AttachedError{At: 1, Err: smtpsend.ErrNoMessage}, 404, "AttachmentNotFound"},
		{&smtpsend.AttachedError{At: 1, Err: smtpsend.ErrMailbox}, 503, "MailServerUnavailable"},
		{smtpsend.ErrMailbox, 503, "MailServerUnavailable"},
		{smtpsend.ErrRetry, 400, "ValidationFailed"},
		{smtpsend.ErrTooLarge, 413, "MessageTooLarge"},
		{&compose.Error{Problems: []compose.Problem{{Location: "to", Code: compose.NoRecipients}}}, 400, "ValidationFailed"},
		{&compose.Error{Problems: []compose.Problem{{Location: "reference.messageId", Code: compose.ReferenceMismatch}}}, 409, "ReferenceMismatch"},
		{context.DeadlineExceeded, 504, "Timeout"},
		{errors.New("what nobody expected"), 500, "InternalError"},
	} {
		engine.err = fmt.Errorf("somewhere: %w", tt.err)
		w := f.send(f.request("POST", submitPath, `{"to":{"address":"a@x.example"}}`))
		if w.Code != tt.status || !strings.Contains(w.Body.String(), `"code":"`+tt.code+`"`) || strings.Contains(w.Body.String(), "somewhere") {
			t.Errorf("%v: %d %s", tt.err, w.Code, w.Body)
		}
		if (w.Header().Get("Retry-After") != "") != (tt.status == 503) {
			t.Errorf("%v: Retry-After %q", tt.err, w.Header().Get("Retry-After"))
		}
	}
	none := newFace(t)
	none.call(400, "POST", submitPath, `{"to":{"address":"a@x.example"}}`)
}

// Whatever waits for other credentials or servers is told of them.
func TestChangesWakeTheSpool(t *testing.T) {
	engine := &submitter{}
	f := newFace(t, func(o *api.Options) { o.Submitter = engine })
	f.call(200, "POST", "/v1/account", jo)
	for i, change := range []string{`{"smtp":{"host":"h"}}`, `{"smtp":false}`, `{"sendLimits":{"perDay":0}}`, `{"smtpEhloName":"a.example"}`} {
		f.call(200, "PUT", "/v1/account/jo", change)
		if len(engine.wakes) != i+1 {
			t.Errorf("%s woke %d times", change, len(engine.wakes)-i)
		}
	}
	f.call(200, "POST", "/v1/account", `{"account":"jo","smtp":{"host":"h"}}`)
	f.call(200, "PUT", "/v1/account/jo/pause", "")
	f.call(200, "PUT", "/v1/account/jo/resume", "")
	if len(engine.wakes) != 6 || engine.wakes[5] != "jo" {
		t.Errorf("%v", engine.wakes)
	}
	f.call(200, "PUT", "/v1/account/jo", `{"name":"J"}`)
	if len(engine.wakes) != 6 {
		t.Error("another name woke the spool")
	}
}

// So are the accounts whose mail goes through a gateway that was mended.
func TestGatewayChangesWakeSpools(t *testing.T) {
	f := withQueue(t)
	f.call(200, "POST", "/v1/gateway", `{"gateway":"relay","host":"h"}`)
	f.call(200, "POST", "/v1/account", `{"account":"eve","email":"eve@x.example"}`)
	f.queued("eve", `,"gateway":"relay"`)
	f.queued("eve", `,"gateway":"relay"`)
	jos := f.queued("jo", "")
	engine := &submitter{}
	other, err := api.New(api.Options{Store: f.store, Kicker: f.kicks, Submitter: engine})
	if err != nil {
		t.Fatal(err)
	}
	f.s = other
	f.call(200, "PUT", "/v1/gateway/edit/relay", `{"port":587}`)
	f.call(200, "POST", "/v1/gateway", `{"gateway":"relay","port":465}`)
	f.call(200, "POST", "/v1/gateway", `{"gateway":"unused","host":"h"}`)
	if diff := cmp.Diff([]store.AccountID{"eve", "eve"}, engine.wakes); diff != "" {
		t.Error(diff)
	}
	row, books := f.rdb.Keys(t.Context(), "*:q:"+jos).Val(), f.rdb.Keys(t.Context(), "*outbox:queued").Val()
	due := f.rdb.Keys(t.Context(), "*a:jo:outbox:due").Val()
	fields := f.rdb.HGetAll(t.Context(), row[0]).Val()
	p := f.rdb.Pipeline()
	for range 1100 { // of another account, and newer
		id := string(store.NewSubmissionID("jo", time.Now()))
		p.HSet(t.Context(), strings.Replace(row[0], jos, id, 1), fields)
		for _, set := range append(books, due...) {
			if set[:5] == row[0][:5] && !strings.Contains(set, "a:eve:") { // of jo, or its shard
				p.ZAdd(t.Context(), set, redis.Z{Member: id})
			}
		}
	}
	if _, err := p.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	last := store.Submission{ID: store.NewSubmissionID("jo", time.Now()), Account: "jo", To: []string{"a@x.example"}, Gateway: "relay"}
	if _, err := f.store.AcceptSubmission(t.Context(), store.Accept{Submission: last, Body: strings.NewReader("x")}); err != nil {
		t.Fatal(err)
	}
	f.call(200, "PUT", "/v1/gateway/edit/relay", `{"port":587}`)
	slices.Sort(engine.wakes)
	if diff := cmp.Diff([]store.AccountID{"eve", "eve", "eve", "jo"}, engine.wakes); diff != "" {
		t.Error(diff)
	}
}

// A body that is too large is refused before it is read, and of those that are read the
// memory has a bound.
func TestBodyMemory(t *testing.T) {
	engine := &submitter{}
	begun, end := make(chan struct{}), make(chan struct{})
	f := newFace(t, func(o *api.Options) {
		o.Submitter = waiter{engine, begun, end}
		o.Config.MaxBodyMemory = 100 << 20
	})
	r := f.request("POST", submitPath, "x")
	r.ContentLength, r.Body = 50<<20+1, io.NopCloser(readNever{t})
	if w := f.send(r); w.Code != 413 || !strings.Contains(w.Body.String(), "BodyTooLarge") || w.Header().Get("Connection") != "close" {
		t.Errorf("too large: %d %s", w.Code, w.Body)
	}
	r = f.request("POST", submitPath, "x")
	r.ContentLength, r.Body = -1, io.NopCloser(strings.NewReader(strings.Repeat(" ", 50<<20+1)))
	if w := f.send(r); w.Code != 413 {
		t.Errorf("too large, length unknown: %d %s", w.Code, w.Body)
	}

	const announced = 40 << 20
	request := func() *http.Request { // says that it is larger than it is: memory is reserved before anything is read
		r := f.request("POST", submitPath, `{"to":{"address":"a@x.example"}}`)
		r.ContentLength = announced
		return r
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if w := f.send(request()); w.Code != 200 {
				t.Errorf("%d %.200s", w.Code, w.Body)
			}
		})
	}
	for range 2 {
		<-begun
	}
	w := f.send(request())
	if w.Code != 503 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "ServerBusy") {
		t.Errorf("a third: %d %.200s", w.Code, w.Body)
	}
	if got := f.metric("postrider_http_body_bytes_in_use"); got != 2*announced {
		t.Errorf("%v bytes in use, want %d", got, 2*announced)
	}
	close(end)
	wg.Wait()
	if got := f.metric("postrider_http_body_bytes_in_use"); got != 0 {
		t.Errorf("%v bytes are still in use", got)
	}
	go func() { <-begun }()
	if w := f.send(request()); w.Code != 200 {
		t.Errorf("afterwards: %d %s", w.Code, w.Body)
	}
}

// So has that of the messages that are only shown, however short the request for them is.
func TestPreviewMemory(t *testing.T) {
	rdb := storetest.MiniredisClient(t)
	begun, end := make(chan struct{}), make(chan struct{})
	f := newFaceOn(t, rdb, func(o *api.Options) {
		sender, err := smtpsend.New(smtpsend.Options{Store: o.Store, Redis: rdb, Reader: largeBox{}})
		if err != nil {
			t.Fatal(err)
		}
		o.Submitter = someWait{sender.Queue, waiter{&submitter{}, begun, end}}
		o.Config.MaxBodyMemory = 100 << 20
	})
	f.call(200, "POST", "/v1/account", strings.TrimSuffix(jo, "}")+`,"smtp":{"host":"smtp.example.com"}}`)
	show := func(attachment string, announced int64, want int, code string) {
		t.Helper()
		r := f.request("POST", submitPath, `{"to":{"address":"a@x.example"},"dryRun":true,"attachments":[{"reference":"`+attachment+`"}]}`)
		if announced != 0 {
			r.ContentLength = announced
		}
		if w := f.send(r); w.Code != want || !strings.Contains(w.Body.String(), code) {
			t.Errorf("%s: %d %.200s, want %d", attachment, w.Code, w.Body, want)
		}
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			r := f.request("POST", submitPath, `{"to":{"address":"a@x.example"},"tag":"wait"}`)
			r.ContentLength = 48 << 20
			f.send(r)
		})
	}
	for range 2 {
		<-begun
	}
	show("100", 0, 200, "preview") // KiB
	show("2000", 0, 503, "ServerBusy")
	close(end)
	wg.Wait()
	show("2000", 0, 200, "preview")
	show("2000", -1, 413, "MessageTooLarge") // beside a body of unknown length there will never be room
	if got := f.metric("postrider_http_body_bytes_in_use"); got != 0 {
		t.Errorf("%v bytes are still in use", got)
	}
}

// someWait has requests with the tag wait answered by another.
type someWait struct {
	*smtpsend.Queue
	other waiter
}

func (s someWait) Submit(ctx context.Context, r smtpsend.Request) (smtpsend.Result, error) {
	if r.Tag == "wait" {
		return s.other.Submit(ctx, r)
	}
	return s.Queue.Submit(ctx, r)
}

// largeBox is a mailbox with attachments of as many KiB as their id says, and no messages.
type largeBox struct{}

func (largeBox) Original(context.Context, store.AccountID, string) (compose.Original, error) {
	return compose.Original{}, smtpsend.ErrNoMessage
}

func (largeBox) Attachment(_ context.Context, _ store.AccountID, id string) (compose.Attachment, error) {
	kib, err := strconv.Atoi(id)
	return compose.Attachment{Filename: "a.bin", Size: -1, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(strings.Repeat("x", kib<<10))), nil
	}}, err
}

// waiter tells that it was asked, and waits before it answers.
type waiter struct {
	*submitter
	begun, end chan struct{}
}

func (b waiter) Submit(ctx context.Context, r smtpsend.Request) (smtpsend.Result, error) {
	b.begun <- struct{}{}
	<-b.end
	return b.submitter.Submit(ctx, r)
}

type readNever struct{ t *testing.T }

func (r readNever) Read([]byte) (int, error) {
	r.t.Error("the body was read")
	return 0, io.EOF
}

// metric is the value of a gauge or counter without labels.
func (f *face) metric(name string) float64 {
	f.t.Helper()
	families, err := f.reg.Gather()
	if err != nil {
		f.t.Fatal(err)
	}
	for _, m := range families {
		if m.GetName() == name {
			return m.GetMetric()[0].GetGauge().GetValue()
		}
	}
	f.t.Fatalf("no metric %s", name)
	return 0
}
