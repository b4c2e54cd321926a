package transport_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/smtpsend/smtptest"
	"github.com/postrider/postrider/smtpsend/transport"
	"github.com/postrider/postrider/store/secret"
)

// inBubble runs f with a server and a pool in a bubble.
func inBubble(t *testing.T, fo smtptest.FaultOptions, po transport.Options, f func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, pipes(t, fo, po)) })
}

func TestAuth(t *testing.T) {
	cert := certificate(t)
	long := strings.Repeat("t", 2000)
	base := func(mechs ...string) smtptest.FaultOptions {
		return smtptest.FaultOptions{Certificate: cert, Mechanisms: mechs, Users: map[string]string{"jo": "secret"}}
	}
	pass := func(s *transport.Server) {}
	token := func(v string) func(*transport.Server) {
		return func(s *transport.Server) { s.Pass, s.AccessToken = secret.Text{}, secret.New(v) }
	}
	tests := []struct {
		name     string
		mechs    []string
		server   func(*transport.Server)
		said     string // of the AUTH lines, without "tls "
		kind     transport.ErrorKind
		told     string
		extraAsk bool
	}{
		// printf '\0jo\0secret' | base64
		{name: "PLAIN", mechs: []string{"LOGIN", "PLAIN"}, server: pass, said: "AUTH PLAIN AGpvAHNlY3JldA=="},
		{name: "LOGIN", mechs: []string{"LOGIN"}, server: pass, said: "AUTH LOGIN|am8=|c2VjcmV0"},
		{name: "wrong password", mechs: []string{"PLAIN"}, server: func(s *transport.Server) { s.Pass = secret.New("x") }, said: "AUTH PLAIN AGpvAHg=", kind: transport.KindAuth},
		// printf 'user=jo\001auth=Bearer secret\001\001' | base64
		{name: "XOAUTH2", mechs: []string{"PLAIN", "OAUTHBEARER", "XOAUTH2"}, server: token("secret"), said: "AUTH XOAUTH2 dXNlcj1qbwFhdXRoPUJlYXJlciBzZWNyZXQBAQ=="},
		{name: "XOAUTH2 refused", mechs: []string{"XOAUTH2"}, server: token("x"), said: "AUTH XOAUTH2 dXNlcj1qbwFhdXRoPUJlYXJlciB4AQE=|", kind: transport.KindAuth, told: `{"status":"401","schemes":"bearer"}`},
		// printf 'n,a=jo,\001host=smtp.test\001port=587\001auth=Bearer secret\001\001' | base64
		{name: "OAUTHBEARER", mechs: []string{"PLAIN", "OAUTHBEARER"}, server: token("secret"), said: "AUTH OAUTHBEARER bixhPWpvLAFob3N0PXNtdHAudGVzdAFwb3J0PTU4NwFhdXRoPUJlYXJlciBzZWNyZXQBAQ=="},
		{name: "OAUTHBEARER refused", mechs: []string{"OAUTHBEARER"}, server: token("x"), said: "AUTH OAUTHBEARER bixhPWpvLAFob3N0PXNtdHAudGVzdAFwb3J0PTU4NwFhdXRoPUJlYXJlciB4AQE=|AQ==", kind: transport.KindAuth, told: `{"status":"401","schemes":"bearer"}`},
		{name: "long token comes after a challenge", mechs: []string{"XOAUTH2"}, server: token(long), said: "AUTH XOAUTH2|dXNlcj1qbwFhdXRoPUJlYXJlciB0", kind: transport.KindAuth, told: `{"status":"401","schemes":"bearer"}`},
		{name: "token and no mechanism for it", mechs: []string{"PLAIN"}, server: token("secret"), kind: transport.KindNoAuth},
		{name: "no AUTH", mechs: nil, server: pass, kind: transport.KindNoAuth},
		{name: "NUL", mechs: []string{"PLAIN"}, server: func(s *transport.Server) { s.Pass = secret.New("a\x00b") }, kind: transport.KindAuth},
		{name: "no credentials", mechs: []string{"PLAIN"}, server: func(s *transport.Server) { s.Pass = secret.Text{} }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, base(tt.mechs...), transport.Options{}, func(t *testing.T, r *rig) {
				tt.server(&r.server)
				_, err := r.send()
				if tt.kind == "" && err != nil {
					t.Fatal(err)
				} else if tt.kind != "" {
					e := failure(t, err)
					if e.Kind != tt.kind || e.Phase != transport.PhaseAuth || e.Description != tt.told {
						t.Errorf("%s %s %q: %v", e.Phase, e.Kind, e.Description, err)
					}
					if strings.Contains(err.Error(), r.server.Pass.Reveal()) && !r.server.Pass.Empty() && len(r.server.Pass.Reveal()) > 3 {
						t.Errorf("the password shows: %v", err)
					}
				}
				var said []string
				for _, line := range r.fault.Said() {
					line = strings.TrimPrefix(line, "tls ")
					if !slices.ContainsFunc([]string{"EHLO", "STARTTLS", "MAIL", "RCPT", "DATA", "QUIT"}, func(v string) bool { return strings.HasPrefix(line, v) }) {
						said = append(said, line)
					}
				}
				got := strings.Join(said, "|")
				if strings.HasPrefix(tt.name, "long") {
					got = got[:min(len(got), len(tt.said))]
				}
				if got != tt.said { // no stray "*" either
					t.Errorf("said %q, want %q", got, tt.said)
				}
			})
		})
	}
}

