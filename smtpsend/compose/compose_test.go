package compose

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/internal/message"
)

var day = time.Date(2026, 11, 22, 13, 0, 5, 0, time.FixedZone("", 3600))

// options give the same ids and boundaries every time.
func options() Options {
	return Options{QueueID: "01kq8", IDHeader: "X-Postrider-Id", Rand: rand.NewChaCha8([32]byte{})}
}

func file(name, kind, content string) Attachment {
	return Attachment{Filename: name, ContentType: kind, Size: int64(len(content)), Open: opener(content)}
}

func inline(name, kind, content, cid string) Attachment {
	a := file(name, kind, content)
	a.Inline, a.CID = true, cid
	return a
}

// base is the least that can be sent.
func base() Message {
	return Message{From: Address{"Ann", "ann@example.org"}, To: []Address{{"", "bob@example.net"}}, Date: day}
}

func with(f func(*Message)) Message {
	m := base()
	f(&m)
	return m
}

// composed composes and writes, twice, and checks what holds for everything.
func composed(t testing.TB, m Message, o Options) (*Composed, string) {
	t.Helper()
	c, err := Compose(m, o)
	if err != nil {
		t.Fatal(err)
	}
	return c, written(t, c)
}

func written(t testing.TB, c *Composed) string {
	t.Helper()
	var b, again bytes.Buffer
	n, err := c.WriteTo(&b)
	if _, err2 := c.WriteTo(&again); err != nil || err2 != nil || !bytes.Equal(b.Bytes(), again.Bytes()) {
		t.Fatalf("written twice: %v, %v, the same: %v", err, err2, bytes.Equal(b.Bytes(), again.Bytes()))
	}
	if c.Size >= 0 && c.Size != n || n != int64(b.Len()) {
		t.Errorf("size %d, %d written, %d arrived", c.Size, n, b.Len())
	}
	out := b.String()
	header, _, whole := strings.Cut(out, "\r\n\r\n")
	if !whole || !strings.HasSuffix(out, "\r\n") || strings.Count(out, "\r\n") != strings.Count(out, "\n") || strings.Count(out, "\r\n") != strings.Count(out, "\r") {
		t.Errorf("lines do not end CRLF:\n%q", out)
	}
	for line := range strings.SplitSeq(out, "\r\n") {
		if len(line) > maxLine {
			t.Errorf("a line of %d octets: %q", len(line), line)
		}
	}
	if !c.NeedsUTF8 && !isASCII(header) && !c.Needs8Bit || !c.Needs8Bit && !c.NeedsUTF8 && !isASCII(out) {
		t.Errorf("not ASCII:\n%s", out)
	}
	for name := range message.ParseHeader([]byte(header + "\r\n\r\n")) {
		if name == "bcc" || name == "resent-bcc" {
			t.Errorf("tells blind copies:\n%s", header)
		}
	}
	return out
}

