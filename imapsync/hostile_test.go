package imapsync

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/imapsync/wire"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/secret"
)

// dialScript logs in to a scripted server over a pipe.
func dialScript(t *testing.T, change func(*store.Server), steps ...imaptest.Step) (*imaptest.Script, Session, error) {
	t.Helper()
	script := imaptest.NewScript(t, steps...)
	d := NewDialer(DialerOptions{Dial: script.Dial, AllowPlaintext: true})
	srv := store.Server{Host: "imap.example.com", Port: 143, User: "jo", Pass: secret.New("hunter2"), Plaintext: true}
	if change != nil {
		change(&srv)
	}
	s, err := d.Dial(t.Context(), srv)
	if err == nil {
		t.Cleanup(s.Close)
	}
	return script, s, err
}

// TestHostileLogin: servers that never let anybody in. Each ends by its deadline, on
// the fake clock, with an error that says what it was.
func TestHostileLogin(t *testing.T) {
	send, expect, answer, silence := imaptest.Send, imaptest.Expect, imaptest.Answer, imaptest.Silence
	caps := func(c string) imaptest.Step { return answer("CAPABILITY", "* CAPABILITY IMAP4rev1 "+c+"\r\n") }
	starttls := func(s *store.Server) { s.Plaintext = false }
	token := func(s *store.Server) { s.AccessToken = secret.New("tok3n") }
	for _, c := range []struct {
		name   string
		change func(*store.Server)
		steps  []imaptest.Step
		kind   ErrorKind
		fault  string
		class  string
		within time.Duration
		never  string // must not be said by us
	}{
		{"no greeting", nil, []imaptest.Step{silence()}, ErrTimeout, FaultServerDown, "greeting", 31 * time.Second, ""},
		{"closes at once", nil, nil, ErrClosed, FaultServerDown, "greeting", time.Second, ""},
		{"greets in another language", nil, []imaptest.Step{send("220 smtp.example.com ESMTP\r\n"), silence()}, ErrProtocol, FaultServerDown, "greeting", time.Second, ""},
		{"binary garbage", nil, []imaptest.Step{send("\x00\x01\xff\xfe\n"), silence()}, ErrProtocol, FaultServerDown, "greeting", time.Second, ""},
		{"endless greeting", nil, []imaptest.Step{imaptest.Repeat("x", 1<<30)}, ErrLimit, FaultServerDown, "greeting", time.Second, ""},
		{"greeting is BYE", nil, []imaptest.Step{send("* BYE [UNAVAILABLE] come back later\r\n")}, ErrBye, FaultServerDown, "greeting", time.Second, ""},
		{"greeting says too many", nil, []imaptest.Step{send("* BYE Too many connections from your address\r\n")}, ErrBye, FaultThrottled, "throttled", time.Second, ""},
		{"capability never answered", nil, []imaptest.Step{send("* OK hi\r\n"), expect("CAPABILITY"), silence()}, ErrTimeout, FaultSilent, "timeout", 61 * time.Second, "hunter2"},
		{"endless capability", nil, []imaptest.Step{send("* OK hi\r\n"), expect("CAPABILITY"), imaptest.Repeat("* CAPABILITY x\r\n", 1<<30)}, ErrLimit, FaultServerDown, "network", time.Second, "hunter2"},
		{"logindisabled", nil, []imaptest.Step{send("* OK hi\r\n"), caps("LOGINDISABLED AUTH=PLAIN"), silence()}, ErrConfig, FaultConfig, "blocked", time.Second, "hunter2"},
		{"wrong password", nil, []imaptest.Step{send("* OK hi\r\n"), caps(""), expect("LOGIN"), send("{tag} NO [AUTHENTICATIONFAILED] Invalid credentials\r\n"), silence()}, ErrNo, FaultAuthDead, "credentials", time.Second, ""},
		{"bye in answer to login", nil, []imaptest.Step{send("* OK hi\r\n"), caps(""), expect("LOGIN"), send("* BYE Too many invalid commands\r\n")}, ErrBye, FaultThrottled, "throttled", time.Second, ""},
		{"login never answered", nil, []imaptest.Step{send("* OK hi\r\n"), caps(""), expect("LOGIN"), silence()}, ErrTimeout, FaultSilent, "timeout", 61 * time.Second, ""},
		{"xoauth2 with a failing challenge", token, []imaptest.Step{send("* OK hi\r\n"), caps("AUTH=XOAUTH2 SASL-IR"), expect("AUTHENTICATE XOAUTH2 "), send("+ eyJzdGF0dXMiOiI0MDEifQ==\r\n"), expect(""), send("A2 NO [AUTHENTICATIONFAILED] Invalid credentials\r\n"), silence()}, ErrNo, FaultAuthDead, "credentials", time.Second, "hunter2"},
		{"oauthbearer with a failing challenge", token, []imaptest.Step{send("* OK hi\r\n"), caps("AUTH=OAUTHBEARER"), expect("AUTHENTICATE OAUTHBEARER"), send("+ \r\n"), expect(""), send("+ eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIn0=\r\n"), expect("AQ=="), send("A2 NO SASL authentication failed, invalid token\r\n"), silence()}, ErrNo, FaultAuthDead, "grant", time.Second, "hunter2"},
		{"no starttls", starttls, []imaptest.Step{send("* OK hi\r\n"), caps("AUTH=PLAIN"), silence()}, ErrTLS, FaultTLS, "tls", time.Second, "hunter2"},
		{"starttls injection", starttls, []imaptest.Step{send("* OK hi\r\n"), caps("STARTTLS"), expect("STARTTLS"), send("{tag} OK go\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n"), silence()}, ErrTLS, FaultTLS, "tls", time.Second, "hunter2"},
		{"starttls without a handshake", starttls, []imaptest.Step{send("* OK hi\r\n"), caps("STARTTLS"), expect("STARTTLS"), send("{tag} OK go\r\n"), silence()}, ErrTLS, FaultTLS, "tls", 11 * time.Second, "hunter2"},
		{"preauth before starttls", starttls, []imaptest.Step{send("* PREAUTH welcome\r\n"), silence()}, ErrTLS, FaultTLS, "tls", time.Second, "hunter2"},
		{"id with an endless literal", nil, []imaptest.Step{imaptest.LoggedIn("ID"), expect("ID"), send("* ID (\"name\" {9999999999}\r\n"), silence()}, ErrTimeout, FaultSilent, "timeout", 61 * time.Second, ""},
		{"id with a large literal", nil, []imaptest.Step{imaptest.LoggedIn("ID"), expect("ID"), send("* ID (\"name\" {99999999}\r\n"), silence()}, ErrTimeout, FaultSilent, "timeout", 61 * time.Second, ""},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				script, _, err := dialScript(t, c.change, c.steps...)
				t.Cleanup(script.Close)
				e, isE := errors.AsType[*Error](err)
				if !isE || e.Kind != c.kind {
					t.Fatalf("error %v, want kind %q", err, c.kind)
				}
				if f := Classify(err); f.Kind != c.fault || f.Class != c.class {
					t.Errorf("%v is %s/%s, want %s/%s", err, f.Kind, f.Class, c.fault, c.class)
				}
				if d := time.Since(begin); d > c.within {
					t.Errorf("took %v, want at most %v", d, c.within)
				}
				for _, l := range script.Heard() {
					if c.never != "" && (strings.Contains(l, c.never) || strings.Contains(l, base64.StdEncoding.EncodeToString([]byte("\x00jo\x00hunter2")))) {
						t.Errorf("said %q", l)
					}
				}
			})
		})
	}
}