// A server that repeats what it was told does not have us tell it on: not cut, not folded,
// and not at a later step.
func TestAuth_is_not_repeated(t *testing.T) {
	auth, mail, rcpt := smtptest.AtAuth, smtptest.AtMail, smtptest.AtRcpt
	const phrase = "secret-password-of-24-chars" // printf '\0jo\0…' | base64: AGpvAHNlY3JldC1wYXNzd29yZC1vZi0yNC1jaGFycw==
	tests := []struct {
		name, pass string
		at         smtptest.Stage
		reply      string
		shown      string // of the texts, what is left
	}{
		{"answer", "secret", auth, "535 5.7.8 AGpvAHNlY3JldA==", "***"},
		{"password", "secret", auth, "535 5.7.8 wrong: jo secret", "wrong: jo ***"},
		{"password alone in base64", "secret", auth, "535-5.7.8 c2VjcmV0\n535 5.7.8 is it secret?", "*** is it ***?"},
		{"cut", phrase, auth, `501 5.5.4 Syntax error in "AUTH PLAIN AGpvAHNlY3JldC1wYXNzd29yZC1vZi0yNC1j..."`, `Syntax error in "AUTH PLAIN ***..."`},
		{"two lines", phrase, auth, "535-5.7.8 AGpvAHNlY3JldC1wYXNzd29y\n535 5.7.8 ZC1vZi0yNC1jaGFycw==", "***"},
		{"upper case", phrase, auth, "535 5.7.8 Wrong: AGPVAHNLY3JLDC1WYXNZD29YZC1VZI0YNC1JAGFYCW==", "Wrong: ***"},
		{"at MAIL", phrase, mail, "550 5.7.1 not for jo " + phrase, "not for jo ***"},
		{"at RCPT", phrase, rcpt, "550 5.7.1 not for jo " + phrase[:12], "not for jo ***"},
		{"at the dot", phrase, smtptest.AtDot, "554 5.7.1 not for AGpvAHNlY3JldC1wYXNzd29yZC1vZi0yNC1jaGFycw==", "not for ***"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			script := smtptest.On(tt.at, 0, smtptest.Act{Reply: tt.reply})
			fo := smtptest.FaultOptions{Certificate: certificate(t), Mechanisms: []string{"PLAIN"}, Users: map[string]string{"jo": tt.pass}, Script: script}
			inBubble(t, fo, transport.Options{}, func(t *testing.T, r *rig) {
				r.server.Pass = secret.New(tt.pass)
				_, err := r.send()
				e := failure(t, err)
				if want := tt.reply[:3] + " " + tt.reply[4:9] + " " + tt.shown; e.Line != want {
					t.Errorf("%q, want %q", e.Line, want)
				}
				for _, r := range e.Refused {
					if r.Response != e.Line {
						t.Errorf("refused by %q", r.Response)
					}
				}
			})
		})
	}
}

