package imaptest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestRelay(t *testing.T) {
	m := StartModel(t, T3())
	u := m.User("jo", "secret")
	if _, _, err := u.Fill(t.Context(), "INBOX", Filling{Messages: 2}); err != nil {
		t.Fatal(err)
	}
	r := NewRelay(t, u.Server())
	dial := func(t *testing.T, f Fault) *talk {
		t.Helper()
		r.Set(f)
		c, err := r.Dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		return &talk{t: t, c: c, br: bufio.NewReader(c)}
	}
	rest := func(k *talk, within time.Duration) (string, error) {
		_ = k.c.SetReadDeadline(time.Now().Add(within))
		b, err := io.ReadAll(k.br)
		return string(b), err
	}
	const whole = "* 1 FETCH (UID 1 BODY[] {"
	fetch := func(k *talk) {
		k.line()
		k.do("LOGIN jo secret")
		k.do("EXAMINE INBOX")
		k.send("F UID FETCH 1 (BODY.PEEK[])\r\n")
	}
	t.Run("clean", func(t *testing.T) {
		k := dial(t, Fault{Chunk: 3, SplitCRLF: true, Latency: time.Millisecond})
		fetch(k)
		if l := k.line(); !strings.HasPrefix(l, whole) {
			t.Errorf("%q", l)
		}
		k.do("LOGOUT")
		if _, err := rest(k, 5*time.Second); err != nil {
			t.Errorf("after LOGOUT: %v", err)
		}
	})
	t.Run("rate", func(t *testing.T) {
		begin := time.Now()
		k := dial(t, Fault{Rate: 5000})
		n := len(k.line()) + 2
		if least := time.Duration(n) * time.Second / 5000; time.Since(begin) < least {
			t.Errorf("%d bytes in %s", n, time.Since(begin))
		}
	})
	t.Run("cut", func(t *testing.T) {
		k := dial(t, Fault{CutToClient: 10})
		if s, err := rest(k, 5*time.Second); s != "* OK [CAPA" || err != nil {
			t.Errorf("%q, %v", s, err)
		}
		k = dial(t, Fault{CutToServer: 4})
		k.line()
		k.send("A NOOP\r\n")
		if s, err := rest(k, 5*time.Second); s != "" || err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%q, %v", s, err)
		}
		k = dial(t, Fault{})
		k.line()
		r.Cut(CutReset)
		if s, err := rest(k, 5*time.Second); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%q, %v", s, err)
		}
	})
	t.Run("half_open", func(t *testing.T) {
		k := dial(t, Fault{})
		k.line()
		r.Cut(CutHalfOpen)
		k.send("A NOOP\r\n")
		s, err := rest(k, 30*time.Millisecond)
		if ne := net.Error(nil); s != "" || !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("%q, %v", s, err)
		}
	})
	t.Run("stall", func(t *testing.T) {
		raw := string(synthetic(1<<32|1, Date.Unix()))
		begin := fmt.Sprintf("%s%d}\r\n", whole, len(raw))
		for place, want := range map[Place]string{
			BeforeResponse: "",
			MidLine:        begin[:len(begin)/2],
			BeforeLiteral:  begin,
			InLiteral:      begin + raw[:len(raw)/2],
			BehindLiteral:  begin + raw,
		} {
			k := dial(t, Fault{Stall: place, StallAt: 11})
			fetch(k)
			if s, err := rest(k, 30*time.Millisecond); s != want || err == nil {
				t.Errorf("place %d: %q, %v", place, s, err)
			}
		}
	})
	t.Run("swallow_and_inject", func(t *testing.T) {
		k := dial(t, Fault{SwallowTag: "CREATE", Inject: "{tag} BAD junk\r\n", InjectAt: 2})
		k.line()
		k.says("LOGIN jo secret", "BAD")
		k.line() // its own answer
		k.send("C CREATE Made\r\n")
		if s, err := rest(k, 30*time.Millisecond); s != "" || err == nil {
			t.Errorf("%q, %v", s, err)
		}
		truth, err := u.Truth(context.Background())
		if _, ok := truth["Made"]; !ok || err != nil {
			t.Errorf("%v, %v", truth, err)
		}
		k = dial(t, Fault{Inject: "* BYE go away\r\n", InjectAt: 1, InjectEnds: true})
		if s, err := rest(k, 5*time.Second); s != "* BYE go away\r\n" || err != nil {
			t.Errorf("%q, %v", s, err)
		}
	})
	if r.Connections() == 0 || r.Bytes(ToClient) == 0 || r.Bytes(ToServer) == 0 {
		t.Errorf("%d connections, %d bytes, %d bytes", r.Connections(), r.Bytes(ToClient), r.Bytes(ToServer))
	}
}
