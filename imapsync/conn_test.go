package imapsync

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/imapsync/imaptest"
)

// feedAll gives bytes to frames in pieces of n and writes down what it says.
func feedAll(lim limits, in string, n int) ([]string, error) {
	var out []string
	f := frames{lim: lim, handle: func(r response) {
		out = append(out, fmt.Sprintf("%s %s %d %v %q", []string{"unknown", "data", "status", "tagged", "continue"}[r.kind], r.word, r.num, r.has, r.rest))
	}}
	for in != "" {
		k := min(n, len(in))
		if err := f.feed([]byte(in[:k])); err != nil {
			return out, err
		}
		in = in[k:]
	}
	return out, nil
}

func TestFrames(t *testing.T) {
	lim := defaultLimits()
	for _, c := range []struct {
		name, in string
		want     []string // nil: only err
		err      error
	}{
		{"counts", "* 24 EXISTS\r\n* 3 expunge\n* -1 EXPUNGE\r\n", []string{`data EXISTS 24 true ""`, `data EXPUNGE 3 true ""`, `data -1 0 false ""`}, nil},
		{"exists beyond 32 bit", "* 4294967296 EXISTS\r\n", []string{`data EXISTS 4294967295 false ""`}, nil},
		{"number before a status", "* 5 OK \"x\r\n* 1 EXISTS\r\n", []string{`status OK 5 true "\"x"`, `data EXISTS 1 true ""`}, nil},
		{"tagged", "T7 NO [LIMIT 5] no (more\r\n", []string{`tagged NO 0 false "[LIMIT 5] no (more"`}, nil},
		{"continuation", "+ {5}\r\n+\r\n", []string{`continue  0 false "{5}"`, `continue  0 false ""`}, nil},
		{"status text has no literals and quotes", "* OK it's {5}\r\n* NO \"open\r\n* 1 EXISTS\r\n", []string{`status OK 0 false "it's {5}"`, `status NO 0 false "\"open"`, `data EXISTS 1 true ""`}, nil},
		{"literal followed by the rest", "* LIST () \"/\" {3}\r\n(\"{\r\n* 1 EXISTS\r\n", []string{`data LIST 0 false ""`, `data EXISTS 1 true ""`}, nil},
		{"braces in quotes are none", "* LIST () \"/\" \"a{3}\"\r\n* 1 EXISTS\r\n", []string{`data LIST 0 false ""`, `data EXISTS 1 true ""`}, nil},
		{"a quoted string goes over lines", "* LIST () \"/\" \"a {3}\r\n((( \\\" \"\r\n* 1 EXISTS\r\n", nil, nil},
		{"deep", "* X " + strings.Repeat("(", 64) + strings.Repeat(")", 64) + "\r\n", []string{}, nil},
		{"too deep", "* X " + strings.Repeat("(", 65), nil, errTooDeep},
		{"deep in quotes", "* X \"" + strings.Repeat("(", 1000) + "\"\r\n", []string{}, nil},
		{"large literal", "* X {33554433}\r\n", nil, errLiteral},
		{"largest literal", "* X {33554432}\r\n", []string{}, nil},
		{"unclosed code", "* OK [FOO bar\r\n", nil, errUnclosed},
		{"unclosed code in a tagged reply", "A1 NO [AUTHENTICATIONFAILED oops\r\n", nil, errUnclosed},
		{"capability", "* CAPABILITY IMAP4rev1(x)\r\n", nil, errCapParen},
		{"capability in a code", "T1 OK [CAPABILITY (x)] in\r\n", nil, errCapParen},
		{"no type", "*\r\n", nil, errNoType},
		{"endless", "* X " + strings.Repeat("x", lim.line), nil, errTooLong},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			got, err := feedAll(lim, c.in, len(c.in))
			if !errors.Is(err, c.err) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if len(c.want) > 0 {
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("responses (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// FuzzFrames: whatever the split, the same is seen; nesting and size stay bounded.
func FuzzFrames(f *testing.F) {
	for _, s := range []string{
		"* 24 EXISTS\r\n", "* LIST (\\A) \"/\" {3}\r\nabc\r\nT1 OK [X] y\r\n", "* OK [FOO", "* 1 FETCH (UID 1 ENVELOPE (\"a\\\"b\" {2}\r\n)) NIL))\r\n",
		"+ idling\r\n", "* 5 OK \"", "* CAPABILITY (x)\r\n", "\r\n\r\n", "T1 OK\n* BYE \xff\n",
	} {
		f.Add(s, 1)
	}
	lim := defaultLimits()
	lim.line, lim.depth, lim.literal = 300, 8, 50
	f.Fuzz(func(t *testing.T, in string, n int) {
		whole, werr := feedAll(lim, in, max(1, len(in)))
		split, serr := feedAll(lim, in, max(1, n%7))
		if fmt.Sprint(werr) != fmt.Sprint(serr) {
			t.Errorf("errors differ by split: %v, %v", werr, serr)
		}
		if diff := cmp.Diff(whole, split); diff != "" {
			t.Errorf("responses differ by split:\n%s", diff)
		}
	})
}

// FuzzSession: a session ends by its own deadlines whatever the server says.
func FuzzSession(f *testing.F) {
	for _, s := range []string{
		"* 1 FETCH (UID 1 FLAGS (\\Seen) ENVELOPE (NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL))\r\nT2 OK\r\n",
		"* 1 FETCH (UID 1 BODYSTRUCTURE ((((\r\n", "* VANISHED 1:3\r\n", "* SEARCH 1 2\r\nT2 OK\r\n", "T2 NO\r\n", "+ x\r\n",
		"* 1 FETCH (UID 1 BODY[HEADER] {5}\r\nabcde BODY[TEXT] {2}\r\nxx)\r\nT2 OK\r\n* BYE\r\n", "* OK [PERMANENTFLAGS (\\*)] x\r\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, said string) {
		synctest.Test(t, func(t *testing.T) {
			script, s, err := dialScript(t, nil, selected("3"), imaptest.Expect(""), imaptest.Send(said), imaptest.Silence())
			defer script.Close()
			ok(t, err)
			must[Selected](t)(s.Select(t.Context(), "INBOX"))
			begin := time.Now()
			_, _ = s.Messages(t.Context(), uids(1, 3))
			if d := time.Since(begin); d > 11*time.Minute {
				t.Errorf("took %v", d)
			}
			s.Close()
		})
	})
}

func TestParseHeader(t *testing.T) {
	in := "Message-ID: <a@b>\r\nReferences:\r\n <1@x>\r\n\t<2@x> <bad\r\nno colon\r\n continued nothing\r\nLIST-ID : List <l.x>\r\nSubject: \xff\x00\r\n\r\n"
	want := map[string][]string{"message-id": {"<a@b>"}, "references": {"<1@x> <2@x> <bad"}, "list-id": {"List <l.x>"}, "subject": {"\uFFFD"}}
	got := parseHeader([]byte(in))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	for _, c := range []struct {
		in   string
		want []string
	}{
		{"<a@b>", []string{"<a@b>"}}, {"<a@b><c@d>", []string{"<a@b>", "<c@d>"}}, {"a@b", []string{"<a@b>"}}, {"", nil}, {"<>", nil},
		{"<a@b", nil}, {"text <a@b> more < c@d >", []string{"<a@b>", "<c@d>"}},
	} {
		if diff := cmp.Diff(c.want, idsIn(c.in)); diff != "" {
			t.Errorf("ids in %q (-want +got):\n%s", c.in, diff)
		}
	}
	var many []string
	for i := range 60 {
		many = append(many, fmt.Sprintf("<%d@x>", i))
	}
	if ids := allIDs([]string{strings.Join(many, " ")}); len(ids) != maxReferences || ids[0] != "<10@x>" {
		t.Errorf("references = %v", ids)
	}
}

func TestExpand(t *testing.T) {
	for _, c := range []struct {
		set  imap.UIDSet
		most uint64
		want []uint32
		ok   bool
	}{
		{imap.UIDSet{{Start: 5, Stop: 6}, {Start: 2, Stop: 2}, {Start: 6, Stop: 7}}, 10, []uint32{2, 5, 6, 7}, true},
		{nil, 0, nil, true},
		{imap.UIDSet{{Start: 1, Stop: 4294967295}}, 1000, nil, false},
		{imap.UIDSet{{Start: 4294967294, Stop: 4294967295}}, 2, []uint32{4294967294, 4294967295}, true},
		{imap.UIDSet{{Start: 1, Stop: 0}}, 1000, nil, false},
		{imap.UIDSet{{Start: 0, Stop: 0}}, 1000, nil, false},
	} {
		got, ok := expand(c.set, c.most)
		if ok != c.ok || cmp.Diff(c.want, got) != "" {
			t.Errorf("expand(%v, %d) = %v, %v", c.set, c.most, got, ok)
		}
	}
}