// TestTLS: acceptance 3 and 4 of the specification of sending.
func TestTLS(t *testing.T) {
	good := certificate(t)
	other := certificate(t)
	expired, err := smtptest.NewCertificateUntil(time.Date(1999, 12, 1, 0, 0, 0, 0, time.UTC), "smtp.test")
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := smtptest.NewCertificate("else.test")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		cert   *smtptest.Certificate
		server func(*transport.Server)
		ok     bool
	}{
		{"own root", good, func(s *transport.Server) {}, true},
		{"no root", good, func(s *transport.Server) { s.TLS.CA = "" }, false},
		{"another root", good, func(s *transport.Server) { s.TLS.CA = other.CA }, false},
		{"root is no PEM", good, func(s *transport.Server) { s.TLS.CA = "x" }, false},
		{"pin", good, func(s *transport.Server) { s.TLS.CA, s.TLS.Pin = "", []string{good.Pin} }, true},
		{"another pin", good, func(s *transport.Server) { s.TLS.Pin = []string{other.Pin} }, false},
		{"expired", expired, func(s *transport.Server) {}, false},
		{"another name", wrong, func(s *transport.Server) {}, false},
		{"another name is expected", wrong, func(s *transport.Server) { s.TLS.ServerName = "else.test" }, true},
		{"unchecked is not allowed", good, func(s *transport.Server) { s.TLS.InsecureSkipVerify = true }, false},
		{"version is not known", good, func(s *transport.Server) { s.TLS.MinVersion = "1.1" }, false},
		{"TLS 1.3", good, func(s *transport.Server) { s.TLS.MinVersion = "1.3" }, true},
	}
	for _, tt := range tests {
		for _, implicit := range []bool{false, true} {
			name := tt.name + "/STARTTLS"
			if implicit {
				name = tt.name + "/implicit"
			}
			t.Run(name, func(t *testing.T) {
				inBubble(t, smtptest.FaultOptions{Certificate: tt.cert, Implicit: implicit, Mechanisms: []string{"PLAIN"}, Users: map[string]string{"jo": "secret"}}, transport.Options{}, func(t *testing.T, r *rig) {
					tt.server(&r.server)
					got, err := r.send()
					if tt.ok {
						if err != nil || !got.Secure {
							t.Fatalf("%+v %v", got, err)
						}
					} else if e := failure(t, err); e.Kind != transport.KindTLS || e.Phase != transport.PhaseTLS {
						t.Errorf("%s %s: %v", e.Phase, e.Kind, err)
					}
					if r.fault.Heard("AUTH") != tt.ok {
						t.Errorf("said %q", r.fault.Said())
					}
				})
			})
		}
	}
}

