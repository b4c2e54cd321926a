package imapsync

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/store"
)

// tabbed has a message arrive in a tab of the inbox, which is its subject.
func (d *den) tabbed(u *imaptest.ModelUser, folder, tab string) {
	d.t.Helper()
	raw := append([]byte("X-Gmail-Labels: Inbox,Category "+tab+"\r\n"), imaptest.Message(tab+"@x", tab)...)
	_, err := u.Append(d.t.Context(), folder, raw, nil, time.Now())
	d.ok(err)
}

// categories are the subjects of the messages announced since the last call, with their
// categories.
func (d *den) categories(want ...string) {
	d.t.Helper()
	var got []string
	for e, err := range d.st.Journal(d.t.Context(), denAccount, d.last) {
		d.ok(err)
		d.last = e.Seq
		if e.Type != events.MessageNewType {
			continue
		}
		var p struct{ Subject, Category string }
		d.ok(json.Unmarshal(e.Data.(events.Raw), &p))
		got = append(got, strings.TrimSpace(p.Subject+" "+p.Category))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		d.t.Fatalf("messages (-want +got):\n%s", diff)
	}
}

// searches records what a model is asked by SEARCH for categories, and answers it as act says.
func searches(m *imaptest.Model, act imaptest.Act) (asked func() []string) {
	var mu sync.Mutex
	var seen []string
	m.Hook(func(c imaptest.ModelCommand) imaptest.Act {
		if c.Name != "UID SEARCH" || !strings.Contains(c.Args, "X-GM-RAW") {
			return imaptest.Act{}
		}
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, strings.TrimSpace(c.Args))
		return act
	})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		out := seen
		seen = nil
		return out
	}
}

// Messages of the inbox have their category, those of one batch by one search for each.
func TestGmail_categories(t *testing.T) {
	gmailed(t, func(d *den, u *imaptest.ModelUser, k *knife) {
		asked := searches(k.model, imaptest.Act{})
		d.tabbed(u, "INBOX", "Old")
		d.up()
		d.pass(3 * time.Second)
		d.categories("Old")
		if got := asked(); got != nil {
			t.Errorf("asked, though nobody wants it: %q", got)
		}
		d.down()
		d.set(map[string]any{"resolveGmailCategories": true})
		for _, tab := range []string{"Promotions", "Primary", "Social", "Purchases", "Elsewhere"} {
			d.tabbed(u, "INBOX", tab)
		}
		d.tabbed(u, allMail, "Updates") // archived at once
		d.write(u, gmailRoot+"Spam", "spam", time.Now())
		d.up()
		d.look()
		d.categories("Promotions promotions", "Primary primary", "Social social", "Purchases purchases", "Elsewhere", "Updates", "spam")
		want := []string{
			`UID 2:6 X-GM-RAW "category:primary"`, `UID 2,4:6 X-GM-RAW "category:social"`, `UID 2,5:6 X-GM-RAW "category:promotions"`,
			`UID 5:6 X-GM-RAW "category:updates"`, `UID 5:6 X-GM-RAW "category:forums"`, `UID 5:6 X-GM-RAW "category:reservations"`, `UID 5:6 X-GM-RAW "category:purchases"`,
		}
		if diff := cmp.Diff(want, asked()); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}

		d.tabbed(u, "INBOX", "Forums") // as it is pushed
		d.pass(time.Second)
		d.categories("Forums forums")
		asked()
		d.ok(u.AddFlags(d.t.Context(), allMail, []uint32{2, 3}, `\Seen`))
		d.pass(time.Minute)
		if got := asked(); got != nil {
			t.Errorf("asked about a known message: %q", got)
		}

		no := false
		_, err := d.st.UpdateAccount(d.t.Context(), denAccount, 0, func(a *store.Account) error {
			a.Override = store.Override{GmailCategories: &no}
			return nil
		})
		d.ok(err)
		d.pass(time.Minute)
		d.tabbed(u, "INBOX", "Social")
		d.pass(time.Second)
		d.categories("Social")
	})
}

// With All Mail hidden the inbox is a folder.
func TestGmail_categories_of_a_folder(t *testing.T) {
	gmailed(t, func(d *den, u *imaptest.ModelUser, _ *knife) {
		u.Lie(func(l *imaptest.Lies) { l.ListWithout = []string{allMail} })
		d.set(map[string]any{"resolveGmailCategories": true})
		d.up()
		d.pass(3 * time.Second)
		d.tabbed(u, "INBOX", "Social")
		d.pass(time.Second)
		d.categories("Social social")
	})
}

// A server that does not tell categories costs neither the message nor the session.
func TestGmail_categories_refused(t *testing.T) {
	for name, tt := range map[string]struct {
		act  imaptest.Act
		most int // questions about two messages, one after the other
	}{
		"BAD":                 {imaptest.Act{Send: "{tag} BAD what\r\n", Instead: true}, 1},
		"NO":                  {imaptest.Act{Send: "{tag} NO [THROTTLED] not now\r\n", Instead: true}, 1},
		"others":              {imaptest.Act{Send: "* SEARCH 1 99\r\n{tag} OK\r\n", Instead: true}, 1},
		"no numbers":          {imaptest.Act{Send: "* SEARCH one\r\n{tag} OK\r\n", Instead: true}, 1},
		"less than all":       {imaptest.Act{Send: "* SEARCH\r\n{tag} OK [PARTIAL]\r\n", Instead: true}, 1},
		"nothing":             {imaptest.Act{Send: "{tag} OK\r\n", Instead: true}, 2 * len(gmailCategories)},
		"hangs up, each time": {imaptest.Act{Drop: true, Instead: true}, contentTries},
		"silence":             {imaptest.Act{Swallow: true}, contentTries},
	} {
		t.Run(name, func(t *testing.T) {
			gmailed(t, func(d *den, u *imaptest.ModelUser, k *knife) {
				asked := searches(k.model, tt.act)
				d.set(map[string]any{"resolveGmailCategories": true})
				d.gmailUp()
				for _, subject := range []string{"one", "two"} {
					began := time.Now()
					d.write(u, "INBOX", subject, began)
					for d.state().Seq == d.last && time.Since(began) < 10*time.Minute {
						d.pass(10 * time.Second)
					}
					d.categories(subject)
				}
				if n := len(asked()); n == 0 || n > tt.most {
					t.Errorf("asked %d times", n)
				}
			})
		})
	}
}
