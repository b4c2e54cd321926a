package imaptest

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Relay stands between a client and a server and does to the bytes what networks and
// proxies do. It knows so much of IMAP that it can find responses and literals, so it
// stands in front of a port without TLS. All methods MAY be called by many goroutines; it
// is closed with the test.
type Relay struct {
	to   string
	ln   net.Listener
	wg   sync.WaitGroup
	done chan struct{}

	mu    sync.Mutex
	fault Fault
	links map[*relayLink]struct{}
	count int
	bytes [2]int64 // of all connections, by Direction
}

// Direction is a way through a Relay.
type Direction int

// The ways.
const (
	ToServer Direction = iota
	ToClient
)

// Fault is what a Relay does to the connections made from now on; the zero value lets
// everything through. What happens at a place happens once per connection.
type Fault struct {
	// Ends, after exactly so many bytes of a way; 0 = never. How says how.
	CutToClient, CutToServer int64
	How                      Cut

	// Latency is by how much every piece of a command comes later to the server.
	Latency time.Duration

	// Of the way to the client.
	Stall      Place  // where it stops for good, the connection staying open
	StallAt    int    // in or behind the so-many-th response (before: in front of it), from 1; 0 = the first
	Chunk      int    // writes of at most so many bytes; 0 = as they come
	SplitCRLF  bool   // CR and LF in two writes
	Rate       int    // bytes a second; 0 = as fast as it goes
	SwallowTag string // the tagged OK of the first command of this verb ("UID STORE") never comes
	Inject     string // sent in front of the InjectAt-th response (from 1); {tag} is the tag of the last command
	InjectAt   int
	InjectEnds bool // and the connection ends behind it
}

// Cut says how a connection ends.
type Cut int

// The ends of connections.
const (
	CutClose    Cut = iota // FIN both ways
	CutReset               // RST to the client
	CutHalfOpen            // nothing more goes through, and nobody is told
)

// Place is where in the dialogue something happens.
type Place int

// Places in a response.
const (
	Nowhere        Place = iota
	BeforeResponse       // in front of a response
	MidLine              // in its first line
	BeforeLiteral        // behind a `{n}` and its line end
	InLiteral            // in the middle of a literal's bytes
	BehindLiteral        // behind the last byte of a literal
)

// NewRelay starts one before a server, on a free port of the loopback.
func NewRelay(t TB, s Server) *Relay {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("relay: %v", err)
	}
	r := &Relay{to: net.JoinHostPort(s.Host, strconv.Itoa(s.Port)), ln: ln, done: make(chan struct{}), links: map[*relayLink]struct{}{}}
	t.Cleanup(r.close)
	r.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			r.connect(c)
		}
	})
	return r
}

// Through is the server as it is reached by way of the relay.
func (r *Relay) Through(s Server) Server {
	a := r.ln.Addr().(*net.TCPAddr)
	s.Host, s.Port = a.IP.String(), a.Port
	return s
}

// Dial connects through the relay, whatever the address.
func (r *Relay) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", r.ln.Addr().String())
}

// Set says what happens to connections made from now on.
func (r *Relay) Set(f Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = f
}

// Cut ends all connections there are.
func (r *Relay) Cut(how Cut) {
	r.mu.Lock()
	links := make([]*relayLink, 0, len(r.links))
	for l := range r.links {
		links = append(links, l)
	}
	r.mu.Unlock()
	for _, l := range links {
		l.cut(how)
	}
}

// Connections is how many were made so far.
func (r *Relay) Connections() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count
}

// Bytes is what came in of a way, of all connections.
func (r *Relay) Bytes(d Direction) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes[d]
}

