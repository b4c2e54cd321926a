package imapsync_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/imapsync"
	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/store/storetest"
)

// peer is a real server that can be stopped and started.
type peer interface {
	Stop()
	Start()
}

// eachReal runs a scenario on every real server.
func eachReal(t *testing.T, f func(t *testing.T, srv peer, r *rig)) {
	each := func(name string, start func(t *testing.T) (peer, imaptest.Mailbox)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv, box := start(t)
			f(t, srv, newRig(t, storetest.Miniredis(t), box))
		})
	}
	each("dovecot", func(t *testing.T) (peer, imaptest.Mailbox) {
		s := imaptest.StartDovecot(t)
		return s, s.User("jo", "secret")
	})
	each("cyrus", func(t *testing.T) (peer, imaptest.Mailbox) {
		s := imaptest.StartCyrus(t)
		return s, s.User("jo", "secret")
	})
	each("courier", func(t *testing.T) (peer, imaptest.Mailbox) {
		s := imaptest.StartCourier(t)
		return s, s.User("jo", "secret")
	})
}

func TestEngine_survives_a_server_restart(t *testing.T) {
	eachReal(t, func(t *testing.T, srv peer, r *rig) {
		r.register(time.Time{})
		r.up()
		r.expect(firstLines()...)
		srv.Stop()
		r.until(events.ConnectErrorType)
		srv.Start()
		r.put("INBOX", "after@x")
		r.expect("authenticationSuccess", "messageNew INBOX after@x new")
		r.check()
	})
}

// Courier counts what it refuses, and hangs up on who goes on: it must not be asked for
// anything that it does not advertise.
func TestEngine_says_nothing_that_Courier_refuses(t *testing.T) {
	t.Parallel()
	r := newRig(t, storetest.Miniredis(t), imaptest.StartCourier(t).User("jo", "secret"))
	var mu sync.Mutex
	var heard bytes.Buffer
	r.dialer = imapsync.NewDialer(imapsync.DialerOptions{
		AllowPlaintext: true,
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			return &tee{Conn: c, mu: &mu, to: &heard}, err
		},
	})
	r.begin()
	uid := r.put("INBOX", "one@x")
	r.put("Archive", "two@x")
	r.expect("messageNew INBOX one@x new", "messageNew Archive two@x new")
	r.ok(r.box.Expunge(t.Context(), "INBOX", uid))
	r.expect("messageDeleted INBOX")
	r.down()
	mu.Lock()
	defer mu.Unlock()
	if !bytes.Contains(heard.Bytes(), []byte(" OK IDLE")) {
		t.Fatalf("the server said:\n%s", heard.Bytes())
	}
	if no := regexp.MustCompile(`(?m)^A\d+ (NO|BAD) .*`).FindAll(heard.Bytes(), -1); no != nil {
		t.Errorf("refused: %q", no)
	}
}

// tee keeps what is read.
type tee struct {
	net.Conn
	mu *sync.Mutex
	to *bytes.Buffer
}

func (c *tee) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	c.to.Write(b[:n])
	c.mu.Unlock()
	return n, err
}

// A Cyrus that has cleaned up names as vanished whatever is not there, of what went in
// one's absence or long before.
func TestEngine_Cyrus_without_history(t *testing.T) {
	t.Parallel()
	srv := imaptest.StartCyrus(t)
	r := newRig(t, storetest.Miniredis(t), srv.User("jo", "secret"))
	r.begin()
	var want []string
	for i := range 6 {
		id := fmt.Sprintf("m%d@x", i+1)
		r.put("INBOX", id)
		want = append(want, "messageNew INBOX "+id+" new")
	}
	r.expect(want...)
	r.ok(r.box.Expunge(t.Context(), "INBOX", 2, 3))
	r.expect("messageDeleted INBOX", "messageDeleted INBOX")
	r.down()
	r.ok(r.box.Expunge(t.Context(), "INBOX", 5))
	r.put("INBOX", "down@x")
	r.ok(srv.Forget())
	r.up()
	r.expect("messageDeleted INBOX", "messageNew INBOX down@x new")
	r.check()
}

// A flush announces again what it is asked to, and what happens then is seen as ever.
func TestEngine_flush_on_Dovecot(t *testing.T) {
	t.Parallel()
	r := newRig(t, storetest.Miniredis(t), imaptest.StartDovecot(t).User("jo", "secret"))
	_, err := r.box.Append(t.Context(), "INBOX", imaptest.Message("old@x", "old@x"), nil, time.Now().Add(-48*time.Hour))
	r.ok(err)
	r.begin()
	uid := r.put("Archive", "one@x")
	r.expect("messageNew Archive one@x new")
	_, err = r.st.FlushAccount(t.Context(), r.id, time.Now().Add(-time.Hour))
	r.ok(err)
	again := slices.DeleteFunc(firstLines(), func(l string) bool { return !strings.HasPrefix(l, "mailboxNew") })
	r.expect(append(again, "messageNew Archive one@x backfill", "accountInitialized flush")...)
	r.put("INBOX", "two@x")
	r.ok(r.box.Expunge(t.Context(), "Archive", uid))
	r.expect("messageNew INBOX two@x new", "messageDeleted Archive")
	r.check()
}
