package smtpsend_test

import (
	"bytes"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/dispatch/hooktest"
	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/smtpsend"
	"github.com/postrider/postrider/smtpsend/smtptest"
	"github.com/postrider/postrider/smtpsend/transport"
	"github.com/postrider/postrider/store"
)

// served runs f with a fault server behind the real transport, all in one bubble.
func served(t *testing.T, o smtptest.FaultOptions, f func(t *testing.T, h *house, fault *smtptest.Fault), change ...func(*smtpsend.Options)) {
	t.Helper()
	var fault *smtptest.Fault
	var pool *transport.Pool
	bubble(t, func(t *testing.T, h *house) {
		defer fault.Close()
		defer pool.Close()
		h.account("ada", func(a *store.Account) {
			host, port := fault.Addr()
			a.SMTP = &store.Server{Host: host, Port: port, Plaintext: true}
		})
		f(t, h, fault)
	}, append(change, func(opts *smtpsend.Options) {
		network := hooktest.NewMemory()
		fault = smtptest.NewFault(o)
		host, port := fault.Addr()
		fault.Serve(network.Listen(net.JoinHostPort(host, strconv.Itoa(port))))
		pool = transport.NewPool(transport.Options{Dial: network.Dial, AllowPlaintext: true, EHLOName: "postrider.test"})
		opts.Transport = pool
	})...)
}

func (h *house) short(account store.AccountID) (out []string) {
	for _, e := range h.told(account) {
		out = append(out, strings.TrimPrefix(e, "message"))
	}
	return out
}

// Every step of a transaction and everything that can happen there: where the message is
// afterwards, and what was told.
func TestFaults(t *testing.T) {
	type want struct {
		state  store.SubmissionState
		taken  int
		told   string
		code   string // of the first messageDeliveryError
		charge int
	}
	retried := func(code string) want { return want{store.SubmissionSent, 1, "Queued DeliveryError Sent", code, 1} }
	unknown := want{store.SubmissionUnknown, 1, "Queued Held", "", 1}
	refusedFor := func(code string) want { return want{store.SubmissionFailed, 0, "Queued DeliveryError Failed", code, 0} }
	once := want{store.SubmissionSent, 1, "Queued Sent", "", 0}
	closed, reset, stalled := smtptest.Act{Close: true}, smtptest.Act{Reset: true}, smtptest.Act{Stall: true}
	reply := func(line string) smtptest.Act { return smtptest.Act{Reply: line} }
	for name, tt := range map[string]struct {
		stage smtptest.Stage
		act   smtptest.Act
		want  want
	}{
		"connect closed":            {smtptest.AtConnect, closed, retried("ESOCKET")},
		"banner closed":             {smtptest.AtBanner, closed, retried("ESOCKET")},
		"banner stalled":            {smtptest.AtBanner, stalled, retried("ETIMEDOUT")},
		"banner 421":                {smtptest.AtBanner, smtptest.Act{Reply: "421 4.3.2 later", Close: true}, retried("ECONNECTION")},
		"banner 554":                {smtptest.AtBanner, smtptest.Act{Reply: "554 5.7.1 go away", Close: true}, retried("EPROTOCOL")},
		"banner nonsense":           {smtptest.AtBanner, reply("SSH-2.0-OpenSSH"), retried("EPROTOCOL")},
		"hello closed":              {smtptest.AtHello, closed, retried("ESOCKET")},
		"hello 450":                 {smtptest.AtHello, reply("450 4.3.2 later"), retried("ECONNECTION")},
		"hello endless":             {smtptest.AtHello, smtptest.Act{Endless: true}, retried("EPROTOCOL")},
		"mail closed":               {smtptest.AtMail, closed, retried("ESOCKET")},
		"mail reset":                {smtptest.AtMail, reset, retried("ESOCKET")},
		"mail 451":                  {smtptest.AtMail, reply("451 4.3.0 later"), retried("EENVELOPE")},
		"mail 421":                  {smtptest.AtMail, smtptest.Act{Reply: "421 4.3.2 bye", Close: true}, retried("ECONNECTION")},
		"mail 503":                  {smtptest.AtMail, reply("503 5.5.1 bad sequence"), retried("EPROTOCOL")},
		"mail 550":                  {smtptest.AtMail, reply("550 5.7.1 not you"), refusedFor("EENVELOPE")},
		"mail stalled":              {smtptest.AtMail, stalled, retried("ETIMEDOUT")},
		"rcpt closed":               {smtptest.AtRcpt, closed, retried("ESOCKET")},
		"rcpt 450 greylisted":       {smtptest.AtRcpt, reply("450 4.7.1 Greylisted"), retried("EENVELOPE")},
		"rcpt 550":                  {smtptest.AtRcpt, reply("550 5.1.1 No such user"), refusedFor("EENVELOPE")},
		"data closed":               {smtptest.AtData, closed, retried("ESOCKET")},
		"data 451":                  {smtptest.AtData, reply("451 4.3.0 later"), retried("EMESSAGE")},
		"data 554":                  {smtptest.AtData, reply("554 5.6.0 no"), refusedFor("EMESSAGE")},
		"body closed":               {smtptest.AtBody, closed, retried("ESOCKET")},
		"body stalled":              {smtptest.AtBody, stalled, retried("ETIMEDOUT")},
		"dot 451":                   {smtptest.AtDot, reply("451 4.3.0 later"), retried("EMESSAGE")},
		"dot 421":                   {smtptest.AtDot, smtptest.Act{Reply: "421 4.3.2 bye", Close: true}, retried("ECONNECTION")},
		"dot 554":                   {smtptest.AtDot, reply("554 5.7.1 spam"), refusedFor("EMESSAGE")},
		"dot closed":                {smtptest.AtDot, closed, unknown},
		"dot reset":                 {smtptest.AtDot, reset, unknown},
		"dot stalled":               {smtptest.AtDot, stalled, unknown},
		"dot unreadable":            {smtptest.AtDot, reply("yes!"), want{store.SubmissionUnknown, 0, "Queued Held", "", 1}},
		"closed behind the 250":     {smtptest.AfterDot, closed, once},
		"slow, an octet per second": {smtptest.AtDot, smtptest.Act{Trickle: time.Second}, once},
		"quit closed":               {smtptest.AtQuit, closed, once},
	} {
		t.Run(name, func(t *testing.T) {
			wait, pace := 45*time.Second, func(*smtpsend.Options) {}
			if tt.act.Stall || tt.act.Trickle > 0 {
				wait, pace = 13*time.Minute, slowly
			}
			served(t, smtptest.FaultOptions{Script: smtptest.On(tt.stage, 1, tt.act)}, func(t *testing.T, h *house, fault *smtptest.Fault) {
				id := h.submit(request("ada", "bob@example.net"))
				time.Sleep(wait)
				row := h.row(id)
				got := want{row.State, len(fault.Messages()), strings.Join(h.short("ada"), " "), "", row.Charged}
				if es := h.events("ada", events.MessageDeliveryErrorType); len(es) > 0 {
					got.code = field(es[0], "errorCode")
				}
				if got != tt.want {
					t.Errorf("%+v, want %+v; last %+v", got, tt.want, row.Last)
				}
			}, pace)
		})
	}
}

