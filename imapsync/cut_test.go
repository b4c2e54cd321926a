package imapsync

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/secret"
)

// knife counts the bytes of all connections that are dialled through it, and does
// something to one of them behind the at-th: it is cut, or nothing goes through it any
// more. The next connection is whole.
type knife struct {
	model *imaptest.Model
	dial  func(ctx context.Context, network, addr string) (net.Conn, error)
	sent  bool  // it counts what is sent, not what is read
	at    int64 // 0: never
	stall bool

	mu          sync.Mutex
	read, wrote int64
	used        bool
}

func (k *knife) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	k.mu.Lock()
	dial := k.dial
	k.mu.Unlock()
	c, err := dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &cutConn{Conn: c, k: k}, nil
}

type cutConn struct {
	net.Conn
	k    *knife
	mute bool // under k.mu
}

// spare is how many of n bytes may pass; all of them, where this is not the place.
func (c *cutConn) spare(n int, sent bool) (most int, cut, mute bool) {
	c.k.mu.Lock()
	defer c.k.mu.Unlock()
	done := c.k.read
	if sent {
		done = c.k.wrote
	}
	switch {
	case c.mute:
		return n, false, true
	case c.k.at == 0 || c.k.used || c.k.sent != sent || done+int64(n) < c.k.at:
		return n, false, false
	case done < c.k.at:
		return int(c.k.at - done), false, false
	}
	c.k.used = true
	c.mute = c.k.stall
	return 0, !c.k.stall, c.k.stall
}

func (c *cutConn) passed(n int, sent bool) {
	c.k.mu.Lock()
	defer c.k.mu.Unlock()
	if sent {
		c.k.wrote += int64(n)
	} else {
		c.k.read += int64(n)
	}
}

func (c *cutConn) Read(b []byte) (int, error) {
	for {
		most, cut, mute := c.spare(len(b), false)
		if cut {
			_ = c.Close()
			return 0, io.EOF
		}
		if mute {
			if _, err := c.Conn.Read(b); err != nil { // what comes is lost
				return 0, err
			}
			continue
		}
		n, err := c.Conn.Read(b[:most])
		c.passed(n, false)
		return n, err
	}
}

func (c *cutConn) Write(b []byte) (done int, err error) {
	for done < len(b) {
		most, cut, mute := c.spare(len(b)-done, true)
		switch {
		case cut:
			_ = c.Close()
			return done, &net.OpError{Op: "write", Net: "tcp", Err: syscall.ECONNRESET}
		case mute:
			return len(b), nil
		}
		n, err := c.Conn.Write(b[done : done+most])
		c.passed(n, true)
		if done += n; err != nil {
			return done, err
		}
	}
	return done, nil
}

// modelled runs f with an engine over a model server, reached through a knife.
func modelled(t *testing.T, dialect imaptest.Dialect, f func(*den, *imaptest.ModelUser, *knife)) {
	t.Helper()
	bubble(t, true, func(d *den) {
		m := imaptest.NewModel(dialect)
		defer m.Close()
		defer d.down()
		u := m.User("jo", "secret")
		k := &knife{dial: m.Dial, model: m}
		dialer := NewDialer(DialerOptions{Dial: k.Dial, AllowPlaintext: true})
		server := store.Server{Host: "127.0.0.1", Port: 143, User: "jo", Pass: secret.New("secret"), Plaintext: true}
		d.dial = func(ctx context.Context, _ store.Account) (Session, error) { return dialer.Dial(ctx, server) }
		d.truth = func() map[string]map[uint32][]string {
			truth, err := u.Truth(d.t.Context())
			d.ok(err)
			want := map[string]map[uint32][]string{}
			for name, f := range truth {
				if !dialect.Has("X-GM-EXT-1") || slices.Contains([]string{allMail, gmailRoot + "Spam", gmailRoot + "Trash"}, name) {
					want[name] = f.Messages
				}
			}
			return want
		}
		_, err := d.st.UpdateAccount(d.t.Context(), denAccount, 0, func(a *store.Account) error {
			a.NotifyFrom = time.Now().Add(-72 * time.Hour)
			a.IMAP = &server
			return nil
		})
		d.ok(err)
		d.cfg = Config{ProbeInterval: 2 * time.Second, ListInterval: 20 * time.Second, AskInterval: 100 * time.Millisecond, AliveInterval: 30 * time.Second}
		f(d, u, k)
	})
}