// TestDiscreetLogin: what a server repeats of the password is not shown, and what stands in
// its words by chance decides nothing less.
func TestDiscreetLogin(t *testing.T) {
	send, expect, answer, silence := imaptest.Send, imaptest.Expect, imaptest.Answer, imaptest.Silence
	for _, c := range []struct{ pass, says, response, code, class string }{
		{"hunter2-x", "NO [AUTHENTICATIONFAILED] no aHVudGVyMi14 for jo", "no *** for jo", "AUTHENTICATIONFAILED", "credentials"},
		{"password1", "NO Wrong password", "Wrong ***", "", "credentials"},
		{"authentic", "NO [AUTHENTICATIONFAILED] Authentication failed", "*** failed", "AUTHENTICATIONFAILED", "credentials"},
		{"again-in-5", "NO try again in 5 minutes", "try *** in 5 minutes", "", "throttled"},
	} {
		synctest.Test(t, func(t *testing.T) {
			script, _, err := dialScript(t, func(s *store.Server) { s.Pass = secret.New(c.pass) },
				send("* OK hi\r\n"), answer("CAPABILITY", "* CAPABILITY IMAP4rev1\r\n"), expect("LOGIN"), send("{tag} "+c.says+"\r\n"), silence())
			t.Cleanup(script.Close)
			if f := Classify(err); f.Response != c.response || f.Code != c.code || f.Class != c.class || strings.Contains(err.Error(), c.pass) {
				t.Errorf("%s: %+v, %v", c.says, f, err)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		script, s, err := dialScript(t, nil, imaptest.LoggedIn("IDLE X-HUNTER2"))
		t.Cleanup(script.Close)
		if err != nil || !slices.Equal(s.Info().Capabilities, []string{"***", "IDLE", "IMAP4rev1"}) || !s.Info().Idle {
			t.Errorf("%v, %v", s.Info().Capabilities, err)
		}
	})
}

// TestOddLogin: servers that are strange and must be let in by.
func TestOddLogin(t *testing.T) {
	send, expect, answer := imaptest.Send, imaptest.Expect, imaptest.Answer
	for _, c := range []struct {
		name   string
		change func(*store.Server)
		steps  []imaptest.Step
	}{
		{"lower case greeting, spaces, odd capabilities", nil, []imaptest.Step{
			send("* ok\r\n"),
			answer("CAPABILITY", "* CAPABILITY  IMAP4rev1   IDLE (x) \"y\" IMAP4rev2\r\n"),
			answer("LOGIN"), answer("CAPABILITY", "* capability IMAP4rev1  idle (x) {3}\r\nabc IMAP4rev2\r\n"),
		}},
		{"preauth", nil, []imaptest.Step{send("* PREAUTH hello\r\n"), answer("CAPABILITY", "* CAPABILITY IMAP4rev1 IDLE\r\n")}},
		{"plain refused without a code, login taken", nil, []imaptest.Step{
			send("\r\n* OK hi\r\n"),
			answer("CAPABILITY", "* CAPABILITY IMAP4rev1 AUTH=PLAIN IDLE\r\n"),
			expect("AUTHENTICATE PLAIN"), send("{tag} BAD no such thing\r\n"),
			expect(`LOGIN "jo" "hunter2"`), send("* 3 EXISTS\r\nnonsense\r\nA9 OK not yours\r\n{tag} OK [CAPABILITY IMAP4rev1 IDLE ID] in\r\n"),
			expect("ID ("), send("{tag} BAD what\r\n"),
		}},
		{"xoauth2 without SASL-IR", func(s *store.Server) { s.AccessToken = secret.New("t") }, []imaptest.Step{
			send("* OK hi\r\n"), answer("CAPABILITY", "* CAPABILITY IMAP4rev1 AUTH=XOAUTH2 IDLE\r\n"),
			expect("AUTHENTICATE XOAUTH2"), send("+\r\n"), expect(base64.StdEncoding.EncodeToString([]byte("user=jo\x01auth=Bearer t\x01\x01"))), send("A2 OK [CAPABILITY IMAP4rev1 IDLE] in\r\n"),
		}},
		{"password beyond ascii", func(s *store.Server) { s.Pass = secret.New("pä\"ß") }, []imaptest.Step{
			send("* OK hi\r\n"), answer("CAPABILITY", "* CAPABILITY IMAP4rev1 IDLE\r\n"),
			expect(`LOGIN "jo" {6}`), send("+ go on\r\n"), expect("pä\"ß"), send("A2 OK [CAPABILITY IMAP4rev1 IDLE] in\r\n"),
		}},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				steps := append(c.steps, answer("NOOP"), imaptest.Silence())
				script, s, err := dialScript(t, c.change, steps...)
				t.Cleanup(script.Close)
				ok(t, err)
				info := s.Info()
				if !info.Idle || strings.Contains(strings.Join(info.Capabilities, " "), "rev2") {
					t.Errorf("info = %+v", info)
				}
				ok(t, s.Noop(t.Context()))
				s.Close()
			})
		})
	}
}

