package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
)

// queued submits a message and gives its queueId.
func (f *face) queued(account, more string) string {
	f.t.Helper()
	return f.call(200, "POST", "/v1/account/"+account+"/submit", `{"to":{"address":"a@x.example"},"subject":"S"`+more+`}`)["queueId"].(string)
}

// history lists the events of an account from the first about sending on.
func (f *face) history(account string) (names []string) {
	f.t.Helper()
	for e, err := range f.store.Journal(f.t.Context(), store.AccountID(account), 0) {
		if err != nil {
			f.t.Fatal(err)
		}
		if strings.HasPrefix(string(e.Type), "message") {
			names = append(names, string(e.Type))
		}
	}
	return names
}

// claim takes a submission as a worker does.
func (f *face) claim(id string) store.Claimed {
	f.t.Helper()
	got, err := f.store.ClaimSubmission(f.t.Context(), store.Claim{Account: "jo", ID: store.SubmissionID(id), Owner: "w", Lease: time.Minute, Slots: 9})
	if err != nil || got.Answer != store.ClaimOK {
		f.t.Fatalf("claim: %v %v", got.Answer, err)
	}
	return got
}

// Acceptance 25: scheduled, cancelled before its time, and the same answer again; not
// while it is being handed over.
func TestScheduledAndCancelled(t *testing.T) {
	f := withQueue(t)
	at := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	got := f.call(200, "POST", submitPath, `{"to":{"address":"a@x.example"},"sendAt":"`+at.Format(time.RFC3339)+`"}`)
	id := "/v1/outbox/" + got["queueId"].(string)
	if got["state"] != "scheduled" || !strings.HasPrefix(got["sendAt"].(string), at.Format("2006-01-02T15:04:05")) {
		t.Errorf("answer: %v", got)
	}
	message := f.send(f.request("GET", id+"/raw", "")).Body.String()
	if !strings.Contains(message, "Date: "+at.Format("Mon, 2 Jan 2006 15:04:05 -0700")) {
		t.Errorf("the Date field is not sendAt %s: %s", at, message)
	}
	row := f.call(200, "GET", id, "")
	if row["state"] != "scheduled" || row["scheduled"] != row["nextAttempt"] || row["scheduled"] != got["sendAt"] || row["attempt"] != 0.0 {
		t.Errorf("row: %v", row)
	}
	later := at.Add(time.Hour)
	row = f.call(200, "PUT", id, `{"sendAt":"`+later.Format(time.RFC3339)+`"}`)
	if row["scheduled"] != row["nextAttempt"] || !strings.HasPrefix(row["scheduled"].(string), later.Format("2006-01-02T15:04:05")) {
		t.Errorf("rescheduled: %v", row)
	}
	f.call(400, "PUT", id, `{"sendAt":"`+at.Add(800*24*time.Hour).Format(time.RFC3339)+`"}`)
	for range 2 {
		if got := f.call(200, "DELETE", id, ""); got["deleted"] != true || got["state"] != "canceled" {
			t.Errorf("cancel: %v", got)
		}
	}
	if diff := cmp.Diff([]string{"messageQueued", "messageFailed"}, f.history("jo")); diff != "" {
		t.Error(diff)
	}
	for _, deed := range []string{"retry", "release"} {
		if got := f.call(409, "POST", id+"/"+deed, ""); got["code"] != "SubmissionState" {
			t.Errorf("%s of a cancelled one: %v", deed, got)
		}
	}

	busy := f.queued("jo", "")
	f.claim(busy)
	for _, to := range [][3]string{{"DELETE", "", ""}, {"PUT", "", `{"sendAt":0}`}, {"POST", "/retry", ""}} {
		if got := f.call(409, to[0], "/v1/outbox/"+busy+to[1], to[2]); got["code"] != "SubmissionActive" {
			t.Errorf("%v while it is active: %v", to, got)
		}
	}
	if row := f.call(200, "GET", "/v1/outbox/"+busy, ""); row["state"] != "processing" || row["attempt"] != 1.0 || row["attemptsMade"] != 0.0 || row["nextAttempt"] != nil {
		t.Errorf("active: %v", row)
	}
}

// Acceptance 26: a paused account takes messages and holds them; deleting it leaves none.
func TestOutboxOfAPausedAccount(t *testing.T) {
	f := withQueue(t)
	f.call(200, "PUT", "/v1/account/jo/pause", "")
	id := f.queued("jo", "")
	row := f.call(200, "GET", "/v1/outbox/"+id, "")
	if row["state"] != "held" || row["reason"] != "accountPaused" || row["spool"].(map[string]any)["state"] != "paused" {
		t.Errorf("held: %v", row)
	}
	f.call(200, "PUT", "/v1/account/jo/resume", "")
	if row = f.call(200, "GET", "/v1/outbox/"+id, ""); row["spool"].(map[string]any)["state"] != "awake" {
		t.Errorf("resumed: %v", row)
	}
	f.claim(id)
	f.queued("jo", "")
	f.call(200, "DELETE", "/v1/account/jo", "")
	if got := f.call(404, "GET", "/v1/outbox/"+id, ""); got["code"] != "SubmissionNotFound" || f.waiting() != 0 {
		t.Errorf("deleted: %v", got)
	}
}

