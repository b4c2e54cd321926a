package smtptest

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"slices"
	"strings"
	"time"
)

// faultConn is one connection to a Fault.
type faultConn struct {
	f      *Fault
	n      int
	raw    net.Conn
	nc     net.Conn // raw, or TLS
	r      *bufio.Reader
	secure bool
	seen   map[Stage]int
	gone   bool

	user string
	msg  *Message // of the transaction, nil: none
}

// serve speaks until somebody ends it.
func (f *Fault) serve(raw net.Conn) {
	c := &faultConn{f: f, n: f.opened(), raw: raw, nc: raw, r: bufio.NewReader(raw), seen: map[Stage]int{}}
	defer f.closed()
	defer c.abort()
	c.play(AtConnect, "", "")
	if f.o.Implicit && !c.gone {
		c.handshake()
	}
	c.play(AtBanner, "", "220 fault.postrider.test ESMTP")
	for !c.gone {
		line, err := c.line()
		if err != nil {
			return
		}
		c.command(line)
	}
}

func (c *faultConn) line() (string, error) {
	line, err := c.r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	c.f.hear(line, c.secure)
	return line, nil
}

// play asks the script about a step and does it; usual is what a good server says. It
// reports whether that is what was said.
func (c *faultConn) play(stage Stage, line, usual string) bool {
	if c.gone {
		return false
	}
	return c.do(c.ask(stage, line), usual)
}

func (c *faultConn) ask(stage Stage, line string) Act {
	c.seen[stage]++
	if c.f.o.Script == nil {
		return Act{}
	}
	return c.f.o.Script(Step{Conn: c.n, Stage: stage, N: c.seen[stage], Line: line})
}

// do does an act, as play says.
func (c *faultConn) do(act Act, usual string) bool {
	if act.Delay > 0 {
		time.Sleep(act.Delay)
	}
	ends := act.Close || act.Reset
	reply := usual
	if act.Reply != "" || ends {
		reply = strings.ReplaceAll(act.Reply, "\n", "\r\n")
	}
	switch {
	case act.Stall:
		c.gone = true
		<-c.f.done // it reads nothing, so a socket's buffers fill
		return false
	case act.Endless:
		for more := []byte("250-" + strings.Repeat("x", 60) + "\r\n"); c.write(more) == nil; {
		}
		c.gone = true
		return false
	case reply != "" && act.Trickle > 0:
		for _, b := range []byte(reply + "\r\n") {
			if c.write([]byte{b}) != nil {
				c.gone = true
				return false
			}
			time.Sleep(act.Trickle)
		}
	case reply != "":
		c.gone = c.write([]byte(reply+"\r\n"+act.Behind)) != nil
	}
	if ends {
		if tcp, ok := c.raw.(*net.TCPConn); ok && act.Reset {
			_ = tcp.SetLinger(0)
		}
		c.gone = true
		_ = c.raw.Close()
	}
	return !c.gone && (act.Reply == "" || usual != "" && act.Reply[0] == usual[0])
}

func (c *faultConn) write(p []byte) error {
	_, err := c.nc.Write(p)
	return err
}

func (c *faultConn) handshake() {
	t := tls.Server(c.raw, c.f.o.Certificate.Config)
	if err := t.Handshake(); err != nil {
		c.gone = true
		return
	}
	c.nc, c.secure = t, true
	c.r.Reset(t)
}

// abort ends a transaction.
func (c *faultConn) abort() {
	if c.msg != nil {
		c.msg = nil
		c.f.transaction(-1)
	}
}

func (c *faultConn) command(line string) {
	verb, rest, _ := strings.Cut(line, " ")
	switch verb = strings.ToUpper(verb); verb {
	case "EHLO", "HELO":
		c.abort()
		c.play(AtHello, line, c.hello(verb))
	case "STARTTLS":
		if c.play(AtSTARTTLS, line, "220 2.0.0 go ahead") {
			if c.play(AtHandshake, "", ""); !c.gone {
				c.handshake()
			}
		}
	case "AUTH":
		c.auth(line, rest)
	case "MAIL":
		c.mail(line, rest)
	case "RCPT":
		path, params := splitPath(rest)
		if c.msg == nil {
			c.play(AtRcpt, line, "503 5.5.1 MAIL first")
		} else if c.play(AtRcpt, line, "250 2.1.5 OK") {
			c.msg.To, c.msg.Rcpt = append(c.msg.To, path), append(c.msg.Rcpt, params)
		}
	case "DATA":
		if c.msg == nil || len(c.msg.To) == 0 {
			c.play(AtData, line, "503 5.5.1 RCPT first")
		} else if c.play(AtData, line, "354 go ahead") {
			c.data()
		}
	case "RSET":
		c.abort()
		c.play(AtReset, line, "250 2.0.0 OK")
	case "QUIT":
		c.play(AtQuit, line, "221 2.0.0 bye")
		c.gone = true
	default:
		c.gone = c.write([]byte("500 5.5.2 what?\r\n")) != nil
	}
}

