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
