package transport_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/dispatch/hooktest"
	"github.com/postrider/postrider/smtpsend/smtptest"
	"github.com/postrider/postrider/smtpsend/transport"
	"github.com/postrider/postrider/store/secret"
)

// rig is a fault server and a pool, in a bubble or on a socket.
type rig struct {
	t      *testing.T
	fault  *smtptest.Fault
	pool   *transport.Pool
	server transport.Server
	body   string
	marks  int
	marked []string // by the last of them
}

// pipes puts both into the bubble the test is in.
func pipes(t *testing.T, fo smtptest.FaultOptions, po transport.Options) *rig {
	t.Helper()
	network := hooktest.NewMemory()
	f := smtptest.NewFault(fo)
	f.Serve(network.Listen("smtp.test:587"))
	po.Dial = network.Dial
	po.AllowPlaintext = true
	r := &rig{t: t, fault: f, pool: transport.NewPool(po), body: letter}
	t.Cleanup(func() {
		r.pool.Close()
		f.Close()
	})
	r.server = transport.Server{Host: "smtp.test", Port: 587, Key: "acc", Plaintext: fo.Certificate == nil, Secure: fo.Implicit}
	if fo.Certificate != nil {
		r.server.TLS.CA = fo.Certificate.CA
	}
	if fo.Users != nil {
		r.server.User, r.server.Pass = "jo", secret.New("secret")
	}
	return r
}

const letter = "Subject: x\r\n\r\nHello\r\n.dot\r\n..\r\n.\r\nend\r\n"

func say(text string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	}
}

func to(rcpts ...string) transport.Envelope {
	return transport.Envelope{From: "me@example.org", To: rcpts}
}

func (r *rig) mark(_ context.Context, accepted []string) error {
	r.marks++
	r.marked = accepted
	return nil
}

// send hands the letter over for you@example.net.
func (r *rig) send() (transport.Receipt, error) {
	return r.pool.Send(r.t.Context(), r.server, to("you@example.net"), say(r.body), r.mark)
}

func (r *rig) mustSend() transport.Receipt {
	r.t.Helper()
	got, err := r.send()
	if err != nil {
		r.t.Fatal(err)
	}
	return got
}

func failure(t *testing.T, err error) *transport.Error {
	t.Helper()
	e, ok := errors.AsType[*transport.Error](err)
	if !ok {
		t.Fatalf("error %v (%T)", err, err)
	}
	return e
}

