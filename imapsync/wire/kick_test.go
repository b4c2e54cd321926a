package wire_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/imapsync/wire"
)

// scripted logs in to a scripted server and opens INBOX of three messages.
func scripted(t *testing.T, steps ...imaptest.Step) *wire.Conn {
	t.Helper()
	steps = append([]imaptest.Step{
		imaptest.LoggedIn("IDLE"),
		imaptest.Answer("EXAMINE", "* 3 EXISTS\r\n* OK [UIDVALIDITY 7]\r\n"),
	}, steps...)
	script := imaptest.NewScript(t, steps...)
	c, err := wire.Dial(t.Context(), wire.Options{Host: "imap.example.com", Port: 143, Security: wire.Plaintext, Dial: script.Dial, Auth: wire.Credentials{User: "jo", Pass: "x"}})
	ok(t, err)
	t.Cleanup(func() { c.Close(); script.Close() })
	must[wire.Folder](t)(c.Examine(t.Context(), "INBOX", wire.SelectOptions{}))
	return c
}

func kind(err error) wire.Kind {
	e, ok := errors.AsType[*wire.Error](err)
	if !ok {
		return ""
	}
	return e.Kind
}

func TestKick(t *testing.T) {
	send, expect := imaptest.Send, imaptest.Expect
	synctest.Test(t, func(t *testing.T) {
		c := scripted(t,
			expect("IDLE"), send("+ idling\r\n"), expect("DONE"), send("A5 OK\r\n"),
			expect("IDLE"), send("+ idling\r\n* 4 EX"), func(turn *imaptest.Turn) error {
				time.Sleep(10 * time.Second) // in a bubble: a kick comes while half a response is there
				return send("ISTS\r\n")(turn)
			}, expect("DONE"), send("A6 OK\r\n"),
			imaptest.Answer("NOOP"), imaptest.Silence())
		time.AfterFunc(time.Minute, c.Kick)
		begin := time.Now()
		if by := c.SpeakBy(); !by.IsZero() {
			t.Errorf("speak by %v between commands", by)
		}
		end, err := c.Idle(t.Context(), time.Hour)
		if err != nil || end != wire.EndKicked || time.Since(begin) != time.Minute {
			t.Errorf("idle: %q, %v after %v", end, err, time.Since(begin))
		}
		time.AfterFunc(time.Second, c.Kick)
		end, err = c.Idle(t.Context(), time.Hour)
		if err != nil || end != wire.EndChanged && end != wire.EndKicked || c.Exists() != 4 {
			t.Errorf("idle kicked in a response: %q, %v, exists %d", end, err, c.Exists())
		}
		ok(t, c.Noop(t.Context()))
		c.Changes()
		c.Kick() // none running: the next one ends at once, before a byte is sent
		if end, err := c.Idle(t.Context(), time.Hour); err != nil || end != wire.EndKicked {
			t.Errorf("idle behind a kick: %q, %v", end, err)
		}
	})
}

// TestCloseAndKickByOthers: they may come at any time, and never block.
func TestCloseAndKickByOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := scripted(t, imaptest.Expect("FETCH"), imaptest.Send("* 1 FETCH (UID 1 BODY[] {100}\r\nabc"), imaptest.Silence())
		var wg sync.WaitGroup
		var err error
		wg.Go(func() {
			_, err = c.Fetch(t.Context(), set(1, 3), []wire.Item{wire.ItemUID, wire.Body("", 0, 0)}, wire.FetchOptions{}, func(*wire.Message) error { return nil })
		})
		synctest.Wait()
		if by := time.Until(c.SpeakBy()); by <= 0 || by > 71*time.Second {
			t.Errorf("speak by in %v", by)
		}
		begin := time.Now()
		for range 3 {
			wg.Go(c.Kick)
			wg.Go(c.Close)
			wg.Go(func() { _, _, _ = c.SpeakBy(), c.LastProof(), c.LastHeard() })
		}
		wg.Wait()
		if !errors.Is(err, wire.ErrClosed) || kind(err) != wire.Closed || time.Since(begin) > 0 {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		if _, err := c.Idle(t.Context(), time.Hour); kind(err) != wire.Closed || !c.SpeakBy().IsZero() {
			t.Errorf("idle behind close: %v", err)
		}
	})
}

func TestContextEndsCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := scripted(t, imaptest.Expect("NOOP"), imaptest.Silence())
		why := errors.New("lease lost")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(why) })
		if err := c.Noop(ctx); !errors.Is(err, why) || kind(err) != wire.Closed {
			t.Errorf("noop: %v", err)
		}
	})
}

// TestProofOfLife: what is unasked proves nothing, an answer does.
func TestProofOfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pause := func(*imaptest.Turn) error { time.Sleep(time.Minute); return nil } // in a bubble
		c := scripted(t, imaptest.Expect("IDLE"), imaptest.Send("+ idling\r\n"), pause, imaptest.Send("* OK Still here\r\n"),
			imaptest.Expect("DONE"), pause, imaptest.Send("A5 OK\r\n"), imaptest.Silence())
		begin := time.Now()
		wait := make(chan struct{})
		go func() {
			defer close(wait)
			_, _ = c.Idle(t.Context(), 3*time.Minute)
		}()
		time.Sleep(2 * time.Minute)
		if d := c.LastProof().Sub(begin); d != 0 || c.LastHeard().Sub(begin) != time.Minute {
			t.Errorf("proof after %v, heard after %v", d, c.LastHeard().Sub(begin))
		}
		<-wait
		// DONE is answered a minute late: past its deadline.
		if c.Err() == nil || time.Since(begin) != 3*time.Minute+20*time.Second {
			t.Errorf("%v after %v", c.Err(), time.Since(begin))
		}
	})
}

// TestGivenUp: a caller who gives up leaves a connection that works, where the rest is
// short, and none where it is not.
func TestGivenUp(t *testing.T) {
	boom := errors.New("boom")
	body := func(n int) imaptest.Step {
		return imaptest.All(imaptest.Send("* 1 FETCH (UID 1 BODY[] {"+strconv.Itoa(n)+"}\r\n"), imaptest.Repeat("x", n), imaptest.Send(")\r\n"))
	}
	synctest.Test(t, func(t *testing.T) {
		expect, done := imaptest.Expect("FETCH"), imaptest.Send("{tag} OK\r\n")
		c := scripted(t, expect, body(10), body(500_000), done, expect, body(3<<20), done, expect, body(10), body(3<<20), done, imaptest.Silence())
		item := wire.Body("", 0, 0)
		fetch := func(stop error) (int, error) {
			n := 0
			o := wire.FetchOptions{Stream: func(_ imap.UID, _ wire.Item, _ int64, r io.Reader) error {
				if stop != nil {
					return stop
				}
				m, err := io.Copy(io.Discard, r)
				n += int(m)
				return err
			}}
			_, err := c.Fetch(t.Context(), set(1, 1), []wire.Item{wire.ItemUID, item}, o, func(*wire.Message) error { return nil })
			return n, err
		}
		if _, err := fetch(boom); !errors.Is(err, boom) || c.Err() != nil {
			t.Errorf("given up: %v, connection: %v", err, c.Err())
		}
		if n, err := fetch(nil); err != nil || n != 3<<20 {
			t.Errorf("behind it: %d bytes, %v", n, err)
		}
		if _, err := fetch(boom); !errors.Is(err, boom) || c.Err() == nil {
			t.Errorf("given up too much: %v, connection: %v", err, c.Err())
		}
	})
}

