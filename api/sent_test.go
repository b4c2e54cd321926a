package api_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/smtpsend"
	"github.com/postrider/postrider/smtpsend/smtptest"
	"github.com/postrider/postrider/smtpsend/transport"
	"github.com/postrider/postrider/store/storetest"
)

// From the request to the submission server and back to the outbox, with everything real
// but Redis: what arrives is what was shown before, octet by octet.
func TestSubmittedAndSent(t *testing.T) {
	sink := smtptest.StartSink(t, smtptest.SinkOptions{Users: map[string]string{"jo": "smtp-secret"}})
	host, port := sink.Addr()
	pool := transport.NewPool(transport.Options{EHLOName: "test.example"})
	rdb := storetest.MiniredisClient(t)
	var sender *smtpsend.Sender
	f := newFaceOn(t, rdb, func(o *api.Options) {
		var err error
		if sender, err = smtpsend.New(smtpsend.Options{Store: o.Store, Redis: rdb, Transport: pool}); err != nil {
			t.Fatal(err)
		}
		o.Submitter, o.Outbox = sender.Queue, sender.Queue
	})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- sender.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		pool.Close()
	})

	server := fmt.Sprintf(`"host":"%s","port":%d,"plaintext":true`, host, port)
	f.call(200, "POST", "/v1/account", `{"account":"jo","email":"jo@example.com","smtp":{`+server+`,"auth":{"user":"jo","pass":"smtp-secret"}}}`)
	f.call(200, "POST", "/v1/gateway", `{"gateway":"relay",`+server+`,"user":"jo","pass":"smtp-secret"}`)
	for i, more := range []string{"", `,"gateway":"relay"`} {
		id := "/v1/outbox/" + f.call(200, "POST", submitPath, `{"to":{"address":"a@x.example"},"bcc":{"address":"b@x.example"},"subject":"S","text":".\r\n..\n.x",
			"attachments":[{"filename":"résumé 日本.pdf","content":"QUJD"}],"hold":true`+more+`}`)["queueId"].(string)
		raw := f.send(f.request("GET", id+"/raw", "")).Body.String()
		f.call(200, "POST", id+"/release", "")
		wait, done := context.WithTimeout(t.Context(), 10*time.Second)
		got, err := sink.Wait(wait, i+1)
		done()
		if err != nil {
			t.Fatalf("nothing arrived: %v, %v", err, f.call(200, "GET", id, ""))
		}
		if string(got[i].Body) != raw || strings.Contains(raw, "b@x.example") {
			t.Errorf("what was shown and what arrived:\n%s\n%s", raw, got[i].Body)
		}
		if diff := cmp.Diff([]string{"a@x.example", "b@x.example"}, got[i].To); diff != "" || got[i].From != "jo@example.com" {
			t.Error(got[i].From, diff)
		}
		row := map[string]any{}
		for begun := time.Now(); row["state"] != "sent" && time.Since(begun) < 10*time.Second; time.Sleep(5 * time.Millisecond) {
			row = f.call(200, "GET", id, "")
		}
		if row["state"] != "sent" || row["progress"].(map[string]any)["status"] != "submitted" || row["attempt"] != 1.0 || row["ended"] == nil {
			t.Errorf("row: %v", row)
		}
		for _, r := range row["recipients"].([]any) {
			if r.(map[string]any)["state"] != "sent" {
				t.Errorf("recipient: %v", r)
			}
		}
	}
	if history := strings.Join(f.history("jo"), " "); history != "messageQueued messageHeld messageSent messageQueued messageHeld messageSent" {
		t.Errorf("events: %s", history)
	}
	shown := f.call(200, "GET", "/v1/account/jo", "")
	if shown["smtpStatus"].(map[string]any)["status"] != "ok" || shown["health"] != "ok" {
		t.Errorf("account: %v", shown)
	}
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) { // noted behind the row
		if g := f.call(200, "GET", "/v1/gateway/relay", ""); g["deliveries"] == 1.0 && g["lastUse"] != nil && g["lastError"] == nil {
			break
		} else if time.Since(begun) > 5*time.Second {
			t.Fatalf("gateway: %v", g)
		}
	}
}
