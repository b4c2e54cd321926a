package wire

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-sasl"
)

// Credentials are what a login is made of: a token, or a password. It prints as "redacted".
type Credentials struct {
	User  string
	Pass  string
	Token string // of OAuth 2.0; used instead of Pass
	// Identity is whose mailbox is meant where that is not User's (SASL's authorization
	// identity); "" = User's.
	Identity string
}

// String implements fmt.Stringer.
func (Credentials) String() string { return "redacted" }

// GoString implements fmt.GoStringer.
func (Credentials) GoString() string { return "redacted" }

// challenge is what a server said of a refused token.
type challenge string

func (c challenge) Error() string { return "server's challenge: " + string(c) }

// login authenticates with what there is. Its error is of Kind Auth when the server
// refused, Refused when nothing was sent.
func (c *Conn) login(ctx context.Context, o *Options) error {
	a := o.Auth
	switch {
	case a.Token != "":
		return c.loginToken(ctx, o)
	case a.User == "" || a.Pass == "":
		return c.refuseLogin(CodeCredentials, "user or password is missing")
	case c.caps.Has(imap.CapLoginDisabled):
		// RFC 3501 section 6.2.3; nothing of the password goes on the wire.
		return c.refuseLogin(CodeDisabled, "server refuses passwords on this connection")
	case strings.ContainsAny(a.User+a.Pass+a.Identity, "\x00"):
		return c.refuseLogin(CodeCredentials, "NUL in user or password")
	}
	if c.caps.Has(imap.AuthCap(sasl.Plain)) {
		err := c.authenticate(ctx, sasl.NewPlainClient(a.Identity, a.User, a.Pass))
		if err == nil || c.err != nil || !tryAnother(err) {
			return err
		}
	}
	k := c.command("LOGIN").str(a.User).str(a.Pass)
	k.secret = true
	_, err := k.run(ctx)
	if err != nil && c.err == nil && c.caps.Has(imap.AuthCap(sasl.Login)) {
		if e, ok := errors.AsType[*Error](err); ok && e.Status == imap.StatusResponseTypeBad {
			return c.authenticate(ctx, sasl.NewLoginClient(a.User, a.Pass))
		}
	}
	return err
}

// tryAnother says whether a refusal may be the mechanism's and not the password's: BAD,
// or NO that does not say what is refused.
func tryAnother(err error) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Status == "" {
		return false
	}
	if e.Status == imap.StatusResponseTypeBad {
		return true
	}
	text := strings.ToLower(e.said())
	for _, w := range []string{"throttl", "too many", "rate limit", "try again", "temporar"} {
		if strings.Contains(text, w) {
			return false // another try would make it worse
		}
	}
	return e.Code == ""
}

func (c *Conn) refuseLogin(code imap.ResponseCode, text string) error {
	return &Error{Kind: Refused, Stage: StageLogin, Command: "LOGIN", Code: code, Text: text}
}

func (c *Conn) loginToken(ctx context.Context, o *Options) error {
	a := o.Auth
	user := a.User
	if a.Identity != "" {
		user = a.Identity // shared mailboxes: the mailbox, not the person
	}
	switch {
	case c.caps.Has("AUTH=XOAUTH2"):
		return c.authenticate(ctx, &xoauth2{user, a.Token})
	case c.caps.Has("AUTH=OAUTHBEARER"):
		return c.authenticate(ctx, sasl.NewOAuthBearerClient(&sasl.OAuthBearerOptions{Username: user, Token: a.Token, Host: o.Host, Port: o.Port}))
	}
	return &Error{Kind: Refused, Stage: StageLogin, Command: "AUTHENTICATE", Code: CodeNoMechanism, Text: "server offers neither XOAUTH2 nor OAUTHBEARER"}
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

// authenticate runs a mechanism to its tagged reply. A challenge we have no answer to
// is answered by `*` (RFC 3501 section 6.2.2), and the reply still awaited.
func (c *Conn) authenticate(ctx context.Context, m sasl.Client) error {
	mech, first, err := m.Start()
	if err != nil {
		return &Error{Kind: Refused, Stage: StageLogin, Command: "AUTHENTICATE", Err: err}
	}
	k := c.command("AUTHENTICATE").arg(mech)
	k.secret = true
	pending := true
	if first != nil && c.caps.Has(imap.CapSASLIR) && len(first) < maxCommand/2 {
		k.arg(encodeSASL(first))
		pending = false
	}
	told := "" // by a failure challenge
	challenges := 0
	k.more = func(challenge []byte) []byte {
		if challenges++; challenges > 20 {
			return []byte("*")
		}
		if pending && first != nil {
			pending = false
			return []byte(encodeSASL(first))
		}
		in := make([]byte, base64.StdEncoding.DecodedLen(len(challenge)))
		n, err := base64.StdEncoding.Decode(in, challenge)
		if err != nil {
			return []byte("*")
		}
		in = in[:n]
		switch mech {
		case "OAUTHBEARER":
			told = c.shown(in)
			return []byte(encodeSASL([]byte{1})) // RFC 7628 section 3.2.3
		case "XOAUTH2":
			told = c.shown(in)
			return nil
		}
		out, err := m.Next(in)
		if err != nil {
			return []byte("*")
		}
		return []byte(encodeSASL(out))
	}
	_, err = k.run(ctx)
	if e, ok := errors.AsType[*Error](err); ok && told != "" && e.Status != "" {
		e.Err = challenge(told)
	}
	return err
}

func encodeSASL(b []byte) string {
	if len(b) == 0 {
		return "="
	}
	return base64.StdEncoding.EncodeToString(b)
}
