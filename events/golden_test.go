package events

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

var update = flag.Bool("update", false, "write the golden files of new cases")

// at is the moment of all golden events.
var at = TimeOf(time.Date(2026, 11, 22, 8, 15, 2, 417_000_000, time.UTC))

// cases are the golden events of a type: with nothing that may be absent, with
// everything, and as in the documentation.
func cases(p Payload) map[string]Event {
	t := p.EventType()
	env := func(account string, data Payload) Event {
		return Event{Account: account, Date: at, Type: t, ID: NewID(account, 1795305600000, t, "golden"), Seq: 1207, Data: data}
	}
	full := reflect.New(reflect.TypeOf(p)).Elem()
	fill(full, "")
	all := map[string]Event{"minimal": env("", p)}
	if m, ok := full.Interface().(MessageNew); ok {
		all["labels"] = env("support", MessageNew{
			ID: "AAAAAQAAEmc", UID: 4711, Path: "[Gmail]/All Mail", EmailID: "1278455344230334865", ThreadID: "1266894439832287888",
			Date: at, InternalDate: &at, Flags: []string{}, Unseen: true, Labels: Labels{`\Important`, `\Inbox`, "Kunden/Süd"}, Size: 812,
			Text: Text{ID: "AAAAAQAAEmcx"}, MessageSpecialUse: `\Inbox`, SeemsLikeNew: true, Origin: OriginNew,
		})
		all["noLabels"] = env("support", MessageNew{ID: "AAAAAQAAEmc", UID: 4711, Date: at, Labels: Labels{}, Origin: OriginNew})
		all["category"] = env("support", MessageNew{ID: "AAAAAQAAEmc", UID: 4711, Date: at, Labels: Labels{`\Inbox`}, Category: "promotions", Origin: OriginNew})
		m.Labels, m.Category = nil, ""
		all["content"] = env("support", m)
		full.Set(reflect.ValueOf(withoutContent(m)))
	}
	if m, ok := p.(MessageUpdated); ok {
		m.ID, m.UID = "AAAAAQAAEmc", 4711
		m.Changes.Labels = &Difference{Added: []string{"Kunden/Süd"}, Deleted: []string{`\Inbox`}, Value: []string{"Kunden/Süd"}}
		all["labels"] = env("support", m)
	}
	if m, ok := full.Interface().(MessageFailed); ok {
		all["possibleDuplicate"] = env("support", m)
		m.PossibleDuplicate = false // as it was before it could tell of that
		full.Set(reflect.ValueOf(m))
	}
	whole := env("support", full.Interface().(Payload))
	whole.ServiceURL, whole.Path, whole.SpecialUse = "https://post.example.com", "Größe/<&>", `\Sent`
	all["full"] = whole
	if example, ok := examples[t]; ok {
		all["example"] = env("support", example)
	}
	return all
}

// withoutContent is a messageNew as it was before it could tell of a message's content.
func withoutContent(m MessageNew) MessageNew {
	m.CalendarEvents, m.Source, m.Labels, m.Category = nil, "", nil, ""
	m.Text = Text{ID: m.Text.ID, EncodedSize: m.Text.EncodedSize}
	m.Attachments = slices.Clone(m.Attachments)
	for i := range m.Attachments {
		m.Attachments[i].Content = ""
	}
	return m
}

// TestMeta: what tasks show of an event has nothing of its message's content.
func TestMeta(t *testing.T) {
	m := MessageNew{}
	v := reflect.ValueOf(&m).Elem()
	fill(v, "")
	e := Meta(Event{Type: MessageNewType, Data: m})
	want := withoutContent(m)
	want.Headers, want.Labels, want.Category = nil, m.Labels, m.Category
	if diff := cmp.Diff(want, e.Data); diff != "" {
		t.Error(diff)
	}
	if m.Attachments[0].Content == "" {
		t.Error("the event itself was changed")
	}
}