// thirty is a sync of 30 messages: 20 that are there and are announced, 10 that arrive,
// with flags and expunges on both, ended by the connection's owner. Most are small, and
// there are few folders, since every byte may be one to cut at.
func (d *den) thirty(u *imaptest.ModelUser) {
	ctx := d.t.Context()
	main, other := "INBOX", "Archive"
	if u.CreateFolder(ctx, other) == nil { // a Gmail: it had none
		d.ok(u.DeleteFolder(ctx, other))
		main, other = allMail, gmailRoot+"Spam"
	}
	for _, name := range []string{"Sent", "Drafts", "Trash", "Junk"} {
		_ = u.DeleteFolder(ctx, name)
	}
	n := 0
	add := func(folder string, many int, at time.Time) {
		for range many {
			id := fmt.Sprintf("%d@x", n)
			raw := fmt.Appendf(nil, "From: a@b.c\r\nSubject: %s\r\nMessage-ID: <%s>\r\n\r\nhi\r\n", id, id)
			if n%10 == 0 {
				raw = imaptest.Message(id, id)
			}
			n++
			_, err := u.Append(ctx, folder, raw, nil, at)
			d.ok(err)
		}
	}
	old := time.Now().Add(-48 * time.Hour)
	add(main, 14, old)
	add(other, 6, old)
	d.early = map[string]uint32{main: 14, other: 6}
	d.up()
	d.pass(time.Second)
	add(main, 5, time.Now())
	d.pass(time.Second)
	d.ok(u.AddFlags(ctx, main, []uint32{3, 15, 16}, `\Seen`, "$work"))
	d.ok(u.AddFlags(ctx, other, []uint32{1}, `\Flagged`))
	add(other, 2, time.Now())
	d.pass(3 * time.Second)
	d.ok(u.Expunge(ctx, main, 4, 5, 17))
	d.ok(u.Expunge(ctx, other, 2))
	add(main, 3, time.Now())
	d.pass(3 * time.Second)
}

func tiers() []imaptest.Dialect {
	return []imaptest.Dialect{imaptest.T1(), imaptest.T2(), imaptest.T3()}
}

// eachCut runs f on servers of these dialects, for places in what story, a sync of thirty
// messages in most tests, reads and in what it sends: every one with POSTRIDER_FAULTS=all,
// else so many of each, drawn anew each time. A failure names its place.
func eachCut(t *testing.T, most int, dialects []imaptest.Dialect, story func(*den, *imaptest.ModelUser), f func(d *den, u *imaptest.ModelUser, k *knife)) {
	for _, dialect := range dialects {
		var read, wrote int64
		modelled(t, dialect, func(d *den, u *imaptest.ModelUser, k *knife) {
			story(d, u)
			read, wrote = k.read, k.wrote
		})
		for _, way := range []struct {
			name string
			sent bool
			of   int64
		}{{"read", false, read}, {"sent", true, wrote}} {
			for _, at := range points(int(way.of), int(way.of)/most) {
				t.Run(fmt.Sprintf("%s/%s=%d", dialect.Name, way.name, at), func(t *testing.T) {
					modelled(t, dialect, func(d *den, u *imaptest.ModelUser, k *knife) {
						k.sent, k.at = way.sent, int64(at)
						f(d, u, k)
					})
				})
			}
		}
	}
}

