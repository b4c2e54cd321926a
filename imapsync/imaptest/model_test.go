package imaptest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// modelDialects are those whose folders hold messages, with and without what is optional.
func modelDialects() []Dialect {
	return []Dialect{
		T1(), T2(), T3(), T1().With("NOTIFY", "OBJECTID", "COMPRESS=DEFLATE"),
		T1().Without("LIST-STATUS", "ESEARCH"), T3().Without("LIST-STATUS", "LIST-EXTENDED", "ESEARCH", "SPECIAL-USE", "UIDPLUS", "MOVE"),
	}
}

// talk is a client that writes down what it hears.
type talk struct {
	t  *testing.T
	c  net.Conn
	br *bufio.Reader
	n  int
}

func dialModel(t *testing.T, m *Model) *talk {
	t.Helper()
	c, err := m.Dial(t.Context(), "tcp", "model:143")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	k := &talk{t: t, c: c, br: bufio.NewReader(c)}
	k.line()
	k.do("LOGIN jo secret")
	return k
}

func (k *talk) line() string {
	k.t.Helper()
	l, err := k.br.ReadString('\n')
	if err != nil {
		k.t.Fatalf("read: %v", err)
	}
	return strings.TrimRight(l, "\r\n")
}

func (k *talk) send(s string) {
	k.t.Helper()
	if _, err := io.WriteString(k.c, s); err != nil {
		k.t.Fatal(err)
	}
}

// do sends a command and returns what came, its tag taken away.
func (k *talk) do(command string) []string {
	k.t.Helper()
	k.n++
	tag := fmt.Sprintf("A%d ", k.n)
	k.send(tag + command + "\r\n")
	var out []string
	for {
		l := k.line()
		if rest, ok := strings.CutPrefix(l, tag); ok {
			return append(out, rest)
		}
		out = append(out, l)
	}
}

// says compares an answer, without the text of its tagged line.
func (k *talk) says(command string, want ...string) {
	k.t.Helper()
	got := k.do(command)
	last := got[len(got)-1]
	if i := strings.IndexByte(last, ']'); i > 0 {
		last = last[:i+1]
	} else {
		last, _, _ = strings.Cut(last, " ")
	}
	got[len(got)-1] = last
	if d := cmp.Diff(want, got); d != "" {
		k.t.Errorf("%s (-want +got):\n%s", command, d)
	}
}

func modelUser(t *testing.T, d Dialect) (*Model, *ModelUser) {
	m := NewModel(d)
	t.Cleanup(m.Close)
	return m, m.User("jo", "secret")
}