func (r *Relay) close() {
	_ = r.ln.Close()
	close(r.done)
	r.mu.Lock()
	for l := range r.links {
		_ = l.client.Close()
		_ = l.server.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
}

func (r *Relay) connect(client net.Conn) {
	server, err := net.DialTimeout("tcp", r.to, 10*time.Second)
	if err != nil {
		_ = client.Close()
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	l := &relayLink{r: r, f: r.fault, client: client, server: server, dead: make(chan struct{}), verbs: map[string]string{}}
	r.links[l] = struct{}{}
	r.count++
	var both sync.WaitGroup
	both.Add(2)
	r.wg.Go(func() { defer both.Done(); l.toServer() })
	r.wg.Go(func() { defer both.Done(); l.toClient() })
	r.wg.Go(func() {
		both.Wait()
		_ = client.Close()
		_ = server.Close()
		r.mu.Lock()
		delete(r.links, l)
		r.mu.Unlock()
	})
}

// relayLink is one connection through a Relay.
type relayLink struct {
	r              *Relay
	f              Fault
	client, server net.Conn
	once           sync.Once
	dead           chan struct{} // nothing goes through any more
	halfOpen       bool          // and nobody was told; set before dead is closed
	sent           [2]int64

	mu    sync.Mutex
	verbs map[string]string // tag → verb, of commands that are not answered
	last  string            // tag
}

// cut ends a connection.
func (l *relayLink) cut(how Cut) {
	l.once.Do(func() {
		l.halfOpen = how == CutHalfOpen
		close(l.dead)
	})
	switch c, isTCP := l.client.(*net.TCPConn); {
	case how == CutHalfOpen:
		return // both ends stay open, and see nothing
	case how == CutReset && isTCP:
		_ = c.SetLinger(0)
	}
	_ = l.client.Close()
	_ = l.server.Close()
}

func (l *relayLink) isDead() bool {
	select {
	case <-l.dead:
		return true
	default:
		return false
	}
}

// stall lets nothing more through.
func (l *relayLink) stall() error {
	l.cut(CutHalfOpen)
	return io.ErrClosedPipe
}

// ended waits, where nobody was told that a connection is over, until the relay is closed;
// what still comes is taken and lost. The end of one side is not told to the other.
func (l *relayLink) ended(from, to net.Conn) {
	if l.isDead() && l.halfOpen {
		_, _ = io.Copy(io.Discard, from)
		<-l.r.done
		return
	}
	_ = to.Close()
}

// toServer passes commands on, and remembers which command has which tag.
func (l *relayLink) toServer() {
	defer l.ended(l.client, l.server)
	br := bufio.NewReaderSize(l.client, 64<<10)
	for {
		line, err := br.ReadSlice('\n')
		l.heard(line)
		if l.f.Latency > 0 && !l.wait(l.f.Latency) {
			break
		}
		if werr := l.write(l.server, ToServer, line); werr != nil {
			break
		}
		if err != nil && err != bufio.ErrBufferFull {
			break
		}
	}
}

// heard notes a command's tag. Lines in literals may be taken for commands; no reply has
// such a tag.
func (l *relayLink) heard(line []byte) {
	words := strings.Fields(string(line[:min(len(line), 200)]))
	if len(words) < 2 {
		return
	}
	verb := strings.ToUpper(words[1])
	if verb == "UID" && len(words) > 2 {
		verb += " " + strings.ToUpper(words[2])
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.verbs) < 1000 {
		l.verbs[words[0]] = verb
	}
	l.last = words[0]
}

// toClient passes responses on, with what happens to them.
func (l *relayLink) toClient() {
	defer l.ended(l.server, l.client)
	br := bufio.NewReaderSize(l.server, 64<<10)
	for n := 1; l.response(br, n) == nil; n++ {
	}
}

// response passes on one response, lines and literals.
func (l *relayLink) response(br *bufio.Reader, n int) error {
	f := &l.f
	at := func(p Place) bool { return f.Stall == p && n >= max(1, f.StallAt) }
	first := true
	for {
		line, err := br.ReadBytes('\n')
		if len(line) == 0 {
			return err
		}
		if first {
			if f.InjectAt == n {
				l.mu.Lock()
				text := strings.ReplaceAll(f.Inject, "{tag}", l.last)
				l.mu.Unlock()
				if err := l.send([]byte(text)); err != nil {
					return err
				}
				if f.InjectEnds {
					l.cut(CutClose)
					return io.EOF
				}
			}
			if at(BeforeResponse) {
				return l.stall()
			}
			if l.swallowed(line) {
				return nil
			}
			if at(MidLine) {
				_ = l.send(line[:len(line)/2])
				return l.stall()
			}
		}
		first = false
		if err := l.send(line); err != nil {
			return err
		}
		size, _, literal := literalAtEnd(bytes.TrimRight(line, "\r\n"))
		if err != nil || !literal {
			return err
		}
		if at(BeforeLiteral) {
			return l.stall()
		}
		if at(InLiteral) {
			_ = l.pass(br, size/2)
			return l.stall()
		}
		if err := l.pass(br, size); err != nil {
			return err
		}
		if at(BehindLiteral) {
			return l.stall()
		}
	}
}

// pass sends n bytes on.
func (l *relayLink) pass(br *bufio.Reader, n int) error {
	buf := make([]byte, min(n, 64<<10))
	for n > 0 {
		k, err := br.Read(buf[:min(n, len(buf))])
		if k > 0 {
			if err := l.send(buf[:k]); err != nil {
				return err
			}
			n -= k
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// swallowed says whether a line is the tagged OK that must not come.
func (l *relayLink) swallowed(line []byte) bool {
	if l.f.SwallowTag == "" {
		return false
	}
	tag, rest, _ := strings.Cut(string(line), " ")
	l.mu.Lock()
	defer l.mu.Unlock()
	verb := l.verbs[tag]
	delete(l.verbs, tag)
	if verb != l.f.SwallowTag || !strings.HasPrefix(strings.ToUpper(rest), "OK") {
		return false
	}
	l.f.SwallowTag = ""
	return true
}

// send writes to the client as slowly and in such pieces as is wanted.
func (l *relayLink) send(b []byte) error {
	f := &l.f
	for len(b) > 0 {
		n := len(b)
		if f.Chunk > 0 {
			n = min(n, f.Chunk)
		}
		if f.SplitCRLF {
			if i := bytes.Index(b[:n], []byte("\r\n")); i >= 0 {
				n = i + 1
			}
		}
		if f.Rate > 0 {
			n = min(n, max(1, f.Rate/100))
			if !l.wait(time.Duration(n) * time.Second / time.Duration(f.Rate)) {
				return io.ErrClosedPipe
			}
		}
		if err := l.write(l.client, ToClient, b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// wait is false when the relay was closed, or the connection cut, meanwhile.
func (l *relayLink) wait(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-l.dead:
	case <-l.r.done:
	}
	return false
}

// write counts, and cuts where it is told to.
func (l *relayLink) write(to net.Conn, d Direction, b []byte) error {
	if l.isDead() {
		return io.ErrClosedPipe
	}
	limit := []int64{l.f.CutToServer, l.f.CutToClient}[d]
	last := limit > 0 && l.sent[d]+int64(len(b)) >= limit
	if last {
		b = b[:limit-l.sent[d]]
	}
	_, err := to.Write(b)
	l.sent[d] += int64(len(b))
	l.r.mu.Lock()
	l.r.bytes[d] += int64(len(b))
	l.r.mu.Unlock()
	if last {
		l.cut(l.f.How)
		return io.ErrClosedPipe
	}
	return err
}