// TestLongSetsAreSplit: no command is longer than servers take.
func TestLongSetsAreSplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var long imap.UIDSet
		for i := range 1000 {
			long = append(long, imap.UIDRange{Start: imap.UID(1_000_000_000 + i*10), Stop: imap.UID(1_000_000_005 + i*10)})
		}
		script := imaptest.NewScript(t, imaptest.LoggedIn(""), imaptest.Answer("EXAMINE", "* 3 EXISTS\r\n"),
			imaptest.Answer("UID FETCH"), imaptest.Answer("UID FETCH"), imaptest.Answer("UID FETCH"), imaptest.Answer("UID FETCH"), imaptest.Silence())
		defer script.Close()
		c, err := wire.Dial(t.Context(), wire.Options{Host: "x", Port: 1, Security: wire.Plaintext, Dial: script.Dial, Auth: wire.Credentials{User: "jo", Pass: "x"}})
		ok(t, err)
		defer c.Close()
		must[wire.Folder](t)(c.Examine(t.Context(), "INBOX", wire.SelectOptions{}))
		_, err = c.Fetch(t.Context(), long, []wire.Item{wire.ItemUID}, wire.FetchOptions{}, func(*wire.Message) error { return nil })
		ok(t, err)
		ranges := 0
		for _, l := range script.Heard() {
			if len(l) > 8<<10 {
				t.Errorf("command of %d bytes", len(l))
			}
			if strings.Contains(l, "UID FETCH") {
				ranges += strings.Count(l, ",") + 1
			}
		}
		if ranges != len(long) {
			t.Errorf("%d ranges were asked for, want %d", ranges, len(long))
		}
	})
}

func TestTraceIsMasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		var lines []string
		done := make(chan struct{})
		go func() {
			defer close(done)
			srv := &oddServer{t: t, c: theirs, br: newReader(theirs)}
			srv.play([]string{
				"S: * OK hi", "C: CAPABILITY", "S: * CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR", "S: {tag} OK", "C: AUTHENTICATE", "S: {tag} BAD no, not hunter2 nor AGpvAGh1bnRlcjI=",
				"C: LOGIN", "S: {tag} OK [CAPABILITY IMAP4rev1 LITERAL+] in", "C: EXAMINE", "C: ", "S: * 1 EXISTS", "S: A4 OK",
				"C: UID FETCH", `S: * 1 FETCH (UID 1 ENVELOPE (NIL "secret subject" NIL NIL NIL NIL NIL NIL NIL "<id@x>"))`, `R: "* 1 FETCH (BODY[] {11}\r\nsecret body)\r\n"`, `S: * 2 FETCH (BODY[1]<0> "secret text")`, "S: {tag} OK", "@silence",
			})
		}()
		c, err := wire.Dial(t.Context(), wire.Options{
			Host: "x", Port: 1, Security: wire.Plaintext, Auth: wire.Credentials{User: "jo", Pass: "hunter2"},
			Dial:  func(context.Context, string, string) (net.Conn, error) { return ours, nil },
			Trace: func(d wire.Direction, line string) { lines = append(lines, string(rune(d))+": "+line) },
		})
		ok(t, err)
		must[wire.Folder](t)(c.Examine(t.Context(), "gr\u00fcn", wire.SelectOptions{}))
		_, err = c.Fetch(t.Context(), set(1, 1), []wire.Item{wire.ItemUID, wire.ItemEnvelope}, wire.FetchOptions{}, func(*wire.Message) error { return nil })
		ok(t, err)
		c.Close()
		<-done
		all := strings.Join(lines, "\n")
		for _, secret := range []string{"hunter2", "aHVudGVy", "amo", "jo", "secret", "id@x"} {
			if strings.Contains(all, secret) {
				t.Errorf("%q is told:\n%s", secret, all)
			}
		}
		for _, want := range []string{"C: A2 AUTHENTICATE PLAIN ***", "C: A3 LOGIN ***", "S: * CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR", "C: A4 EXAMINE {5 bytes}", "BODY[] {11 bytes})"} {
			if !strings.Contains(all, want) {
				t.Errorf("%q is missing:\n%s", want, all)
			}
		}
	})
}

// Some servers repeat in a refusal what they refuse.
func TestRefusalIsMasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			srv := &oddServer{t: t, c: theirs, br: newReader(theirs)}
			srv.play([]string{
				"S: * OK hi", "C: CAPABILITY", "S: * CAPABILITY IMAP4rev1", "S: {tag} OK", "C: LOGIN", `S: {tag} NO [AUTHENTICATIONFAILED] LOGIN jo "hunter2" (aHVudGVyMg==) failed`, "@silence",
			})
		}()
		_, err := wire.Dial(t.Context(), wire.Options{
			Host: "x", Port: 1, Security: wire.Plaintext, Auth: wire.Credentials{User: "jo", Pass: "hunter2"},
			Dial: func(context.Context, string, string) (net.Conn, error) { return ours, nil },
		})
		<-done
		if err == nil || !strings.Contains(err.Error(), `LOGIN jo "***" (***) failed`) {
			t.Errorf("%v", err)
		}
	})
}

