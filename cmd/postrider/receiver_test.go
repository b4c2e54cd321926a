package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/imapsync/imaptest"
)

// arrived is one webhook request as a receiver saw it.
type arrived struct {
	webhookID string
	conn      string // the connection it came over: one process, never two
	at        time.Time
	event     journalled
}

// journalled is what tests look at of an event.
type journalled struct {
	Seq     uint64          `json:"seq"`
	Event   string          `json:"event"`
	EventID string          `json:"eventId"`
	Account string          `json:"account"`
	Path    string          `json:"path"`
	Data    json.RawMessage `json:"data"`
}

// uid is the UID the event is about.
func (j journalled) uid() uint32 {
	var d struct{ UID uint32 }
	_ = json.Unmarshal(j.Data, &d) // events without one have 0
	return d.UID
}

// messageID is that of the message which the event announces.
func (j journalled) messageID() string {
	if j.Event != "messageNew" {
		return ""
	}
	var d struct {
		MessageID string `json:"messageId"`
	}
	_ = json.Unmarshal(j.Data, &d) // a message without one has none
	return d.MessageID
}

// receiver records webhook requests and answers 204.
type receiver struct {
	*httptest.Server
	mu   sync.Mutex
	got  []arrived
	seen map[string]bool
	mail map[string]time.Time // by the Message-ID of messageNew
}

func newReceiver(t testing.TB) *receiver {
	r := &receiver{seen: map[string]bool{}, mail: map[string]time.Time{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		at := time.Now()
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return // cut off in the middle of the request: it was not received
		}
		a := arrived{webhookID: req.Header.Get("webhook-id"), conn: req.RemoteAddr, at: at}
		if err := json.Unmarshal(body, &a.event); err != nil {
			http.Error(w, "not JSON", http.StatusBadRequest)
			return
		}
		r.mu.Lock()
		r.got = append(r.got, a)
		r.seen[a.webhookID] = true
		if id := a.event.messageID(); id != "" && r.mail[id].IsZero() {
			r.mail[id] = at
		}
		r.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(r.Close)
	return r
}

// all is what came so far.
func (r *receiver) all() []arrived {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]arrived(nil), r.got...)
}

// when is the time at which a message was first announced; zero when it was not.
func (r *receiver) when(id string) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mail[id]
}

// distinct is how many different deliveries came.
func (r *receiver) distinct() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.seen)
}

// onLoopback is the environment of a serve that watches and calls this machine.
func loopbackEnv(more ...string) []string {
	return append([]string{"POSTRIDER_MAIL_ALLOW_PLAINTEXT=true", "POSTRIDER_EGRESS_ALLOW=127.0.0.0/8", "POSTRIDER_LOG_LEVEL=warn"}, more...)
}

// register adds an account on srv whose events go to hook.
func (s *served) register(id string, srv imaptest.Server, hook string) {
	s.t.Helper()
	imap := map[string]any{
		"host": srv.Host, "port": srv.Port, "secure": false, "plaintext": srv.CA == "",
		"auth": map[string]string{"user": srv.User, "pass": srv.Pass},
	}
	if srv.CA != "" {
		imap["tls"] = map[string]string{"ca": srv.CA}
	}
	body := map[string]any{"account": id, "email": srv.User, "imap": imap}
	if hook != "" {
		body["webhooks"] = hook
	}
	s.Call("POST", "/v1/account", body, nil)
}

// journal reads an account's whole journal over the API, and fails when its numbers have
// a gap or an event is there twice.
func (s *served) journal(id string) []journalled {
	s.t.Helper()
	var all []journalled
	ids := map[string]bool{}
	for {
		after := uint64(0)
		if len(all) > 0 {
			after = all[len(all)-1].Seq
		}
		var page struct{ Events []journalled }
		s.Call("GET", fmt.Sprintf("/v1/account/%s/events?after=%d&limit=1000", id, after), nil, &page)
		if len(page.Events) == 0 {
			return all
		}
		for _, e := range page.Events {
			if after > 0 && e.Seq != after+1 {
				s.t.Errorf("seq %d behind %d", e.Seq, after)
			}
			if ids[e.EventID] {
				s.t.Errorf("%s %s is in the journal twice", e.Event, e.EventID)
			}
			ids[e.EventID], after = true, e.Seq
			all = append(all, e)
		}
	}
}

// awaitEvent waits until the journal holds an event of that name, and returns it.
func (s *served) awaitEvent(id, name string, within time.Duration) journalled {
	s.t.Helper()
	var found journalled
	eventually(s.t, within, name+" of "+id, func() bool {
		for _, e := range s.journal(id) {
			if e.Event == name {
				found = e
				return true
			}
		}
		return false
	})
	return found
}