// fill puts a value that tells its place into every field.
func fill(v reflect.Value, name string) {
	switch v.Type() {
	case reflect.TypeFor[Time]():
		v.Set(reflect.ValueOf(at))
		return
	case reflect.TypeFor[json.RawMessage]():
		v.SetBytes([]byte(`{"tenant":"<acme>"}`))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), name)
	case reflect.String:
		v.SetString(name)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(len(name)))
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(len(name)))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i), fmt.Sprintf("%s %d", name, i))
		}
	case reflect.Map:
		key, val := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, name)
		fill(val, name)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, val)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), v.Type().Field(i).Name)
		}
	default:
		panic("no value for " + v.Type().String())
	}
}

var examples = map[Type]Payload{
	MessageNewType: MessageNew{
		ID: "AAAAAQAAEmc", UID: 4711, Path: "INBOX", Date: at, InternalDate: &at, Flags: []string{}, Unseen: true, Size: 18234,
		Subject: "Invoice 2026-118 ✅", From: &Address{"Ines Okafor", "ines@example.org"}, Sender: &Address{"Ines Okafor", "ines@example.org"},
		ReplyTo: &Address{"", "billing@example.org"}, ReplyToList: []Address{{"", "billing@example.org"}},
		To: []Address{{"Support", "support@example.com"}}, MessageID: "<118.kx2@example.org>",
		Attachments: []Attachment{{ID: "AAAAAQAAEmcy", ContentType: "application/pdf", EncodedSize: 15020, Filename: "118.pdf"}},
		Text:        Text{ID: "AAAAAQAAEmcxLjE7MS4y", EncodedSize: TextSize{Plain: 412, HTML: 1920}},

		MessageSpecialUse: `\Inbox`, SeemsLikeNew: true, Origin: OriginNew,
	},
	MessageUpdatedType: MessageUpdated{ID: "AAAAAQAAEmc", UID: 4711, Changes: Changes{
		Flags: &Difference{Added: []string{`\Seen`}, Value: []string{`\Answered`, `\Seen`}},
	}},
	MessageDeletedType: MessageDeleted{
		ID: "AAAAAQAAEmc", UID: 4711, Flags: []string{`\Seen`},
		Related: &Related{MessageNewType, "evt_nlimehc37jud2xzuxpf3duqhku", "AAAABAAAAFg", 88, "Archive", EvidenceFingerprint, "likely"},
	},
	MessageMovedType: MessageMoved{
		ID: "AAAABAAAAFg", UID: 88, Previous: Previous{"AAAAAQAAEmc", 4711, "INBOX", `\Inbox`}, EmailID: "M6d99ac3275bb4e",
		Flags: []string{`\Seen`}, Evidence: EvidenceEmailID,
	},
	MailboxRenamedType: MailboxRenamed{
		Folder: Folder{"Kunden/Nord", "Nord", ""}, PreviousPath: "Projects/Nord", UIDValidity: "1763798400", Evidence: EvidenceContent,
	},
	MailboxResetType: MailboxReset{
		Folder: Folder{"INBOX", "INBOX", `\Inbox`}, UIDValidity: "1795312800", PrevUIDValidity: new(UIDValidity("1712000000")),
		Reason: "uidValidityChange", Messages: 912, Matched: 910, Announced: 2,
	},
	MailboxDeletedType: MailboxDeleted{Folder: Folder{"Projects/Süd", "Süd", ""}, Messages: 41},
	MessageQueuedType:  MessageQueued{Delivery: offer("offer"), Source: "api"},
	MessageSentType: MessageSent{
		Delivery: offer(""), Response: "250 2.0.0 Ok: queued as 4D1F0A", Attempt: 1, DurationMS: 812, Secure: true,
	},
	MessageDeliveryErrorType: MessageDeliveryError{
		Delivery: offer(""), Error: "451 4.7.1 Greylisted", ErrorCode: "EENVELOPE", SMTPResponse: "451 4.7.1 Greylisted",
		SMTPResponseCode: 451, SMTPCommand: "RCPT TO",
		Job: Job{ID: "01kf2v7q3m8w5x9d4e6r1t0yza", Attempt: 1, Attempts: 10, NextAttempt: TimeOrFalse{TimeOf(at.Add(304_583 * time.Millisecond))}},
	},
	MessageFailedType: MessageFailed{
		Delivery: offer(""), Error: "550 5.1.1 No such user", Reason: "refused", SMTPResponse: "550 5.1.1 No such user", SMTPResponseCode: 550, Attempts: 1,
	},
	MessageHeldType: MessageHeld{Delivery: offer(""), Reason: "sendLimit", Until: new(hour(9)), Attempt: 1},
	SendLimitApproachingType: SendLimitApproaching{SendLimit{
		LimitName: "perDay", Unit: "messages", Volume: 450, Limit: 500, Window: Window{hour(0), hour(24)},
	}},
	WebhookPausedType: WebhookPaused{Route: Route{"whr_crm", "CRM"}, Reason: "failures", Failures: 100},
}

