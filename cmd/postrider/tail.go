package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/postrider/postrider/events"
)

// tail prints events, or hands them to a command, in order.
type tail struct {
	p         *program
	client    *apiClient
	account   string
	events    string
	asJSON    bool
	command   string
	keepGoing bool
	resume    string             // file that keeps the cursor; "" = none
	watch     func(events.Event) // instead of printing; nil prints

	cursor string // of the last event that was dealt with
}

var resumeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func runTail(ctx context.Context, p *program, fs *flag.FlagSet) error {
	at := accessFlags(fs)
	account := fs.String("account", "", "of one account `id`")
	names := fs.String("events", "", "of these `names`, comma-separated; prefixes like 'message*' and exclusions like '!messageUpdated' too")
	since := fs.String("since", "now", "from a `time` (RFC 3339), a cursor, begin or now")
	asJSON := fs.Bool("json", false, "one JSON envelope a line")
	resume := fs.String("resume", "", "go on where the last run of this `name` stopped")
	command := fs.String("exec", "", "run this shell `command` for each event, JSON on its standard input; the next event waits for its end")
	keepGoing := fs.Bool("keep-going", false, "with --exec: go on when the command fails")
	if err := parse(fs, p.args, 0); err != nil {
		return err
	}
	c, err := at.client(p)
	if err != nil {
		return err
	}
	t := &tail{
		p: p, client: c, account: *account, events: *names, asJSON: *asJSON,
		command: *command, keepGoing: *keepGoing, cursor: *since,
	}
	if *resume != "" {
		if !resumeName.MatchString(*resume) {
			return usagef("--resume %q: letters, digits, dots, hyphens and underscores, at most 64", *resume)
		}
		dir, err := at.dataPath(p)
		if err != nil {
			return usageError{err}
		}
		if err := t.resumeFrom(filepath.Join(dir, "cursors", *resume)); err != nil {
			return err
		}
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	return t.run(ctx)
}

func (t *tail) resumeFrom(path string) error {
	t.resume = path
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("cursor directory: %w", err)
	}
	b, err := readBounded(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cursor: %w", err)
	}
	t.cursor = strings.TrimSpace(string(b))
	return nil
}

const (
	tailPause    = 500 * time.Millisecond
	tailMaxPause = 10 * time.Second
	tailSilence  = 45 * time.Second // the server says something every 15 s
)

// errFatal marks what a new connection would not mend.
var errFatal = errors.New("giving up")

// run reads streams, one after another, until ctx ends or something fatal happens.
func (t *tail) run(ctx context.Context) error {
	pause, connected, said := tailPause, false, false
	for {
		err := t.stream(ctx, func() {
			if said {
				fmt.Fprintln(t.p.stderr, "connected again")
			}
			pause, connected, said = tailPause, true, false
		})
		switch {
		case ctx.Err() != nil:
			return context.Canceled
		case errors.Is(err, errFatal):
			return errors.Unwrap(err)
		case !connected && err != nil:
			return fmt.Errorf("%w (is postrider serve running at %s?)", err, t.client.url)
		}
		if !said {
			said = true
			fmt.Fprintf(t.p.stderr, "connection lost (%v); trying again\n", err)
		}
		if wait(ctx, pause) != nil {
			return context.Canceled
		}
		pause = min(2*pause, tailMaxPause)
	}
}

// fatal is err, not to be tried again.
type fatal struct{ err error }

func (f fatal) Error() string        { return f.err.Error() }
func (f fatal) Unwrap() error        { return f.err }
func (f fatal) Is(target error) bool { return target == errFatal }

// stream reads one stream to its end. opened is called when it has begun.
func (t *tail) stream(ctx context.Context, opened func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	q := url.Values{"cursor": {t.cursor}}
	if t.account != "" {
		q.Set("account", t.account)
	}
	if t.events != "" {
		q.Set("events", t.events)
	}
	silence := time.AfterFunc(tailSilence, cancel)
	defer silence.Stop()
	resp, err := t.client.open(ctx, "GET", "/v1/events/stream?"+q.Encode(), nil, map[string][]string{"Accept": {"text/event-stream"}})
	if err != nil {
		if e, ok := errors.AsType[*apiError](err); ok && e.Status < 500 && e.Status != 429 {
			return fatal{err}
		}
		return err
	}
	defer discardClose(resp.Body)
	opened()
	return readSSE(resp.Body, func() { silence.Reset(tailSilence) }, func(m sseMessage) error {
		switch {
		case m.event == "problem":
			e := &apiError{}
			_ = json.Unmarshal(m.data, e)
			return fatal{e}
		case m.data != nil:
			silence.Stop() // a command may take as long as it likes
			if err := t.handle(ctx, m.data); err != nil {
				return err
			}
			silence.Reset(tailSilence)
		}
		if m.id == "" {
			return nil
		}
		t.cursor = m.id
		if t.resume == "" {
			return nil
		}
		if err := writePrivate(t.resume, []byte(m.id+"\n")); err != nil {
			return fatal{fmt.Errorf("cursor: %w", err)}
		}
		return nil
	})
}

// handle prints an event and runs the command for it.
func (t *tail) handle(ctx context.Context, envelope []byte) error {
	var e events.Event
	if err := json.Unmarshal(envelope, &e); err != nil {
		return fatal{fmt.Errorf("the server sent what is no event: %w", err)}
	}
	if t.watch != nil {
		t.watch(e)
		return nil
	}
	if t.command == "" || !t.asJSON { // with a command, --json is its input alone
		line := string(envelope)
		if !t.asJSON {
			line = eventLine(e, t.width())
		}
		if _, err := fmt.Fprintln(t.p.stdout, line); err != nil {
			return fatal{err}
		}
	}
	if t.command == "" {
		return nil
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", t.command)
	cmd.Stdin = bytes.NewReader(append(bytes.Clone(envelope), '\n'))
	cmd.Stdout, cmd.Stderr = t.p.stdout, t.p.stderr
	err := cmd.Run()
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && !t.keepGoing {
		fmt.Fprintf(t.p.stderr, "the command failed for %s #%d of %s: %v\n", e.Type, e.Seq, e.Account, err)
		return fatal{exitStatus(max(exit.ExitCode(), 1))}
	}
	if !t.keepGoing {
		return fatal{err}
	}
	fmt.Fprintf(t.p.stderr, "the command failed for %s #%d of %s, going on: %v\n", e.Type, e.Seq, e.Account, err)
	return nil
}

// width is that of the terminal, or none.
func (t *tail) width() int {
	if f, ok := t.p.stdout.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil {
			return w
		}
	}
	return 0
}

// eventLine is an event as a person reads it: time, number, name, account, folder, and
// the subject cut to the width (0 = not cut).
func eventLine(e events.Event, width int) string {
	account := e.Account
	if account == "" {
		account = "-"
	}
	line := fmt.Sprintf("%s #%d %s %s", e.Date.Local().Format(time.TimeOnly), e.Seq, e.Type, account)
	var data struct {
		Subject *string `json:"subject"`
		Path    string  `json:"path"`
	}
	if raw, ok := e.Data.(events.Raw); ok {
		_ = json.Unmarshal(raw, &data) // other events have other fields: then there is no subject
	}
	path := e.Path
	if path == "" {
		path = data.Path
	}
	if path != "" {
		line += " " + path
	}
	if data.Subject != nil {
		line += fmt.Sprintf(" %q", *data.Subject)
	}
	if r := []rune(line); width > 1 && len(r) > width {
		line = string(r[:width-1]) + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 { // what could steer a terminal
			return '�'
		}
		return r
	}, line)
}
