package transport

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxCommand is how long a command line may be (RFC 5321 section 4.5.3.1.4), its end
// included.
const maxCommand = 512

// mechanism is a way to log in (RFC 4954).
type mechanism struct {
	name    string
	answers []string // ours, in order
	initial bool     // the first may come with the command
	token   bool     // another challenge is what the server says of the token
	failed  string   // what answers that
}

// mechanisms are the ways there are for s, the best first.
func mechanisms(s Server) []mechanism {
	if token := s.AccessToken.Reveal(); token != "" {
		escape := strings.NewReplacer("=", "=3D", ",", "=2C") // a saslname, RFC 5801 section 4
		return []mechanism{
			// Google's and Microsoft's own; an error is answered by an empty line.
			{name: "XOAUTH2", initial: true, token: true, answers: []string{"user=" + s.User + "\x01auth=Bearer " + token + "\x01\x01"}},
			// RFC 7628 section 3; an error is answered by \x01.
			{name: "OAUTHBEARER", initial: true, token: true, failed: "\x01", answers: []string{
				"n,a=" + escape.Replace(s.User) + ",\x01host=" + s.Host + "\x01port=" + strconv.Itoa(s.Port) + "\x01auth=Bearer " + token + "\x01\x01",
			}},
		}
	}
	pass := s.Pass.Reveal()
	return []mechanism{
		{name: "PLAIN", initial: true, answers: []string{"\x00" + s.User + "\x00" + pass}}, // RFC 4616
		{name: "LOGIN", answers: []string{s.User, pass}},
	}
}

// login logs in where there are credentials.
func (c *conn) login(ctx context.Context, s Server) *Error {
	if s.Pass.Empty() && s.AccessToken.Empty() {
		return nil
	}
	at := step{PhaseAuth, "AUTH", c.o.Timeouts.Command}
	if strings.ContainsAny(s.User+s.Pass.Reveal()+s.AccessToken.Reveal(), "\x00\x01") {
		return &Error{Phase: at.phase, Kind: KindAuth, Err: errors.New("control character in user, password or token")}
	}
	offered := strings.Fields(strings.ToUpper(c.ext["AUTH"]))
	for _, m := range mechanisms(s) {
		if slices.Contains(offered, m.name) {
			return c.authenticate(ctx, at, m)
		}
	}
	return &Error{Phase: at.phase, Kind: KindNoAuth, Err: fmt.Errorf("server offers no way to log in that fits: %q", clean(c.hide.Hide(strings.Join(offered, " "))))}
}

// authenticate runs a mechanism to its reply. A failed one leaves the connection to be
// closed by the caller.
func (c *conn) authenticate(ctx context.Context, at step, m mechanism) *Error {
	line, answers := "AUTH "+m.name, m.answers
	// RFC 4954 section 4: what would make the command too long waits for a challenge.
	if first := base64.StdEncoding.EncodeToString([]byte(answers[0])); m.initial && len(line+first)+3 <= maxCommand {
		line, answers = line+" "+first, answers[1:]
	}
	told, asked := "", false
	for {
		r, e := c.command(ctx, at, line)
		switch {
		case e != nil:
			return e
		case r.code == 235:
			return nil
		case r.code == 334 && len(answers) > 0:
			line, answers = base64.StdEncoding.EncodeToString([]byte(answers[0])), answers[1:]
		case r.code == 334 && m.token && !asked:
			asked = true
			told = challenge(r)
			line = base64.StdEncoding.EncodeToString([]byte(m.failed))
		default:
			e := c.refuse(at, r)
			e.Description = told
			return e
		}
	}
}

// challenge is what a server says in one.
func challenge(r reply) string {
	text := strings.Join(r.texts, "")
	if b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text)); err == nil {
		text = string(b)
	}
	return clean(r.hide.Hide(text))
}
