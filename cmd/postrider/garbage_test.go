package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/imapsync/imaptest"
)

// hostilePeer is a mail server that does to every connection what talk says, and notes
// what it was told.
type hostilePeer struct {
	port int

	mu    sync.Mutex
	heard []string
}

func newHostilePeer(t testing.TB, talk func(*hostilePeer, net.Conn)) *hostilePeer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &hostilePeer{port: ln.Addr().(*net.TCPAddr).Port}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return // closed below
			}
			wg.Go(func() {
				done := make(chan struct{})
				defer close(done)
				wg.Go(func() { // ends talk with the test
					select {
					case <-stop:
					case <-done:
					}
					_ = c.Close()
				})
				talk(p, c)
			})
		}
	})
	t.Cleanup(func() {
		close(stop)
		_ = ln.Close()
		wg.Wait()
	})
	return p
}

func (p *hostilePeer) note(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = append(p.heard, line)
}

func (p *hostilePeer) lines() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.heard)
}

// server is where an account finds it.
func (p *hostilePeer) server() imaptest.Server {
	return imaptest.Server{Host: "127.0.0.1", Port: p.port, User: "u", Pass: "p"}
}

func saysNothing(_ *hostilePeer, c net.Conn) { _, _ = io.Copy(io.Discard, c) }