func TestComposeWords(t *testing.T) {
	m := base()
	m.To = []Address{{"Bob Builder", "bob@example.net"}, {"Dr. Eve, \"E\"", "eve@bücher.example"}, {"Zoë", "zoe@example.net"}}
	m.Cc = []Address{{"", `"odd one"@example.net`}}
	m.Bcc = []Address{{"Secret", "secret@example.net"}, {"", "BOB@example.net"}, {"", "bob@EXAMPLE.net"}}
	m.ReplyTo = []Address{{"", "replies@example.org"}}
	m.Subject, m.Text = "Grüße aus Köln", new("Hello,\nworld\n")
	m.InReplyTo, m.References = "<1@x>", []string{"<0@x>", "<1@x>"}
	m.Headers = []Header{{"X-Foo", "a  b"}, {"X-Bar", "ü"}}
	c, got := composed(t, m, options())
	want := "From: Ann <ann@example.org>\r\n" +
		"To: Bob Builder <bob@example.net>, \"Dr. Eve, \\\"E\\\"\"\r\n <eve@xn--bcher-kva.example>, =?utf-8?q?Zo=C3=AB?= <zoe@example.net>\r\n" +
		"Cc: \"odd one\"@example.net\r\n" +
		"Reply-To: replies@example.org\r\n" +
		"Subject: =?utf-8?b?R3LDvMOfZSBhdXMgS8O2bG4=?=\r\n" +
		"Date: Sun, 22 Nov 2026 13:00:05 +0100\r\n" +
		"Message-ID: " + c.MessageID + "\r\n" +
		"In-Reply-To: <1@x>\r\n" +
		"References: <0@x> <1@x>\r\n" +
		"X-Foo: a  b\r\n" +
		"X-Bar: =?utf-8?b?w7w=?=\r\n" +
		"X-Postrider-Id: 01kq8\r\n" +
		"MIME-Version: 1.0\r\n" +
		"Content-Type: text/plain; charset=utf-8\r\n" +
		"Content-Transfer-Encoding: 7bit\r\n" +
		"\r\nHello,\r\nworld\r\n"
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	envelope := Envelope{"ann@example.org", []string{
		"bob@example.net", "eve@xn--bcher-kva.example", "zoe@example.net",
		`"odd one"@example.net`, "secret@example.net", "BOB@example.net",
	}}
	if d := cmp.Diff(envelope, c.Envelope); d != "" || c.NeedsUTF8 || c.Needs8Bit || c.Subject != m.Subject || !c.Date.Equal(day) {
		t.Errorf("%+v %s", c, d)
	}
	if id := strings.TrimSuffix(strings.TrimPrefix(c.MessageID, "<"), "@example.org>"); len(id) != 24 || !c.OwnID {
		t.Errorf("made the id %s, %v", c.MessageID, c.OwnID)
	}
	m.MessageID = "<mine@example.com>"
	if c, _ := composed(t, m, options()); c.MessageID != m.MessageID || c.OwnID {
		t.Errorf("%s, made here %v", c.MessageID, c.OwnID)
	}
}

// shape shows a tree: mixed(alternative(text/plain, text/html), application/pdf).
func shape(q *message.Part) string {
	kind := q.Type
	if q.Disposition != "" {
		kind += "!" + q.Disposition
	}
	if q.ContentID != "" {
		kind += q.ContentID
	}
	if q.Children == nil {
		return kind
	}
	var parts []string
	for _, c := range q.Children {
		parts = append(parts, shape(c))
	}
	return strings.TrimPrefix(kind, "multipart/") + "(" + strings.Join(parts, ", ") + ")"
}

func TestComposeTree(t *testing.T) {
	pdf := file("a.pdf", "", "%PDF")
	logo := inline("logo.png", "image/png", "PNG", "<logo@x>")
	hello, html, none := new("Hello"), new(`<p>Hello <img src="cid:logo@x">`), new("")
	eml := file("m.eml", "", "Subject: x\n\nbody")
	for name, tt := range map[string]struct {
		text, html *string
		files      []Attachment
		want       string
	}{
		"nothing":                  {nil, nil, nil, "text/plain"},
		"text":                     {hello, nil, nil, "text/plain"},
		"empty text":               {none, nil, nil, "text/plain"},
		"html makes a text":        {nil, html, nil, "alternative(text/plain, text/html)"},
		"html that has no text":    {nil, new("<img src=x>"), nil, "text/html"},
		"html alone":               {none, html, nil, "text/html"},
		"both":                     {hello, html, nil, "alternative(text/plain, text/html)"},
		"text, file":               {hello, nil, []Attachment{pdf}, "mixed(text/plain, application/pdf!attachment)"},
		"file":                     {nil, nil, []Attachment{pdf}, "application/pdf!attachment"},
		"files":                    {nil, nil, []Attachment{pdf, pdf}, "mixed(application/pdf!attachment, application/pdf!attachment)"},
		"html, inline":             {none, html, []Attachment{logo}, "related(text/html, image/png!inline<logo@x>)"},
		"html, file":               {none, html, []Attachment{pdf}, "mixed(text/html, application/pdf!attachment)"},
		"text, inline of no html":  {hello, nil, []Attachment{logo}, "mixed(text/plain, image/png!inline<logo@x>)"},
		"html, inline without cid": {none, html, []Attachment{inline("a.png", "", "", "")}, "mixed(text/html, image/png!inline)"},
		"both, inline":             {hello, html, []Attachment{logo}, "alternative(text/plain, related(text/html, image/png!inline<logo@x>))"},
		"both, file":               {hello, html, []Attachment{pdf}, "mixed(alternative(text/plain, text/html), application/pdf!attachment)"},
		"all": {
			hello, html,
			[]Attachment{pdf, logo, eml},
			"mixed(alternative(text/plain, related(text/html, image/png!inline<logo@x>)), application/pdf!attachment, message/rfc822!attachment)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := base()
			m.Text, m.HTML, m.Attachments = tt.text, tt.html, tt.files
			_, got := composed(t, m, options())
			if tree := shape(message.Parse([]byte(got), nil).Root); tree != tt.want {
				t.Errorf("%s, want %s\n%s", tree, tt.want, got)
			}
		})
	}
}