func TestNeverWithoutTLS(t *testing.T) {
	plain := smtptest.FaultOptions{Mechanisms: []string{"PLAIN"}, Users: map[string]string{"jo": "secret"}}
	cert := certificate(t)
	refused := func(t *testing.T, r *rig, phase transport.Phase, most int) {
		t.Helper()
		_, err := r.send()
		if e := failure(t, err); e.Kind != transport.KindTLS || e.Phase != phase {
			t.Errorf("%s %s: %v", e.Phase, e.Kind, err)
		}
		if said := r.fault.Said(); r.fault.Heard("AUTH") || r.fault.Heard("MAIL") || len(said) > most {
			t.Errorf("said %q", said)
		}
	}
	t.Run("STARTTLS is not offered", func(t *testing.T) {
		inBubble(t, plain, transport.Options{}, func(t *testing.T, r *rig) {
			r.server.Plaintext = false
			refused(t, r, transport.PhaseSTARTTLS, 1)
		})
	})
	t.Run("HELO has no STARTTLS", func(t *testing.T) {
		o := plain
		o.Script = smtptest.On(smtptest.AtHello, 1, smtptest.Act{Reply: "502 5.5.1 what"})
		inBubble(t, o, transport.Options{}, func(t *testing.T, r *rig) {
			r.server.Plaintext = false
			refused(t, r, transport.PhaseSTARTTLS, 2)
		})
	})
	t.Run("something behind the 220", func(t *testing.T) {
		o := plain
		o.Certificate = cert
		o.Script = smtptest.On(smtptest.AtSTARTTLS, 1, smtptest.Act{Reply: "220 go", Behind: "250-AUTH PLAIN\r\n250 OK\r\n"})
		inBubble(t, o, transport.Options{}, func(t *testing.T, r *rig) { refused(t, r, transport.PhaseSTARTTLS, 2) })
	})
	t.Run("plain text is not allowed", func(t *testing.T) {
		sink := smtptest.StartFault(t, plain)
		_, port := sink.Addr()
		pool := transport.NewPool(transport.Options{})
		defer pool.Close()
		s := transport.Server{Host: "smtp.test", Port: port, Plaintext: true, User: "jo", Pass: secret.New("secret")}
		_, err := pool.Send(t.Context(), s, to("you@example.net"), say(letter), nil)
		if e := failure(t, err); e.Kind != transport.KindTLS {
			t.Errorf("%s: %v", e.Kind, err)
		}
		if n, _ := sink.Connections(); n > 0 {
			t.Error("connected")
		}
		// On this host it is.
		s.Host = "127.0.0.1"
		if _, err := pool.Send(t.Context(), s, to("you@example.net"), say(letter), nil); err != nil {
			t.Error(err)
		}
	})
}

// TestHello: acceptance 5.
func TestHello(t *testing.T) {
	cert := certificate(t)
	tests := []struct{ name, server, options, want string }{
		{"the account's", "mail.example.org", "other.example.org", `^EHLO mail\.example\.org$`},
		{"the operator's", "", "other.example.org", `^EHLO other\.example\.org$`},
		{"a literal", "[192.0.2.1]", "", `^EHLO \[192\.0\.2\.1\]$`},
		{"a literal of version 6", "[IPv6:2001:db8::1]", "", `^EHLO \[IPv6:2001:db8::1\]$`},
		{"never localhost", "localhost", "LocalHost.localdomain", `^EHLO ([\w.-]+\.[\w-]+|\[[^ ]+\])$`},
		{"nothing injected", "a b\r\nX", "", `^EHLO ([\w.-]+\.[\w-]+|\[[^ ]+\])$`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, smtptest.FaultOptions{Certificate: cert}, transport.Options{EHLOName: tt.options}, func(t *testing.T, r *rig) {
				r.server.EHLOName = tt.server
				r.mustSend()
				n := 0
				for _, line := range r.fault.Said() {
					if line = strings.TrimPrefix(line, "tls "); strings.HasPrefix(line, "EHLO") {
						n++
						if !regexp.MustCompile(tt.want).MatchString(line) || strings.Contains(strings.ToLower(line), "localhost") {
							t.Errorf("said %q", line)
						}
					}
				}
				if n != 2 {
					t.Errorf("%d times EHLO", n)
				}
			})
		})
	}
	t.Run("HELO where EHLO is not known", func(t *testing.T) {
		inBubble(t, smtptest.FaultOptions{Script: smtptest.On(smtptest.AtHello, 1, smtptest.Act{Reply: "500 what"})}, transport.Options{}, func(t *testing.T, r *rig) {
			r.mustSend()
			m := r.fault.Messages()[0]
			if !r.fault.Heard("HELO ") || m.Mail != "" || len(m.Rcpt) != 1 || m.Rcpt[0] != "" {
				t.Errorf("%q %q", r.fault.Said(), m.Mail)
			}
		})
	})
}

