package imapsync

import (
	"testing"
	"time"
)

// What a server says to one folder's question is about the account: nothing more is
// asked until the time it named, and nothing is lost for it.
func TestWorker_throttled_read_throttles_the_account(t *testing.T) {
	for name, c := range map[string]struct {
		err  *Error
		wait time.Duration
	}{
		"named time": {&Error{Kind: ErrBad, Stage: StageCommand, Command: "UID FETCH", Text: "Request is throttled. Suggested Backoff Time: 92415 milliseconds"}, 92415 * time.Millisecond},
		"no time":    {&Error{Kind: ErrNo, Stage: StageCommand, Command: "UID FETCH", Code: "OVERQUOTA", Text: "Account exceeded command or bandwidth limits"}, 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, true, func(d *den) {
				d.started()
				d.srv.act(func() { d.srv.readErr = c.err })
				d.srv.put("INBOX", "while")
				d.pass(time.Second)
				st := d.state().Status
				if e := st.LastError; e == nil || e.Kind != FaultThrottled || e.Until.Sub(e.At).Round(time.Second) != c.wait.Round(time.Second) {
					d.t.Fatalf("%+v", st.LastError)
				}
				d.srv.act(func() { d.srv.readErr = nil })
				_, before := d.srv.counted()
				d.pass(c.wait - 3*time.Second)
				if _, n := d.srv.counted(); n != before {
					d.t.Errorf("%d commands while throttled", n-before)
				}
				d.expect()
				d.pass(10 * time.Second)
				d.expect("messageNew INBOX <while> new")
			})
		})
	}
}
