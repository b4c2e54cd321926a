package imapsync

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/store"
)

// An account that nobody watched for longer than may go unsaid says so when it is watched
// again; one that was paused does not.
func TestManager_gap_is_said(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.started()
		d.pass(time.Minute)
		d.down()
		d.pass(5 * time.Minute)
		d.up()
		d.pass(time.Minute)
		d.expect()
		d.down()
		d.pass(time.Hour)
		d.srv.put("INBOX", "one")
		d.up()
		d.pass(time.Minute)
		if diff := cmp.Diff([]string{"accountStalled noOwner", "messageNew INBOX <one> new", "accountRecovered"}, d.took()); diff != "" {
			d.t.Error(diff)
		}
		_, err := d.st.PauseAccount(d.t.Context(), denAccount, "api")
		d.ok(err)
		d.m.Kick(denAccount)
		d.down()
		d.pass(time.Hour)
		_, err = d.st.ResumeAccount(d.t.Context(), denAccount, "api")
		d.ok(err)
		d.up()
		d.pass(time.Minute)
		d.expect("accountPaused api", "accountResumed api")
	})
}

// clumsy panics when it is asked for the first time.
type clumsy struct {
	Store
	asked *int
}

func (c clumsy) State(ctx context.Context, id store.AccountID) (store.State, error) {
	if *c.asked++; *c.asked == 1 {
		panic("planted")
	}
	return c.Store.State(ctx, id)
}

// A panic while a worker reads what is stored costs the account a moment, and no other.
func TestWorker_panic_before_the_first_session(t *testing.T) {
	bubble(t, true, func(d *den) {
		asked := 0
		d.wrap = func(st Store) Store { return clumsy{st, &asked} }
		d.started()
	})
}
