package smtpsend_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/smtpsend"
	"github.com/postrider/postrider/smtpsend/transport"
	"github.com/postrider/postrider/store"
)

// Half as many accounts again as there are workers have a server each that takes connections
// and says nothing for a minute. Mail of others goes at once, of an account whose server
// was never heard of too, the first time and ever after; theirs is tried as often as it is
// to be.
func TestSend_beside_hosts_that_hang(t *testing.T) {
	const hung, workers = 15, 10
	bubble(t, func(t *testing.T, h *house) {
		h.sink.set(func(x *tx) error {
			if !strings.HasPrefix(x.server.Host, "hung") {
				return nil
			}
			select {
			case <-time.After(time.Minute):
				return &transport.Error{Phase: transport.PhaseGreeting, Kind: transport.KindTimeout, Err: errors.New("i/o timeout")}
			case <-x.done:
				return &transport.Error{Phase: transport.PhaseGreeting, Kind: transport.KindLocal, Err: x.cause()}
			}
		})
		var theirs []store.SubmissionID
		for i := range hung {
			id := store.AccountID(fmt.Sprintf("a%d", i))
			h.account(id, func(a *store.Account) { a.SMTP.Host = fmt.Sprintf("hung%d.example.com", i) })
			r := request(id, "bob@example.net")
			r.Preset, r.Attempts = "code", 2
			theirs = append(theirs, h.submit(r))
		}
		for i := range 3 {
			time.Sleep(time.Second)
			id := store.AccountID(fmt.Sprintf("well%d", i))
			h.account(id, func(a *store.Account) { a.SMTP.Host = string(id) + ".example.com" })
			sub := h.submit(request(id, "bob@example.net"))
			time.Sleep(19 * time.Second)
			row := h.row(sub)
			took := row.Ended.Sub(row.Created)
			if row.State != store.SubmissionSent || row.Attempt != 1 || took > 15*time.Second || i > 0 && took > 3*time.Second {
				t.Errorf("%s: %s after %v, attempt %d", id, row.State, took, row.Attempt)
			}
			time.Sleep(25 * time.Second)
		}
		time.Sleep(2 * time.Minute)
		for _, id := range theirs {
			if row := h.row(id); row.State != store.SubmissionFailed || row.Reason != "attemptsUsed" || row.Charged != 2 {
				t.Errorf("%s (%s), attempt %d, %d charged", row.State, row.Reason, row.Attempt, row.Charged)
			}
		}
		if tries := len(h.sink.tried()); tries != 2*len(theirs)+3 {
			t.Errorf("%d tries", tries)
		}
	}, func(o *smtpsend.Options) { o.Config.Concurrency = workers })
}