// offer is the submission of the documentation's examples.
func offer(tag string) Delivery {
	return Delivery{
		QueueID: "01kf2v7q3m8w5x9d4e6r1t0yza", MessageID: "<of.7@example.com>", Tag: tag,
		Envelope: Envelope{From: "sales@example.com", To: []string{"ada@example.net"}},
	}
}

// hour is a full hour of the day of all golden events.
func hour(n int) Time { return Time{at.Truncate(24 * time.Hour).Add(time.Duration(n) * time.Hour)} }

// What a version has sent is sent by all later ones: a golden file is added, never edited.
func TestGolden(t *testing.T) {
	for _, p := range payloads {
		for name, e := range cases(p) {
			path := filepath.Join("testdata", "golden", string(e.Type), name+".json")
			got, err := e.Encode()
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(path)
			if os.IsNotExist(err) && *update {
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, append(got, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%v (go test ./events -update writes new cases)", err)
				continue
			}
			if diff := cmp.Diff(string(bytes.TrimSpace(want)), string(got)); diff != "" {
				t.Errorf("%s: %s", path, diff)
			}
		}
	}
}

func TestSchema_accepts_every_golden_event_and_no_other(t *testing.T) {
	for _, p := range payloads {
		text, err := Schema(p.EventType())
		if err != nil {
			t.Fatal(err)
		}
		schema := compile(t, text)
		for name, e := range cases(p) {
			b, err := e.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(parse(t, b)); err != nil {
				t.Errorf("%s %s: %v", e.Type, name, err)
			}
			if name != "full" {
				continue
			}
			// without any one of its required fields the event is refused
			for _, field := range requiredOf(t, text) {
				broken := parse(t, b).(map[string]any)
				delete(broken["data"].(map[string]any), field)
				if schema.Validate(broken) == nil {
					t.Errorf("%s without data.%s is accepted", e.Type, field)
				}
			}
		}
	}
	if _, err := Schema("nonsense"); err == nil {
		t.Error("an unknown event has a schema")
	}
}

func compile(t *testing.T, text []byte) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("event.json", parse(t, text)); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("event.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func parse(t *testing.T, b []byte) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func requiredOf(t *testing.T, schema []byte) []string {
	t.Helper()
	var s struct {
		Properties struct{ Data struct{ Required []string } }
	}
	if err := json.Unmarshal(schema, &s); err != nil {
		t.Fatal(err)
	}
	return s.Properties.Data.Required
}

func TestDecode_reads_back_what_was_encoded(t *testing.T) {
	for _, p := range payloads {
		for name, e := range cases(p) {
			b, err := e.Encode()
			if err != nil {
				t.Fatal(err)
			}
			var back Event
			if err := json.Unmarshal(b, &back); err != nil {
				t.Fatal(err)
			}
			again, err := back.Encode()
			if err != nil || !bytes.Equal(b, again) {
				t.Errorf("%s %s: %s became %s, %v", e.Type, name, b, again, err)
			}
			if name == "minimal" {
				continue // nil and empty are one in JSON
			}
			data, err := Decode(back)
			if diff := cmp.Diff(e.Data, data); err != nil || diff != "" && (name == "full" || name == "content") {
				t.Errorf("%s %s: %s, %v", e.Type, name, diff, err)
			}
		}
	}
}