// TestParameters: acceptance 35 to 37, on the wire.
func TestParameters(t *testing.T) {
	all := []string{"size 1000", "8bitmime", "SmtpUTF8", "DSN", "REQUIRETLS"}
	cert := certificate(t)
	tests := []struct {
		name  string
		offer []string
		env   func(*transport.Envelope)
		mail  string
		rcpt  string
		code  [3]int // refused by us
	}{
		{name: "nothing needed", offer: all},
		{name: "size", offer: all, env: func(e *transport.Envelope) { e.Size = 1000 }, mail: "SIZE=1000"},
		{name: "size is not offered", offer: []string{"DSN"}, env: func(e *transport.Envelope) { e.Size = 1000 }},
		{name: "size without a limit", offer: []string{"SIZE"}, env: func(e *transport.Envelope) { e.Size = 1 << 40 }, mail: "SIZE=1099511627776"},
		{name: "too large", offer: all, env: func(e *transport.Envelope) { e.Size = 1001 }, code: [3]int{5, 3, 4}},
		{name: "8 bit", offer: all, env: func(e *transport.Envelope) { e.EightBit = true }, mail: "BODY=8BITMIME"},
		{name: "8 bit is not offered", offer: []string{"SIZE"}, env: func(e *transport.Envelope) { e.EightBit = true }, code: [3]int{5, 6, 3}},
		{name: "UTF-8", offer: all, env: func(e *transport.Envelope) { e.UTF8, e.To = true, []string{"jürgen@example.net"} }, mail: "SMTPUTF8"},
		{name: "UTF-8 is not offered", offer: []string{"SIZE"}, env: func(e *transport.Envelope) { e.UTF8 = true }, code: [3]int{5, 6, 7}},
		{name: "REQUIRETLS", offer: all, env: func(e *transport.Envelope) { e.RequireTLS = true }, mail: "REQUIRETLS"},
		{name: "REQUIRETLS is not offered", offer: []string{"SIZE"}, env: func(e *transport.Envelope) { e.RequireTLS = true }, code: [3]int{5, 7, 30}},
		{name: "null sender", offer: all, env: func(e *transport.Envelope) { e.From = "" }},
		{
			name: "DSN", offer: all, env: func(e *transport.Envelope) {
				e.DSN = transport.DSN{ID: "01a+b=c d", Return: "headers", Notify: []string{"success", "failure"}}
			}, mail: "RET=HDRS ENVID=01a+2Bb+3Dc+20d", rcpt: "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;you@example.net",
		},
		{name: "DSN id alone", offer: all, env: func(e *transport.Envelope) { e.DSN.ID = "q1" }, mail: "ENVID=q1"},
		{name: "DSN recipient", offer: all, env: func(e *transport.Envelope) {
			e.DSN = transport.DSN{Return: "full", Recipient: "a+b@c.example"}
		}, mail: "RET=FULL", rcpt: "ORCPT=rfc822;a+2Bb@c.example"},
		{name: "DSN is not offered", offer: []string{"SIZE"}, env: func(e *transport.Envelope) { e.DSN = transport.DSN{ID: "q1", Notify: []string{"never"}} }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, smtptest.FaultOptions{Certificate: cert, Extensions: tt.offer}, transport.Options{}, func(t *testing.T, r *rig) {
				env := to("you@example.net")
				if tt.env != nil {
					tt.env(&env)
				}
				got, err := r.pool.Send(t.Context(), r.server, env, say(letter), r.mark)
				if tt.code != [3]int{} {
					e := failure(t, err)
					if e.Kind != transport.KindMessage || e.Code != 0 || e.Enhanced != tt.code || e.Unknown {
						t.Errorf("%+v", e)
					}
					if r.fault.Heard("MAIL") || r.marks > 0 {
						t.Errorf("said %q", r.fault.Said())
					}
					// The connection is as good as before.
					if got := r.mustSend(); !got.Reused {
						t.Error("another connection")
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				m := r.fault.Messages()[0]
				if m.Mail != tt.mail || m.Rcpt[0] != tt.rcpt || m.From != env.From || string(m.Body) != letter {
					t.Errorf("MAIL %q, RCPT %q, from %q, body %q", m.Mail, m.Rcpt, m.From, m.Body)
				}
				if want := strings.HasPrefix(tt.name, "DSN is not"); got.DSNUnsupported != want {
					t.Errorf("DSNUnsupported %v", got.DSNUnsupported)
				}
			})
		})
	}
}

