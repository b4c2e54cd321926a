package imapsync

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-sasl"

	"github.com/postrider/postrider/store"
)

// greeter does what comes before the first question: greeting, STARTTLS, capabilities,
// login, ID. It speaks for itself, line by line, so that LOGINDISABLED, bytes behind
// STARTTLS and odd capability lists are ours to judge; the client gets a connection
// that is already authenticated.
type greeter struct {
	raw           net.Conn
	nc            net.Conn // raw, or TLS over it
	br            *bufio.Reader
	lim           limits
	server        store.Server
	name, version string

	tag  int
	caps []string // as the server spells them
}

// reply is the tagged answer to a command.
type reply struct {
	word, code, args, text string
	lines                  []string // untagged lines before it
	verb                   string
}

// err makes an *Error of a NO or BAD.
func (r reply) err(stage string) error {
	if r.word == "OK" {
		return nil
	}
	kind := ErrNo
	if r.word == "BAD" {
		kind = ErrBad
	}
	return &Error{Kind: kind, Stage: stage, Command: r.verb, Code: r.code, Text: r.text}
}

// run brings the connection to the authenticated state. It returns what the client is
// to read first (a greeting that says so, and bytes that came early) and what was
// learnt. cfg nil = no TLS.
func (g *greeter) run(ctx context.Context, cfg *tls.Config) ([]byte, Info, error) {
	if cfg != nil && g.server.Secure {
		if err := g.secure(ctx, cfg); err != nil {
			return nil, Info{}, err
		}
	}
	g.br = bufio.NewReader(g.nc)
	preauth, err := g.greeting()
	if err != nil {
		return nil, Info{}, err
	}
	g.until(g.lim.login)
	if cfg != nil && !g.server.Secure {
		if preauth {
			return nil, Info{}, &Error{Kind: ErrTLS, Stage: StageTLS, Code: codePreauthPlain, Text: "server is logged in before STARTTLS"}
		}
		if err := g.starttls(ctx, cfg); err != nil {
			return nil, Info{}, err
		}
	}
	if err := g.capability(); err != nil {
		return nil, Info{}, err
	}
	if !preauth {
		r, err := g.login()
		if err != nil {
			return nil, Info{}, err
		}
		if r.code == "CAPABILITY" {
			g.caps = strings.Fields(r.args)
		} else if err := g.capability(); err != nil {
			return nil, Info{}, err
		}
	}
	info := g.info()
	if err := g.id(&info); err != nil {
		return nil, Info{}, err
	}
	return g.handOver(info)
}

// until sets the deadline of what follows.
func (g *greeter) until(d time.Duration) { _ = g.nc.SetDeadline(time.Now().Add(d)) }

func (g *greeter) secure(ctx context.Context, cfg *tls.Config) error {
	nc, err := handshake(ctx, g.raw, cfg, g.lim.tls)
	if err != nil {
		return err
	}
	g.nc = nc
	return nil
}

// greeting reads the server's first line.
func (g *greeter) greeting() (preauth bool, err error) {
	g.until(g.lim.greeting)
	var line string
	for range 5 { // row 2: empty lines before it
		if line, err = g.line(StageGreeting, ""); err != nil {
			return false, err
		}
		if line != "" {
			break
		}
	}
	r := parseHead(kindUnknown, []byte(line))
	code, _, text := statusText(r.rest)
	switch {
	case r.kind == kindStatus && r.word == "OK":
		return false, nil
	case r.kind == kindStatus && r.word == "PREAUTH":
		return true, nil
	case r.kind == kindStatus && r.word == "BYE":
		return false, &Error{Kind: ErrBye, Stage: StageGreeting, Code: code, Text: text}
	case r.kind == kindStatus:
		return false, &Error{Kind: ErrNo, Stage: StageGreeting, Code: code, Text: text}
	}
	return false, &Error{Kind: ErrProtocol, Stage: StageGreeting, Text: "greeting is not IMAP: " + cleanText(line[:min(len(line), 120)])}
}

// starttls upgrades the connection. RFC 3501 section 6.2.1: what was learnt before is
// forgotten; bytes behind the OK were put there by somebody else (CVE-2011-0411).
func (g *greeter) starttls(ctx context.Context, cfg *tls.Config) error {
	if err := g.capability(); err != nil {
		return err
	}
	if !g.has("STARTTLS") {
		return &Error{Kind: ErrTLS, Stage: StageTLS, Command: "STARTTLS", Code: codeNoSTARTTLS, Text: "server offers no STARTTLS"}
	}
	r, err := g.command(StageTLS, "STARTTLS", "", nil)
	if err != nil {
		return err
	}
	if r.word != "OK" {
		return &Error{Kind: ErrTLS, Stage: StageTLS, Command: "STARTTLS", Code: r.code, Text: r.text}
	}
	if g.br.Buffered() > 0 {
		return &Error{Kind: ErrTLS, Stage: StageTLS, Command: "STARTTLS", Code: codeInjection, Text: "plaintext behind STARTTLS"}
	}
	if err := g.secure(ctx, cfg); err != nil {
		return err
	}
	g.br = bufio.NewReader(g.nc)
	g.caps = nil
	g.until(g.lim.login)
	return nil
}