// babble is a server that, in IDLE, says one thing after another without end: no read ends
// where a response does. In a bubble each read takes a millisecond.
type babble struct {
	net.Conn // not used: its address and deadlines are nobody's matter
	say      []byte
	idle     string // tag
	reads    int
	heard    func(reads int)
}

func (b *babble) Read(p []byte) (int, error) {
	time.Sleep(time.Millisecond)
	if b.idle != "" {
		if b.reads++; b.reads > 3000 {
			return 0, io.EOF
		}
		b.heard(b.reads)
		for len(b.say) <= len(p) {
			b.say = append(b.say, "* OK Still"+strings.Repeat(" here", 500)+"\r\n"...)
		}
	}
	n := copy(p, b.say)
	if b.idle != "" && p[n-1] == '\n' {
		n--
	}
	b.say = b.say[n:]
	return n, nil
}

func (b *babble) Write(p []byte) (int, error) {
	tag, verb, _ := strings.Cut(strings.TrimSpace(string(p)), " ")
	switch {
	case tag == "DONE":
		b.say, b.idle = append(b.say, "\r\n"+b.idle+" OK\r\n"...), ""
	case verb == "IDLE":
		b.say, b.idle = append(b.say, "+\r\n* OK "...), tag
	default:
		b.say = append(b.say, "* CAPABILITY IMAP4rev1 IDLE\r\n"+tag+" OK\r\n"...)
	}
	return len(p), nil
}

func (*babble) Close() error                     { return nil }
func (*babble) SetDeadline(time.Time) error      { return nil }
func (*babble) SetReadDeadline(time.Time) error  { return nil }
func (*babble) SetWriteDeadline(time.Time) error { return nil }

// A server that never stops talking keeps IDLE from ending neither by a kick nor by time.
func TestIdle_ends_while_the_server_talks(t *testing.T) {
	for name, end := range map[string]wire.End{"kick": wire.EndKicked, "time": wire.EndTime} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &babble{say: []byte("* PREAUTH [CAPABILITY IMAP4rev1 IDLE] hi\r\n")}
				c := must[*wire.Conn](t)(wire.Dial(t.Context(), wire.Options{
					Host: "x", Port: 1, Security: wire.Plaintext,
					Dial: func(context.Context, string, string) (net.Conn, error) { return b, nil },
				}))
				limit := time.Second
				b.heard = func(reads int) {
					if reads == 500 && end == wire.EndKicked {
						c.Kick()
					}
				}
				got, err := c.Idle(t.Context(), limit)
				if err != nil || got != end || b.reads > 1010 || end == wire.EndKicked && b.reads > 510 {
					t.Errorf("%q, %v, after %d reads", got, err, b.reads)
				}
				ok(t, c.Noop(t.Context()))
				c.Close()
			})
		})
	}
}

// What is kept of a LIST has a bound, by number and by size; the rest makes it incomplete.
func TestList_keeps_no_answer_without_end(t *testing.T) {
	long := strings.Repeat("x", 8000)
	for name, c := range map[string]struct {
		lines      int
		line       string
		least, top int
	}{
		"many": {20_010, `* LIST () "/" f`, 20_000, 20_000},
		"long": {2500, `* LIST () "/" ` + long, 1900, 2100},
	} {
		synctest.Test(t, func(t *testing.T) {
			var b strings.Builder
			for i := range c.lines {
				b.WriteString(c.line + strconv.Itoa(i) + "\r\n")
			}
			conn := scripted(t, imaptest.Answer("LIST", b.String()), imaptest.Answer("NOOP"), imaptest.Silence())
			listed, _, res, err := conn.List(t.Context(), "", "*", wire.ListOptions{})
			if err != nil || len(listed) < c.least || len(listed) > c.top || res.Damaged != c.lines-len(listed) {
				t.Errorf("%s: %d folders, %d left out, %v", name, len(listed), res.Damaged, err)
			}
			ok(t, conn.Noop(t.Context()))
		})
	}
}
