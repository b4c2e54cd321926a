package imapsync

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/store"
)

// However long another folder takes, mail in the main one is told of soon: while its first
// look reads windows, while its old messages are announced, and while mail pours into it.
func TestTurn_large_folder_keeps_no_mail_of_the_main_one_waiting(t *testing.T) {
	slow := func(m *imaptest.Model) {
		m.Hook(func(c imaptest.ModelCommand) imaptest.Act {
			if c.Name == "UID FETCH" && c.Folder == "Archive" {
				return imaptest.Act{Delay: 50 * time.Second}
			}
			return imaptest.Act{}
		})
	}
	for name, c := range map[string]struct {
		from  time.Time // notifyFrom
		first int       // messages in Archive before the account comes
		late  int       // and when it is there
		in    time.Duration
		told  int // messages of Archive, in all
	}{
		"windows":  {first: 60_000, from: imaptest.Date.AddDate(100, 0, 0)},
		"announce": {first: 1_500, from: imaptest.Date.AddDate(0, 0, -1), in: 100 * time.Second, told: 1_500},
		"news":     {late: 1_500, from: imaptest.Date.AddDate(100, 0, 0), in: 70 * time.Second, told: 1_500},
	} {
		t.Run(name, func(t *testing.T) {
			modelled(t, imaptest.T2(), func(d *den, u *imaptest.ModelUser, k *knife) {
				_, err := d.st.UpdateAccount(d.t.Context(), denAccount, 0, func(a *store.Account) error {
					a.NotifyFrom = c.from
					return nil
				})
				d.ok(err)
				d.cfg.ProbeInterval, d.cfg.ListInterval = time.Minute, 10*time.Minute
				fill := func(n int) {
					if n > 0 {
						_, _, err := u.Fill(d.t.Context(), "Archive", imaptest.Filling{Messages: n})
						d.ok(err)
					}
				}
				fill(c.first)
				slow(k.model)
				d.up()
				d.pass(time.Minute)
				fill(c.late)
				d.pass(c.in)
				before := d.took()
				_, err = u.Append(d.t.Context(), "INBOX", imaptest.Message("soon@x", "soon"), nil, time.Now())
				d.ok(err)
				d.pass(70 * time.Second)
				got := d.took()
				if !slices.Contains(got, "messageNew INBOX soon new") {
					t.Errorf("within 70 seconds: %q", got[:min(3, len(got))])
				}
				d.pass(15 * time.Minute)
				rest := d.took()
				if len(rest) == 0 {
					t.Error("all was done before")
				}
				told := map[string]int{}
				for _, e := range slices.Concat(before, got, rest) {
					if strings.HasPrefix(e, "messageNew Archive") {
						told[e]++
					}
				}
				if len(told) != c.told {
					t.Errorf("%d messages of Archive were told of", len(told))
				}
				for e, n := range told {
					if n > 1 {
						t.Errorf("%d times: %s", n, e)
					}
				}
				if n := d.meta("Archive").Count; n != c.first+c.late {
					t.Errorf("%d messages in Archive", n)
				}
			})
		})
	}
}