func mustDo(t *testing.T) func(error) {
	return func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestModel_tells_changes_as_its_dialect_does(t *testing.T) {
	ctx := t.Context()
	for _, d := range []Dialect{T1(), T2(), T3()} {
		t.Run(d.Name, func(t *testing.T) {
			must := mustDo(t)
			m, u := modelUser(t, d)
			_, _, err := u.Fill(ctx, "INBOX", Filling{Messages: 5})
			must(err)
			k := dialModel(t, m)
			if d.Has("QRESYNC") {
				k.says("ENABLE QRESYNC", "* ENABLED QRESYNC", "OK")
			}
			k.do("EXAMINE INBOX")
			must(u.AddFlags(ctx, "INBOX", []uint32{2, 4}, `\flagged`, "work"))
			must(u.Expunge(ctx, "INBOX", 1, 3))
			_, err = u.Append(ctx, "INBOX", Message("a@x", "a"), nil, Date)
			must(err)
			want := map[string][]string{
				"T1": {"* VANISHED 1,3", `* 1 FETCH (UID 2 MODSEQ (3) FLAGS (\Flagged work))`, `* 2 FETCH (UID 4 MODSEQ (3) FLAGS (\Flagged work))`, "* 4 EXISTS", "OK"},
				"T2": {"* 1 EXPUNGE", "* 2 EXPUNGE", `* 1 FETCH (FLAGS (\Flagged work))`, `* 2 FETCH (FLAGS (\Flagged work))`, "* 4 EXISTS", "OK"},
				"T3": {"* 1 EXPUNGE", "* 2 EXPUNGE", `* 1 FETCH (FLAGS (\Flagged work))`, `* 2 FETCH (FLAGS (\Flagged work))`, "* 4 EXISTS", "OK"},
			}
			k.says("NOOP", want[d.Name]...)
			k.says("NOOP", "OK")
			changed := "UID FETCH 1:6 (UID FLAGS) (CHANGEDSINCE 2"
			flags := []string{`* 1 FETCH (UID 2 FLAGS (\Flagged work) MODSEQ (3))`, `* 2 FETCH (UID 4 FLAGS (\Flagged work) MODSEQ (3))`, "* 4 FETCH (UID 6 FLAGS () MODSEQ (5))", "OK"}
			switch d.Name {
			case "T1":
				k.says(changed+" VANISHED)", append([]string{"* VANISHED (EARLIER) 1,3"}, flags...)...)
				k.says("UID FETCH 1:2 (FLAGS) (CHANGEDSINCE 3 VANISHED)", "* VANISHED (EARLIER) 1", "OK")
				must(u.Forget(ctx, "INBOX"))
				k.says("UID FETCH 1:6 (FLAGS) (CHANGEDSINCE 3 VANISHED)", "* VANISHED (EARLIER) 1,3", "* 4 FETCH (UID 6 FLAGS () MODSEQ (5))", "OK")
				k.says("SELECT INBOX (QRESYNC (1001 3 1:6))", "* OK [CLOSED] closed", `* FLAGS (\Answered \Flagged \Deleted \Seen \Draft work)`, `* OK [PERMANENTFLAGS (\Answered \Flagged \Deleted \Seen \Draft work \*)] these stay`,
					"* 4 EXISTS", "* 0 RECENT", "* OK [UNSEEN 1] first", "* OK [UIDVALIDITY 1001] valid", "* OK [UIDNEXT 7] next", "* OK [HIGHESTMODSEQ 5] highest",
					"* VANISHED (EARLIER) 1,3", "* 4 FETCH (UID 6 MODSEQ (5) FLAGS ())", "OK [READ-WRITE]")
			case "T2":
				k.says(changed+")", flags...)
				k.says(changed+" VANISHED)", "BAD")
			case "T3":
				k.says(changed+")", "BAD")
				k.says("ENABLE QRESYNC", "BAD")
			}
		})
	}
}

// Expunges are told only where the client does not count in sequence numbers.
func TestModel_keeps_sequence_numbers(t *testing.T) {
	ctx := t.Context()
	m, u := modelUser(t, T3())
	for i := range 3 {
		if _, err := u.Append(ctx, "INBOX", Message(fmt.Sprint(i), "x"), nil, Date); err != nil {
			t.Fatal(err)
		}
	}
	k := dialModel(t, m)
	k.do("SELECT INBOX")
	mustDo(t)(u.Expunge(ctx, "INBOX", 1))
	k.says("FETCH 1:3 (UID)", "* 2 FETCH (UID 2)", "* 3 FETCH (UID 3)", "OK")
	k.says(`STORE 2 +FLAGS (\Seen)`, `* 2 FETCH (FLAGS (\Seen))`, "OK")
	k.says("SEARCH ALL", "* SEARCH 2 3", "OK")
	k.says("UID SEARCH ALL", "* SEARCH 2 3", "* 1 EXPUNGE", "OK")
	k.says("FETCH 1:* (UID)", "* 1 FETCH (UID 2)", "* 2 FETCH (UID 3)", "OK")
	k.says("UID MOVE 2 Archive", "* OK [COPYUID 1006 2 1] moved", "* 1 EXPUNGE", "OK")
	k.says("EXAMINE Archive", `* FLAGS (\Answered \Flagged \Deleted \Seen \Draft)`, "* OK [PERMANENTFLAGS ()] read-only", "* 1 EXISTS", "* 0 RECENT",
		"* OK [UIDVALIDITY 1006] valid", "* OK [UIDNEXT 2] next", "OK [READ-ONLY]")
	for _, write := range []string{`UID STORE 1 +FLAGS (\Seen)`, "EXPUNGE", "UID MOVE 1 INBOX"} {
		k.says(write, "NO [READ-ONLY]")
	}
}

func TestModel_gives_parts_of_messages(t *testing.T) {
	m, u := modelUser(t, T3())
	raw := "Subject: A\r\n folded\r\nFrom: =?utf-8?q?J=C3=B6?= <jo@x>\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" +
		"--b\r\nContent-Type: text/plain\r\n\r\none\r\n--b\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\ndHdv\r\n--b--\r\n"
	if _, err := u.Append(t.Context(), "INBOX", []byte(raw), nil, Date); err != nil {
		t.Fatal(err)
	}
	k := dialModel(t, m)
	k.do("SELECT INBOX")
	k.says("UID FETCH 1 (BODY.PEEK[1])", "* 1 FETCH (UID 1 BODY[1] {3}", "one)", "OK")
	k.says("UID FETCH 1 (BODY.PEEK[2]<1.2>)", "* 1 FETCH (UID 1 BODY[2]<1> {2}", "Hd)", "OK")
	k.says("UID FETCH 1 (BODY.PEEK[2.MIME]<0.12>)", "* 1 FETCH (UID 1 BODY[2.MIME]<0> {12}", "Content-Type)", "OK")
	k.says("UID FETCH 1 (BODY.PEEK[3])", "* 1 FETCH (UID 1 BODY[3] NIL)", "OK")
	k.says("UID FETCH 1 (BODY.PEEK[HEADER.FIELDS (subject)])", "* 1 FETCH (UID 1 BODY[HEADER.FIELDS (SUBJECT)] {23}", "Subject: A", " folded", "", ")", "OK")
	k.says("UID FETCH 1 (ENVELOPE)", `* 1 FETCH (UID 1 ENVELOPE (NIL "A folded" (("=?utf-8?q?J=C3=B6?=" NIL "jo" "x")) (("=?utf-8?q?J=C3=B6?=" NIL "jo" "x")) (("=?utf-8?q?J=C3=B6?=" NIL "jo" "x")) NIL NIL NIL NIL NIL))`, "OK")
	k.says("UID FETCH 1 (BODYSTRUCTURE)", `* 1 FETCH (UID 1 BODYSTRUCTURE (("text" "plain" NIL NIL NIL "7bit" 3 0 NIL NIL NIL NIL)("text" "html" NIL NIL NIL "base64" 4 0 NIL NIL NIL NIL) "mixed" ("boundary" "b") NIL NIL NIL))`, "OK")
	k.says("UID FETCH 1 (FLAGS RFC822.SIZE INTERNALDATE)", fmt.Sprintf(`* 1 FETCH (UID 1 FLAGS () RFC822.SIZE %d INTERNALDATE " 6-May-2024 10:00:00 +0000")`, len(raw)), "OK")
	k.says("UID FETCH 1 (BODY[TEXT]<0.3>)", "* 1 FETCH (UID 1 BODY[TEXT]<0> {3}", "--b)", `* 1 FETCH (FLAGS (\Seen))`, "OK")
	for _, bad := range []string{"UID FETCH 1 (BODY[)", "UID FETCH 0 (UID)", "UID FETCH 1 (NOSUCH)", "UID SEARCH " + strings.Repeat("NOT ", 200) + "ALL", "UID SEARCH ((((ALL)", "FETCH", `LOGIN "a`, "X"} {
		k.says(bad, "BAD")
	}
}

func TestModel_pushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		must, ctx := mustDo(t), t.Context()
		m, u := modelUser(t, T1().With("NOTIFY"))
		k := dialModel(t, m)
		k.do("ENABLE QRESYNC")
		k.do("EXAMINE INBOX")
		heard := func(want ...string) {
			t.Helper()
			synctest.Wait()
			var got []string
			for range want {
				got = append(got, k.line())
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("heard (-want +got):\n%s", d)
			}
		}
		k.send("I1 IDLE\r\n")
		heard("+ idling")
		_, err := u.Append(ctx, "INBOX", Message("a@x", "a"), nil, Date)
		must(err)
		heard("* 1 EXISTS")
		must(u.AddFlags(ctx, "INBOX", []uint32{1}, `\Seen`))
		heard(`* 1 FETCH (UID 1 MODSEQ (3) FLAGS (\Seen))`)
		must(u.Expunge(ctx, "INBOX", 1))
		heard("* VANISHED 1")
		k.send("DONE\r\n")
		heard("I1 OK awake")

		set := "NOTIFY SET STATUS (selected (MessageNew MessageExpunge FlagChange)) (personal (MessageNew MessageExpunge FlagChange MailboxName))"
		if got := k.do(set); len(got) != 7 || got[0] != `* STATUS "INBOX" (MESSAGES 0 UIDNEXT 2 UIDVALIDITY 1001 HIGHESTMODSEQ 4)` {
			t.Errorf("%q", got)
		}
		_, err = u.Append(ctx, "Sent", Message("b@x", "b"), nil, Date)
		must(err)
		heard(`* STATUS "Sent" (MESSAGES 1 UIDNEXT 2 HIGHESTMODSEQ 2)`)
		must(u.CreateFolder(ctx, "Neu ä"))
		heard(`* LIST (\HasNoChildren) "/" "Neu &AOQ-"`, `* STATUS "Neu &AOQ-" (MESSAGES 0 UIDNEXT 1 HIGHESTMODSEQ 1)`)
		must(u.RenameFolder(ctx, "Neu ä", "Alt"))
		heard(`* LIST () "/" "Alt" ("OLDNAME" ("Neu &AOQ-"))`, `* STATUS "Alt" (MESSAGES 0 UIDNEXT 1 HIGHESTMODSEQ 1)`)
		must(u.DeleteFolder(ctx, "Alt"))
		heard(`* LIST (\NonExistent) "/" "Alt"`)
		u.Lie(func(l *Lies) { l.Overflow = true })
		_, err = u.Append(ctx, "INBOX", Message("c@x", "c"), nil, Date)
		must(err)
		heard("* 1 EXISTS", "* OK [NOTIFICATIONOVERFLOW] too much")
		must(u.ResetUIDValidity(ctx, "INBOX"))
		k.send("N NOOP\r\n")
		heard("N OK nothing done", "* BYE the folder is another one now")
		m.Close()
	})
}

