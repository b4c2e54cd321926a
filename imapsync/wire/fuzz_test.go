package wire

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/google/go-cmp/cmp"
)

// seeds are the server's lines of testdata/odd.
func seeds(f *testing.F) [][]byte {
	f.Helper()
	files, err := filepath.Glob("testdata/odd/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	var out [][]byte
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		var all []byte
		for line := range strings.SplitSeq(string(b), "\n") {
			word, rest, _ := strings.Cut(line, " ")
			var say string
			switch word {
			case "S:":
				say = strings.ReplaceAll(rest, "{tag}", "A1") + "\r\n"
			case "R:":
				if say, err = strconv.Unquote(rest); err != nil {
					f.Fatal(err)
				}
				say = strings.ReplaceAll(say, "{tag}", "A1")
			default:
				continue
			}
			out = append(out, []byte(say))
			all = append(all, say...)
		}
		out = append(out, all)
	}
	return out
}

// testConn is a connection that reads what r has and then ends.
func testConn(r io.Reader) *Conn {
	lim := DefaultLimits()
	ours, theirs := net.Pipe()
	_ = theirs.Close()
	c := newConn(ours, &lim)
	c.caps = parseCaps([]byte("IMAP4rev1 IDLE"))
	c.open, c.folder.Exists = true, 1000
	c.rd.fill = func(p []byte) (int, error) { return r.Read(p) }
	return c
}

// frames reads all frames as text.
func frames(r io.Reader) (out []string, err error) {
	c := testConn(r)
	c.rd.nums.max = 1000
	for {
		f, err := c.rd.next([]byte("A1"))
		if err != nil {
			return out, err
		}
		s := fmt.Sprintf("%q lits=%v cut=%v", f.b, f.lits, f.cut)
		if len(f.lits) == 0 {
			s = fmt.Sprintf("%q cut=%v", f.b, f.cut)
		}
		if kind := numbersKind(f.b); kind != 0 {
			hd := response{frame: f}
			n := c.takeNumbers(&hd)
			s = fmt.Sprintf("numbers %c %s bad=%v over=%v %v", n.kind, n.ranges, n.bad, n.over, n.earlier)
		}
		out = append(out, s)
	}
}

// FuzzFrames: whatever the split, the same frames are read.
func FuzzFrames(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s, uint8(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, n uint8) {
		whole, err1 := frames(bytes.NewReader(in))
		split, err2 := frames(&chunks{in, max(1, int(n))})
		if diff := cmp.Diff(whole, split); diff != "" || (err1 == errSkipped) != (err2 == errSkipped) {
			t.Errorf("split by %d: %v, %v (-whole +split):\n%s", n, err1, err2, diff)
		}
	})
}

// chunks reads n bytes at a time.
type chunks struct {
	b []byte
	n int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.n)], c.b)
	c.b = c.b[n:]
	return n, nil
}

// each reads all responses of in and gives them to f.
func each(in []byte, f func(*Conn, *response)) {
	c := testConn(bytes.NewReader(in))
	for {
		r, err := c.read()
		if err != nil {
			return
		}
		f(c, &r)
	}
}

// FuzzTokens: the scanner moves on with every token and stays in its frame.
func FuzzTokens(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		each(in, func(c *Conn, r *response) {
			s := newScanner(&r.frame, 0)
			for last := -1; ; {
				tok, _ := s.next()
				if tok == tEnd || tok == tBad {
					break
				}
				if s.i <= last || s.i > len(s.b) {
					t.Fatalf("scanner went from %d to %d of %d", last, s.i, len(s.b))
				}
				last = s.i
			}
			c.tokens(r)
		})
	})
}