func (c *faultConn) hello(verb string) string {
	if verb == "HELO" {
		return "250 fault.postrider.test"
	}
	lines := append([]string{"fault.postrider.test greets you"}, c.f.o.Extensions...)
	if c.f.o.Certificate != nil && !c.secure {
		lines = append(lines, "STARTTLS")
	} else if len(c.f.o.Mechanisms) > 0 {
		lines = append(lines, "AUTH "+strings.Join(c.f.o.Mechanisms, " "))
	}
	for i := range lines {
		lines[i] = "250-" + lines[i]
	}
	last := len(lines) - 1
	lines[last] = strings.Replace(lines[last], "-", " ", 1)
	return strings.Join(lines, "\r\n")
}

// auth plays a mechanism; a step whose reply the script gives ends it, but a 334.
func (c *faultConn) auth(line, rest string) {
	mechanism, initial, _ := strings.Cut(rest, " ")
	if !slices.Contains(c.f.o.Mechanisms, mechanism) {
		c.play(AtAuth, line, "504 5.5.4 no such mechanism")
		return
	}
	prompts := []string{""}
	if mechanism == "LOGIN" {
		prompts = []string{"Username:", "Password:"}
	}
	var said []string
	if initial != "" {
		said = []string{decode(initial)}
	}
	next := func(reply string) bool {
		if !c.play(AtAuth, line, reply) {
			return false
		}
		var err error
		line, err = c.line()
		c.gone = c.gone || err != nil
		return err == nil
	}
	for len(said) < len(prompts) {
		if !next("334 " + base64.StdEncoding.EncodeToString([]byte(prompts[len(said)]))) {
			return
		}
		said = append(said, decode(line))
	}
	if user, ok := login(mechanism, said, c.f.o.Users); ok {
		if c.play(AtAuth, line, "235 2.7.0 welcome") {
			c.user = user
		}
		return
	}
	if mechanism == "XOAUTH2" || mechanism == "OAUTHBEARER" {
		if !next("334 " + base64.StdEncoding.EncodeToString([]byte(`{"status":"401","schemes":"bearer"}`))) {
			return
		}
	}
	c.play(AtAuth, line, "535 5.7.8 bad credentials")
}

func (c *faultConn) mail(line, rest string) {
	c.abort()
	if !c.play(AtMail, line, "250 2.1.0 OK") {
		return
	}
	from, params := splitPath(rest)
	c.msg = &Message{Conn: c.n, User: c.user, TLS: c.secure, From: from, Mail: params}
	c.f.transaction(1)
}

// splitPath takes "FROM:<a@b> X=1" apart.
func splitPath(s string) (path, params string) {
	_, s, _ = strings.Cut(s, "<")
	end := strings.LastIndexByte(s, '>')
	if end < 0 {
		return s, ""
	}
	return s[:end], strings.TrimSpace(s[end+1:])
}

// data reads a body to its dot.
func (c *faultConn) data() {
	var body bytes.Buffer
	sum, size := sha256.New(), int64(0)
	w := io.Writer(sum)
	if !c.f.o.Discard {
		w = io.MultiWriter(sum, &body)
	}
	for begin := true; ; {
		line, err := c.r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			c.gone = true
			return
		}
		if begin {
			if c.f.o.Script != nil {
				if c.play(AtBody, "", ""); c.gone {
					return
				}
			}
			if string(line) == ".\r\n" {
				break
			}
			line = bytes.TrimPrefix(line, []byte("."))
		}
		begin = err == nil
		_, _ = w.Write(line)
		size += int64(len(line))
	}
	m := *c.msg
	c.abort()
	m.finish(size, sum, body.Bytes())
	// What a client hears of it comes after it: who sees the reply sees the message.
	act := c.ask(AtDot, "")
	m.Refused = act.Reply != "" && act.Reply[0] != '2'
	c.f.add(m)
	if c.do(act, "250 2.0.0 taken") {
		c.play(AfterDot, "", "")
	}
}
