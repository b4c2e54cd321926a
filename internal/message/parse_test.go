package message

import (
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/internal/message/messagetest"
)

// read is all that is made of a message, as it is used.
func read(raw []byte, most int) (m *Message, c Content, plain, html string, w Warnings) {
	m = Parse(raw, &w)
	c = Choose(m.Root, 1000)
	if c.Plain != nil {
		plain, _ = Text(c.Plain, c.Plain.Body, false, most, &w)
	}
	if c.HTML != nil {
		html, _ = Text(c.HTML, c.HTML.Body, false, most, &w)
	}
	return m, c, plain, html, w
}

func TestOddMail(t *testing.T) {
	all := messagetest.Odd()
	if len(all) < 60 {
		t.Errorf("%d odd messages, want 60 at least", len(all))
	}
	for _, o := range all {
		t.Run(o.Name, func(t *testing.T) {
			m, c, plain, html, w := read([]byte(o.Raw), 64<<10)
			if o.Huge {
				return // that it comes to an end is enough
			}
			var files []string
			for _, a := range c.Attachments {
				files = append(files, strings.TrimSpace(a.Type+" "+a.Filename))
			}
			got := messagetest.Mail{Plain: plain, HTML: html, Files: files, Cut: m.Cut || c.Cut, Warnings: w}
			want := messagetest.Mail{Plain: o.Plain, HTML: o.HTML, Files: o.Files, Cut: o.Cut, Warnings: o.Warnings}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

func TestPartNumbers(t *testing.T) {
	m := Parse([]byte("Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/alternative; boundary=b\n\n--b\n\nx\n--b\nContent-Type: text/html\n\ny\n--b--\n--a\nContent-Type: application/pdf\nContent-ID: <i@x>\n\nz\n--a--\n"), nil)
	var got []string
	var walk func(*Part)
	walk = func(q *Part) {
		got = append(got, q.Number+" "+q.Type+" "+q.ContentID)
		for _, c := range q.Children {
			walk(c)
		}
	}
	walk(m.Root)
	want := []string{" multipart/mixed ", "1 multipart/alternative ", "1.1 text/plain ", "1.2 text/html ", "2 application/pdf <i@x>"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestTextIsCutAtACharacter(t *testing.T) {
	q := &Part{Type: "text/plain", Encoding: "quoted-printable", Params: map[string]string{"charset": "utf-8"}}
	for _, c := range []struct {
		body    string
		partial bool
		most    int
		want    string
		more    bool
	}{
		{"=C3=BC=C3=BC", false, 4, "üü", false},
		{"=C3=BC=C3=BC", false, 3, "ü", true},
		{"=C3=BC=C3=BC", false, 0, "", true},
		{"", false, 0, "", false},
		{"abc=\r\ndef=C", true, 100, "abcdef", true}, // not half an escape
	} {
		got, more := Text(q, []byte(c.body), c.partial, c.most, nil)
		if got != c.want || more != c.more {
			t.Errorf("%q to %d: %q %v, want %q %v", c.body, c.most, got, more, c.want, c.more)
		}
	}
	half := &Part{Type: "text/plain", Params: map[string]string{"charset": "utf-8"}}
	if got, more := Text(half, []byte("a\xc3"), true, 100, nil); got != "a" || !more {
		t.Errorf("half a character is %q %v", got, more)
	}
}

// hostile are inputs that cost some readers more than they are long.
var hostile = map[string]func(n int) []byte{
	"nested multiparts": func(n int) []byte {
		var b strings.Builder
		for b.Len() < n {
			b.WriteString("Content-Type: multipart/mixed; boundary=b\n\n--b\n")
		}
		return []byte(b.String())
	},
	"nested with names of their own": func(n int) []byte {
		var b strings.Builder
		for i := 0; b.Len() < n; i++ {
			name := strings.Repeat("x", i%50) + "y"
			b.WriteString("Content-Type: multipart/mixed; boundary=" + name + "\n\n--" + name + "\n")
		}
		return []byte(b.String())
	},
	"boundaries that are none": func(n int) []byte {
		var head strings.Builder
		for i := range MaxDepth {
			name := strings.Repeat("b", 60) + string(rune('A'+i))
			head.WriteString("Content-Type: multipart/mixed; boundary=" + name + "\n\n--" + name + "\n")
		}
		return []byte(head.String() + strings.Repeat("--"+strings.Repeat("b", 61)+"\n", n/64))
	},
	"continuations": func(n int) []byte { return []byte("Subject: x\n" + strings.Repeat(" y\n", n/3)) },
	"fields":        func(n int) []byte { return []byte(strings.Repeat("a: b\n", n/5)) },
	"parts": func(n int) []byte {
		return []byte("Content-Type: multipart/x; boundary=b\n\n" + strings.Repeat("--b\n\n", n/5))
	},
	"messages inside": func(n int) []byte { return []byte(strings.Repeat("Content-Type: message/rfc822\n\n", n/30)) },
	"parameters": func(n int) []byte {
		return []byte("Content-Type: text/plain" + strings.Repeat("; a*1*=b", n/8) + "\n\nx")
	},
	"no line end": func(n int) []byte { return []byte(strings.Repeat("x", n)) },
}

// TestMemoryIsBounded: what is made of a message is little beside it.
func TestMemoryIsBounded(t *testing.T) {
	for name, make := range hostile {
		raw := make(4 << 20)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		Parse(raw, nil)
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 10<<20 {
			t.Errorf("%s: 4 MiB take %d bytes", name, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, o := range messagetest.Odd() {
		if len(o.Raw) < 64<<10 {
			f.Add([]byte(o.Raw))
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, c, plain, html, w := read(raw, 1000)
		if len(plain) > 1000 || len(html) > 1000 || len(w) > maxWarnings {
			t.Errorf("%d, %d bytes, %d warnings", len(plain), len(html), len(w))
		}
		texts := append([]string{plain, html}, w...)
		for name, values := range m.Header {
			texts = append(append(texts, name), values...)
		}
		for _, a := range c.Attachments {
			texts = append(texts, a.Type, a.Filename, a.ContentID, a.Disposition)
		}
		for _, s := range texts {
			if !utf8.ValidString(s) || strings.Contains(s, "\x00") {
				t.Errorf("%q", s)
			}
		}
	})
}