// capability asks for the list; what a greeting says of it is often short.
func (g *greeter) capability() error {
	r, err := g.command(StageLogin, "CAPABILITY", "", nil)
	if err != nil {
		return err
	}
	if err := r.err(StageLogin); err != nil {
		return err
	}
	g.caps = nil
	for _, l := range r.lines {
		if h := parseHead(kindUnknown, []byte(l)); h.word == "CAPABILITY" {
			g.caps = append(g.caps, strings.Fields(h.rest)...)
		}
	}
	return nil
}

func (g *greeter) has(name string) bool {
	return slices.ContainsFunc(g.caps, func(c string) bool { return strings.EqualFold(c, name) })
}

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

// info is what the capabilities say, without IMAP4rev2 and without what is no atom.
func (g *greeter) info() Info {
	var caps []string
	for _, c := range g.caps {
		if len(c) > 64 || strings.ContainsAny(c, "(){}%*\"\\[]\x7f") || strings.ContainsFunc(c, func(r rune) bool { return r < '!' || r > '~' }) {
			continue
		}
		switch up := strings.ToUpper(c); up {
		case "IMAP4REV2":
			continue
		case "IMAP4REV1":
			caps = append(caps, "IMAP4rev1")
		default:
			caps = append(caps, up)
		}
		if len(caps) == 200 {
			break
		}
	}
	slices.Sort(caps)
	caps = slices.Compact(caps)
	has := func(c string) bool { return slices.Contains(caps, c) }
	return Info{
		Capabilities: caps,
		CondStore:    has("CONDSTORE") || has("QRESYNC"),
		ESearch:      has("ESEARCH"),
		Idle:         has("IDLE"),
		ListStatus:   has("LIST-STATUS"),
		SpecialUse:   has("SPECIAL-USE"),
		UIDPlus:      has("UIDPLUS"),
	}
}

// id introduces us where ID is advertised (163 and 126 refuse folders without) and
// learns the server's name. A refusal is no error.
func (g *greeter) id(info *Info) error {
	if !slices.Contains(info.Capabilities, "ID") {
		return nil
	}
	args := `("name" ` + quote(g.name)
	if g.version != "" {
		args += ` "version" ` + quote(g.version)
	}
	r, err := g.command(StageLogin, "ID", args+")", nil)
	if err != nil {
		return err
	}
	for _, l := range r.lines {
		if h := parseHead(kindUnknown, []byte(l)); h.word == "ID" {
			fields := idFields(h.rest)
			info.ServerName, info.Version = cleanText(fields["name"]), cleanText(fields["version"])
		}
	}
	return nil
}

// idFields reads `("name" "x" "version" NIL)`; what it cannot read is left out.
func idFields(s string) map[string]string {
	fields := map[string]string{}
	s = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(s), "("), ")")
	var words []string
	for s = strings.TrimLeft(s, " "); s != ""; s = strings.TrimLeft(s, " ") {
		if s[0] != '"' {
			w, rest, _ := strings.Cut(s, " ")
			if strings.EqualFold(w, "NIL") {
				w = ""
			}
			words, s = append(words, w), rest
			continue
		}
		var b strings.Builder
		i := 1
		for ; i < len(s) && s[i] != '"'; i++ {
			if s[i] == '\\' && i+1 < len(s) {
				i++
			}
			b.WriteByte(s[i])
		}
		words, s = append(words, b.String()), s[min(i+1, len(s)):]
	}
	for i := 0; i+1 < len(words); i += 2 {
		fields[strings.ToLower(words[i])] = words[i+1]
	}
	return fields
}

// handOver makes the greeting of the client: logged in, with the capabilities it may
// know, then what has been read already.
func (g *greeter) handOver(info Info) ([]byte, Info, error) {
	pre := []byte("* PREAUTH [CAPABILITY IMAP4rev1")
	for _, c := range info.Capabilities {
		if c != "IMAP4rev1" {
			pre = append(append(pre, ' '), c...)
		}
	}
	pre = append(pre, "] ready\r\n"...)
	early, err := g.br.Peek(g.br.Buffered())
	if err != nil {
		return nil, Info{}, &Error{Kind: ErrClosed, Stage: StageLogin, Err: err}
	}
	_ = g.nc.SetDeadline(time.Time{})
	return append(pre, early...), info, nil
}

