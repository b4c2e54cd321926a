package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/events"
)

// feed is a server whose event stream is scripted: each connection gets the next part.
type feed struct {
	mu    sync.Mutex
	parts []func(http.ResponseWriter)
	asked []string // cursors
}

func (f *feed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.asked = append(f.asked, r.URL.Query().Get("cursor"))
	var part func(http.ResponseWriter)
	if len(f.parts) > 0 {
		part, f.parts = f.parts[0], f.parts[1:]
	}
	f.mu.Unlock()
	if part == nil {
		http.Error(w, `{"status":410,"code":"CursorExpired","detail":"too old"}`, http.StatusGone)
		return
	}
	part(w)
}

func block(id string, seq int, subject string) string {
	return fmt.Sprintf("id: %s\nevent: messageNew\ndata: {\"serviceUrl\":null,\"account\":\"jo\",\"date\":\"2026-11-22T08:15:02.417Z\",\"path\":\"INBOX\","+
		"\"event\":\"messageNew\",\"eventId\":\"evt_erxaxk2nrrq3jcwqtfalueygna\",\"seq\":%d,\"data\":{\"subject\":%q}}\n\n", id, seq, subject)
}

func send(text string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) { _, _ = w.Write([]byte("retry: 3000\n\n: \n\n" + text)) }
}

func TestTail(t *testing.T) {
	tail := func(t *testing.T, f *feed, args ...string) (int, string, string) {
		srv := httptest.NewServer(f)
		t.Cleanup(srv.Close)
		return runHere(t, nil, "", append([]string{"tail", "--url", srv.URL, "--token", "x", "--data", t.TempDir()}, args...)...)
	}

	t.Run("reconnects after the last event that was dealt with, and says so once", func(t *testing.T) {
		f := &feed{parts: []func(http.ResponseWriter){send(block("c1", 1, "one") + "id: c2\n\n"), send(block("c3", 2, "two"))}}
		code, out, stderr := tail(t, f, "--since", "begin")
		if code != exitFailed || !strings.Contains(stderr, "410 CursorExpired") {
			t.Errorf("exit %d: %s", code, stderr)
		}
		if got := strings.Join(f.asked, " "); got != "begin c2 c3" {
			t.Errorf("asked from %s", got)
		}
		if !strings.Contains(out, `#1 messageNew jo INBOX "one"`) || !strings.Contains(out, `#2 messageNew jo INBOX "two"`) {
			t.Errorf("printed %s", out)
		}
		if n := strings.Count(stderr, "connection lost"); n != 2 { // two connections were lost
			t.Errorf("said %d times:\n%s", n, stderr)
		}
	})
	t.Run("--json prints the envelope as it came", func(t *testing.T) {
		_, out, _ := tail(t, &feed{parts: []func(http.ResponseWriter){send(block("c1", 1, "one"))}}, "--json")
		if !strings.HasPrefix(out, `{"serviceUrl":null,"account":"jo"`) || strings.Count(out, "\n") != 1 {
			t.Errorf("printed %s", out)
		}
	})
	t.Run("--exec gets events in order, and --resume goes on behind the last success", func(t *testing.T) {
		dir := t.TempDir()
		file := filepath.Join(dir, "seen")
		events := send(block("c1", 1, "one") + block("c2", 2, "two") + block("c3", 3, "three"))
		f := &feed{parts: []func(http.ResponseWriter){events}}
		code, _, _ := tail(t, f, "--data", dir, "--resume", "job", "--json",
			"--exec", `read line; case "$line" in *'"seq":2'*) exit 7;; *) echo "$line" >> `+file+`;; esac`)
		if code != 7 {
			t.Errorf("exit %d, want that of the command", code)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "cursors", "job")); err != nil || string(b) != "c1\n" {
			t.Errorf("cursor %q, %v", b, err)
		}
		f.parts = []func(http.ResponseWriter){send(block("c2", 2, "two") + block("c3", 3, "three"))}
		_, _, _ = tail(t, f, "--data", dir, "--resume", "job", "--json", "--exec", "cat >> "+file)
		if f.asked[1] != "c1" {
			t.Errorf("the second run asked from %v", f.asked)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var seqs []string
		for line := range strings.Lines(string(b)) {
			_, rest, _ := strings.Cut(line, `"seq":`)
			seqs = append(seqs, rest[:1])
		}
		if strings.Join(seqs, "") != "123" {
			t.Errorf("handled %v", seqs)
		}
	})
	t.Run("--keep-going does", func(t *testing.T) {
		f := &feed{parts: []func(http.ResponseWriter){send(block("c1", 1, "one") + block("c2", 2, "two"))}}
		_, _, stderr := tail(t, f, "--exec", "exit 3", "--keep-going")
		if strings.Count(stderr, "going on") != 2 {
			t.Errorf("said %s", stderr)
		}
	})
	t.Run("a problem inside the stream ends it", func(t *testing.T) {
		f := &feed{parts: []func(http.ResponseWriter){send("event: problem\ndata: {\"status\":410,\"code\":\"CursorExpired\",\"detail\":\"gone\"}\n\n")}}
		code, _, stderr := tail(t, f)
		if code != exitFailed || !strings.Contains(stderr, "410 CursorExpired: gone") || len(f.asked) != 1 {
			t.Errorf("exit %d after %d connections: %s", code, len(f.asked), stderr)
		}
	})
}

func TestEventLine(t *testing.T) {
	e := events.Event{
		Account: "jo", Path: "INBOX", Type: events.MessageNewType, Seq: 7, Date: events.TimeOf(time.Date(2026, 11, 22, 8, 0, 0, 0, time.Local)),
		Data: events.Raw(`{"subject":"Grüße, \u001b[31mrot"}`),
	}
	if got, want := eventLine(e, 0), `08:00:00 #7 messageNew jo INBOX "Grüße, \x1b[31mrot"`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := eventLine(e, 30); len([]rune(got)) != 30 || !strings.HasSuffix(got, "…") {
		t.Errorf("cut to %q", got)
	}
	e.Account, e.Path = "a\x1b[2Jb", "x\u009by"
	if got := eventLine(e, 0); strings.ContainsAny(got, "\x1b\u009b") {
		t.Errorf("control characters got through: %q", got)
	}
}

func TestReadSSE(t *testing.T) {
	var got []sseMessage
	lines := 0
	err := readSSE(strings.NewReader(": c\n\nid:a\ndata: 1\ndata:2\n\n\nevent: x\n\nid: b\n\ndata\n\nid: lost"),
		func() { lines++ }, func(m sseMessage) error { got = append(got, m); return nil })
	if err == nil {
		t.Error("the end is no error")
	}
	want := []sseMessage{{id: "a", data: []byte("1\n2")}, {id: "b"}, {data: []byte{}}}
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) || lines != 14 {
		t.Errorf("%d lines, got %+v", lines, got)
	}
	if err := readSSE(strings.NewReader("data: 1\n\ndata: 2\n\n"), func() {}, func(sseMessage) error { return errFatal }); !errors.Is(err, errFatal) {
		t.Errorf("got %v", err)
	}
}