func TestOutboxReviewAndResolve(t *testing.T) {
	f := withQueue(t)
	id := "/v1/outbox/" + f.queued("jo", `,"hold":true,"tag":"t","metadata":{"a":1}`)
	row := f.call(200, "GET", id, "")
	if row["state"] != "held" || row["reason"] != "review" || row["nextAttempt"] != nil || row["tag"] != "t" || row["metadata"].(map[string]any)["a"] != 1.0 {
		t.Errorf("held: %v", row)
	}
	if row = f.call(200, "POST", id+"/release", ""); row["state"] != "queued" || row["reason"] != nil {
		t.Errorf("released: %v", row)
	}
	f.call(409, "POST", id+"/release", "")
	f.call(409, "POST", id+"/resolve", `{"as":"sent"}`)
	f.call(400, "POST", id+"/resolve", `{"as":"lost"}`)
	f.call(400, "POST", id+"/retry", `{"now":true}`)

	// nobody knows what became of it: somebody says
	was := f.claim(row["queueId"].(string)).Submission
	next, ev := was.Hold(store.HeldOutcomeUnknown, time.Time{}, was.Attempt)
	if _, err := f.store.MoveSubmission(t.Context(), was, next, []events.Event{ev}, store.MoveOps{}); err != nil {
		t.Fatal(err)
	}
	if row = f.call(200, "GET", id, ""); row["state"] != "unknown" || row["progress"].(map[string]any)["status"] != "error" {
		t.Errorf("unknown: %v", row)
	}
	f.call(409, "DELETE", id, "")
	if row = f.call(200, "POST", id+"/resolve", `{"as":"sent"}`); row["state"] != "sent" || row["confirmedBy"] != "operator" {
		t.Errorf("resolved: %v", row)
	}
}