// A million messages are made, opened and searched in little time and memory.
func TestModel_holds_a_million_messages(t *testing.T) {
	m, u := modelUser(t, T1())
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	_, last, err := u.Fill(t.Context(), "INBOX", Filling{Messages: 1_000_000, Every: time.Second, Hole: 10})
	mustDo(t)(err)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if got := int64(after.HeapAlloc) - int64(before.HeapAlloc); got > 100<<20 {
		t.Errorf("%d bytes", got)
	}
	k := dialModel(t, m)
	k.do("EXAMINE INBOX")
	k.says(fmt.Sprintf("UID SEARCH RETURN (COUNT MIN MAX) UID 1:%d", last), fmt.Sprintf(`* ESEARCH (TAG "A3") UID COUNT 1000000 MIN 1 MAX %d`, last), "OK")
	got := k.do(fmt.Sprintf("UID FETCH %d (RFC822.SIZE BODY.PEEK[])", last))
	if size := fmt.Sprintf("RFC822.SIZE %d BODY[] {%d}", syntheticSize, syntheticSize); !strings.Contains(got[0], size) {
		t.Errorf("%q lacks %q", got, size)
	}
}

func TestModel_does_what_a_hook_says(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, u := modelUser(t, T3())
		k := dialModel(t, m)
		m.Hook(func(c ModelCommand) Act {
			switch c.Name {
			case "NOOP":
				return Act{Delay: time.Hour}
			case "STATUS":
				return Act{Instead: true, Send: "{tag} NO [THROTTLED] later\r\n"}
			case "CREATE":
				return Act{Swallow: true, Drop: true}
			}
			return Act{}
		})
		begin := time.Now()
		k.says("NOOP", "OK")
		if d := time.Since(begin); d != time.Hour {
			t.Errorf("after %s", d)
		}
		k.says("STATUS INBOX (MESSAGES)", "NO [THROTTLED]")
		k.send("Z CREATE New\r\n")
		if _, err := k.br.ReadByte(); err != io.EOF {
			t.Errorf("read: %v", err)
		}
		truth, err := u.Truth(context.Background())
		mustDo(t)(err)
		if _, ok := truth["New"]; !ok {
			t.Error("the effect was swallowed, too")
		}
		var names []string
		for _, c := range u.Heard() {
			names = append(names, c.Name)
		}
		if want := []string{"LOGIN", "NOOP", "STATUS", "CREATE"}; !slices.Equal(names, want) {
			t.Errorf("heard %v", names)
		}
		m.Close()
		if now, most, logins := u.Sessions(); now != 0 || most != 1 || logins != 1 {
			t.Errorf("sessions: %d, %d, %d", now, most, logins)
		}
	})
}

