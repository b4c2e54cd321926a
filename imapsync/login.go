package imapsync

import (
	"encoding/base64"
	"errors"
	"strings"

	"github.com/emersion/go-sasl"
)

// login authenticates with what the account has.
func (g *greeter) login() (reply, error) {
	user, pass, token := g.server.User, g.server.Pass.Reveal(), g.server.AccessToken.Reveal()
	switch {
	case token != "":
		return g.oauth(user, token)
	case user == "" || pass == "":
		return reply{}, &Error{Kind: ErrConfig, Stage: StageLogin, Code: codeCredentials, Text: "user or password is missing"}
	case g.has("LOGINDISABLED"):
		// RFC 3501 section 6.2.3; nothing of the password goes on the wire.
		return reply{}, &Error{Kind: ErrConfig, Stage: StageLogin, Command: "LOGIN", Code: codeDisabled, Text: "server refuses passwords on this connection"}
	}
	if g.has("AUTH=PLAIN") {
		r, err := g.authenticate(sasl.NewPlainClient("", user, pass))
		if err != nil || r.word == "OK" || r.code != "" && r.word == "NO" {
			return r, errors.Join(err, r.err(StageLogin))
		}
		if f := Classify(r.err(StageLogin)); f.Kind == FaultThrottled {
			return r, r.err(StageLogin)
		}
		// BAD, or NO that does not say what is refused: the mechanism, maybe.
	}
	if strings.ContainsAny(user+pass, "\x00") {
		return reply{}, &Error{Kind: ErrConfig, Stage: StageLogin, Code: codeCredentials, Text: "NUL in user or password"}
	}
	r, err := g.command(StageLogin, "LOGIN", "", []string{user, pass})
	if err != nil {
		return r, err
	}
	return r, r.err(StageLogin)
}

func (g *greeter) oauth(user, token string) (reply, error) {
	var m sasl.Client
	switch {
	case g.has("AUTH=XOAUTH2"):
		m = &xoauth2{user, token}
	case g.has("AUTH=OAUTHBEARER"):
		m = sasl.NewOAuthBearerClient(&sasl.OAuthBearerOptions{Username: user, Token: token, Host: g.server.Host, Port: g.server.Port})
	default:
		return reply{}, &Error{Kind: ErrConfig, Stage: StageLogin, Command: "AUTHENTICATE", Code: codeNoMechanism, Text: "server offers neither XOAUTH2 nor OAUTHBEARER"}
	}
	r, err := g.authenticate(m)
	if err != nil {
		return r, err
	}
	return r, r.err(StageLogin)
}

// xoauth2 is the mechanism of Google and Microsoft (developers.google.com: "XOAUTH2
// mechanism"); go-sasl lacks it.
type xoauth2 struct{ user, token string }

// Start implements sasl.Client.
func (x *xoauth2) Start() (string, []byte, error) {
	return "XOAUTH2", []byte("user=" + x.user + "\x01auth=Bearer " + x.token + "\x01\x01"), nil
}

// Next implements sasl.Client: the only challenge is the error, answered by nothing.
func (x *xoauth2) Next([]byte) ([]byte, error) { return []byte{}, nil }

// authenticate runs a mechanism to its tagged reply. A challenge we have no answer to is
// answered by `*` (RFC 3501 section 6.2.2), and the reply still awaited.
func (g *greeter) authenticate(m sasl.Client) (reply, error) {
	mech, first, err := m.Start()
	if err != nil {
		return reply{}, &Error{Kind: ErrConfig, Stage: StageLogin, Command: "AUTHENTICATE", Err: err}
	}
	line := mech
	pending := true
	if first != nil && g.has("SASL-IR") {
		line += " " + encodeSASL(first)
		pending = false
	}
	return g.exchange(StageLogin, "AUTHENTICATE", line, func(challenge string) string {
		if pending {
			pending = false
			return encodeSASL(first)
		}
		in, err := base64.StdEncoding.DecodeString(challenge)
		if err != nil {
			return "*"
		}
		out, err := m.Next(in)
		if mech == "OAUTHBEARER" {
			// RFC 7628 section 3.2.3: go-sasl makes an error of the server's message.
			return encodeSASL([]byte{1})
		}
		if err != nil {
			return "*"
		}
		if len(out) == 0 {
			return ""
		}
		return encodeSASL(out)
	})
}

func encodeSASL(b []byte) string {
	if len(b) == 0 {
		return "="
	}
	return base64.StdEncoding.EncodeToString(b)
}
