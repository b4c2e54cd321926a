package wire_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/imapsync/wire"
)

// TestOddServers runs the files of testdata/odd: one per row of the table of odd servers,
// each with some dialogues. A dialogue is lines:
//
//	== name                 begins one
//	@caps A B               capabilities behind IMAP4rev1
//	@exists n               INBOX is open and has n messages
//	@raw                    the server's lines begin with the greeting
//	@auth token|password    what to log in with
//	@starttls               STARTTLS is required
//	@nopass                 the password is never said
//	do ACTION …             what the client does, in order
//	want LINE               what the actions give, in order, as rendered below
//	S: LINE                 the server says; {tag} is the tag of the last command heard
//	R: "…"                  the server says just these bytes, quoted as in Go
//	@repeat n "…"           … n bytes of it
//	@split n                from here on in pieces of n bytes
//	C: TEXT                 the server hears a line that contains TEXT
//	@wait d                 the server waits
//	@every d n "…"          the server says it every d, n times
//	@close                  the server hangs up
//	@silence                the server says nothing more
//	@closed d               the connection is closed afterwards, and all took d at most
//
// Where it is not @closed, a NOOP afterwards works.
func TestOddServers(t *testing.T) {
	files, err := filepath.Glob("testdata/odd/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for i, text := range strings.Split(string(b), "\n== ")[1:] {
				name, body, _ := strings.Cut(text, "\n")
				t.Run(fmt.Sprintf("%d_%s", i+1, strings.ReplaceAll(name, " ", "_")), func(t *testing.T) {
					d := parseDialogue(t, body)
					synctest.Test(t, d.run)
				})
			}
		})
	}
}

// dialogue is one case of a file.
type dialogue struct {
	caps   string
	exists int
	raw    bool
	auth   wire.Credentials
	sec    wire.Security
	do     []string
	want   []string
	steps  []string
	closed bool
	noPass bool
	within time.Duration
}

func parseDialogue(t *testing.T, body string) *dialogue {
	t.Helper()
	d := &dialogue{exists: -1, auth: wire.Credentials{User: "jo", Pass: "hunter2"}, sec: wire.Plaintext}
	for line := range strings.SplitSeq(body, "\n") {
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "", "#":
		case "@caps":
			d.caps = rest
		case "@exists":
			d.exists, _ = strconv.Atoi(rest)
		case "@raw":
			d.raw = true
		case "@auth":
			if rest == "token" {
				d.auth = wire.Credentials{User: "jo", Token: "hunter2"}
			}
		case "@nopass":
			d.noPass = true
		case "@starttls":
			d.sec = wire.STARTTLS
		case "@closed":
			d.closed = true
			d.within, _ = time.ParseDuration(rest)
		case "do":
			d.do = append(d.do, rest)
		case "want":
			d.want = append(d.want, rest)
		case "S:", "R:", "C:", "@repeat", "@split", "@wait", "@every", "@close", "@silence":
			d.steps = append(d.steps, line)
		default:
			t.Fatalf("unknown line %q", line)
		}
	}
	return d
}