// Some recipients are taken, one is refused, one put off: each is told of once.
func TestSend_recipients(t *testing.T) {
	greylisted := true
	script := func(s smtptest.Step) smtptest.Act {
		switch {
		case s.Stage != smtptest.AtRcpt:
		case strings.Contains(s.Line, "bob"):
			return smtptest.Act{Reply: "550 5.1.1 No such user"}
		case strings.Contains(s.Line, "cem") && greylisted:
			greylisted = false
			return smtptest.Act{Reply: "450 4.7.1 Greylisted"}
		}
		return smtptest.Act{}
	}
	served(t, smtptest.FaultOptions{Script: script}, func(t *testing.T, h *house, fault *smtptest.Fault) {
		id := h.submit(request("ada", "ada@example.net", "bob@example.net", "cem@example.net"))
		time.Sleep(45 * time.Second)
		var to [][]string
		for _, m := range fault.Messages() {
			to = append(to, m.To)
		}
		if len(to) != 2 || !slices.Equal(to[0], []string{"ada@example.net"}) || !slices.Equal(to[1], []string{"cem@example.net"}) {
			t.Errorf("%v", to)
		}
		if told := h.short("ada"); !slices.Equal(told, []string{"Queued", "Sent", "Sent"}) {
			t.Errorf("%v", told)
		}
		row := h.row(id)
		if row.State != store.SubmissionSent || len(row.Rejected) != 1 || row.Rejected[0].Recipient != "bob@example.net" {
			t.Errorf("%+v", row)
		}
		sent := h.events("ada", events.MessageSentType)
		if !strings.Contains(raw(sent[0]), `"rejected":[{"recipient":"bob@example.net"`) || !strings.Contains(raw(sent[0]), `"deferred":[{"recipient":"cem@example.net"`) {
			t.Error(raw(sent[0]))
		}
		if strings.Contains(raw(sent[1]), "bob") {
			t.Error(raw(sent[1]))
		}
	})
}

// The server takes 100 recipients a message: the others go at once, and no attempt is charged.
func TestSend_too_many_recipients(t *testing.T) {
	script := func(s smtptest.Step) smtptest.Act {
		if s.Stage == smtptest.AtRcpt && s.N > 60 && s.N <= 100 {
			return smtptest.Act{Reply: "452 4.5.3 Too many recipients"}
		}
		return smtptest.Act{}
	}
	served(t, smtptest.FaultOptions{Script: script}, func(t *testing.T, h *house, fault *smtptest.Fault) {
		var to []string
		for i := range 150 {
			to = append(to, "to"+strconv.Itoa(i)+"@example.net")
		}
		id := h.submit(request("ada", to...))
		time.Sleep(5 * time.Second)
		var got []string
		for _, m := range fault.Messages() {
			got = append(got, m.To...)
		}
		slices.Sort(got)
		slices.Sort(to)
		row := h.row(id)
		if !slices.Equal(got, to) || row.State != store.SubmissionSent || row.Charged != 0 || row.Attempt < 2 {
			t.Errorf("%d recipients in %d messages; %+v", len(got), len(fault.Messages()), row)
		}
	})
}

// An outcome that is unknown is sent again where that was asked for, under the same id.
func TestSend_resend_unknown(t *testing.T) {
	served(t, smtptest.FaultOptions{Script: smtptest.On(smtptest.AtDot, 1, smtptest.Act{Close: true})}, func(t *testing.T, h *house, fault *smtptest.Fault) {
		r := request("ada", "bob@example.net")
		r.OnUnknown = smtpsend.OnUnknownResend
		id := h.submit(r)
		time.Sleep(45 * time.Second)
		sent := h.events("ada", events.MessageSentType)
		if row := h.row(id); row.State != store.SubmissionSent || len(sent) != 1 || field(sent[0], "possibleDuplicate") != "true" {
			t.Errorf("%+v %v", row, sent)
		}
		bodies := fault.Messages()
		if len(bodies) != 2 || !bytes.Equal(bodies[0].Body, bodies[1].Body) {
			t.Errorf("%d messages", len(bodies))
		}
	})
}
