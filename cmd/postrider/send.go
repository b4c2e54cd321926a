package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"
)

const (
	maxSendText  = 5 << 20  // of a text part, as the API has it
	maxSendFiles = 36 << 20 // of all attachments
	sendPoll     = 300 * time.Millisecond
	sendTries    = 5 // to submit, while the server cannot be reached
)

// several is a flag that may be given several times.
type several []string

func (s *several) String() string { return strings.Join(*s, ", ") }
func (s *several) Set(v string) error {
	*s = append(*s, v)
	return nil
}

// runSend submits a message and tells what becomes of it.
func runSend(ctx context.Context, p *program, fs *flag.FlagSet) error {
	at := accessFlags(fs)
	account := fs.String("account", "", "send from this account `id`")
	from := fs.String("from", "", "`address` in From; else the account's")
	subject := fs.String("subject", "", "`subject`")
	html := fs.Bool("html", false, "what comes by standard input is HTML")
	due := fs.String("at", "", "send at this `time` (RFC 3339), and do not wait for it")
	most := fs.Duration("wait", 10*time.Minute, "most `time` to wait until it is sent; 0 = as long as it takes")
	var to, cc, bcc, attach several
	fs.Var(&to, "to", "recipient's `address`; may be repeated")
	fs.Var(&cc, "cc", "`address` in Cc; may be repeated")
	fs.Var(&bcc, "bcc", "`address` of a recipient that no header names; may be repeated")
	fs.Var(&attach, "attach", "`file` to attach; may be repeated")
	if err := parse(fs, p.args, 0); err != nil {
		return err
	}
	if *account == "" || len(to)+len(cc)+len(bcc) == 0 {
		return usagef("say from which account, and to whom: --account A --to X")
	}
	if *most < 0 {
		return usagef("--wait must not be negative")
	}
	body := map[string]any{"subject": *subject}
	if *from != "" {
		body["from"] = sendAddress(*from)
	}
	for field, list := range map[string]several{"to": to, "cc": cc, "bcc": bcc} {
		if len(list) > 0 {
			var as []any
			for _, a := range list {
				as = append(as, sendAddress(a))
			}
			body[field] = as
		}
	}
	if *due != "" {
		body["sendAt"] = *due
	}
	files, err := sendFiles(attach)
	if err != nil {
		return err
	}
	if files != nil {
		body["attachments"] = files
	}
	if isTerminal(p.stdin) {
		fmt.Fprintln(p.stderr, "Type the text; Ctrl-D ends it.")
	}
	text, err := io.ReadAll(io.LimitReader(p.stdin, maxSendText+1))
	if err != nil {
		return fmt.Errorf("read text: %w", err)
	}
	if len(text) > maxSendText {
		return usagef("the text is larger than %d MiB", maxSendText>>20)
	}
	if !utf8.Valid(text) {
		return usagef("the text is not UTF-8")
	}
	kind := "text"
	if *html {
		kind = "html"
	}
	body[kind] = string(text)

	c, err := at.client(p)
	if err != nil {
		return err
	}
	defer c.http.CloseIdleConnections()
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := sending{client: c, out: p.stdout}
	if err := s.submit(ctx, *account, body); err != nil {
		return err
	}
	if *due != "" {
		return nil
	}
	return s.follow(ctx, *most)
}

// sendAddress reads "Name <address>" or an address alone; what it is no business of ours
// to judge is judged by the server.
func sendAddress(s string) map[string]string {
	if name, rest, ok := strings.Cut(s, "<"); ok && strings.HasSuffix(rest, ">") {
		return map[string]string{"name": strings.Trim(strings.TrimSpace(name), `"`), "address": strings.TrimSuffix(rest, ">")}
	}
	return map[string]string{"address": strings.TrimSpace(s)}
}

// sendFiles reads the attachments.
func sendFiles(paths []string) (list []map[string]string, err error) {
	left := int64(maxSendFiles)
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return nil, usageError{err}
		}
		b, err := io.ReadAll(io.LimitReader(f, left+1))
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("attach: %w", err)
		}
		if left -= int64(len(b)); left < 0 {
			return nil, usagef("--attach %s: the attachments are larger than %d MiB", path, maxSendFiles>>20)
		}
		a := map[string]string{"filename": filepath.Base(path), "encoding": "base64", "content": base64.StdEncoding.EncodeToString(b)}
		if t := mime.TypeByExtension(filepath.Ext(path)); t != "" {
			a["contentType"], _, _ = strings.Cut(t, ";")
		}
		list = append(list, a)
	}
	return list, nil
}