// TestAddresses: what would end its brackets reaches no wire.
func TestAddresses(t *testing.T) {
	good := []string{"a@b.example", "a.b+c@d-e.example", `"a b"@c.example`, `"a\"> SIZE=1"@c.example`, "a@[192.0.2.1]", "a@[IPv6:2001:db8::1]", "a@localhost", strings.Repeat("x", 64) + "@c.example"}
	bad := []string{
		"", "a", "@b.example", "a@", "a@b> SIZE=1", "a b@c.example", "a@b.example\r\nDATA", "a@b.example\x00", "<a@b.example>", "a@b..example", ".a@b.example", "a.@b.example",
		`"a"b@c.example`, `"a@c.example`, "a\"@c.example", "a@[192.0.2.1", "a@[1.2.3.4.5]", "a@[2001:db8::1]", "a@-b;c.example", "j\u00fcrgen@example.net", "a@b\u00fc.example", strings.Repeat("x", 65) + "@c.example",
		"a@" + strings.Repeat("b.", 130) + "example", "a@b,c@d", "a@b:c", "\"a\x01\"@c.example",
	}
	inBubble(t, smtptest.FaultOptions{}, transport.Options{}, func(t *testing.T, r *rig) {
		for _, a := range good {
			if _, err := r.pool.Send(t.Context(), r.server, to(a), say(letter), nil); err != nil {
				t.Errorf("%q: %v", a, err)
			}
		}
		before := len(r.fault.Said())
		for _, a := range bad {
			for _, env := range []transport.Envelope{to("you@example.net", a), {From: a + "x", To: []string{a}}} {
				_, err := r.pool.Send(t.Context(), r.server, env, say(letter), nil)
				if e := failure(t, err); e.Kind != transport.KindEnvelope || e.Code != 0 {
					t.Errorf("%q: %v", a, err)
				}
			}
		}
		if said := r.fault.Said(); len(said) != before {
			t.Errorf("said %q", said[before:])
		}
	})
}