// FuzzResponses: no response of any kind panics, and what is kept is bounded.
func FuzzResponses(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		each(in, func(c *Conn, r *response) {
			switch {
			case r.is("FETCH"):
				var m Message
				c.parseFetch(r, &m)
				if len(m.Sections) > len(in) || len(m.Damaged) > 32 || len(m.Flags) > c.lim.Flags {
					t.Errorf("message = %+v", m)
				}
				if m.Envelope != nil {
					m.Envelope.IMAP()
				}
			case r.is("LIST"):
				if l, ok := c.parseList(r); ok && len(l.Raw) > 8<<10 {
					t.Errorf("a folder's name of %d bytes", len(l.Raw))
				}
			case r.is("STATUS"):
				parseStatus(r)
			case r.is("ID"):
				parseID(r)
			}
			_ = c.unasked(r)
			if len(c.changes.Flagged) > c.lim.Hints || len(c.changes.Status) > c.lim.Hints {
				t.Error("hints grow without end")
			}
		})
	})
}

func fetchValue(f *testing.F, name string, check func(*testing.T, *Message)) {
	for _, s := range seeds(f) {
		if _, v, ok := bytes.Cut(s, []byte(name+" ")); ok {
			f.Add(v)
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		frame := frame{b: append([]byte("* 1 FETCH (UID 5 "+name+" "), in...)}
		r := head(frame)
		var m Message
		testConn(nil).parseFetch(&r, &m)
		if m.UID != 5 {
			t.Errorf("uid = %d", m.UID)
		}
		check(t, &m)
	})
}

func FuzzEnvelope(f *testing.F) {
	fetchValue(f, "ENVELOPE", func(t *testing.T, m *Message) {
		if e := m.Envelope; e != nil && len(e.To) > 1000 {
			t.Error("too many addresses")
		}
	})
}

func FuzzBodyStructure(f *testing.F) {
	fetchValue(f, "BODYSTRUCTURE", func(t *testing.T, m *Message) {
		if m.Structure == nil {
			return
		}
		m.Structure.Walk(func(path []int, part imap.BodyStructure) bool {
			if len(path) > 64 {
				t.Error("too deep")
			}
			return true
		})
	})
}

// FuzzDecodeName: decoding never fails; what was encoded decodes to what it was.
func FuzzDecodeName(f *testing.F) {
	for _, s := range []string{"INBOX", "&AOk-&AOk-", "&abc", "&-", "a&b-c", "&ZeVnLIqe-", "&2D3eAA-", "&AA-", "gr\xfcn", "日本語 & 😀"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if out := DecodeName(s); !strings.Contains(s, "&") && out != strings.ToValidUTF8(s, "\uFFFD") {
			t.Errorf("%q became %q", s, out)
		}
		if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) || s != strings.ToValidUTF8(s, "") {
			return
		}
		if back := DecodeName(EncodeName(s)); back != s {
			t.Errorf("%q became %q by %q", s, back, EncodeName(s))
		}
	})
}

// FuzzNumbers: ranges are ascending and disjoint, and no more than allowed are kept.
func FuzzNumbers(f *testing.F) {
	for _, s := range []string{"* SEARCH 1 2 3 9", "* ESEARCH (TAG \"A1\") UID ALL 1:4294967295", "* VANISHED (EARLIER) 41,43:116,*", "* SEARCH 4:2 99999999999999999999 0 x1 1x", "*SEARCH 1 2"} {
		f.Add(s, uint16(5))
	}
	f.Fuzz(func(t *testing.T, s string, split uint16) {
		kind := numbersKind([]byte(s))
		if kind == 0 {
			return
		}
		read := func(parts ...string) (imap.UIDSet, bool, bool) {
			n := numbers{max: 1000}
			n.begin(kind)
			for _, p := range parts {
				n.feed([]byte(p))
			}
			n.end()
			return n.ranges, n.bad, n.over
		}
		ranges, bad, over := read(s)
		if len(ranges) > 1000 || kind != 'V' && Count(ranges) > 1000 {
			t.Errorf("%d ranges of %d", len(ranges), Count(ranges))
		}
		for i, r := range ranges {
			if r.Start == 0 || r.Stop < r.Start || i > 0 && r.Start <= ranges[i-1].Stop {
				t.Errorf("ranges = %v", ranges)
			}
		}
		at := min(len(s), 32+int(split)) // the first chunk holds the head
		ranges2, bad2, over2 := read(s[:at], s[at:])
		if diff := cmp.Diff(ranges, ranges2); diff != "" || bad != bad2 || over != over2 {
			t.Errorf("split at %d: %s", at, diff)
		}
	})
}