// selected is a session with INBOX of n messages open.
func selected(n string) imaptest.Step {
	return imaptest.All(imaptest.LoggedIn("IDLE ESEARCH"), imaptest.Answer("EXAMINE", "* "+n+" EXISTS\r\n* OK [UIDVALIDITY 7] ok\r\n* OK [UIDNEXT 9] ok\r\n"))
}

// TestHostileSession: what a server may do to a session that is logged in.
func TestHostileSession(t *testing.T) {
	send, expect := imaptest.Send, imaptest.Expect
	messages := func(ctx context.Context, s Session) error {
		_, err := s.Messages(ctx, uids(1, 3))
		return err
	}
	enumerate := func(ctx context.Context, s Session) error {
		_, err := s.UIDs(ctx, 1, 0)
		return err
	}
	idle := func(ctx context.Context, s Session) error {
		_, err := s.Idle(ctx, 4*time.Minute)
		return err
	}
	noop := func(ctx context.Context, s Session) error { return s.Noop(ctx) }
	for _, c := range []struct {
		name   string
		steps  []imaptest.Step
		ask    func(context.Context, Session) error
		kind   ErrorKind
		within time.Duration
	}{
		{"5 MB of nested parentheses", []imaptest.Step{expect("FETCH"), send("* 1 FETCH (UID 1 BODYSTRUCTURE "), imaptest.Repeat("(", 5<<20)}, messages, ErrClosed, time.Second},
		{"nested parentheses behind a fake quote", []imaptest.Step{expect("FETCH"), send("* OK [X \"\r\n* 1 FETCH (UID 1 BODYSTRUCTURE "), imaptest.Repeat("(", 5<<20)}, messages, ErrClosed, time.Second},
		{"nested parentheses behind a literal in quotes", []imaptest.Step{expect("FETCH"), send("* 1 FETCH (UID 1 ENVELOPE (\"a {5242880}\r\n\" "), imaptest.Repeat("(", 5<<20)}, messages, ErrClosed, time.Second},
		{"huge literal", []imaptest.Step{expect("FETCH"), send("* 1 FETCH (UID 1 BODY[] {9999999999}\r\n"), imaptest.Repeat("x", 1<<30)}, messages, ErrLimit, time.Second},
		{"endless line", []imaptest.Step{expect("FETCH"), send("* 1 FETCH (UID 1 FLAGS ("), imaptest.Repeat("x", 1<<30)}, messages, ErrLimit, time.Second},
		{"endless status text", []imaptest.Step{expect("NOOP"), send("* OK "), imaptest.Repeat("x", 1<<30)}, noop, ErrLimit, time.Second},
		{"garbage", []imaptest.Step{expect("FETCH"), send("* 1 FETCH UID 1 )(\r\n"), imaptest.Silence()}, messages, ErrTimeout, 61 * time.Second},
		{"cut in a message", []imaptest.Step{expect("FETCH"), send("* 1 FETCH (UID 1 FLAGS (\\Seen) BODY[HEADER.FIELDS (X)] {100}\r\nSubject: a")}, messages, ErrClosed, time.Second},
		{"silence in a literal", []imaptest.Step{expect("FETCH"), send("* 1 FETCH (UID 1 BODY[HEADER.FIELDS (X)] {100}\r\nSubject: a"), imaptest.Silence()}, messages, ErrTimeout, 61 * time.Second},
		{"never answered", []imaptest.Step{expect("FETCH"), imaptest.Silence()}, messages, ErrTimeout, 61 * time.Second},
		{"traffic goes on, the answer never ends", []imaptest.Step{expect("NOOP"), forever("* OK Still here\r\n", 30*time.Second)}, noop, ErrTimeout, 10*time.Minute + time.Second},
		{"a literal that trickles", []imaptest.Step{expect("FETCH"), send("* 1 FETCH (UID 1 BODY[HEADER.FIELDS (X)] {100000}\r\n"), forever("x", 20*time.Second)}, messages, ErrTimeout, 3 * time.Minute},
		{"bye instead of an answer", []imaptest.Step{expect("NOOP"), send("* BYE Session expired, please login again.\r\n")}, noop, ErrBye, time.Second},
		{"search never answered", []imaptest.Step{expect("SEARCH"), imaptest.Silence()}, enumerate, ErrTimeout, 121 * time.Second},
		{"idle without a plus", []imaptest.Step{expect("IDLE"), imaptest.Silence()}, idle, ErrTimeout, 21 * time.Second},
		{"idle refused", []imaptest.Step{expect("IDLE"), send("{tag} BAD no\r\n"), imaptest.Silence()}, idle, ErrBad, time.Second},
		{"done never answered", []imaptest.Step{expect("IDLE"), send("+ idling\r\n"), imaptest.Silence()}, idle, ErrTimeout, 4*time.Minute + 21*time.Second},
		{"done never answered, traffic goes on", []imaptest.Step{expect("IDLE"), send("+ idling\r\n"), expect("DONE"), forever("* OK Still here\r\n", 5*time.Second)}, idle, ErrTimeout, 4*time.Minute + 21*time.Second},
		{"closed in idle", []imaptest.Step{expect("IDLE"), send("+ idling\r\n")}, idle, ErrClosed, time.Second},
		{"bye in idle", []imaptest.Step{expect("IDLE"), send("+ idling\r\n", "* BYE Autologout; idle for too long\r\n")}, idle, ErrBye, time.Second},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				script, s, err := dialScript(t, nil, append([]imaptest.Step{selected("3")}, c.steps...)...)
				t.Cleanup(script.Close)
				ok(t, err)
				must[Selected](t)(s.Select(t.Context(), "INBOX"))
				begin := time.Now()
				err = c.ask(t.Context(), s)
				e, isE := errors.AsType[*Error](err)
				if !isE || e.Kind != c.kind {
					t.Fatalf("error %v, want kind %q", err, c.kind)
				}
				if d := time.Since(begin); d > c.within {
					t.Errorf("took %v, want at most %v", d, c.within)
				}
				again := noop(t.Context(), s)
				if e.Usable() {
					return
				}
				if e2, isE := errors.AsType[*Error](again); !isE || e2.Usable() {
					t.Errorf("command behind it: %v", again)
				}
				if !s.SpeakBy().IsZero() {
					t.Errorf("speak by %v on a closed connection", s.SpeakBy())
				}
			})
		})
	}
}