func certificate(t *testing.T, names ...string) *smtptest.Certificate {
	t.Helper()
	cert, err := smtptest.NewCertificate(append(names, "smtp.test", "127.0.0.1")...)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// TestFaults breaks every step in every way: what is said of it, and whether the message
// may be there.
func TestFaults(t *testing.T) {
	type want struct {
		phase   transport.Phase
		kind    transport.ErrorKind
		code    int
		unknown bool
	}
	type caseOf struct {
		name  string
		stage smtptest.Stage
		act   smtptest.Act
		want  want
	}
	var cases []caseOf
	phases := map[smtptest.Stage]transport.Phase{
		smtptest.AtBanner: transport.PhaseGreeting, smtptest.AtHello: transport.PhaseHello, smtptest.AtSTARTTLS: transport.PhaseSTARTTLS,
		smtptest.AtHandshake: transport.PhaseTLS, smtptest.AtAuth: transport.PhaseAuth, smtptest.AtMail: transport.PhaseMail,
		smtptest.AtRcpt: transport.PhaseRcpt, smtptest.AtData: transport.PhaseData, smtptest.AtBody: transport.PhaseBody, smtptest.AtDot: transport.PhaseDot,
	}
	kinds := map[smtptest.Stage]transport.ErrorKind{
		smtptest.AtSTARTTLS: transport.KindTLS, smtptest.AtAuth: transport.KindAuth, smtptest.AtMail: transport.KindEnvelope,
		smtptest.AtRcpt: transport.KindEnvelope, smtptest.AtData: transport.KindMessage, smtptest.AtDot: transport.KindMessage,
	}
	for stage, phase := range phases {
		add := func(name string, act smtptest.Act, w want) {
			w.phase = phase
			cases = append(cases, caseOf{string(stage) + " " + name, stage, act, w})
		}
		dot := stage == smtptest.AtDot
		add("closes", smtptest.Act{Close: true}, want{kind: transport.KindSocket, unknown: dot})
		add("stalls", smtptest.Act{Stall: true}, want{kind: transport.KindTimeout, unknown: dot})
		if stage == smtptest.AtHandshake || stage == smtptest.AtBody {
			continue
		}
		kind := kinds[stage]
		if kind == "" {
			kind = transport.KindProtocol
		}
		add("trickles", smtptest.Act{Reply: "250-" + strings.Repeat("x", 1000) + "\n250 x", Trickle: time.Second}, want{kind: transport.KindTimeout, unknown: dot})
		add("never ends", smtptest.Act{Endless: true}, want{kind: transport.KindProtocol, unknown: dot})
		add("talks nonsense", smtptest.Act{Reply: "HTTP/1.1 400 Bad Request"}, want{kind: transport.KindProtocol, unknown: dot})
		add("says 350", smtptest.Act{Reply: "350 what now"}, want{kind: transport.KindProtocol, code: 350, unknown: dot})
		add("says 421", smtptest.Act{Reply: "421 4.3.2 going down", Close: true}, want{kind: kind, code: 421})
		add("says 451", smtptest.Act{Reply: "451 4.3.0 later"}, want{kind: kind, code: 451})
		add("says 554", smtptest.Act{Reply: "554 5.7.1 no"}, want{kind: kind, code: 554})
		if stage != smtptest.AtSTARTTLS {
			add("says 503", smtptest.Act{Reply: "503 5.5.1 lost"}, want{kind: transport.KindProtocol, code: 503})
		}
	}
	cert := certificate(t)
	short := transport.Timeouts{
		Connect: 3 * time.Second, TLS: 3 * time.Second, Greeting: 30 * time.Second, Command: 6 * time.Second, Mail: 30 * time.Second,
		Rcpt: 30 * time.Second, Data: 12 * time.Second, Block: 18 * time.Second, Dot: time.Minute,
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := pipes(t, smtptest.FaultOptions{
					Certificate: cert, Mechanisms: []string{"PLAIN"}, Users: map[string]string{"jo": "secret"},
					Script: smtptest.On(tt.stage, 1, tt.act),
				}, transport.Options{Timeouts: short})
				if tt.stage == smtptest.AtBody { // more than anything on the way holds
					r.body = strings.Repeat(letter, 1000)
				}
				began := time.Now()
				_, err := r.send()
				e := failure(t, err)
				got := want{e.Phase, e.Kind, e.Code, e.Unknown}
				if got != tt.want {
					t.Errorf("%+v, want %+v: %v", got, tt.want, err)
				}
				if marked := e.Phase == transport.PhaseDot; marked != (r.marks == 1) {
					t.Errorf("%d marks", r.marks)
				}
				if d := time.Since(began); d > 2*time.Minute {
					t.Errorf("took %v", d)
				}
				if n := len(r.fault.Messages()); n > 0 && !e.Unknown {
					t.Errorf("the server has a message")
				}
				if tt.act.Stall {
					return // nobody comes back from that before its end
				}
				// The next one is not disturbed.
				r.mustSend()
			})
		})
	}
}

func TestConnectRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := pipes(t, smtptest.FaultOptions{}, transport.Options{})
		r.server.Port = 588
		_, err := r.send()
		if e := failure(t, err); e.Phase != transport.PhaseConnect || e.Kind != transport.KindConnect {
			t.Error(e.Phase, e.Kind)
		}
	})
}

func TestDNSFailure(t *testing.T) {
	pool := transport.NewPool(transport.Options{Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.DNSError{Err: "no such host", Name: "smtp.test", IsNotFound: true}
	}})
	defer pool.Close()
	_, err := pool.Send(t.Context(), transport.Server{Host: "smtp.test", Port: 25, Plaintext: false}, to("you@example.net"), say(letter), nil)
	if e := failure(t, err); e.Phase != transport.PhaseConnect || e.Kind != transport.KindDNS {
		t.Error(e.Phase, e.Kind)
	}
}