func TestOutboxLists(t *testing.T) {
	f := withQueue(t)
	f.call(200, "POST", "/v1/account", `{"account":"eve","email":"eve@x.example","smtp":{"host":"h"}}`)
	var ids []string
	for range 3 {
		ids = append(ids, f.queued("jo", ""))
	}
	eves := f.queued("eve", `,"hold":true`)
	list := func(query string) (got []string, total float64) {
		body := f.call(200, "GET", "/v1/outbox"+query, "")
		for _, m := range body["messages"].([]any) {
			got = append(got, m.(map[string]any)["queueId"].(string))
		}
		return got, body["total"].(float64)
	}
	for query, want := range map[string][]string{
		"":                         {eves, ids[2], ids[1], ids[0]},
		"?account=jo":              {ids[2], ids[1], ids[0]},
		"?state=held":              {eves},
		"?account=jo&state=held":   nil,
		"?account=jo&state=queued": {ids[2], ids[1], ids[0]},
		"?pageSize=2&page=1":       {ids[1], ids[0]},
		"?account=nobody":          nil,
	} {
		if got, _ := list(query); cmp.Diff(want, got) != "" {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	if _, total := list("?pageSize=1"); total != 4 {
		t.Errorf("total %v", total)
	}
	for _, query := range []string{"?state=lost", "?page=1000&pageSize=1000", "?accounts=jo"} {
		f.call(400, "GET", "/v1/outbox"+query, "")
	}

	// a token of one account sees its own, and of others not even whether they are there
	value := f.tokenWith(store.Token{Scopes: []string{"send"}, Account: "eve"})
	bound := func(method, path, body string) (int, string) {
		r := f.request(method, path, body)
		r.Header.Set("Authorization", "Bearer "+value)
		w := f.send(r)
		answer, _, _ := strings.Cut(w.Body.String(), `"instance"`)
		return w.Code, answer
	}
	if code, body := bound("GET", "/v1/outbox", ""); code != 200 || !strings.Contains(body, eves) || strings.Contains(body, ids[0]) {
		t.Errorf("its own: %d %s", code, body)
	}
	if code, _ := bound("GET", "/v1/outbox?account=jo", ""); code != 403 {
		t.Errorf("of another: %d", code)
	}
	for _, to := range [][3]string{
		{"GET", "", ""}, {"GET", "/raw", ""}, {"DELETE", "", ""}, {"PUT", "", `{"sendAt":0}`}, {"POST", "/retry", ""}, {"POST", "/release", ""}, {"POST", "/resolve", `{"as":"sent"}`},
	} {
		there, a := bound(to[0], "/v1/outbox/"+ids[0]+to[1], to[2])
		missing, b := bound(to[0], "/v1/outbox/01kf2v7q3m8w5x9d4e6r1t0yza"+to[1], to[2])
		if there != 404 || missing != 404 || a != b {
			t.Errorf("%v: %d %s\nand %d %s", to, there, a, missing, b)
		}
	}
	if code, _ := bound("POST", submitPath, `{}`); code != 403 {
		t.Errorf("submit for another: %d", code)
	}
	if code, body := bound("POST", "/v1/outbox/"+eves+"/release", ""); code != 200 {
		t.Errorf("its own: %d %s", code, body)
	}
	f.call(404, "GET", "/v1/outbox/nonsense", "")
	if w := f.send(f.request(http.MethodHead, "/v1/outbox/"+ids[0]+"/raw", "")); w.Code != 200 || w.Body.Len() != 0 || w.Header().Get("Content-Length") == "" {
		t.Errorf("HEAD: %d %v", w.Code, w.Header())
	}
	if w := f.send(f.request("GET", "/v1/outbox/"+strings.ToUpper(ids[0]), "")); w.Code != 200 {
		t.Errorf("in capitals: %d", w.Code)
	}
}

// What is shown of a submission follows from its row alone.
func TestSubmissionShown(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	failed := &store.Outcome{At: now, Error: "refused", ErrorCode: "EENVELOPE", Response: "450 4.2.1 later", ResponseCode: 450, Class: "temporary", Scope: "message"}
	refusal := []store.Refusal{{Recipient: "b@x", Response: "550 5.1.1 no", Code: 550, Enhanced: "5.1.1"}}
	for _, tt := range []struct {
		name       string
		m          store.Submission
		progress   string
		recipients string
		next       any
	}{
		{"queued", store.Submission{State: store.SubmissionQueued, Created: now, Pending: []string{"a@x", "b@x"}}, "queued", "pending pending", "2026-11-22T12:00:00.000Z"},
		{"failed once", store.Submission{State: store.SubmissionQueued, Attempt: 1, NextAttempt: now.Add(time.Minute), Last: failed, Pending: []string{"a@x", "b@x"}}, "error", "pending pending", "2026-11-22T12:01:00.000Z"},
		{"connecting", store.Submission{State: store.SubmissionProcessing, Stage: store.StageConnect, Attempt: 1, Pending: []string{"a@x", "b@x"}}, "processing", "pending pending", nil},
		{"at the dot", store.Submission{State: store.SubmissionProcessing, Stage: store.StageData, Attempt: 1, Pending: []string{"a@x", "b@x"}}, "smtp-starting", "pending pending", nil},
		{"sent to one", store.Submission{State: store.SubmissionSent, Attempt: 1, Rejected: refusal}, "submitted", "sent rejected", nil},
		{"one is behind the unknown", store.Submission{State: store.SubmissionUnknown, Attempt: 1, Pending: []string{"a@x"}, Deferred: refusal}, "error", "unknown deferred", nil},
		{"one is deferred", store.Submission{State: store.SubmissionQueued, Attempt: 1, NextAttempt: now, Pending: []string{"b@x"}, Deferred: refusal}, "queued", "sent deferred", "2026-11-22T12:00:00.000Z"},
		{"failed", store.Submission{State: store.SubmissionFailed, Attempt: 3, Reason: "attempts", Last: failed, Pending: []string{"a@x", "b@x"}}, "error", "failed failed", nil},
		{"canceled", store.Submission{State: store.SubmissionCanceled, Reason: "cancelled", Pending: []string{"a@x", "b@x"}}, "error", "canceled canceled", nil},
		{"unknown", store.Submission{State: store.SubmissionUnknown, Attempt: 1, Pending: []string{"a@x", "b@x"}}, "error", "unknown unknown", nil},
		{"review", store.Submission{State: store.SubmissionHeld, Reason: store.HeldReview, Pending: []string{"a@x", "b@x"}}, "queued", "pending pending", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.m.To = []string{"a@x", "b@x"}
			got := api.ShownForTest(tt.m, store.Spool{}, now)
			var states []string
			for _, r := range got["recipients"].([]any) {
				states = append(states, r.(map[string]any)["state"].(string))
			}
			progress := got["progress"].(map[string]any)
			if progress["status"] != tt.progress || strings.Join(states, " ") != tt.recipients || got["nextAttempt"] != tt.next {
				t.Errorf("%v %v %v", progress, states, got["nextAttempt"])
			}
			if (progress["error"] != nil) != (tt.progress == "error") {
				t.Errorf("progress %v", progress)
			}
			if got["attemptsMade"] != float64(max(tt.m.Attempt-1, 0)) || got["attempt"] != float64(tt.m.Attempt) {
				t.Errorf("attempt %v, %v before", got["attempt"], got["attemptsMade"])
			}
		})
	}
	for want, sp := range map[string]store.Spool{
		"awake":   {Sleep: store.Sleep{Until: now.Add(-time.Second), Reason: "EAUTH"}, Limit: now},
		"asleep":  {Sleep: store.Sleep{Until: now.Add(time.Second), Reason: "EAUTH"}},
		"limited": {Limit: now.Add(time.Second)},
		"paused":  {Paused: true, Limit: now.Add(time.Second)},
	} {
		got := api.ShownForTest(store.Submission{}, sp, now)["spool"].(map[string]any)
		if got["state"] != want || (got["until"] != nil) != (want == "asleep" || want == "limited") {
			t.Errorf("%s: %v", want, got)
		}
	}
}
