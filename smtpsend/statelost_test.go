package smtpsend_test

import (
	"slices"
	"testing"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
)

// The state of an account that only sends is restored when what the server said is to be
// written down, and that is not lost.
func TestSend_after_the_state_was_lost(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		h.account("ada")
		h.sink.set(func(x *tx) error {
			if err := x.mark(); err != nil {
				return err
			}
			keys, err := h.rdb.Keys(t.Context(), "*:ada:state").Result()
			if err == nil {
				err = h.rdb.Del(t.Context(), keys...).Err()
			}
			return err
		})
		id := h.submit(request("ada", "bob@example.net"))
		time.Sleep(5 * time.Second)
		if row := h.row(id); row.State != store.SubmissionSent || row.Attempt != 1 {
			t.Errorf("%+v", row)
		}
		if told := h.told("ada"); !slices.Equal(told, []string{"messageQueued", "messageSent"}) {
			t.Error(told)
		}
		if lost := h.events("ada", events.AccountStateLostType); len(lost) != 1 {
			t.Error(lost)
		}
	})
}

// The state of a watched account is restored by its worker: what the server said waits for
// that, longer than its claim lasts.
func TestSend_until_the_state_is_restored(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		h.account("ada", func(a *store.Account) { a.IMAP = &store.Server{Host: "imap.example.com", Port: 993} })
		h.sink.set(func(x *tx) error {
			if err := x.mark(); err != nil {
				return err
			}
			keys, err := h.rdb.Keys(t.Context(), "*:ada:state").Result()
			if err != nil || len(keys) != 1 {
				t.Errorf("%v, %v", keys, err)
			}
			time.AfterFunc(3*time.Minute, func() { h.rdb.Rename(t.Context(), "away", keys[0]) })
			return h.rdb.Rename(t.Context(), keys[0], "away").Err()
		})
		id := h.submit(request("ada", "bob@example.net"))
		time.Sleep(4 * time.Minute)
		if row := h.row(id); row.State != store.SubmissionSent || row.Attempt != 1 {
			t.Errorf("%s %s, attempt %d", row.State, row.Reason, row.Attempt)
		}
		if told := h.told("ada"); told[len(told)-1] != "messageSent" || len(h.sink.taken()) != 1 {
			t.Errorf("%d sent, told %v", len(h.sink.taken()), told)
		}
	})
}