// FuzzUIDSet: a set that may be sent is one a server can read back.
func FuzzUIDSet(f *testing.F) {
	f.Add(uint32(1), uint32(5), uint32(9), uint32(0))
	f.Fuzz(func(t *testing.T, a, b, c, d uint32) {
		set := imap.UIDSet{{Start: imap.UID(a), Stop: imap.UID(b)}, {Start: imap.UID(c), Stop: imap.UID(d)}}
		if checkSet(set) != "" {
			return
		}
		n := numbers{max: 1 << 40}
		n.begin('S')
		n.feed(fmt.Appendf(nil, "* SEARCH %s", appendSet(nil, set)))
		n.end()
		if n.bad != (b == 0 || d == 0) {
			t.Errorf("%s: bad = %v", appendSet(nil, set), n.bad)
		}
	})
}

func FuzzInternalDate(f *testing.F) {
	for _, s := range []string{"01-Feb-2024 10:00:00 +0100", " 1-Feb-2024 10:00:00 -0000", "31-Feb-2024 10:00:00 +0000", "01-Jan-0001 00:00:00 +0000"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := ParseInternalDate([]byte(s))
		if !ok {
			return
		}
		want, err := time.Parse("_2-Jan-2006 15:04:05 -0700", strings.TrimLeft(strings.TrimLeft(s, " \t\x00"), "0"))
		if err == nil && !got.Equal(want) && !strings.Contains(s, ":60") {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	})
}

// FuzzSession: whatever a server says, every call ends, and the connection is usable or
// closed.
func FuzzSession(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		ours, theirs := net.Pipe()
		go func() {
			defer func() { _ = theirs.Close() }()
			go func() { _, _ = io.Copy(io.Discard, theirs) }()
			_, _ = theirs.Write([]byte("* PREAUTH hi\r\nA1 OK x\r\n"))
			_, _ = theirs.Write(in)
		}()
		c, err := Dial(context.Background(), Options{
			Host: "x", Port: 1, Security: Plaintext,
			Dial: func(context.Context, string, string) (net.Conn, error) { return ours, nil },
		})
		if err != nil {
			return
		}
		defer c.Close()
		ctx := context.Background()
		_, err = c.Examine(ctx, "INBOX", SelectOptions{})
		if Usable(err) {
			_, err = c.Fetch(ctx, imap.UIDSet{{Start: 1}}, []Item{ItemUID, ItemFlags, ItemEnvelope, Body("", 0, 0)}, FetchOptions{}, func(*Message) error { return nil })
		}
		if Usable(err) {
			_, _, _, err = c.List(ctx, "", "*", ListOptions{})
		}
		if Usable(err) {
			_, err = c.Search(ctx, &imap.SearchCriteria{}, true)
		}
		c.Changes()
		if !Usable(err) && Usable(c.Noop(ctx)) {
			t.Errorf("a command works behind %v", err)
		}
	})
}

// TestReadersOfAllKinds: frames come the same from readers that err with data.
func TestReadersOfAllKinds(t *testing.T) {
	in := "* 1 FETCH (UID 1 BODY[] {3}\r\na\r\n)\r\n* LIST () \"/\" \"a\r\nb\"\r\n* SEARCH 1 2\r\nA1 OK\r\n"
	want, _ := frames(strings.NewReader(in))
	if len(want) != 4 {
		t.Fatalf("frames = %q", want)
	}
	for _, r := range []io.Reader{iotest.OneByteReader(strings.NewReader(in)), iotest.HalfReader(strings.NewReader(in)), iotest.DataErrReader(strings.NewReader(in))} {
		got, _ := frames(r)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%T (-want +got):\n%s", r, diff)
		}
	}
}
