package api_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/store"
)

// tape is the client's end of a stream: everything that was written to it.
type tape struct {
	lockedBuffer
	header http.Header
	status int
	cancel context.CancelFunc
	done   chan struct{}
}

func (w *tape) Header() http.Header              { return w.header }
func (w *tape) WriteHeader(status int)           { w.status = status }
func (w *tape) Flush()                           {}
func (w *tape) SetWriteDeadline(time.Time) error { return nil }

// take is what came since the last take.
func (w *tape) take() string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.b.String()
	w.b.Reset()
	return s
}

// follow opens a stream; it ends with the test at the latest.
func (f *face) follow(query string, change ...func(*http.Request)) *tape {
	f.t.Helper()
	ctx, cancel := context.WithCancel(f.t.Context())
	w := &tape{header: http.Header{}, cancel: cancel, done: make(chan struct{})}
	r := f.request("GET", "/v1/events/stream"+query, "").WithContext(ctx)
	for _, c := range change {
		c(r)
	}
	go func() {
		defer close(w.done)
		f.s.ServeHTTP(w, r)
	}()
	f.t.Cleanup(func() { cancel(); <-w.done })
	synctest.Wait()
	return w
}

var idLine = regexp.MustCompile(`(?m)^id: (.*)$`)

func lastID(s string) string {
	all := idLine.FindAllStringSubmatch(s, -1)
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1][1]
}

func (f *face) create(id string) {
	f.t.Helper()
	if _, err := f.store.CreateAccount(f.t.Context(), store.Account{ID: store.AccountID(id)}); err != nil {
		f.t.Fatal(err)
	}
}

func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := inBubble(t)
		f.create("jo")
		f.create("ann")
		w := f.follow("?cursor=begin")
		got := w.take()
		if w.status != 200 || w.header.Get("Content-Type") != "text/event-stream" || !strings.HasPrefix(got, "retry: 3000\n\n") {
			t.Fatalf("%d %v %q", w.status, w.header, got)
		}
		if !regexp.MustCompile(`retry: 3000\n\nid: \S+\nevent: accountAdded\ndata: \{"serviceUrl":null,"account":"(jo|ann)",.*"seq":1,.*\}\n\n`).MatchString(got) || strings.Count(got, "\nid: ") != 2 {
			t.Errorf("first event: %q", got)
		}

		// who breaks off within a page goes on behind the last event that came whole
		first := idLine.FindStringSubmatch(got)[1]
		again := f.follow("", func(r *http.Request) { r.Header.Set("Last-Event-ID", first) })
		if rest := again.take(); !strings.HasSuffix(got, rest[strings.Index(rest, "id: "):]) || strings.Count(rest, "event: ") != 1 {
			t.Errorf("behind the first event: %q", rest)
		}
		again.cancel()
		<-again.done

		// woken: at once; not woken: within a second
		f.create("eve")
		f.s.Wake(store.Shard("eve"))
		if got := w.take(); !strings.Contains(got, `"account":"eve"`) {
			t.Errorf("after Wake: %q", got)
		}
		f.create("kim")
		if got := w.take(); got != "" {
			t.Errorf("without Wake, at once: %q", got)
		}
		time.Sleep(1100 * time.Millisecond)
		got = w.take()
		if !strings.Contains(got, `"account":"kim"`) {
			t.Errorf("without Wake, after a second: %q", got)
		}
		id := lastID(got)

		// quiet: a comment every 15 seconds, and no id that is known already
		time.Sleep(15*time.Second + 100*time.Millisecond)
		if got := w.take(); got != ": \n\n" {
			t.Errorf("quiet: %q", got)
		}

		// connecting again with the last id: what happened meanwhile, once
		w.cancel()
		<-w.done
		f.create("lee")
		w = f.follow("?cursor=begin", func(r *http.Request) { r.Header.Set("Last-Event-ID", id) })
		if got := w.take(); strings.Count(got, "event: ") != 1 || !strings.Contains(got, `"account":"lee"`) {
			t.Errorf("connected again: %q", got)
		}

		// the end
		f.s.Drain()
		if got := w.take(); got != ": bye\n\n" {
			t.Errorf("drained: %q", got)
		}
		<-w.done
		if got := f.call(503, "GET", "/v1/events", ""); got["code"] != "ShuttingDown" {
			t.Errorf("after Drain: %v", got)
		}
		f.call(200, "GET", "/livez", "")
		f.call(503, "GET", "/readyz", "")
	})
}

func TestFilteredStreamMovesItsCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := inBubble(t)
		w := f.follow("?events=messageNew")
		first := w.take()
		if lastID(first) == "" {
			t.Fatalf("no position at the beginning: %q", first)
		}
		f.create("jo")
		time.Sleep(15*time.Second + 100*time.Millisecond)
		got := w.take()
		if strings.Contains(got, "event:") || !strings.Contains(got, ": \n\nid: ") || lastID(got) == lastID(first) {
			t.Errorf("after an event that is not wanted: %q", got)
		}
		w = f.follow("?events=accountAdded", func(r *http.Request) { r.Header.Set("Last-Event-ID", lastID(got)) })
		if got := w.take(); strings.Contains(got, "event:") {
			t.Errorf("the cursor was behind: %q", got)
		}
	})
}

func TestStreamOfOneAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := inBubble(t)
		f.create("jo")
		f.create("eve")
		bound := f.tokenWith(store.Token{Scopes: []string{"events"}, Account: "eve"})
		for name, w := range map[string]*tape{
			"asked for": f.follow("?cursor=begin&account=eve"),
			"bound to":  f.follow("?cursor=begin", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+bound) }),
		} {
			if got := w.take(); strings.Count(got, "event: ") != 1 || !strings.Contains(got, `"account":"eve"`) {
				t.Errorf("%s: %q", name, got)
			}
		}
	})
}

func TestRevokedTokenEndsItsStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := inBubble(t)
		value, token, err := f.store.CreateToken(t.Context(), store.Token{Scopes: []string{"events"}})
		if err != nil {
			t.Fatal(err)
		}
		w := f.follow("", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+value) })
		time.Sleep(time.Minute)
		w.take()
		if err := f.store.DeleteToken(t.Context(), token.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5*time.Second + time.Millisecond)
		if got := w.take(); !strings.Contains(got, "event: problem\ndata: {") || !strings.Contains(got, `"Unauthenticated"`) {
			t.Errorf("after 5 s: %q", got)
		}
		<-w.done
	})
}

// A Redis that is away for a while does not end a stream: a browser that is hung up on
// with an error does not come back.
func TestStreamOutlivesTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := inBubble(t)
		w := f.follow("")
		w.take()
		f.mini.SetError("LOADING Redis is loading the dataset in memory")
		time.Sleep(20 * time.Second)
		if got := w.take(); !strings.Contains(got, ": store unavailable\n\n") || strings.Contains(got, "event:") {
			t.Errorf("while Redis is away: %q", got)
		}
		f.mini.SetError("")
		f.create("jo")
		time.Sleep(3 * time.Second)
		if got := w.take(); strings.Count(got, "event: accountAdded") != 1 {
			t.Errorf("when Redis is back: %q", got)
		}
	})
}

func TestExpiredCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := inBubble(t)
		f.create("jo")
		old := f.call(200, "GET", "/v1/events?cursor=begin", "")["cursor"].(string)
		for range 5 {
			f.call(200, "PUT", "/v1/account/jo/pause", "")
			f.call(200, "PUT", "/v1/account/jo/resume", "")
		}
		time.Sleep(100 * time.Hour)
		f.call(200, "PUT", "/v1/account/jo/pause", "")
		if err := f.store.TrimJournal(t.Context(), 72*time.Hour); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"/v1/events?cursor=" + old, "/v1/events/stream?cursor=" + old, "/v1/account/jo/events?after=1"} {
			got := f.call(410, "GET", path, "")
			if got["code"] != "CursorExpired" || got["oldest"] == nil {
				t.Errorf("%s: %v", path, got)
			}
		}
		got := f.call(200, "GET", "/v1/account/jo/events?after=0", "")
		if events := got["events"].([]any); len(events) != 1 || got["oldest"] != got["newest"] || got["epoch"] == nil {
			t.Errorf("what is kept: %v", got)
		}
	})
}

func TestStreamsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := inBubble(t)
		var open []*tape
		for range 5 {
			open = append(open, f.follow(""))
		}
		if got := f.call(429, "GET", "/v1/events/stream", ""); got["code"] != "RateLimited" {
			t.Errorf("6th stream: %v", got)
		}
		for i := range 19 {
			token := f.tokenWith(store.Token{Scopes: []string{"events"}, Description: fmt.Sprint(i)})
			for range 5 {
				open = append(open, f.follow("", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }))
			}
		}
		other := f.tokenWith(store.Token{Scopes: []string{"events"}})
		r := f.request("GET", "/v1/events/stream", "")
		r.Header.Set("Authorization", "Bearer "+other)
		if w := f.send(r); w.Code != 503 || w.Header().Get("Retry-After") == "" {
			t.Errorf("101st stream: %d", w.Code)
		}
		if families, err := f.reg.Gather(); err != nil || !strings.Contains(fmt.Sprint(families), "postrider_event_streams") {
			t.Errorf("metrics: %v", err)
		}
		open[0].cancel()
		<-open[0].done
		if w := f.follow(""); w.status != 200 {
			t.Errorf("after one has gone: %d", w.status)
		}
	})
}

// pipes is a listener whose connections have no buffer at all.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *pipes) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// connect serves one connection without buffers and gives the client's end of it.
func (f *face) connect() net.Conn {
	f.t.Helper()
	l := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	server := &http.Server{Handler: f.s, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	client, peer := net.Pipe()
	f.t.Cleanup(func() {
		_ = client.Close()
		_ = server.Close()
		<-served
	})
	l.conns <- peer
	return client
}

// A body that does not come is given up: 10 s, and a second more for each 16 KiB.
func TestBodyThatDoesNotCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := inBubble(t)
		client := f.connect()
		start := time.Now()
		if _, err := fmt.Fprintf(client, "PUT /v1/account/jo HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 32768\r\n\r\n{", f.token); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if waited := time.Since(start); res.StatusCode != 504 || !res.Close || waited != 12*time.Second {
			t.Errorf("%d after %s, close %v", res.StatusCode, waited, res.Close)
		}
	})
}

func TestReaderThatStopsReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := inBubble(t)
		client := f.connect()
		if _, err := fmt.Fprintf(client, "GET /v1/events/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", f.token); err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(client)
		for line := ""; line != "retry: 3000\n"; {
			var err error
			if line, err = in.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		f.create("jo") // whose event nobody reads
		start := time.Now()
		for !strings.Contains(f.log.String(), "route=/v1/events/stream") {
			time.Sleep(time.Second)
			if time.Since(start) > 2*time.Minute {
				t.Fatal("the stream is still open")
			}
		}
		if waited := time.Since(start); waited < 29*time.Second || waited > 50*time.Second {
			t.Errorf("closed after %s, want about 30s of no progress", waited)
		}
	})
}

func TestLongPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := inBubble(t, func(o *api.Options) { o.Config.MaxConcurrent = 1 })
		f.create("jo")
		first := f.call(200, "GET", "/v1/events?cursor=now", "")

		start := time.Now()
		got := f.call(200, "GET", "/v1/events?wait=5&cursor="+first["cursor"].(string), "")
		if waited := time.Since(start); waited != 5*time.Second || got["cursor"] != first["cursor"] || len(got["events"].([]any)) != 0 {
			t.Errorf("nothing, after %s: %v", waited, got)
		}

		type answer struct {
			got map[string]any
			at  time.Time
		}
		poll := func(path string) chan answer {
			ch := make(chan answer, 1)
			go func() { ch <- answer{f.call(200, "GET", path, ""), time.Now()} }()
			synctest.Wait()
			return ch
		}
		all := poll("/v1/events?wait=60&cursor=" + first["cursor"].(string))
		time.Sleep(3 * time.Second)
		start = time.Now()
		f.create("eve") // while a poll waits, the one place for requests is free
		f.s.Wake(store.Shard("eve"))
		a := <-all
		if a.at.Sub(start) > 100*time.Millisecond || len(a.got["events"].([]any)) != 1 {
			t.Errorf("woken after %s: %v", a.at.Sub(start), a.got)
		}

		journal := poll("/v1/account/eve/events?wait=60&after=1")
		start = time.Now()
		f.call(200, "PUT", "/v1/account/eve/pause", "")
		a = <-journal
		if events := a.got["events"].([]any); a.at.Sub(start) > 1100*time.Millisecond || len(events) != 1 || a.got["after"] != 2.0 {
			t.Errorf("journal after %s: %v", a.at.Sub(start), a.got)
		}
	})
}

// Reading by cursor in pages while more arrive misses nothing and repeats nothing.
func TestReadByCursor(t *testing.T) {
	f := newFace(t)
	seqs := map[string]float64{}
	total, cursor := 0, "begin"
	for round := range 30 {
		for i := range 10 {
			f.create(fmt.Sprintf("a%d-%d", round, i))
		}
		f.call(200, "PUT", "/v1/account/a0-0/pause", "")
		f.call(200, "PUT", "/v1/account/a0-0/resume", "")
		page := f.call(200, "GET", "/v1/events?limit=7&cursor="+cursor, "")
		for page["more"] == true || len(page["events"].([]any)) > 0 {
			for _, e := range page["events"].([]any) {
				e := e.(map[string]any)
				account, seq := e["account"].(string), e["seq"].(float64)
				if seq != seqs[account]+1 {
					t.Fatalf("%s: seq %v after %v", account, seq, seqs[account])
				}
				seqs[account] = seq
				total++
			}
			cursor = page["cursor"].(string)
			if len(cursor) > 512 {
				t.Fatalf("cursor of %d characters", len(cursor))
			}
			if round < 29 && page["more"] != true {
				break
			}
			page = f.call(200, "GET", "/v1/events?limit=7&cursor="+cursor, "")
		}
	}
	if want := 30*10 + 30*2; total != want || len(seqs) != 300 {
		t.Errorf("%d events of %d accounts, want %d of 300", total, len(seqs), want)
	}
	got := f.call(200, "GET", "/v1/events?limit=1000&events=accountPaused,accountResumed", "")
	if len(got["events"].([]any)) != 60 {
		t.Errorf("%d pauses and resumes", len(got["events"].([]any)))
	}
	own := f.call(200, "GET", "/v1/account/a0-0/events?events=accountPaused&limit=5", "")
	if events := own["events"].([]any); len(events) != 5 || own["more"] != true || own["newest"] != 61.0 {
		t.Errorf("own journal: %v", own)
	}
	own = f.call(200, "GET", fmt.Sprintf("/v1/account/a0-0/events?events=accountPaused&limit=1000&after=%v", own["after"]), "")
	if events := own["events"].([]any); len(events) != 25 || own["more"] != false {
		t.Errorf("rest of the own journal: %d", len(events))
	}
}