func (d *dialogue) run(t *testing.T) {
	ours, theirs := net.Pipe()
	srv := &oddServer{t: t, c: theirs, br: newReader(theirs)}
	ended := make(chan struct{})
	steps := d.prelude()
	if !d.closed {
		steps = append(steps, "C: NOOP", "S: {tag} OK done")
	}
	go func() {
		defer close(ended)
		defer func() { _ = theirs.Close() }()
		srv.play(append(steps, "@silence"))
	}()
	begin := time.Now()
	got, err := d.act(t.Context(), ours)
	took := time.Since(begin)
	_ = ours.Close()
	<-ended
	if diff := cmp.Diff(d.want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, l := range srv.heard {
		if d.noPass && (strings.Contains(l, "hunter2") || strings.Contains(l, "aHVudGVyMg")) {
			t.Errorf("said %q", l)
		}
	}
	if d.closed {
		if wire.Usable(err) && (len(got) == 0 || !strings.HasPrefix(got[0], "dial ")) {
			t.Errorf("connection is usable: %v", err)
		}
		if took > d.within {
			t.Errorf("took %v, want at most %v", took, d.within)
		}
	} else if err != nil {
		t.Errorf("noop: %v", err)
	}
}

// prelude is what comes before the case's own steps.
func (d *dialogue) prelude() []string {
	if d.raw {
		return slices.Clone(d.steps)
	}
	list := strings.TrimSpace("IMAP4rev1 " + d.caps)
	out := []string{"S: * OK ready", "C: CAPABILITY", "S: * CAPABILITY " + list, "S: {tag} OK", "C: LOGIN", "S: {tag} OK [CAPABILITY " + list + "] in"}
	has := func(c string) bool { return slices.Contains(strings.Fields(d.caps), c) }
	for _, c := range []string{"ID", "ENABLE", "NAMESPACE"} {
		if has(c) && (c != "ENABLE" || has("QRESYNC") || has("CONDSTORE")) {
			out = append(out, "C: "+c, "S: {tag} OK")
		}
	}
	if d.exists >= 0 {
		out = append(out, "C: EXAMINE", fmt.Sprintf("S: * %d EXISTS", d.exists), "S: * OK [UIDVALIDITY 7] ok", "S: * OK [UIDNEXT 9] ok", "S: {tag} OK [READ-ONLY] done")
	}
	return append(out, d.steps...)
}

// act does what the case says and renders what came of it; err is what a NOOP gave.
func (d *dialogue) act(ctx context.Context, nc net.Conn) ([]string, error) {
	out := []string{}
	c, err := wire.Dial(ctx, wire.Options{
		Host: "imap.example.com", Port: 143, Security: d.sec, Auth: d.auth,
		Dial: func(context.Context, string, string) (net.Conn, error) { return nc, nil },
	})
	if err != nil {
		return append(out, "dial "+render(err)), err
	}
	defer c.Close()
	if d.exists >= 0 {
		if _, err := c.Examine(ctx, "INBOX", wire.SelectOptions{}); err != nil {
			return append(out, "examine "+render(err)), err
		}
	}
	for _, action := range d.do {
		out = append(out, perform(ctx, c, action)...)
	}
	return out, c.Noop(ctx)
}

// render is an error in one line.
func render(err error) string {
	if err == nil {
		return "ok"
	}
	e, ok := errors.AsType[*wire.Error](err)
	if !ok {
		return err.Error()
	}
	s := string(e.Kind)
	if e.Code != "" {
		s += " [" + strings.TrimSpace(string(e.Code)+" "+e.CodeText) + "]"
	}
	if e.Status != "" || e.Kind == wire.Refused {
		s += " " + e.Text
	}
	return strings.TrimSpace(s)
}

// oddServer says what a case wrote down.
type oddServer struct {
	t     *testing.T
	c     net.Conn
	br    *bufio.Reader
	tag   string
	split int
	heard []string
}

func (s *oddServer) play(steps []string) {
	for _, step := range steps {
		word, rest, _ := strings.Cut(step, " ")
		var err error
		switch word {
		case "S:":
			err = s.say(strings.ReplaceAll(rest, "{tag}", s.tag) + "\r\n")
		case "R:":
			err = s.say(strings.ReplaceAll(unquote(s.t, rest), "{tag}", s.tag))
		case "C:":
			err = s.hear(rest)
		case "@split":
			s.split, _ = strconv.Atoi(rest)
		case "@wait":
			d, _ := time.ParseDuration(rest)
			time.Sleep(d) // in a bubble
		case "@every":
			f := strings.SplitN(rest, " ", 3)
			d, _ := time.ParseDuration(f[0])
			n, _ := strconv.Atoi(f[1])
			for range n {
				time.Sleep(d)
				if err = s.say(unquote(s.t, f[2])); err != nil {
					break
				}
			}
		case "@repeat":
			num, what, _ := strings.Cut(rest, " ")
			n, _ := strconv.Atoi(num)
			chunk := strings.Repeat(unquote(s.t, what), 4096)
			for n > 0 && err == nil {
				k := min(n, len(chunk))
				err = s.say(chunk[:k])
				n -= k
			}
		case "@close":
			return
		case "@silence":
			_, _ = io.Copy(io.Discard, s.br)
			return
		}
		if err != nil {
			return
		}
	}
}

func unquote(t *testing.T, s string) string {
	out, err := strconv.Unquote(s)
	if err != nil {
		t.Errorf("unquote %s: %v", s, err)
	}
	return out
}

func (s *oddServer) say(text string) error {
	for text != "" {
		n := len(text)
		if s.split > 0 {
			n = min(n, s.split)
		}
		if _, err := io.WriteString(s.c, text[:n]); err != nil {
			return err
		}
		text = text[n:]
	}
	return nil
}

func (s *oddServer) hear(want string) error {
	line, err := s.br.ReadString('\n')
	if err != nil {
		return err
	}
	line = strings.TrimRight(line, "\r\n")
	s.heard = append(s.heard, line)
	if !strings.Contains(line, want) {
		s.t.Errorf("heard %q, expected %q", line, want)
		return errors.New("unexpected")
	}
	if tag, _, ok := strings.Cut(line, " "); ok && strings.HasPrefix(tag, "A") {
		s.tag = tag
	}
	return nil
}

// perform does one action and renders its result.
func perform(ctx context.Context, c *wire.Conn, action string) []string {
	verb, rest, _ := strings.Cut(action, " ")
	switch verb {
	case "noop":
		return []string{render(c.Noop(ctx))}
	case "examine":
		f, err := c.Examine(ctx, rest, wire.SelectOptions{})
		if err != nil {
			return []string{render(err)}
		}
		return []string{fmt.Sprintf("validity=%d next=%d exists=%d modseq=%d", f.UIDValidity, f.UIDNext, f.Exists, f.HighestModSeq)}
	case "flags":
		f := c.Folder()
		return []string{fmt.Sprintf("flags=%q permanent=%q", f.Flags, f.PermanentFlags)}
	case "fetch":
		return performFetch(ctx, c, rest, false)
	case "changed":
		return performFetch(ctx, c, rest, true)
	case "search", "esearch":
		got, err := c.Search(ctx, &imap.SearchCriteria{}, verb == "esearch")
		if err != nil {
			return []string{render(err)}
		}
		s := got.UIDs.String()
		if len(got.UIDs) == 0 {
			s = "-"
		}
		return []string{fmt.Sprintf("%s complete=%v", s, got.Complete)}
	case "gmail":
		n, text, _ := strings.Cut(rest, " ")
		uid, _ := strconv.Atoi(n)
		got, err := c.SearchGmail(ctx, imap.UIDSetNum(imap.UID(uid), imap.UID(uid+2)), text)
		if err != nil {
			return []string{render(err)}
		}
		return []string{fmt.Sprintf("%s complete=%v", got.UIDs.String(), got.Complete)}
	case "list", "liststatus":
		o := wire.ListOptions{}
		if verb == "liststatus" {
			o.Status = []wire.StatusItem{wire.StatusMessages}
		}
		got, st, res, err := c.List(ctx, "", "*", o)
		out := []string{fmt.Sprintf("%s damaged=%d", render(err), res.Damaged)}
		for _, l := range got {
			out = append(out, fmt.Sprintf("%q %q delim=%q attrs=%s", l.Raw, l.Name(), l.Delimiter, fmt.Sprint(l.Attrs)))
		}
		for _, s := range st {
			out = append(out, renderStatus(s))
		}
		return out
	case "status":
		st, err := c.Status(ctx, rest, wire.StatusMessages, wire.StatusUIDNext)
		if err != nil {
			return []string{render(err)}
		}
		return []string{renderStatus(st)}
	case "idle":
		d, _ := time.ParseDuration(rest)
		end, err := c.Idle(ctx, d)
		if err != nil {
			return []string{render(err)}
		}
		return []string{string(end)}
	case "append":
		data, err := c.Append(ctx, "Sent", strings.NewReader("hello"), 5, wire.AppendOptions{})
		if err != nil {
			return []string{render(err)}
		}
		return []string{fmt.Sprintf("validity=%d uid=%d", data.UIDValidity, data.UID)}
	case "copy":
		got, err := c.Copy(ctx, imap.UIDSet{{Start: 1, Stop: 9}}, "Sent")
		return []string{fmt.Sprintf("%s validity=%d %v %v", render(err), got.UIDValidity, got.From, got.To)}
	case "changes":
		ch := c.Changes()
		var out strings.Builder
		out.WriteString(fmt.Sprintf("exists=%v/%d expunged=%d vanished=%s flagged=%v", ch.Exists, c.Exists(), ch.Expunged, ch.Vanished, ch.Flagged))
		for _, s := range ch.Status {
			out.WriteString(" " + renderStatus(s))
		}
		for _, l := range ch.Listed {
			out.WriteString(" listed=" + l.Raw)
		}
		if c.Folder().Doubt {
			out.WriteString(" doubt")
		}
		if ch.Overflow {
			out.WriteString(" overflow")
		}
		for _, s := range []struct{ name, text string }{{"alert", ch.Alert}, {"throttle", ch.Throttle}, {"bye", ch.Bye}} {
			if s.text != "" {
				out.WriteString(fmt.Sprintf(" %s=%q", s.name, s.text))
			}
		}
		return []string{out.String()}
	case "caps":
		return []string{strings.Join(c.Caps().List(), " ")}
	case "id":
		return []string{fmt.Sprintf("name=%q version=%q", c.ServerID().Name, c.ServerID().Version)}
	case "namespaces":
		return []string{fmt.Sprint(c.Namespaces())}
	case "skipped":
		n := c.Counters()
		return []string{fmt.Sprintf("skipped=%d %v", n.Skipped, n.Unknown)}
	}
	return []string{"no such action: " + verb}
}

func renderStatus(s wire.Status) string {
	out := fmt.Sprintf("status %q", s.Raw)
	if s.HasMessages {
		out += fmt.Sprintf(" messages=%d", s.Messages)
	}
	return out + fmt.Sprintf(" next=%d id=%q", s.UIDNext, s.MailboxID)
}

// performFetch fetches; items are separated by `;` because they hold spaces.
func performFetch(ctx context.Context, c *wire.Conn, args string, changed bool) []string {
	setText, itemText, _ := strings.Cut(args, " ")
	var items []wire.Item
	for it := range strings.SplitSeq(itemText, ";") {
		items = append(items, wire.Item(it))
	}
	lo, hi, _ := strings.Cut(setText, ":")
	a, _ := strconv.ParseUint(lo, 10, 32)
	b, _ := strconv.ParseUint(hi, 10, 32)
	o := wire.FetchOptions{}
	if changed {
		o.ChangedSince, o.Vanished = 5, true
	}
	var out []string
	res, err := c.Fetch(ctx, imap.UIDSet{{Start: imap.UID(a), Stop: imap.UID(b)}}, items, o, func(m *wire.Message) error {
		out = append(out, renderMessage(m))
		return nil
	})
	last := render(err)
	if res.Damaged > 0 {
		last += " damaged"
	} else if res.Partial() {
		last += " partial"
	}
	if len(res.Vanished) > 0 {
		last += " vanished=" + res.Vanished.String()
	}
	return append(out, last)
}

func renderMessage(m *wire.Message) string {
	var out strings.Builder
	out.WriteString(fmt.Sprintf("uid=%d", m.UID))
	add := func(on bool, format string, args ...any) {
		if on {
			out.WriteString(" " + fmt.Sprintf(format, args...))
		}
	}
	add(m.HasFlags, "flags=%v", m.Flags)
	add(!m.InternalDate.IsZero(), "date=%s", m.InternalDate.Format(time.RFC3339))
	add(m.HasSize, "size=%d", m.Size)
	add(m.ModSeq != 0, "modseq=%d", m.ModSeq)
	add(m.EmailID != "", "emailid=%s", m.EmailID)
	add(m.ThreadID != "", "threadid=%s", m.ThreadID)
	add(m.GmailMsgID != 0, "gmid=%d", m.GmailMsgID)
	add(m.HasLabels, "labels=%q", m.Labels)
	if e := m.Envelope; e != nil {
		out.WriteString(fmt.Sprintf(" env{date=%q subject=%q from=%q to=%q irt=%q id=%q}", e.Date, e.Subject, e.From, e.To, e.InReplyTo, e.MessageID))
	}
	if m.Structure != nil {
		out.WriteString(" bs=" + renderStructure(m.Structure))
	}
	for _, s := range m.PartSizes {
		add(s > 0, "part=%d", s)
	}
	for _, s := range m.Sections {
		if s.Data == nil {
			out.WriteString(fmt.Sprintf(" %s=nil", s.Item))
		} else {
			out.WriteString(fmt.Sprintf(" %s=%q", s.Item, s.Data))
		}
	}
	for _, d := range m.Damaged {
		out.WriteString(fmt.Sprintf(" damaged(%s %s)", d.Item, d.Why))
	}
	return out.String()
}

func renderStructure(bs imap.BodyStructure) string {
	switch bs := bs.(type) {
	case *imap.BodyStructureMultiPart:
		var parts []string
		for _, ch := range bs.Children {
			parts = append(parts, renderStructure(ch))
		}
		return bs.MediaType() + "[" + strings.Join(parts, ",") + "]"
	case *imap.BodyStructureSinglePart:
		out := fmt.Sprintf("%s(%d", bs.MediaType(), bs.Size)
		if bs.Encoding != "" {
			out += "," + bs.Encoding
		}
		if n := bs.Filename(); n != "" {
			out += "," + n
		}
		if d := bs.Disposition(); d != nil {
			out += "," + d.Value
		}
		if bs.MessageRFC822 != nil {
			out += "," + bs.MessageRFC822.Envelope.Subject
			if bs.MessageRFC822.BodyStructure != nil {
				out += "," + renderStructure(bs.MessageRFC822.BodyStructure)
			}
		}
		return out + ")"
	}
	return "?"
}

func newReader(r io.Reader) *bufio.Reader { return bufio.NewReader(r) }
