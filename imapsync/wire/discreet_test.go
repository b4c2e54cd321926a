package wire_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/postrider/postrider/imapsync/wire"
)

// logins are the ways there are, each with what is said and heard until its reply.
var logins = []struct {
	name, caps string
	auth       wire.Credentials
	steps      []string
}{
	{"LOGIN", "", wire.Credentials{User: "jo", Pass: "Tr0ub4dor&3-x"}, []string{"C: LOGIN"}},
	{"AUTH_LOGIN", " AUTH=LOGIN", wire.Credentials{User: "jo", Pass: "Tr0ub4dor&3-x"}, []string{
		"C: LOGIN", "S: {tag} BAD no", "C: AUTHENTICATE LOGIN", "S: + VXNlcm5hbWU6", "C: am8=", "S: + UGFzc3dvcmQ6", "C: VHIwdWI0ZG9yJjMteA==",
	}},
	{"PLAIN", " AUTH=PLAIN SASL-IR", wire.Credentials{User: "jo", Pass: "Tr0ub4dor&3-x"}, []string{"C: AUTHENTICATE PLAIN"}},
	{"XOAUTH2", " AUTH=XOAUTH2 SASL-IR", wire.Credentials{User: "jo", Token: "ya29.a0AfB_byC-q7Xz"}, []string{"C: AUTHENTICATE XOAUTH2"}},
	{"OAUTHBEARER", " AUTH=OAUTHBEARER SASL-IR", wire.Credentials{User: "jo", Token: "ya29.a0AfB_byC-q7Xz"}, []string{"C: AUTHENTICATE OAUTHBEARER"}},
}

// echoes are ways to repeat a secret.
func echoes(secret string) []string {
	in64 := base64.StdEncoding.EncodeToString
	return []string{
		secret, strings.ToUpper(secret), secret[:len(secret)/2+1], secret[3:], secret[:4] + " " + secret[4:8] + "  " + secret[8:],
		in64([]byte(secret)), in64([]byte("\x00jo\x00" + secret)), in64([]byte("user=jo\x01auth=Bearer " + secret + "\x01\x01")), in64([]byte("xy" + secret))[:16],
	}
}

// discreetly plays a server that repeats the credentials and gives all that is told of it.
func discreetly(t *testing.T, auth wire.Credentials, caps string, steps []string, do func(c *wire.Conn, tell func(any))) (told []string) {
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	tell := func(what any) { told = append(told, fmt.Sprintf("%v | %+v", what, what)) }
	go func() {
		defer close(done)
		srv := &oddServer{t: t, c: theirs, br: newReader(theirs)}
		srv.play(append([]string{"S: * OK hi", "C: CAPABILITY", "S: * CAPABILITY IMAP4rev1" + caps, "S: {tag} OK"}, steps...))
	}()
	c, err := wire.Dial(t.Context(), wire.Options{
		Host: "x", Port: 1, Security: wire.Plaintext, Auth: auth,
		Dial:  func(context.Context, string, string) (net.Conn, error) { return ours, nil },
		Trace: func(d wire.Direction, line string) { tell(string(rune(d)) + ": " + line) },
	})
	if err == nil {
		do(c, tell)
		err = c.Err()
		c.Close()
	}
	tell(err)
	_ = ours.Close()
	<-done
	return told
}

// hears fails where what is told shows something of what was repeated.
func hears(t *testing.T, told []string, wants ...string) {
	t.Helper()
	all := strings.Join(told, "\n")
	for _, want := range wants {
		if !strings.Contains(all, want) {
			t.Errorf("%q is missing in:\n%s", want, all)
		}
	}
	for _, secret := range []string{"Tr0ub4dor&3-x", "ya29.a0AfB_byC-q7Xz"} {
		for _, e := range echoes(secret) {
			for part := range strings.FieldsSeq(e) {
				if part = part[:min(len(part), 10)]; strings.Contains(strings.ToLower(all), strings.ToLower(part)) {
					t.Errorf("%q is told:\n%s", part, all)
				}
			}
		}
	}
}

