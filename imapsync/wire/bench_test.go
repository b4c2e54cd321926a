package wire

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/postrider/postrider/internal/benchtest"
)

// replay is a net.Conn that gives a recorded answer, and takes whatever is written.
type replay struct {
	r io.Reader
	net.Conn
}

func (r *replay) Read(p []byte) (int, error)     { return r.r.Read(p) }
func (*replay) Write(p []byte) (int, error)      { return len(p), nil }
func (*replay) Close() error                     { return nil }
func (*replay) SetReadDeadline(time.Time) error  { return nil }
func (*replay) SetWriteDeadline(time.Time) error { return nil }
func (*replay) SetDeadline(time.Time) error      { return nil }

// flagListing is the answer to UID FETCH 1:* (UID FLAGS) of n messages, to a command A1.
func flagListing(n int) []byte {
	var b bytes.Buffer
	sets := []string{`\Seen`, ``, `\Seen \Answered`, `\Seen $Label1`, `\Flagged \Seen`}
	for i := range n {
		fmt.Fprintf(&b, "* %d FETCH (UID %d FLAGS (%s))\r\n", i+1, 1000+i*2, sets[i%len(sets)])
	}
	b.WriteString("A1 OK done\r\n")
	return b.Bytes()
}

// ourFetch reads a recorded answer with a Conn.
func ourFetch(tb testing.TB, answer []byte, items []Item) int {
	lim := DefaultLimits()
	c := newConn(&replay{r: bytes.NewReader(answer)}, &lim)
	c.stage, c.open, c.folder.Exists = StageCommand, true, 1<<21
	n := 0
	_, err := c.Fetch(context.Background(), imap.UIDSet{{Start: 1}}, items, FetchOptions{}, func(m *Message) error {
		if m.UID != 0 {
			n++
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// theirFetch reads it with go-imap's client.
func theirFetch(tb testing.TB, answer []byte, o *imap.FetchOptions) int {
	answer = bytes.Replace(answer, []byte("\r\nA1 OK"), []byte("\r\nT1 OK"), 1)
	pr, pw := io.Pipe()
	client := imapclient.New(&replay{r: pr}, nil)
	go func() { _, _ = pw.Write([]byte("* PREAUTH [CAPABILITY IMAP4rev1] hi\r\n")) }()
	cmd := client.Fetch(imap.UIDSet{{Start: 1}}, o)
	go func() {
		_, _ = pw.Write(answer)
	}()
	n := 0
	for m := cmd.Next(); m != nil; m = cmd.Next() {
		for m.Next() != nil {
		}
		n++
	}
	if err := cmd.Close(); err != nil {
		tb.Fatal(err)
	}
	_ = pw.Close()
	return n
}

// bareScan reads it line by line and looks at nothing.
func bareScan(answer []byte) int {
	s := bufio.NewScanner(bytes.NewReader(answer))
	n := 0
	for s.Scan() {
		n++
	}
	return n
}

// parseRun is what reading one recorded answer cost: ours, go-imap's, and a bare scan of
// the lines, all in one iteration.
type parseRun struct {
	ours, theirs, bare time.Duration // of the processor
	mallocs            uint64        // ours
}

func measureParse(b *testing.B, answer []byte, n int, items []Item, o *imap.FetchOptions) (r parseRun) {
	for b.Loop() {
		t0 := benchtest.OwnCPU(b)
		bareScan(answer)
		r.bare += benchtest.OwnCPU(b) - t0
		runtime.GC() // nobody pays for another's garbage
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		t0 = benchtest.OwnCPU(b)
		if got := ourFetch(b, answer, items); got != n {
			b.Fatalf("%d messages", got)
		}
		r.ours += benchtest.OwnCPU(b) - t0
		runtime.ReadMemStats(&after)
		r.mallocs += after.Mallocs - before.Mallocs
		t0 = benchtest.OwnCPU(b)
		theirFetch(b, answer, o)
		r.theirs += benchtest.OwnCPU(b) - t0
	}
	return r
}

// report gives the figures of n messages an iteration.
func (r parseRun) report(b *testing.B, what string, n int, mostOfTheirs, mostOfBare, mostAllocs float64) {
	total := float64(b.N * n)
	benchtest.Figure{
		Name: what + ": CPU", Value: float64(r.ours.Nanoseconds()) / total, Unit: "ns each",
		Baseline: "go-imap's client", Ratio: r.ours.Seconds() / r.theirs.Seconds(), MostRatio: mostOfTheirs,
	}.Report(b)
	benchtest.Figure{
		Name: what + ": throughput", Value: total / r.ours.Seconds(), Unit: "1/s",
		Baseline: "the CPU of a bare line scan", Ratio: r.ours.Seconds() / r.bare.Seconds(), MostRatio: mostOfBare,
	}.Report(b)
	benchtest.Figure{Name: what + ": allocations", Value: float64(r.mallocs) / total, Unit: "each", Most: mostAllocs}.Report(b)
}

// BenchmarkFlagListing: UID FETCH 1:* (UID FLAGS).
func BenchmarkFlagListing(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := measureParse(b, flagListing(n), n, []Item{ItemUID, ItemFlags}, &imap.FetchOptions{UID: true, Flags: true})
			r.report(b, fmt.Sprintf("FETCH UID FLAGS of %d", n), n, 0.1, 4, 0.01)
		})
	}
}

// BenchmarkEnvelopes: ENVELOPE and BODYSTRUCTURE of multipart messages.
func BenchmarkEnvelopes(b *testing.B) {
	const n = 10_000
	const one = `* %d FETCH (UID %d FLAGS (\Seen) INTERNALDATE "01-Feb-2024 10:00:00 +0100" RFC822.SIZE 48213 ENVELOPE ("Thu, 01 Feb 2024 10:00:00 +0100" "=?utf-8?q?Gr=C3=BC=C3=9Fe?= aus Berlin" (("Alice Example" NIL "alice" "example.com")) (("Alice Example" NIL "alice" "example.com")) (("Alice Example" NIL "alice" "example.com")) (("Bob" NIL "bob" "example.org")("Carol" NIL "carol" "example.org")) NIL NIL "<1@example.org>" "<%d@example.com>") BODYSTRUCTURE ((("text" "plain" ("charset" "utf-8" "format" "flowed") NIL NIL "quoted-printable" 1200 40 NIL NIL NIL NIL)("text" "html" ("charset" "utf-8") NIL NIL "quoted-printable" 5400 120 NIL NIL NIL NIL) "alternative" ("boundary" "b1") NIL NIL NIL)("application" "pdf" ("name" "Rechnung.pdf") NIL NIL "base64" 40000 NIL ("attachment" ("filename" "Rechnung.pdf")) NIL NIL) "mixed" ("boundary" "b0") NIL NIL NIL))` + "\r\n"
	var buf bytes.Buffer
	for i := range n {
		fmt.Fprintf(&buf, one, i+1, i+1, i+1)
	}
	buf.WriteString("A1 OK done\r\n")
	answer := buf.Bytes()
	r := measureParse(b, answer, n, []Item{ItemUID, ItemEnvelope, ItemBodyStructure},
		&imap.FetchOptions{UID: true, Envelope: true, BodyStructure: &imap.FetchItemBodyStructure{Extended: true}})
	r.report(b, "FETCH ENVELOPE BODYSTRUCTURE", n, 1.0/3, 0, 40)
}

// BenchmarkSearch: a million UIDs in one SEARCH.
func BenchmarkSearch(b *testing.B) {
	var line strings.Builder
	line.WriteString("* SEARCH")
	for i := range 1_000_000 {
		fmt.Fprintf(&line, " %d", 1+i*2)
	}
	line.WriteString("\r\nA1 OK\r\n")
	answer := []byte(line.String())
	b.SetBytes(int64(len(answer)))
	for b.Loop() {
		lim := DefaultLimits()
		c := newConn(&replay{r: bytes.NewReader(answer)}, &lim)
		c.stage, c.open, c.folder.Exists = StageCommand, true, 1_000_000
		got, err := c.Search(context.Background(), &imap.SearchCriteria{}, false)
		if err != nil || !got.Complete || Count(got.UIDs) != 1_000_000 {
			b.Fatalf("%d, complete %v, %v", Count(got.UIDs), got.Complete, err)
		}
	}
}

// TestNoAllocationPerMessage: a listing of any length costs the same.
func TestNoAllocationPerMessage(t *testing.T) {
	const n = 20_000
	answer := flagListing(n)
	allocs := testing.AllocsPerRun(3, func() {
		if got := ourFetch(t, answer, []Item{ItemUID, ItemFlags}); got != n {
			t.Fatalf("%d messages", got)
		}
	})
	if allocs > 200 {
		t.Errorf("%.0f allocations for %d messages", allocs, n)
	}
}

// TestIdleConnIsSmall: what an idle connection holds on to.
func TestIdleConnIsSmall(t *testing.T) {
	const n = 500
	conns := make([]*Conn, n)
	measure := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	answer := flagListing(100)
	lim := DefaultLimits()
	before := measure()
	for i := range conns {
		c := newConn(&replay{r: bytes.NewReader(answer)}, &lim)
		c.stage, c.open, c.folder.Exists = StageCommand, true, 100
		c.caps = parseCaps([]byte("IMAP4rev1 IDLE ENABLE UIDPLUS MOVE CONDSTORE QRESYNC ESEARCH LIST-STATUS SPECIAL-USE NAMESPACE ID NOTIFY"))
		if _, err := c.Fetch(context.Background(), imap.UIDSet{{Start: 1}}, []Item{ItemUID, ItemFlags}, FetchOptions{}, func(*Message) error { return nil }); err != nil {
			t.Fatal(err)
		}
		c.rd.release()
		conns[i] = c
	}
	per := int64(measure()-before) / n
	if len(conns[0].rd.buf) != smallBuf || conns[0].rd.asm != nil {
		t.Errorf("idle connection keeps a buffer of %d bytes", len(conns[0].rd.buf))
	}
	t.Logf("%d bytes a connection", per)
	if per > 6<<10 {
		t.Errorf("%d bytes a connection, want at most 6 KiB", per)
	}
	runtime.KeepAlive(conns)
}