// What is attached arrives as it was; texts with CRLF.
func TestComposeBodies(t *testing.T) {
	all := make([]byte, 300)
	for i := range all {
		all[i] = byte(i)
	}
	for name, tt := range map[string]struct {
		in        Attachment
		kind      string
		encoding  string
		want      string
		eight     bool
		unknowing bool // of its size
	}{
		"binary":                   {in: file("x", "", string(all)), kind: "application/octet-stream", encoding: "base64", want: string(all)},
		"empty":                    {in: file("x.txt", "", ""), kind: "text/plain", encoding: "base64", want: ""},
		"of a size nobody knows":   {in: Attachment{Size: -1, Open: opener(string(all))}, kind: "application/octet-stream", encoding: "base64", want: string(all), unknowing: true},
		"type with parameters":     {in: file("x.ics", `text/calendar; method="REQUEST"; charset=utf-8; name=y`, "BEGIN"), kind: "text/calendar", encoding: "base64", want: "BEGIN"},
		"message":                  {in: file("", "message/rfc822", "Subject: x\n\n.\n..\nFrom x"), kind: "message/rfc822", encoding: "7bit", want: "Subject: x\r\n\r\n.\r\n..\r\nFrom x"},
		"message not ASCII":        {in: file("", "message/rfc822", "Subject: ü\r\n\r\nü\r\n"), kind: "message/rfc822", encoding: "8bit", want: "Subject: ü\r\n\r\nü\r\n", eight: true},
		"message that cannot go":   {in: file("", "message/rfc822", "Subject: x\r\n\r\n"+strings.Repeat("x", 999)), kind: "application/octet-stream", encoding: "base64", want: "Subject: x\r\n\r\n" + strings.Repeat("x", 999)},
		"message with a bare CR":   {in: file("", "message/rfc822", "a: b\r\n\r\nx\ry"), kind: "application/octet-stream", encoding: "base64", want: "a: b\r\n\r\nx\ry"},
		"report, no part of one":   {in: file("", "message/delivery-status", "a: b\r\n"), kind: "application/octet-stream", encoding: "base64", want: "a: b\r\n"},
		"the longest line":         {in: file("", "message/rfc822", "a: b\n\n"+strings.Repeat("x", 998)), kind: "message/rfc822", encoding: "7bit", want: "a: b\r\n\r\n" + strings.Repeat("x", 998)},
		"type by name, upper case": {in: file("X.PDF", "", "x"), kind: "application/pdf", encoding: "base64", want: "x"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, text := range []*string{nil, new("text")} { // alone, and beside another
				c, got := composed(t, with(func(m *Message) { m.Text, m.Attachments = text, []Attachment{tt.in} }), options())
				root := message.Parse([]byte(got), nil).Root
				q := root
				if text != nil {
					q = root.Children[1]
					if tt.eight != strings.Contains(got, "Content-Transfer-Encoding: 8bit\r\n\r\n--") {
						t.Errorf("8bit of the whole:\n%s", got)
					}
				}
				body, _ := message.Decode(q.Encoding, q.Body, 1<<20, nil)
				want := tt.want
				if text == nil && tt.encoding != "base64" {
					want = strings.TrimSuffix(want, "\r\n") + "\r\n"
				}
				if string(body) != want || q.Type != tt.kind || q.Encoding != tt.encoding || c.Needs8Bit != tt.eight || (c.Size < 0) != tt.unknowing {
					t.Errorf("%s in %s, 8 bit %v, size %d: %q", q.Type, q.Encoding, c.Needs8Bit, c.Size, body)
				}
			}
		})
	}
}