// Some servers repeat in a refusal what they refuse.
func TestNothingRepeatedAtLoginIsTold(t *testing.T) {
	for _, l := range logins {
		secret := l.auth.Pass + l.auth.Token
		for i, e := range echoes(secret) {
			for _, refusal := range []string{
				"S: {tag} NO [AUTHENTICATIONFAILED] wrong: " + e, "S: {tag} BAD wrong: " + e, "S: * BYE wrong: " + e, "S: {tag} NO [X-FAILED " + e + "] wrong: ***",
				"S: * NO [ALERT] " + e + "\nS: {tag} NO wrong: ***",
			} {
				t.Run(fmt.Sprintf("%s/%d", l.name, i), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						steps := append(append([]string(nil), l.steps...), strings.Split(refusal, "\n")...)
						steps = append(steps, "@silence")
						told := discreetly(t, l.auth, l.caps, steps, func(*wire.Conn, func(any)) { t.Error("logged in") })
						hears(t, told, "wrong: ***")
					})
				})
			}
		}
	}
	t.Run("challenge", func(t *testing.T) {
		for _, l := range logins[3:] {
			synctest.Test(t, func(t *testing.T) {
				challenge := base64.StdEncoding.EncodeToString([]byte(`{"status":"401","was":"` + l.auth.Token[:12] + `"}`))
				steps := append(append([]string(nil), l.steps...), "S: + "+challenge, "C: ", "R: \"A2 NO failed\\r\\n\"", "@silence")
				told := discreetly(t, l.auth, l.caps, steps, func(*wire.Conn, func(any)) { t.Error("logged in") })
				hears(t, told, `{"status":"401","was":"***"}`)
			})
		}
	})
}

// Nor is what it repeats at any later time.
func TestNothingRepeatedLaterIsTold(t *testing.T) {
	for _, l := range logins {
		secret := l.auth.Pass + l.auth.Token
		for i, e := range echoes(secret) {
			t.Run(fmt.Sprintf("%s/%d", l.name, i), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					steps := append(append([]string(nil), l.steps...),
						"S: {tag} OK [CAPABILITY IMAP4rev1 "+e+"] welcome "+e,
						"C: NOOP", "S: * OK [ALERT] read "+e, "S: * OK [THROTTLED] slow "+e, "S: * X-UNKNOWN "+e, "S: {tag} NO [X-"+strings.ReplaceAll(e, " ", "")+"] no: "+e,
						"C: NOOP", "S: {tag} BAD bad: "+e,
						"C: NOOP", "S: {tag} NO [NOPERM "+e+"] args",
						"C: LIST", `S: * NO [X] raw `+e, "S: {tag} OK all "+e,
						"C: NOOP", "S: * BYE [UNAVAILABLE] bye: "+e, "@silence")
					told := discreetly(t, l.auth, l.caps, steps, func(c *wire.Conn, tell func(any)) {
						for range 3 {
							tell(c.Noop(t.Context()))
							tell(c.Changes())
						}
						res, err := c.Raw(t.Context(), wire.Cmd{Verb: "LIST"}, func(r wire.Response) error { tell(r.Text); return nil })
						tell(res)
						tell(err)
						tell(c.Noop(t.Context()))
						tell(c.Changes())
						tell(c.Capabilities())
					})
					hears(t, told, "NOOP: NO [***] no: ***", "NOOP: BAD bad: ***", "NOOP: NO [NOPERM] args", "raw ***", "read ***", "slow ***", "NOOP: BYE [UNAVAILABLE] bye: ***", "NO [***] no: *** | S: A", "[*** IMAP4rev1]")
				})
			})
		}
	}
}

// A greeting, too, after a connection before it.
func TestNothingRepeatedInTheGreetingIsTold(t *testing.T) {
	for _, greeting := range []string{"* BYE bye: Tr0ub4dor&3-x", "* 220 Tr0ub4dor&3-x"} {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := net.Pipe()
			go func() { _, _ = theirs.Write([]byte(greeting + "\r\n")); _ = theirs.Close() }()
			_, err := wire.Dial(t.Context(), wire.Options{
				Host: "x", Port: 1, Security: wire.Plaintext, Auth: logins[0].auth,
				Dial: func(context.Context, string, string) (net.Conn, error) { return ours, nil },
			})
			hears(t, []string{fmt.Sprint(err)}, "***")
		})
	}
}

// What stands in a text by chance is hidden, too; what is decided by is not.
func TestRegisteredCodesAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := discreetly(t, wire.Credentials{User: "jo", Pass: "password-failed"}, "", []string{"C: LOGIN", "S: {tag} NO [AUTHENTICATIONFAILED] Wrong password", "@silence"}, nil)
		hears(t, told, "LOGIN: NO [AUTHENTICATIONFAILED] Wrong ***")
	})
}
