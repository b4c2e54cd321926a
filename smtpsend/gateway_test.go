package smtpsend_test

import (
	"testing"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/smtpsend/transport"
	"github.com/postrider/postrider/store"
)

// The account's own server is down, or refuses its credentials, and its spool sleeps: mail by a
// gateway goes on, whether its own task carries it or a sweep finds it, and is not held.
func TestSend_gateway_while_the_spool_sleeps(t *testing.T) {
	for name, err := range map[string]error{
		"is down":                 lost(transport.PhaseConnect),
		"refuses the credentials": &transport.Error{Phase: transport.PhaseAuth, Code: 535, Line: "535 no", Kind: transport.KindAuth},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, h *house) {
				h.sink.set(func(x *tx) error {
					if x.server.Host == "gw.example.com" {
						return nil
					}
					return err
				})
				if _, err := h.store.CreateGateway(t.Context(), store.Gateway{ID: "gw", Server: store.Server{Host: "gw.example.com", Port: 587}}); err != nil {
					t.Fatal(err)
				}
				h.account("ada")
				by := request("ada", "cem@example.net")
				by.Gateway = "gw"
				by.SendAt = time.Now().Add(2 * time.Minute)
				lost := h.submit(by)
				own := h.submit(request("ada", "bob@example.net"))
				time.Sleep(100 * time.Second)
				by.SendAt = time.Time{}
				carried := h.submit(by)
				time.Sleep(5 * time.Second)
				if row := h.row(carried); row.State != store.SubmissionSent || row.Attempt != 1 {
					t.Errorf("%s %s", row.State, row.Reason)
				}
				if err := h.rdb.Del(t.Context(), h.rdb.Keys(t.Context(), "asynq:*").Val()...).Err(); err != nil { // tasks and all
					t.Fatal(err)
				}
				time.Sleep(45 * time.Second)
				if row := h.row(lost); row.State != store.SubmissionSent || row.Attempt != 1 {
					t.Errorf("without a task: %s %s", row.State, row.Reason)
				}
				if row := h.row(own); !row.Waiting() {
					t.Errorf("its own: %s", row.State)
				}
				if held := len(h.events("ada", events.MessageHeldType)); held > 1 {
					t.Errorf("told %v", h.told("ada"))
				}
			})
		})
	}
}