func TestTextEncoding(t *testing.T) {
	for s, want := range map[string]string{
		"":                      sevenBit,
		"a\r\nb\n\n-- x":        sevenBit,
		strings.Repeat("x", 78): sevenBit,
		strings.Repeat("x", 79): quoted,
		"a\n-- \nb":             quoted,
		"From here":             quoted,
		"é":                     quoted,
		"a\x00b":                quoted,
		"a\rb":                  quoted,
		"a\tb\n.\n":             sevenBit,
	} {
		if got := textEncoding(s); got != want {
			t.Errorf("%q: %s", s, got)
		}
	}
}

func TestUTF8(t *testing.T) {
	for addr, utf8 := range map[string]bool{"jürgen@bücher.example": true, "jurgen@bücher.example": false, "用户@例子.example": true} {
		m := base()
		m.To = []Address{{"Jürgen", addr}}
		c, got := composed(t, m, options())
		if c.NeedsUTF8 != utf8 || isASCII(got) == utf8 || c.Needs8Bit || !isASCII(c.Envelope.To[0][strings.LastIndexByte(c.Envelope.To[0], '@'):]) {
			t.Errorf("%s: %+v\n%s", addr, c, got)
		}
		m = base()
		m.Envelope = &Envelope{To: []string{addr}}
		if c, _ := composed(t, m, options()); c.NeedsUTF8 != utf8 || c.Envelope.From != "" {
			t.Errorf("%s in the envelope: %+v", addr, c)
		}
	}
}

func TestComposeSize(t *testing.T) {
	m := with(func(m *Message) { m.Attachments = []Attachment{file("x", "", strings.Repeat("x", 10_000))} })
	c, _ := composed(t, m, options())
	o := options()
	o.MaxSize = c.Size
	composed(t, m, o)
	o.MaxSize--
	if _, err := Compose(m, o); !hasProblem(err, "", MessageTooLarge) {
		t.Error(err)
	}
	m.Attachments[0].Size = -1
	c, err := Compose(m, o)
	if err != nil {
		t.Fatal(err)
	}
	var e *Error
	if _, err := c.WriteTo(io.Discard); !errors.As(err, &e) || !e.Has(MessageTooLarge) {
		t.Error(err)
	}
}

// An attachment that cannot be read is nobody's fault: no *Error.
func TestComposeUnreadable(t *testing.T) {
	broken := errors.New("broken")
	m := with(func(m *Message) {
		m.Attachments = []Attachment{{ContentType: "message/rfc822", Open: func() (io.ReadCloser, error) { return nil, broken }}}
	})
	if _, err := Compose(m, options()); !errors.Is(err, broken) || errors.As(err, new(*Error)) {
		t.Error(err)
	}
	o := options()
	o.Rand = strings.NewReader("short")
	if _, err := Compose(base(), o); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}

func hasProblem(err error, location string, code Code) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return false
	}
	for _, p := range e.Problems {
		if p.Location == location && p.Code == code {
			return true
		}
	}
	return false
}
