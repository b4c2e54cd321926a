package imaptest

import (
	"bufio"
	"bytes"
	"compress/flate"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// mSession is a connection to a Model: one goroutine reads, does and writes; others only
// wake it.
type mSession struct {
	m    *Model
	id   int
	nth  int // commands so far
	c    net.Conn
	raw  *bufio.Reader // of the connection
	br   *bufio.Reader // of commands: raw, or what is inflated of it
	zw   *flate.Writer
	out  []byte
	bye  string // says so and ends
	off  string // bye from outside, taken at the next look; under the user's lock
	over bool   // LOGOUT was answered

	u         *ModelUser
	condstore bool // ENABLEd, or asked for by a command
	qresync   bool
	sel       *mSelected
	notify    *mNotify

	mu      sync.Mutex
	waiting bool
	woken   bool
}

// mSelected is what a session has open.
type mSelected struct {
	f        *mFolder
	validity uint32
	readOnly bool
	uids     []uint32 // the UID behind each sequence number, as told
	next     uint32   // UIDs below it were told as EXISTS, or as expunged
	modseq   uint64   // flag changes up to it were told
	changes  uint64   // of the folder, when all of it was told
}

const (
	maxModelLine    = 1 << 20
	maxModelLiteral = 64 << 20
	maxModelFlush   = 64 << 10
)

func newModelSession(m *Model, c net.Conn, id int) *mSession {
	s := &mSession{m: m, c: c, id: id}
	s.raw = bufio.NewReaderSize(&countedReader{c, m}, 512)
	s.br = s.raw
	return s
}

// countedReader counts what comes in.
type countedReader struct {
	c net.Conn
	m *Model
}

func (r *countedReader) Read(b []byte) (int, error) {
	n, err := r.c.Read(b)
	r.m.in.Add(int64(n))
	return n, err
}

// Write counts what goes out.
func (r *countedReader) Write(b []byte) (int, error) {
	n, err := r.c.Write(b)
	r.m.out.Add(int64(n))
	return n, err
}

// serve runs the connection.
func (s *mSession) serve() {
	defer s.leave()
	if tc, ok := s.c.(*tls.Conn); ok {
		_ = tc.SetDeadline(time.Now().Add(30 * time.Second))
		if tc.Handshake() != nil {
			return
		}
		_ = tc.SetDeadline(time.Time{})
	}
	s.printf("* OK [CAPABILITY %s] ready\r\n", s.capabilities())
	for s.flush() == nil && !s.over {
		if there, err := s.wait(s.notify != nil); err != nil {
			return
		} else if !there {
			s.poll(true)
			continue
		}
		line, err := s.readCommand()
		if err != nil {
			return
		}
		s.command(line)
		if s.bye != "" {
			s.printf("* BYE %s\r\n", s.bye)
			s.over = true
		}
	}
}

func (s *mSession) leave() {
	if s.u != nil {
		s.u.mu.Lock()
		delete(s.u.sessions, s)
		s.u.mu.Unlock()
	}
}

func (s *mSession) printf(format string, args ...any) {
	s.out = fmt.Appendf(s.out, format, args...)
}

// flush writes what there is to say.
func (s *mSession) flush() error {
	if len(s.out) == 0 {
		return nil
	}
	var err error
	if s.zw != nil {
		_, err = s.zw.Write(s.out)
		err = errors.Join(err, s.zw.Flush())
	} else {
		_, err = (&countedReader{s.c, s.m}).Write(s.out)
	}
	if s.out = s.out[:0]; cap(s.out) > 4096 || s.notify == nil && s.sel == nil {
		s.out = nil // an idle connection keeps nothing
	}
	return err
}

// wake tells a session that waits to look at its user's mail. It does not block.
func (s *mSession) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.woken = true
	if s.waiting {
		_ = s.c.SetReadDeadline(time.Unix(1, 0))
	}
}