// A limit is kept: the newest messages first, and the lowest UID that was looked at.
func TestModel_message_limit(t *testing.T) {
	ctx, must := t.Context(), mustDo(t)
	m, u := modelUser(t, T1().With("MESSAGELIMIT=2"))
	_, _, err := u.Fill(ctx, "INBOX", Filling{Messages: 5})
	must(err)
	must(u.AddFlags(ctx, "INBOX", []uint32{1}, `\Seen`))
	must(u.Expunge(ctx, "INBOX", 2, 4))
	k := dialModel(t, m)
	k.do("ENABLE QRESYNC")
	k.do("EXAMINE INBOX")
	for command, want := range map[string]string{
		"UID SEARCH ALL":                                  "* SEARCH 3 5|OK [MESSAGELIMIT 2 3] looked at some",
		"UID SEARCH UID 1:2":                              "* SEARCH 1|OK found",
		"UID SEARCH SEEN":                                 "* SEARCH|OK [MESSAGELIMIT 2 3] looked at some",
		"UID SEARCH NOT UID 5":                            "* SEARCH 3|OK [MESSAGELIMIT 2 3] looked at some",
		"UID FETCH 1,3:5 (UID)":                           "* 2 FETCH (UID 3)|* 3 FETCH (UID 5)|OK [MESSAGELIMIT 2 3] fetched some",
		"UID FETCH 1:3 (UID)":                             "* 1 FETCH (UID 1)|* 2 FETCH (UID 3)|OK fetched",
		"UID FETCH 1:* (UID) (CHANGEDSINCE 2 VANISHED)":   "* VANISHED (EARLIER) 4|OK [MESSAGELIMIT 2 3] fetched some",
		"UID FETCH 1:2 (FLAGS) (CHANGEDSINCE 2 VANISHED)": "* VANISHED (EARLIER) 2|* 1 FETCH (UID 1 FLAGS (\\Seen) MODSEQ (3))|OK fetched",
		"UID FETCH 1 (FLAGS) (CHANGEDSINCE 500 VANISHED)": "OK fetched",
	} {
		if got := strings.Join(k.do(command), "|"); got != want {
			t.Errorf("%s: %q, wants %q", command, got, want)
		}
	}
}