// TestRecipients: some, none, too many.
func TestRecipients(t *testing.T) {
	script := func(s smtptest.Step) smtptest.Act {
		if s.Stage == smtptest.AtRcpt {
			for _, code := range []string{"550 5.1.1", "450 4.7.1", "452", "452 4.5.3", "452 4.2.2", "552 5.5.3", "252 2.1.5"} {
				if strings.Contains(s.Line, "<x"+strings.NewReplacer(" ", "", ".", "").Replace(code)+"@") {
					return smtptest.Act{Reply: code + " said\n" + code + " twice"}
				}
			}
		}
		return smtptest.Act{}
	}
	replies := func(s smtptest.Step) smtptest.Act {
		a := script(s)
		a.Reply, _, _ = strings.Cut(a.Reply, "\n")
		return a
	}
	mbox := func(codes ...string) (out []string) {
		for i, c := range codes {
			if c == "ok" {
				c = "ok" + string(rune('a'+i))
			} else {
				c = "x" + c
			}
			out = append(out, c+"@example.net")
		}
		return out
	}
	tests := []struct {
		name                       string
		to                         []string
		accepted, refused, tooMany int
		code                       int
	}{
		{"all", mbox("ok", "ok", "252215"), 3, 0, 0, 0},
		{"some", mbox("ok", "550511", "450471", "ok"), 2, 2, 0, 0},
		{"none", mbox("550511", "450471"), 0, 2, 0, 550},
		{"none for now", mbox("450471"), 0, 1, 0, 450},
		{"too many", mbox("ok", "ok", "452", "452"), 2, 0, 2, 0},
		{"too many, enhanced", mbox("ok", "550511", "452453", "552553"), 1, 1, 2, 0},
		{"a full mailbox is not too many", mbox("ok", "452422"), 1, 1, 0, 0},
		{"too many at once is a refusal", mbox("452453"), 0, 1, 0, 452},
	}
	for _, extensions := range [][]string{{"PIPELINING"}, {"SIZE"}} {
		for _, tt := range tests {
			t.Run(extensions[0]+"/"+tt.name, func(t *testing.T) {
				inBubble(t, smtptest.FaultOptions{Extensions: extensions, Script: replies}, transport.Options{}, func(t *testing.T, r *rig) {
					got, err := r.pool.Send(t.Context(), r.server, to(tt.to...), say(letter), r.mark)
					refused := got.Refused
					if tt.code != 0 {
						e := failure(t, err)
						refused = e.Refused
						if e.Phase != transport.PhaseRcpt || e.Kind != transport.KindEnvelope || e.Code != tt.code || r.marks > 0 || r.fault.Heard("DATA") {
							t.Errorf("%+v", e)
						}
					} else if err != nil {
						t.Fatal(err)
					}
					if len(got.Accepted) != tt.accepted || len(refused) != tt.refused || len(got.TooMany) != tt.tooMany || !slices.Equal(r.marked, got.Accepted) {
						t.Errorf("%+v %+v", got, refused)
					}
					for _, f := range refused {
						if f.Code < 400 || !strings.HasPrefix(f.Response, f.Recipient[1:4]) {
							t.Errorf("%+v", f)
						}
					}
					// The next one has the same connection, with RSET if a transaction was left.
					if got := r.mustSend(); !got.Reused || r.fault.Heard("RSET") != (tt.code != 0) {
						t.Errorf("reused %v: %q", got.Reused, r.fault.Said())
					}
				})
			})
		}
	}
}

// TestPipelining: 2,000 recipients in one write, to a server that answers while it reads.
func TestPipelining(t *testing.T) {
	inBubble(t, smtptest.FaultOptions{}, transport.Options{}, func(t *testing.T, r *rig) {
		var many []string
		for i := range 2000 {
			many = append(many, strings.Repeat("x", i%50)+"y@example.net")
		}
		began := time.Now()
		got, err := r.pool.Send(t.Context(), r.server, to(many...), say(letter), r.mark)
		if err != nil || !slices.Equal(got.Accepted, many) || time.Since(began) > 0 {
			t.Errorf("%d accepted, %v, %v", len(got.Accepted), time.Since(began), err)
		}
		// MAIL refused: the replies to RCPT are not taken for those to something else.
	})
	inBubble(t, smtptest.FaultOptions{Script: smtptest.On(smtptest.AtMail, 1, smtptest.Act{Reply: "451 4.3.0 later"})}, transport.Options{}, func(t *testing.T, r *rig) {
		_, err := r.pool.Send(t.Context(), r.server, to("a@b.example", "c@d.example"), say(letter), r.mark)
		if e := failure(t, err); e.Phase != transport.PhaseMail || e.Code != 451 {
			t.Error(err)
		}
		if got := r.mustSend(); !got.Reused {
			t.Error("another connection")
		}
	})
}