// forever says something every d.
func forever(what string, d time.Duration) imaptest.Step {
	return func(t *imaptest.Turn) error {
		for {
			time.Sleep(d) // in a bubble
			if err := imaptest.Send(what)(t); err != nil {
				return err
			}
		}
	}
}

func TestOddSession(t *testing.T) {
	send, expect, answer := imaptest.Send, imaptest.Expect, imaptest.Answer
	bubble := func(name string, exists string, f func(*testing.T, Session), steps ...imaptest.Step) {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				script, s, err := dialScript(t, nil, append([]imaptest.Step{selected(exists)}, append(steps, answer("NOOP"), imaptest.Silence())...)...)
				t.Cleanup(script.Close)
				ok(t, err)
				must[Selected](t)(s.Select(t.Context(), "INBOX"))
				f(t, s)
				ok(t, s.Noop(t.Context()))
				s.Close()
			})
		})
	}
	bubble("an answer that cannot be is not expanded", "3", func(t *testing.T, s Session) {
		e := must[Enumeration](t)(s.UIDs(t.Context(), 1, 0))
		if e.Complete || len(e.UIDs) > 0 {
			t.Errorf("enumeration = %d UIDs, complete %v", len(e.UIDs), e.Complete)
		}
	}, answer("SEARCH RETURN", "* ESEARCH (TAG \"{tag}\") UID ALL 1:4294967295\r\n"), answer("SEARCH ALL", "* SEARCH 1:4294967295\r\n"))
	bubble("an answer that ends at a limit is asked on from there", "3", func(t *testing.T, s Session) {
		e := must[Enumeration](t)(s.UIDs(t.Context(), 2, 0))
		if !e.Complete || !slices.Equal(e.UIDs, []uint32{2, 3, 4}) {
			t.Errorf("enumeration = %+v", e)
		}
	}, expect("UID SEARCH RETURN (ALL) UID 2:*"), send("* ESEARCH (TAG \"{tag}\") UID ALL 4,3\r\n{tag} OK [MESSAGELIMIT 2 3] more\r\n"),
		answer("UID SEARCH RETURN (ALL) UID 2", "* ESEARCH (TAG \"{tag}\") UID ALL 2\r\n"))
	bubble("empty esearch is asked again plainly", "3", func(t *testing.T, s Session) {
		e := must[Enumeration](t)(s.UIDs(t.Context(), 1, 0))
		if !e.Complete || len(e.UIDs) != 3 || e.UIDs[0] != 2 {
			t.Errorf("enumeration = %+v", e)
		}
	}, answer("SEARCH RETURN", "* ESEARCH (TAG \"{tag}\") UID\r\n"), answer("SEARCH ALL", "* SEARCH 9 4 2\r\n"))
	bubble("what came before NO is returned beside it", "3", func(t *testing.T, s Session) {
		d, err := s.Flags(t.Context(), uids(1, 3))
		got := d.Flags
		if e, isE := errors.AsType[*Error](err); !isE || e.Kind != ErrNo || len(got) != 2 {
			t.Errorf("%v, %v", got, err)
		}
		if len(got) == 2 && (!got[0].Known || len(got[0].Flags) != 0 || got[1].Known) {
			t.Errorf("flags = %+v", got)
		}
	}, expect("FETCH"), send("* 1 FETCH (UID 1 FLAGS (\\Recent))\r\n* 3 FETCH (UID 3)\r\n* 2 FETCH (FLAGS ())\r\n{tag} NO [EXPUNGEISSUED] Some messages no longer exist\r\n"))
	bubble("a push in the middle of an answer is not the answer", "2", func(t *testing.T, s Session) {
		got := must[[]Message](t)(s.Messages(t.Context(), uids(1, 2)))
		if len(got) != 1 || got[0].UID != 2 || got[0].Size != 7 {
			t.Errorf("messages = %+v", got)
		}
	}, expect("FETCH"), send("* 1 FETCH (UID 1 FLAGS (\\Deleted))\r\n* 2 FETCH (UID 2 FLAGS ())\r\n* 2 FETCH (UID 2 RFC822.SIZE 7)\r\n{tag} OK\r\n"),
		expect("FETCH 1 "), send("* 1 EXPUNGE\r\n{tag} OK\r\n"))
	bubble("a missing envelope is named", "1", func(t *testing.T, s Session) {
		got := must[[]Message](t)(s.Messages(t.Context(), uids(1, 3)))
		if len(got) != 1 || strings.Join(got[0].Damaged, " ") != "internalDate size envelope bodyStructure" || got[0].MessageID != "<a b@c>" || len(got[0].References) != 2 || !got[0].IsList() {
			t.Errorf("messages = %+v", got)
		}
	}, expect("FETCH"), send("* 1 FETCH (UID 2 FLAGS (\\seen) BODY[HEADER] "+literal("Message-ID: <a b@c>\r\nbad line\r\nReferences: <x@y>\r\n\t<z@y>\r\nList-Id: <l.example.com>\r\n\r\n")+")\r\n{tag} OK\r\n"))
	bubble("an envelope that cannot be read is made of the header", "2", func(t *testing.T, s Session) {
		got := must[[]Message](t)(s.Messages(t.Context(), uids(1, 3)))
		if len(got) != 2 || got[0].Subject != "fine" || got[1].Subject != `he said "x" now` || len(got[1].From) != 1 || got[1].From[0].Address != "a@x.example" || got[1].Date.IsZero() || got[1].MessageID != "<2@x>" {
			t.Errorf("messages = %+v", got)
		}
		if len(got) == 2 && strings.Join(got[1].Damaged, " ") != "internalDate size bodyStructure headers" {
			t.Errorf("damaged = %v", got[1].Damaged)
		}
	}, expect("FETCH"), send("* 1 FETCH (UID 1 FLAGS () ENVELOPE (NIL \"fine\" NIL NIL NIL NIL NIL NIL NIL NIL))\r\n* 2 FETCH (UID 2 ENVELOPE (\"Mon\" \"he said \"x\" now\" NIL NIL NIL NIL NIL NIL NIL \"<2@x>\") FLAGS ())\r\n{tag} OK\r\n"),
		expect("UID FETCH 2 (UID BODY.PEEK[HEADER]<0.65536>)"), send("* 2 FETCH (UID 2 BODY[HEADER]<0> "+literal("From: =?utf-8?q?A?= <a@x.example>\r\nSubject: he said \"x\" now\r\nDate: Mon, 5 Feb 2024 10:00:00 +0000\r\nMessage-ID: <2@x>\r\n\r\n")+")\r\n{tag} OK\r\n"))
	having := func(want string, failed bool) func(t *testing.T, s Session) {
		return func(t *testing.T, s Session) {
			got, err := havingID(t.Context(), s.(*client).c, "<2@x>")
			if fmt.Sprint(got) != want || (err != nil) != failed {
				t.Errorf("found %v, %v", got, err)
			}
		}
	}
	field := func(uid, id string) string {
		return "* 1 FETCH (UID " + uid + " ENVELOPE (NIL \"he said \"x\" now\" NIL NIL NIL NIL NIL NIL NIL \"<2@x>\") BODY[HEADER.FIELDS (MESSAGE-ID)] " + literal("Message-ID: "+id+"\r\n\r\n") + ")\r\n"
	}
	bubble("a copy whose envelope cannot be read is found", "3", having("[2]", false),
		answer("SEARCH HEADER", "* SEARCH 1 2\r\n"), answer("UID FETCH 1:2", field("1", "<12@x>"), field("2", "<2@x>")))
	bubble("a copy is found among all messages", "5000", having("[4950]", false),
		answer("SEARCH HEADER", "* SEARCH 1:5000\r\n"), answer("UID FETCH 4901:5000", field("4950", "<2@x>")))
	bubble("a search that is cut short has not found that there is no copy", "3", having("[]", true),
		answer("SEARCH HEADER", "* SEARCH 1\r\n* SEARCH 1:99999\r\n"), answer("UID FETCH 1", field("1", "<1@x>")))
	bubble("a message that is not told is none", "3", having("[]", true),
		answer("SEARCH HEADER", "* SEARCH 1\r\n"), answer("UID FETCH 1", "* 1 FETCH (UID 1)\r\n"))
	bubble("there is no copy", "3", having("[]", false), answer("SEARCH HEADER", "* SEARCH\r\n"))
	bubble("counts follow the wire", "3", func(t *testing.T, s Session) {
		ok(t, s.Noop(t.Context()))
		if c := s.Changes(); s.Exists() != 4 || c.Expunged != 2 || !c.Exists || c.Alert != "read me" {
			t.Errorf("exists = %d, changes = %+v", s.Exists(), c)
		}
		if c := s.Changes(); c.Any() {
			t.Errorf("changes are told twice: %+v", c)
		}
	}, answer("NOOP", "* 2 EXPUNGE\r\n* 5 EXISTS\r\n* 0 RECENT\r\n* 1 EXPUNGE\r\n* OK [ALERT] read me\r\n"))
	bubble("a list without inbox is asked for it", "3", func(t *testing.T, s Session) {
		got := must[Listing](t)(s.Folders(t.Context())).Folders
		if len(got) != 3 || got[0].Path != "A" || got[0].Selectable || got[0].Delimiter != "" || got[2].SpecialUse != RoleInbox || !got[2].Selectable {
			t.Errorf("folders = %+v", got)
		}
	}, answer(`LIST "" "*"`, "* LIST (\\NoSelect) NIL A\r\n* LIST () NIL \"B&-C\"\r\n* LIST (\\NonExistent) NIL A\r\n"), answer(`LIST "" INBOX`, "* LIST () \"/\" inbox\r\n"))
	bubble("idle ended by the server", "3", func(t *testing.T, s Session) {
		end, err := s.Idle(t.Context(), time.Minute)
		if err != nil || end != IdleServer {
			t.Errorf("idle: %q, %v", end, err)
		}
	}, expect("IDLE"), send("+ idling\r\n"), send("{tag} OK that is enough\r\n"))
	bubble("hints of before end the next idle", "3", func(t *testing.T, s Session) {
		ok(t, s.Noop(t.Context()))
		end, err := s.Idle(t.Context(), time.Minute)
		if err != nil || end != IdleChanged {
			t.Errorf("idle: %q, %v", end, err)
		}
	}, answer("NOOP", "* 4 EXISTS\r\n"))
	bubble("untagged data is no proof of life", "3", func(t *testing.T, s Session) {
		before := s.LastProof()
		end, err := s.Idle(t.Context(), 3*time.Minute)
		if err != nil || end != IdleTimeout {
			t.Errorf("idle: %q, %v", end, err)
		}
		if d := s.LastProof().Sub(before); d < 3*time.Minute || d > 3*time.Minute+time.Second {
			t.Errorf("proof moved by %v, want that of DONE's reply", d)
		}
	}, expect("IDLE"), send("+ idling\r\n", "* OK Still here\r\n"), expect("DONE"), replyIdle())
}