// command sends a verb with arguments as they are, then strs as quoted strings or
// literals, and reads up to the tagged reply.
func (g *greeter) command(stage, verb, args string, strs []string) (reply, error) {
	var parts []string // each but the last ends in a literal's size
	line := args
	for _, s := range strs {
		if line != "" {
			line += " "
		}
		if quotable(s) {
			line += quote(s)
			continue
		}
		parts = append(parts, line+"{"+strconv.Itoa(len(s))+"}")
		line = s
	}
	parts = append(parts, line)
	next := 1
	return g.exchange(stage, verb, parts[0], func(string) string {
		if next == len(parts) {
			return "*"
		}
		next++
		return parts[next-1]
	})
}

// exchange sends a command and reads up to its tagged reply; more answers a `+`.
func (g *greeter) exchange(stage, verb, args string, more func(challenge string) string) (reply, error) {
	g.tag++
	tag := "A" + strconv.Itoa(g.tag)
	line := tag + " " + verb
	if args != "" {
		line += " " + args
	}
	if err := g.send(stage, verb, line); err != nil {
		return reply{}, err
	}
	r := reply{verb: verb}
	for total := 0; ; {
		line, err := g.line(stage, verb)
		if err != nil {
			return reply{}, err
		}
		if total += len(line) + 1; total > 16*g.lim.login1 || len(r.lines) > 1000 {
			return reply{}, &Error{Kind: ErrLimit, Stage: stage, Command: verb, Text: "answer is too long"}
		}
		h := parseHead(kindUnknown, []byte(line))
		switch {
		case h.kind == kindContinue:
			if err := g.send(stage, verb, more(h.rest)); err != nil {
				return reply{}, err
			}
		case h.kind == kindTagged && strings.HasPrefix(line, tag+" "):
			r.word = h.word
			r.code, r.args, r.text = statusText(h.rest)
			if r.word != "OK" && r.word != "NO" && r.word != "BAD" {
				return reply{}, &Error{Kind: ErrProtocol, Stage: stage, Command: verb, Text: "tagged reply is neither OK, NO nor BAD"}
			}
			return r, nil
		case h.kind == kindStatus && h.word == "BYE":
			code, _, text := statusText(h.rest)
			return reply{}, &Error{Kind: ErrBye, Stage: stage, Command: verb, Code: code, Text: text}
		case strings.HasPrefix(line, "*"):
			r.lines = append(r.lines, line)
		}
		// Anything else (an empty line, a reply to nobody) is skipped.
	}
}

func (g *greeter) send(stage, verb, line string) error {
	if _, err := g.nc.Write([]byte(line + "\r\n")); err != nil {
		return g.ioError(stage, verb, err)
	}
	return nil
}

// line reads one response without its line end; literals stand in it as quoted strings.
func (g *greeter) line(stage, verb string) (string, error) {
	var out []byte
	for {
		frag, err := g.br.ReadSlice('\n')
		if len(out)+len(frag) > g.lim.login1 {
			return "", &Error{Kind: ErrLimit, Stage: stage, Command: verb, Text: "line is too long"}
		}
		out = append(out, frag...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return "", g.ioError(stage, verb, err)
		}
		s := strings.TrimRight(string(out), "\r\n")
		n := literalSize(s)
		if n < 0 {
			return s, nil
		}
		if n > g.lim.login1-len(out) {
			return "", &Error{Kind: ErrLimit, Stage: stage, Command: verb, Text: "literal is too large"}
		}
		lit := make([]byte, n)
		if _, err := io.ReadFull(g.br, lit); err != nil {
			return "", g.ioError(stage, verb, err)
		}
		out = append([]byte(s[:strings.LastIndexByte(s, '{')]), quote(string(lit))...)
	}
}

// literalSize is n of a data line that ends in {n}, else -1.
func literalSize(line string) int {
	if !strings.HasSuffix(line, "}") || !strings.HasPrefix(line, "* ") {
		return -1
	}
	if h := parseHead(kindUnknown, []byte(line)); h.kind != kindData {
		return -1
	}
	i := strings.LastIndexByte(line, '{')
	if i < 0 {
		return -1
	}
	n, err := strconv.ParseUint(line[i+1:len(line)-1], 10, 31)
	if err != nil {
		return -1
	}
	return int(n)
}

func (g *greeter) ioError(stage, verb string, err error) error {
	kind := ErrClosed
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		kind = ErrTimeout
	}
	if errors.Is(err, io.EOF) && stage == StageGreeting {
		err = fmt.Errorf("connection closed before greeting: %w", err)
	}
	return &Error{Kind: kind, Stage: stage, Command: verb, Err: err}
}

// quotable says whether s can be a quoted string (RFC 3501 section 9: QUOTED-CHAR).
func quotable(s string) bool {
	return len(s) <= 1024 && !strings.ContainsFunc(s, func(r rune) bool { return r == 0 || r == '\r' || r == '\n' || r > '~' })
}

func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
