package imapsync

import (
	"bufio"
	"context"
	"crypto/tls"
	"net"
	"slices"
	"strings"
	"time"

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