// wait blocks until the client says something; when it may be woken, false says that it was.
func (s *mSession) wait(wakeable bool) (bool, error) {
	if s.br.Buffered() > 0 {
		return true, nil
	}
	if !wakeable {
		_, err := s.br.Peek(1)
		return true, err
	}
	s.mu.Lock()
	if s.woken {
		s.woken = false
		s.mu.Unlock()
		return false, nil
	}
	s.waiting = true
	s.mu.Unlock()
	_, err := s.raw.Peek(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = false
	if s.woken {
		_ = s.c.SetReadDeadline(time.Time{})
	}
	if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() && s.woken {
		s.woken = false
		return false, nil
	}
	return true, err
}

// readLine reads a line without its end.
func (s *mSession) readLine() ([]byte, error) {
	var line []byte
	for {
		part, err := s.br.ReadSlice('\n')
		line = append(line, part...)
		if err == nil {
			return bytes.TrimRight(line, "\r\n"), nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		if len(line) > maxModelLine {
			return nil, errors.New("line too long")
		}
	}
}

// readCommand reads a line with its literals.
func (s *mSession) readCommand() ([]byte, error) {
	var all []byte
	for {
		line, err := s.readLine()
		if err != nil {
			return nil, err
		}
		all = append(all, line...)
		n, sync, ok := literalAtEnd(line)
		if !ok {
			return all, nil
		}
		if n > maxModelLiteral || len(all)+n > maxModelLiteral+maxModelLine {
			return nil, errors.New("literal too large")
		}
		if sync {
			s.printf("+ go on\r\n")
			if err := s.flush(); err != nil {
				return nil, err
			}
		}
		all = append(all, "\r\n"...)
		at := len(all)
		all = append(all, make([]byte, n)...)
		if _, err := io.ReadFull(s.br, all[at:]); err != nil {
			return nil, err
		}
	}
}

// literalAtEnd reads `{n}` or `{n+}` at the end of a line.
func literalAtEnd(line []byte) (n int, sync, ok bool) {
	i := bytes.LastIndexByte(line, '{')
	if i < 0 || line[len(line)-1] != '}' {
		return 0, false, false
	}
	digits, plus := strings.CutSuffix(string(line[i+1:len(line)-1]), "+")
	n, err := strconv.Atoi(digits)
	return n, !plus, err == nil && n >= 0
}

// command does a command and answers it.
func (s *mSession) command(line []byte) {
	p := &mParser{b: line}
	tag := p.word("(){\"*+")
	p.sp()
	name := p.atom()
	if name == "UID" {
		p.sp()
		name += " " + p.atom()
	}
	if p.err != nil {
		s.printf("* BAD not a command\r\n")
		return
	}
	s.nth++
	cmd := ModelCommand{Session: s.id, Nth: s.nth, Tag: tag, Name: name}
	if name != "LOGIN" && name != "AUTHENTICATE" {
		cmd.Args = strings.TrimPrefix(string(p.b[p.i:]), " ")
	}
	var lies Lies
	if s.u != nil {
		s.u.mu.Lock()
		lies, cmd.User = s.u.lies, s.u.name
		if s.sel != nil {
			cmd.Folder = s.sel.f.name
		}
		s.u.hear(cmd)
		s.u.mu.Unlock()
	}
	s.m.mu.Lock()
	s.m.commands[name]++
	hook := s.m.hook
	s.m.mu.Unlock()
	var act Act
	if hook != nil {
		act = hook(cmd)
	}
	if d, ok := byCommand(lies.Delay, name); ok {
		act.Delay += d
	}
	if act.Delay > 0 {
		select {
		case <-time.After(act.Delay):
		case <-s.m.done:
		}
	}
	s.out = append(s.out, strings.ReplaceAll(act.Send, "{tag}", tag)...)
	switch before := len(s.out); {
	case act.Instead:
	default:
		answer := s.answer(name, p, tag, &lies)
		if act.Swallow {
			s.out = s.out[:min(before, len(s.out))]
		} else if answer != "" && !act.Untag {
			s.printf("%s %s\r\n", tag, answer)
		}
	}
	if act.Drop {
		s.over = true
	}
}

// answer does a command and returns what stands behind its tag; "" when that was said.
func (s *mSession) answer(name string, p *mParser, tag string, lies *Lies) string {
	if text, ok := byCommand(lies.Bye, name); ok && name != "LOGOUT" {
		s.bye = text
		return ""
	}
	if text, ok := byCommand(lies.Refuse, name); ok && name != "LOGOUT" {
		return text
	}
	h, known := modelCommands[name]
	switch {
	case !known || h.needs != "" && !s.m.d.Has(h.needs):
		return "BAD unknown command"
	case h.state > 0 && s.u == nil, h.state == 0 && s.u != nil:
		return "BAD not now"
	case h.state > 1 && s.sel == nil:
		return "BAD no folder is open"
	}
	answer := h.do(s, p, tag)
	if p.err != nil {
		return "BAD " + p.err.Error()
	}
	if s.u != nil && s.bye == "" && !s.over {
		s.poll(!h.keepsNumbers)
	}
	return answer
}

// modelCommand says how a command is done: in which state (-1 any, 0 before login, 1
// after it, 2 with a folder), with which capability, and whether expunges must wait for a
// later one, because the client counts in sequence numbers (RFC 3501 section 7.4.1).
type modelCommand struct {
	state        int
	needs        string
	keepsNumbers bool
	do           func(s *mSession, p *mParser, tag string) string
}

var modelCommands = map[string]modelCommand{
	"CAPABILITY":   {-1, "", false, (*mSession).doCapability},
	"NOOP":         {-1, "", false, func(_ *mSession, p *mParser, _ string) string { p.done(); return "OK nothing done" }},
	"LOGOUT":       {-1, "", false, (*mSession).doLogout},
	"ID":           {-1, "ID", false, (*mSession).doID},
	"LOGIN":        {0, "", false, (*mSession).doLogin},
	"AUTHENTICATE": {0, "", false, (*mSession).doAuthenticate},
	"ENABLE":       {1, "ENABLE", false, (*mSession).doEnable},
	"NAMESPACE":    {1, "NAMESPACE", false, (*mSession).doNamespace},
	"LIST":         {1, "", false, (*mSession).doList},
	"LSUB":         {1, "", false, (*mSession).doLsub},
	"STATUS":       {1, "", false, (*mSession).doStatus},
	"SELECT":       {1, "", false, func(s *mSession, p *mParser, _ string) string { return s.doSelect(p, false) }},
	"EXAMINE":      {1, "", false, func(s *mSession, p *mParser, _ string) string { return s.doSelect(p, true) }},
	"CREATE":       {1, "", false, (*mSession).doCreate},
	"DELETE":       {1, "", false, (*mSession).doDelete},
	"RENAME":       {1, "", false, (*mSession).doRename},
	"SUBSCRIBE":    {1, "", false, func(s *mSession, p *mParser, _ string) string { return s.doSubscribe(p, true) }},
	"UNSUBSCRIBE":  {1, "", false, func(s *mSession, p *mParser, _ string) string { return s.doSubscribe(p, false) }},
	"APPEND":       {1, "", false, (*mSession).doAppend},
	"IDLE":         {1, "IDLE", false, (*mSession).doIdle},
	"NOTIFY":       {1, "NOTIFY", false, (*mSession).doNotify},
	"COMPRESS":     {1, "COMPRESS=DEFLATE", false, (*mSession).doCompress},
	"CLOSE":        {2, "", false, (*mSession).doClose},
	"UNSELECT":     {2, "UNSELECT", false, func(s *mSession, p *mParser, _ string) string { p.done(); s.sel = nil; return "OK closed" }},
	"CHECK":        {2, "", false, func(_ *mSession, p *mParser, _ string) string { p.done(); return "OK checked" }},
	"EXPUNGE":      {2, "", false, func(s *mSession, p *mParser, _ string) string { return s.doExpunge(p, false) }},
	"UID EXPUNGE":  {2, "UIDPLUS", false, func(s *mSession, p *mParser, _ string) string { return s.doExpunge(p, true) }},
	"FETCH":        {2, "", true, func(s *mSession, p *mParser, _ string) string { return s.doFetch(p, false) }},
	"UID FETCH":    {2, "", false, func(s *mSession, p *mParser, _ string) string { return s.doFetch(p, true) }},
	"SEARCH":       {2, "", true, func(s *mSession, p *mParser, tag string) string { return s.doSearch(p, tag, false) }},
	"UID SEARCH":   {2, "", false, func(s *mSession, p *mParser, tag string) string { return s.doSearch(p, tag, true) }},
	"STORE":        {2, "", true, func(s *mSession, p *mParser, _ string) string { return s.doStore(p, false) }},
	"UID STORE":    {2, "", false, func(s *mSession, p *mParser, _ string) string { return s.doStore(p, true) }},
	"COPY":         {2, "", false, func(s *mSession, p *mParser, _ string) string { return s.doCopy(p, false, false) }},
	"UID COPY":     {2, "", false, func(s *mSession, p *mParser, _ string) string { return s.doCopy(p, true, false) }},
	"MOVE":         {2, "MOVE", false, func(s *mSession, p *mParser, _ string) string { return s.doCopy(p, false, true) }},
	"UID MOVE":     {2, "MOVE", false, func(s *mSession, p *mParser, _ string) string { return s.doCopy(p, true, true) }},
}

func (s *mSession) capabilities() string {
	caps := slices.DeleteFunc(slices.Clone(s.m.d.Caps), func(c string) bool {
		if s.u != nil {
			return strings.HasPrefix(c, "AUTH=") || c == "SASL-IR" || c == "COMPRESS=DEFLATE" && s.zw != nil
		}
		return false
	})
	return strings.Join(append([]string{"IMAP4rev1"}, caps...), " ")
}

func (s *mSession) doCapability(p *mParser, _ string) string {
	p.done()
	s.printf("* CAPABILITY %s\r\n", s.capabilities())
	return "OK these"
}

func (s *mSession) doLogout(p *mParser, _ string) string {
	if p.done() {
		s.printf("* BYE see you\r\n")
		s.over = true
	}
	return "OK gone"
}

func (s *mSession) doID(p *mParser, _ string) string {
	p.sp()
	if p.peek() == '(' {
		p.list(func() {
			if p.peek() != '"' && p.peek() != '{' {
				p.atom() // NIL
				return
			}
			p.astring()
		})
	} else {
		p.atom()
	}
	if p.done() {
		s.printf("* ID (\"name\" %s \"version\" %s)\r\n", quoted(s.m.d.IDName), quoted(s.m.d.IDVersion))
	}
	return "OK pleased"
}

func (s *mSession) doNamespace(p *mParser, _ string) string {
	p.done()
	s.printf("* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n")
	return "OK spaces"
}

func (s *mSession) doLogin(p *mParser, _ string) string {
	p.sp()
	user := p.astring()
	p.sp()
	pass := p.astring()
	if !p.done() {
		return ""
	}
	return s.login(user, pass)
}

// login lets a user in, and says so.
func (s *mSession) login(user, pass string) string {
	s.m.mu.Lock()
	u := s.m.users[user]
	s.m.mu.Unlock()
	if u == nil {
		return "NO [AUTHENTICATIONFAILED] wrong user or password"
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	name := "LOGIN"
	if text, ok := u.lies.Bye[name]; ok {
		s.bye = text
		return ""
	}
	if text, ok := u.lies.Refuse[name]; ok {
		return text
	}
	if pass != u.pass {
		return "NO [AUTHENTICATIONFAILED] wrong user or password"
	}
	s.u = u
	u.sessions[s] = struct{}{}
	u.logins++
	u.most = max(u.most, len(u.sessions))
	u.hear(ModelCommand{User: u.name, Session: s.id, Nth: s.nth, Name: name})
	return "OK [CAPABILITY " + s.capabilities() + "] welcome"
}

func (s *mSession) doAuthenticate(p *mParser, _ string) string {
	p.sp()
	mech := p.atom()
	if !s.m.d.Has("AUTH=" + mech) {
		return "NO no such mechanism"
	}
	var first string
	if p.take(' ') {
		first = p.word("")
	} else if s.printf("+ \r\n"); s.flush() == nil {
		line, err := s.readLine()
		if err != nil {
			s.over = true
			return ""
		}
		first = string(line)
	}
	raw, err := base64.StdEncoding.DecodeString(first)
	if err != nil || !p.done() {
		return "BAD no credentials"
	}
	switch mech {
	case "PLAIN": // RFC 4616: authzid NUL authcid NUL passwd
		if parts := strings.Split(string(raw), "\x00"); len(parts) == 3 {
			return s.login(parts[1], parts[2])
		}
	case "XOAUTH2":
		user, rest, _ := strings.Cut(strings.TrimPrefix(string(raw), "user="), "\x01")
		answer := s.login(user, strings.TrimRight(strings.TrimPrefix(rest, "auth=Bearer "), "\x01"))
		if !strings.HasPrefix(answer, "OK") && s.bye == "" {
			s.printf("+ %s\r\n", base64.StdEncoding.EncodeToString([]byte(`{"status":"400","schemes":"Bearer"}`)))
			if s.flush() == nil {
				_, _ = s.readLine()
			}
		}
		return answer
	}
	return "BAD no credentials"
}

func (s *mSession) doCompress(p *mParser, tag string) string {
	p.sp()
	if p.atom() != "DEFLATE" || !p.done() || s.zw != nil {
		return "BAD not so"
	}
	s.printf("%s OK deflating\r\n", tag)
	if s.flush() != nil {
		s.over = true
		return ""
	}
	s.br = bufio.NewReaderSize(flate.NewReader(s.raw), maxModelFlush)
	s.zw, _ = flate.NewWriter(&countedReader{s.c, s.m}, flate.BestSpeed) // the level is a known one
	return ""
}