// The connection is cut once, at any byte in either direction: nothing is lost, nothing
// told twice.
func TestCut_at_every_byte(t *testing.T) {
	eachCut(t, 9, append(tiers(), imaptest.T0()), (*den).thirty, func(d *den, u *imaptest.ModelUser, _ *knife) {
		d.thirty(u)
		d.settle()
	})
}

// From some byte on nothing comes through any more, and nobody says so. It is noticed,
// nothing is lost; where no connection can be opened for longer, that is said once.
func TestStall_at_any_byte(t *testing.T) {
	eachCut(t, 2, []imaptest.Dialect{imaptest.T2()}, (*den).thirty, func(d *den, u *imaptest.ModelUser, k *knife) {
		k.stall = true
		stallAfter := 150
		_, err := d.st.UpdateAccount(d.t.Context(), denAccount, 0, func(a *store.Account) error {
			a.Override.StallAfter = &stallAfter
			return nil
		})
		d.ok(err)
		d.thirty(u)
		whole := k.dial
		k.mu.Lock()
		down := k.used
		if down {
			k.dial = func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ETIMEDOUT}
			}
		}
		k.mu.Unlock()
		d.pass(5 * time.Minute)
		k.mu.Lock()
		k.dial = whole
		k.mu.Unlock()
		d.pass(4 * time.Minute)
		d.settle()
		l, err := d.ledger()
		d.ok(err)
		want := 0
		if down {
			want = 1
		}
		if n, m := l.count[events.AccountStalledType], l.count[events.AccountRecoveredType]; n != want || m != want {
			d.t.Errorf("stalled was said %d times, recovered %d times: %s", n, m, l.Summary())
		}
	})
}

// One tagged answer is not what it should be, for every command there is: refused,
// swallowed with or without its data, behind a goodbye, behind junk.
func TestAnswer_of_every_command_goes_wrong_once(t *testing.T) {
	ways := []struct {
		name string
		act  imaptest.Act
	}{
		{"no", imaptest.Act{Instead: true, Send: "{tag} NO [UNAVAILABLE] not now\r\n"}},
		{"bad", imaptest.Act{Instead: true, Send: "{tag} BAD what?\r\n"}},
		{"bye", imaptest.Act{Instead: true, Send: "* BYE going down\r\n", Drop: true}},
		{"untagged", imaptest.Act{Untag: true}},
		{"swallowed", imaptest.Act{Swallow: true}},
		{"ended", imaptest.Act{Drop: true}},
		{"junk", imaptest.Act{Send: "* XYZZY (a {3}\r\nb)c \"d\r\n\r\n* 7 FETCH (UID NIL BODY (\r\nZ9 OK never\r\n* LIST\r\n* 4294967296 EXISTS\r\n"}},
	}
	for _, dialect := range []imaptest.Dialect{imaptest.T1(), imaptest.T3()} {
		commands := 0
		count := func(m *imaptest.Model, do func(n int) imaptest.Act) {
			var mu sync.Mutex
			n := 0
			m.Hook(func(imaptest.ModelCommand) imaptest.Act {
				mu.Lock()
				defer mu.Unlock()
				n++
				return do(n)
			})
		}
		modelled(t, dialect, func(d *den, u *imaptest.ModelUser, k *knife) {
			count(k.model, func(n int) imaptest.Act { commands = n; return imaptest.Act{} })
			d.thirty(u)
		})
		for _, way := range ways {
			for _, at := range points(commands, max(commands/3, 1)) {
				t.Run(fmt.Sprintf("%s/%s/command=%d", dialect.Name, way.name, at), func(t *testing.T) {
					modelled(t, dialect, func(d *den, u *imaptest.ModelUser, k *knife) {
						count(k.model, func(n int) imaptest.Act {
							if n == at {
								return way.act
							}
							return imaptest.Act{}
						})
						d.thirty(u)
						d.settle()
					})
				})
			}
		}
	}
}