func saysNoise(_ *hostilePeer, c net.Conn) {
	noise := rand.NewChaCha8([32]byte{1})
	b := make([]byte, 32<<10)
	for {
		_, _ = noise.Read(b) // never fails
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}

func saysHTTP(_ *hostilePeer, c net.Conn) {
	_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
}

// saysLists logs everybody in, answers LIST with lines, and whatever else with OK.
func saysLists(lines string) func(*hostilePeer, net.Conn) {
	return func(p *hostilePeer, c net.Conn) {
		br := bufio.NewReader(c)
		_, err := io.WriteString(c, "* OK ready\r\n")
		for err == nil {
			var line string
			if line, err = br.ReadString('\n'); err != nil {
				return
			}
			p.note(strings.TrimRight(line, "\r\n"))
			tag, rest, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
			if open := strings.LastIndex(rest, "{"); open >= 0 && strings.HasSuffix(rest, "}") {
				n, bad := strconv.Atoi(strings.Trim(rest[open:], "{+}"))
				if bad != nil {
					return
				}
				if _, err = io.WriteString(c, "+ go\r\n"); err == nil {
					_, err = io.CopyN(io.Discard, br, int64(n))
				}
				if err == nil {
					_, err = br.ReadString('\n')
				}
				if err != nil {
					return
				}
			}
			answer := tag + " OK done\r\n"
			switch verb, _, _ := strings.Cut(rest, " "); strings.ToUpper(verb) {
			case "CAPABILITY":
				answer = "* CAPABILITY IMAP4rev1\r\n" + answer
			case "LIST":
				answer = lines + answer
			case "STATUS", "EXAMINE", "SELECT":
				answer = tag + " NO no such folder\r\n"
			}
			_, err = io.WriteString(c, answer)
		}
	}
}

// hostileNames are folder names that a server gives to harm whoever repeats them.
func hostileNames() []string {
	return []string{
		`quo"te`, `back\slash`, "star*", "perc%ent", "(paren)", "{5}", " lead", "trail ", "NIL", "&", `""`,
		"caf\u00e9", "\U0001F4EC", "deep/deeper/deepest", strings.Repeat("long", 40), "${HOME}", "<b>&amp;", "a'b;c",
	}
}

// TestGarbage: beside accounts whose servers say nothing, nonsense or hostile names, an
// account on a sound server is served as if it were alone, and each of the others says
// what is wrong with it.
func TestGarbage(t *testing.T) {
	t.Parallel()
	dov := imaptest.StartDovecot(t)
	hook := newReceiver(t)
	good, names := dov.User("good", "right"), dov.User("names", "right")
	for _, n := range hostileNames() {
		if err := names.CreateFolder(t.Context(), n); err != nil {
			t.Fatalf("create %q: %v", n, err)
		}
	}
	s := startServe(t, loopbackEnv("POSTRIDER_SYNC_PROBE_INTERVAL=1s"))
	s.register("good", good.Server(), hook.URL)
	s.awaitEvent("good", "accountInitialized", 30*time.Second)
	alone := messageLatencies(t, good, hook, "alone", 10)

	injected := newHostilePeer(t, saysLists(strings.Join([]string{
		`* LIST () "/" "INBOX"`, `* LIST () "/" {17}` + "\r\nx\r\nEVIL DELETE x\r\n", `* LIST () "/" "bad&utf"`, `* LIST () "/" "bad&AGE-x"`,
		`* LIST () "/" "../../etc/passwd"`, `* LIST () "/" "` + strings.Repeat("y", 5000) + `"`, "* LIST () \"/\" \"raw\xff\xfe\"", `* LIST () NIL ""`, "",
	}, "\r\n")))
	broken := map[string]*hostilePeer{"noise": newHostilePeer(t, saysNoise), "http": newHostilePeer(t, saysHTTP), "silent": newHostilePeer(t, saysNothing)}
	for id, peer := range broken {
		s.register(id, peer.server(), hook.URL)
	}
	s.register("injected", injected.server(), hook.URL)
	s.register("names", names.Server(), hook.URL)
	s.awaitEvent("names", "accountInitialized", 30*time.Second)
	eventually(t, 30*time.Second, "the list of hostile names was read", func() bool {
		return slices.ContainsFunc(injected.lines(), func(l string) bool { return strings.Contains(l, " LIST ") })
	})

	t.Run("the sound account is as fast as alone", func(t *testing.T) {
		beside := messageLatencies(t, good, hook, "beside", 20)
		t.Logf("latency alone %v, beside %v", alone, beside)
		if most := max(time.Second, 5*alone); beside > most {
			t.Errorf("a message took %v in the middle, alone %v", beside, alone)
		}
		if got := s.health("good"); got.Health != "ok" || got.LastError != nil {
			t.Errorf("%+v", got)
		}
	})
	t.Run("mail in folders of hostile names is announced under those names", func(t *testing.T) {
		for _, n := range hostileNames() {
			if _, err := names.Append(t.Context(), n, imaptest.Message("x", "in@"+strconv.Quote(n)), nil, time.Now()); err != nil {
				t.Fatalf("append to %q: %v", n, err)
			}
		}
		var missing []string
		eventually(t, 45*time.Second, "a messageNew of every folder", func() bool {
			missing = hostileNames()
			for _, e := range s.journal("names") {
				if e.Event == "messageNew" {
					missing = slices.DeleteFunc(missing, func(n string) bool { return n == e.Path })
				}
			}
			return len(missing) == 0
		})
	})
	t.Run("no name becomes a command", func(t *testing.T) {
		for _, l := range injected.lines() {
			if strings.HasPrefix(l, "EVIL") {
				t.Errorf("said %q", l)
			}
		}
		if got := s.health("injected"); got.LastError != nil && got.LastError.Kind == "internal" {
			t.Errorf("%+v", got.LastError)
		}
	})
	t.Run("each broken server is named as what it is", func(t *testing.T) {
		for id := range broken {
			s.checkNamed(id, "serverDown", "greeting")
		}
	})
	t.Run("the program is unharmed", func(t *testing.T) {
		if strings.Contains(s.Output(), "panic") {
			t.Errorf("a panic:\n%s", s.Output())
		}
		if status := get(t, s.URL+"/readyz", ""); status != http.StatusOK {
			t.Errorf("/readyz: %d", status)
		}
	})
}

// messageLatencies is the middle of the times from an APPEND to its webhook.
func messageLatencies(t *testing.T, box *imaptest.DovecotUser, hook *receiver, name string, n int) time.Duration {
	t.Helper()
	var took []time.Duration
	for i := range n {
		id := fmt.Sprintf("%s-%d@x", name, i)
		began := time.Now()
		if _, err := box.Append(t.Context(), "INBOX", imaptest.Message(id, id), nil, began); err != nil {
			t.Fatal(err)
		}
		eventually(t, 15*time.Second, "the webhook of "+id, func() bool {
			for _, a := range hook.all() {
				if a.event.Event == "messageNew" && strings.Contains(string(a.event.Data), id) {
					took = append(took, a.at.Sub(began))
					return true
				}
			}
			return false
		})
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// accountHealth is what an account says of itself.
type accountHealth struct {
	State, Health string
	LastError     *struct{ Kind, Class, Response string }
}

func (s *served) health(id string) accountHealth {
	s.t.Helper()
	var got accountHealth
	s.Call("GET", "/v1/account/"+id, nil, &got)
	return got
}

// checkNamed waits until an account names its error, and until the error is told as an
// event of the same class.
func (s *served) checkNamed(id, kind, class string) {
	s.t.Helper()
	var got accountHealth
	eventually(s.t, 60*time.Second, "the error of "+id, func() bool {
		got = s.health(id)
		return got.LastError != nil
	})
	if e := got.LastError; e.Kind != kind || e.Class != class || e.Response == "" || got.Health == "ok" {
		s.t.Errorf("%s: %+v, last error %+v, want %s of class %s", id, got, *e, kind, class)
	}
	told := s.awaitEvent(id, "connectError", 60*time.Second)
	var d struct{ Class string }
	if err := json.Unmarshal(told.Data, &d); err != nil || d.Class != class {
		s.t.Errorf("%s: connectError says %s: %v", id, told.Data, err)
	}
}
