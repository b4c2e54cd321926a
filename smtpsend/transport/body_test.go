package transport

import (
	"bufio"
	"bytes"
	"errors"
	"net/textproto"
	"strings"
	"testing"
)

// TestDots: what textproto's reader makes of what was written is what was given.
func TestDots(t *testing.T) {
	for _, body := range []string{"", "\r\n", "a", "a\r\n", ".", ".\r\n", "..", ".a\r\n.\r\n..\r\n...\r\n", "a\r\n.", "\r\n\r\n.\r\n\r\n", "a.\r\n.b", strings.Repeat(".", 5000) + "\r\n"} {
		for size := 1; size < 8; size++ {
			out, err := dotted(body, size)
			if err != nil {
				t.Fatalf("%q: %v", body, err)
			}
			want := body
			if body != "" && !strings.HasSuffix(body, "\r\n") {
				want += "\r\n"
			}
			if got := undot(t, out); got != want {
				t.Errorf("%q by %d: %q on the wire", body, size, out)
			}
		}
	}
}

func TestBareLineEnds(t *testing.T) {
	for _, body := range []string{"\n", "\r", "a\n", "a\nb\r\n", "a\rb\r\n", "\r\r\n", "a\r", "a\r\n\n", "x\n.\r\n", "x\r\n.\n", "x\r\n.\r", "x\n.\n"} {
		for size := 1; size < 5; size++ {
			if out, err := dotted(body, size); !errors.Is(err, errBare) {
				t.Errorf("%q by %d: %q, %v", body, size, out, err)
			}
		}
	}
}

// FuzzDots: no body ends itself, and none arrives changed.
func FuzzDots(f *testing.F) {
	f.Add("a\r\n.\r\nMAIL FROM:<x@y>\r\n", 3)
	f.Add("x\r\n.\r", 1)
	f.Add("\n.\n", 2)
	f.Fuzz(func(t *testing.T, body string, size int) {
		out, err := dotted(body, 1+max(size, -size)%50)
		bare := strings.ContainsAny(strings.ReplaceAll(body, "\r\n", ""), "\r\n")
		if (err != nil) != bare {
			t.Fatalf("%q: %v", body, err)
		}
		if err != nil {
			return
		}
		if strings.HasPrefix(out, ".\r\n") || strings.Contains(out, "\r\n.\r\n") {
			t.Fatalf("%q ends itself: %q", body, out)
		}
		if got := strings.TrimSuffix(undot(t, out), "\r\n"); got != strings.TrimSuffix(body, "\r\n") {
			t.Fatalf("%q became %q", body, got)
		}
	})
}

// dotted writes body in pieces.
func dotted(body string, size int) (string, error) {
	var out bytes.Buffer
	w := &dotWriter{w: bufio.NewWriterSize(&out, 16)}
	for b := []byte(body); len(b) > 0; {
		n := min(size, len(b))
		if _, err := w.Write(b[:n]); err != nil {
			return out.String(), err
		}
		b = b[n:]
	}
	err := w.end()
	return out.String(), err
}

// undot is the other end's work, with its line ends put back.
func undot(t *testing.T, wire string) string {
	t.Helper()
	b, err := textproto.NewReader(bufio.NewReader(strings.NewReader(wire + ".\r\n"))).ReadDotBytes()
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(b), "\n", "\r\n")
}
