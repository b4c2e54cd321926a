package imapsync

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/secret"
)

// handsOff are the commands that change nothing on a server (sync.md I12).
var handsOff = strings.Fields("CAPABILITY ID LOGIN ENABLE NAMESPACE LIST STATUS EXAMINE UNSELECT NOTIFY IDLE NOOP COMPRESS LOGOUT")

// The same as TestModel with everything between: engine, wire, and a server that speaks.
func TestModel_over_the_wire(t *testing.T) {
	for seed, dialect := range []imaptest.Dialect{
		imaptest.T1(), imaptest.T2(), imaptest.T3(), imaptest.T1().With("OBJECTID").Without("LIST-STATUS"), imaptest.T1().With("NOTIFY").Without("ESEARCH"),
	} {
		t.Run(dialect.Name, func(t *testing.T) {
			bubble(t, false, func(d *den) {
				m := imaptest.NewModel(dialect)
				defer m.Close()
				u := m.User("jo", "secret")
				dialer := NewDialer(DialerOptions{AllowPlaintext: true, Dial: m.Dial})
				d.dial = func(ctx context.Context) (Session, error) {
					return dialer.Dial(ctx, store.Server{Host: "127.0.0.1", Port: 143, User: "jo", Pass: secret.New("secret"), Plaintext: true})
				}
				d.truth = func() map[string]map[uint32][]string {
					truth, err := u.Truth(context.Background())
					d.ok(err)
					out := map[string]map[uint32][]string{}
					for name, f := range truth {
						out[name] = f.Messages
					}
					return out
				}
				defer d.down()
				wiredHistory(d, u, uint64(seed), !dialect.Has("CONDSTORE"))
				for _, c := range u.Heard() {
					reads := (c.Name == "UID FETCH" && !strings.Contains(c.Args, "BODY[")) || c.Name == "UID SEARCH"
					if !reads && !slices.Contains(handsOff, c.Name) {
						t.Errorf("sent %s %s", c.Name, c.Args)
					}
				}
			})
		})
	}
}

func wiredHistory(d *den, u *imaptest.ModelUser, seed uint64, slow bool) {
	ctx, rnd := context.Background(), rand.New(rand.NewPCG(seed, 7))
	d.up()
	d.pass(3 * time.Second)
	n := 0
	put := func(folder string) {
		n++
		_, err := u.Append(ctx, folder, imaptest.Message(fakeID(n), "x"), nil, time.Now())
		d.ok(err)
	}
	for range 60 {
		truth := d.truth()
		names := slices.Sorted(maps.Keys(truth))
		folder, to := names[rnd.IntN(len(names))], names[rnd.IntN(len(names))]
		uids := slices.Sorted(maps.Keys(truth[folder]))
		some := func() []uint32 { return uids[rnd.IntN(len(uids)):] }
		switch op := rnd.IntN(20); {
		case op < 8 || len(uids) == 0:
			put(folder)
		case op < 10:
			d.ok(u.AddFlags(ctx, folder, some()[:1], `\Seen`, "$work"))
		case op < 11:
			d.ok(u.RemoveFlags(ctx, folder, some(), `\Seen`))
		case op < 13:
			d.ok(u.Expunge(ctx, folder, some()[:1]...))
		case op < 14:
			d.ok(u.Expunge(ctx, folder, some()...))
		case op < 15 && to != folder:
			d.ok(u.Move(ctx, folder, to, some()[:1]...))
		case op < 16:
			d.ok(u.CreateFolder(ctx, fmt.Sprintf("New/%d", n)))
			put(fmt.Sprintf("New/%d", n))
		case op < 17 && strings.HasPrefix(folder, "New/"):
			d.ok(u.DeleteFolder(ctx, folder))
		case op < 18:
			u.Cut()
		case op < 19:
			d.down()
			d.up()
		default:
			for range 120 {
				put(folder)
			}
		}
		d.pass(time.Duration(rnd.Int64N(int64([]time.Duration{time.Millisecond, time.Second, time.Minute}[rnd.IntN(3)]))))
	}
	settle := 15 * time.Minute
	if slow {
		settle = 75 * time.Minute // a slow round over flags
	}
	d.pass(settle)
	d.converged()
}