// sending is one submission as the command follows it.
type sending struct {
	client  *apiClient
	out     io.Writer
	queueID string
	said    string
}

// submit queues the message. The key makes it safe to ask again when no answer came.
func (s *sending) submit(ctx context.Context, account string, body any) error {
	header := http.Header{"Idempotency-Key": {rand.Text()}}
	path := "/v1/account/" + url.PathEscape(account) + "/submit"
	for try := 1; ; try++ {
		var answer struct {
			QueueID   string `json:"queueId"`
			MessageID string `json:"messageId"`
			State     string `json:"state"`
		}
		err := s.post(ctx, path, body, header, &answer)
		if err == nil {
			s.queueID, s.said = answer.QueueID, answer.State
			fmt.Fprintf(s.out, "%s %s %s\n", answer.State, answer.QueueID, answer.MessageID)
			return nil
		}
		if _, said := errors.AsType[*apiError](err); said || ctx.Err() != nil || try == sendTries {
			return err
		}
		if err := wait(ctx, sendPoll<<try); err != nil {
			return err
		}
	}
}

func (s *sending) post(ctx context.Context, path string, body any, header http.Header, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute) // the upload of its attachments
	defer cancel()
	resp, err := s.client.open(ctx, http.MethodPost, path, body, header)
	if err != nil {
		return err
	}
	defer discardClose(resp.Body)
	return json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(answer)
}

// outboxEntry is what the command reads of a submission.
type outboxEntry struct {
	State       string `json:"state"`
	Reason      string `json:"reason"`
	NextAttempt string `json:"nextAttempt"`
	Attempts    int    `json:"attempts"`
	Attempt     int    `json:"attempt"`
	Progress    struct {
		Response string `json:"response"`
		Error    *struct {
			Message string `json:"message"`
		} `json:"error"`
	} `json:"progress"`
	Recipients []struct {
		Address  string `json:"address"`
		State    string `json:"state"`
		Response string `json:"response"`
	} `json:"recipients"`
}

// follow prints each state until one that does not end by itself, for as long as most, if
// that is not 0. Only sent, to every recipient, is success.
func (s *sending) follow(ctx context.Context, most time.Duration) error {
	if most > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, most, s.stays(fmt.Sprintf("it is not sent after %s", most)))
		defer stop()
	}
	for {
		var e outboxEntry
		err := s.client.call(ctx, http.MethodGet, "/v1/outbox/"+s.queueID, nil, &e)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		if line := e.line(); line != s.said {
			fmt.Fprintln(s.out, line)
			s.said = line
		}
		switch e.State {
		case "sent":
			return s.refused(&e)
		case "failed", "canceled":
			return exitStatus(exitFailed)
		}
		if what := e.needs(); what != "" {
			return s.stays(what)
		}
		if err := wait(ctx, sendPoll); err != nil {
			return context.Cause(ctx)
		}
	}
}

// stays is why we wait no longer for what is still in the outbox, and what can be done with it.
func (s *sending) stays(why string) error {
	return fmt.Errorf("%s\n  it stays in the outbox: GET %s/v1/outbox/%s shows it, DELETE cancels it", why, s.client.url, s.queueID)
}

// refused names the recipients that the server did not take, and is an error if there are any.
func (s *sending) refused(e *outboxEntry) (err error) {
	for _, r := range e.Recipients {
		if r.State != "sent" {
			fmt.Fprintf(s.out, "not to %s (%s): %s\n", r.Address, r.State, r.Response)
			err = exitStatus(exitFailed)
		}
	}
	return err
}

// needs is what somebody must do before it goes on; "" where it does by itself.
func (e *outboxEntry) needs() string {
	switch e.Reason {
	case "review":
		return "it is held until it is released (POST …/release)"
	case "authentication":
		return "it is held until the account has credentials that the server accepts"
	case "accountPaused":
		return "it is held until the account is resumed"
	case "outcomeUnknown":
		return "the server may have it or not: look in the Sent folder, and say what it is (POST …/resolve)"
	}
	return ""
}

// line is what a person reads of it.
func (e *outboxEntry) line() string {
	line := e.State
	if e.Reason != "" {
		line += " (" + e.Reason + ")"
	}
	switch {
	case e.Progress.Error != nil:
		line += ": " + e.Progress.Error.Message
	case e.State == "sent":
		line += ": " + e.Progress.Response
	}
	if e.State == "queued" && e.Attempt > 0 && e.NextAttempt != "" {
		line += fmt.Sprintf("; attempt %d of %d, next %s", e.Attempt, e.Attempts, e.NextAttempt)
	}
	return line
}