func literal(s string) string { return fmt.Sprintf("{%d}\r\n%s", len(s), s) }

// replyIdle answers the IDLE whose tag DONE does not repeat: behind CAPABILITY, LOGIN,
// CAPABILITY and EXAMINE it is the fifth command.
func replyIdle() imaptest.Step { return imaptest.Send("A5 OK done\r\n") }

func TestCloseNeverBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script, s, err := dialScript(t, nil, selected("3"), imaptest.Expect("FETCH"), imaptest.Send("* 1 FETCH (UID 1 BODY[HEADER] {100}\r\nabc"), imaptest.Silence())
		t.Cleanup(script.Close)
		ok(t, err)
		must[Selected](t)(s.Select(t.Context(), "INBOX"))
		done := make(chan error, 1)
		go func() {
			_, err := s.Messages(t.Context(), uids(1, 3))
			done <- err
		}()
		synctest.Wait()
		if by := time.Until(s.SpeakBy()); by <= 0 || by > 2*time.Minute {
			t.Errorf("speak by in %v", by)
		}
		begin := time.Now()
		s.Close()
		s.Close()
		if err := <-done; !errors.Is(err, wire.ErrClosed) {
			t.Errorf("error %v", err)
		}
		if d := time.Since(begin); d > 0 {
			t.Errorf("took %v", d)
		}
	})
}

func TestContextClosesConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script, s, err := dialScript(t, nil, selected("3"), imaptest.Expect("NOOP"), imaptest.Silence())
		t.Cleanup(script.Close)
		ok(t, err)
		must[Selected](t)(s.Select(t.Context(), "INBOX"))
		why := errors.New("lease lost")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(why) })
		if err := s.Noop(ctx); !errors.Is(err, why) {
			t.Errorf("noop: %v", err)
		}
	})
}

func TestDialEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := imaptest.NewScript(t, imaptest.Silence())
		t.Cleanup(script.Close)
		d := NewDialer(DialerOptions{Dial: script.Dial, AllowPlaintext: true})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := d.Dial(ctx, store.Server{Host: "h", Port: 1, Plaintext: true})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dial: %v", err)
		}
	})
}

func TestDialTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDialer(DialerOptions{AllowPlaintext: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
		}})
		begin := time.Now()
		_, err := d.Dial(t.Context(), store.Server{Host: "h", Port: 1, Plaintext: true})
		if f := Classify(err); f.Kind != FaultServerDown || f.Class != "timeout" || time.Since(begin) != 10*time.Second {
			t.Errorf("%+v after %v", f, time.Since(begin))
		}
	})
}

// FuzzSession: a session ends by its own deadlines whatever the server says.
func FuzzSession(f *testing.F) {
	for _, s := range []string{
		"* 1 FETCH (UID 1 FLAGS (\\Seen) ENVELOPE (NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL))\r\nA5 OK\r\n",
		"* 1 FETCH (UID 1 BODYSTRUCTURE ((((\r\n", "* VANISHED 1:3\r\n", "* SEARCH 1 2\r\nA5 OK\r\n", "A5 NO\r\n", "+ x\r\n",
		"* 1 FETCH (UID 1 BODY[HEADER] {5}\r\nabcde BODY[TEXT] {2}\r\nxx)\r\nA5 OK\r\n* BYE\r\n", "* OK [PERMANENTFLAGS (\\*)] x\r\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, said string) {
		synctest.Test(t, func(t *testing.T) {
			script, s, err := dialScript(t, nil, selected("3"), imaptest.Expect(""), imaptest.Send(said), imaptest.Silence())
			t.Cleanup(script.Close)
			ok(t, err)
			must[Selected](t)(s.Select(t.Context(), "INBOX"))
			begin := time.Now()
			_, _ = s.Messages(t.Context(), uids(1, 3))
			if d := time.Since(begin); d > 11*time.Minute {
				t.Errorf("took %v", d)
			}
			s.Close()
		})
	})
}
