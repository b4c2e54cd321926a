package compose

import (
	"bytes"
	"encoding/base64"
	"io"
	"math/rand/v2"
	"mime"
	"net/mail"
	"strconv"
	"strings"
	"testing"

	gomessage "github.com/emersion/go-message"

	"github.com/postrider/postrider/internal/message"
)

// canonical is text as it arrives.
func canonical(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	return strings.NewReplacer("\r\n", "\r\n", "\r", "\r\n", "\n", "\r\n").Replace(s)
}

func shown(s string) string { return strings.TrimSpace(strings.ToValidUTF8(s, "\uFFFD")) }

// FuzzCompose: what is composed keeps to its lines, and two parsers that are not ours read
// of it what was given.
func FuzzCompose(f *testing.F) {
	f.Add("Ann", "b@example.org", "Subject", "text\n", "<p>html", "résumé 日本.pdf", "value", "logo@x", []byte("content"))
	f.Add("Ann \"Q\" O'Neil, Ph.D.", `"b c"@bücher.example`, "=?utf-8?q?x?=", "From x\n.\n..\r", "", strings.Repeat("a", 300)+".pdf", "a\t b   c", "", []byte{0, 255})
	f.Add(strings.Repeat("Zoë ", 40), "jürgen@example.org", strings.Repeat("日本語", 90), "é= \n"+strings.Repeat("x", 100), "", "\"\\\x01.eml", strings.Repeat("word ", 60), "<c>", []byte("a: b\n\nc"))
	f.Add(" a ", "b@[192.0.2.1]", "a  b", "", "", "a'b%c*.txt", " = ", "x", []byte{})
	f.Add("x", "a@b> SIZE=1", "x\r\nBcc: y@z", "", "", "", "x\nBcc: y@z", "<>", []byte{})
	f.Fuzz(readsBack)
}

// TestComposeReadsBack is FuzzCompose on what it seldom finds: much that is allowed.
func TestComposeReadsBack(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	letters := []rune("aaabcdeXYZ 019   éü日本😀.,;:<>@()[]\"\\'=?_-+*%/\t\x01\u00a0\u200b")
	text := func(most int) string {
		out := make([]rune, r.IntN(most))
		for i := range out {
			out[i] = letters[r.IntN(len(letters))]
		}
		return strings.Repeat(string(out), 1+r.IntN(2)*r.IntN(8))
	}
	locals := []string{"bob", `"b c"`, "jürgen", "a+b", `"\\\""`, strings.Repeat("l", 64)}
	domains := []string{"example.org", "bücher.example", "[192.0.2.1]", strings.Repeat("long.", 35) + "example"}
	for range 500 {
		addr := locals[r.IntN(len(locals))] + "@" + domains[r.IntN(len(domains))]
		body := strings.ReplaceAll(text(120), "a", "\n")
		readsBack(t, text(60), addr, text(100), body, strings.ReplaceAll(body, "b", "\r\n"), text(80), text(200), "c"+strconv.Itoa(r.IntN(9)), []byte(text(300)))
		if t.Failed() {
			return
		}
	}
}

func readsBack(t *testing.T, name, addr, subject, text, html, filename, value, cid string, content []byte) {
	m := base()
	m.From.Name, m.Subject, m.Text, m.HTML = name, subject, &text, &html
	m.To = []Address{{name, addr}, {"", "bob@example.net"}, {value, addr}}
	m.Headers = []Header{{"X-Foo", value}}
	m.Attachments = []Attachment{inline(filename, "", string(content), cid), file(filename, "image/png", string(content))}
	c, err := Compose(m, options())
	if err != nil {
		if e, ok := err.(*Error); !ok || len(e.Problems) == 0 {
			t.Fatal(err)
		}
		return
	}
	if strings.ContainsAny(name+addr+subject+filename+value+cid, "\r\n\x00") {
		t.Fatal("a line end was let in")
	}
	raw := written(t, c)
	encodedLines(t, raw)
	header(t, m, c, raw)
	bodies(t, m, raw)
}

// encodedLines checks RFC 2047 section 2.
func encodedLines(t *testing.T, raw string) {
	head, _, _ := strings.Cut(raw, "\r\n\r\n")
	field := ""
	for line := range strings.SplitSeq(head, "\r\n") {
		if line[0] != ' ' && line[0] != '\t' {
			field, _, _ = strings.Cut(line, ":")
		}
		if len(line) > 76 && strings.Contains(line, "=?utf-8?") && field != "X-Foo" {
			t.Errorf("a line of %d octets with encoded words: %q", len(line), line)
		}
		if strings.TrimSpace(line) == "" {
			t.Errorf("a line of spaces in %s", field)
		}
	}
}

func header(t *testing.T, m Message, c *Composed, raw string) {
	got, err := mail.ReadMessage(strings.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	words := mime.WordDecoder{}
	if s, err := words.DecodeHeader(got.Header.Get("Subject")); err != nil || s != shown(m.Subject) {
		t.Errorf("subject %q, %v, want %q\n%s", s, err, m.Subject, raw)
	}
	to, err := got.Header.AddressList("To")
	if err != nil || len(to) != len(m.To) {
		t.Fatalf("To %v, %v\n%s", to, err, raw)
	}
	for i, a := range to {
		want, _, _ := checkAddress(m.To[i].Address)
		if at := strings.LastIndexByte(want, '@'); strings.HasPrefix(want, `"`) { // it takes the quotes out
			local := strings.NewReplacer(`\\`, `\`, `\`, "").Replace(want[1 : at-1])
			want = local + want[at:]
		}
		if name := shown(m.To[i].Name); a.Name != name || a.Address != want {
			t.Errorf("To[%d] is %q %q, want %q %q\n%s", i, a.Name, a.Address, name, want, raw)
		}
	}
	value := strings.Trim(strings.ToValidUTF8(m.Headers[0].Value, "\uFFFD"), " \t")
	switch s := got.Header.Get("X-Foo"); {
	case strings.Contains(value, "=?"): // it is theirs to be read as what it is
	case isVisible(value):
		if strings.Join(strings.Fields(s), " ") != strings.Join(strings.Fields(value), " ") {
			t.Errorf("X-Foo %q, want %q\n%s", s, value, raw)
		}
	default:
		if s, err := words.DecodeHeader(s); err != nil || s != value {
			t.Errorf("X-Foo %q, %v, want %q\n%s", s, err, value, raw)
		}
	}
	if len(got.Header["X-Foo"]) != 1 || got.Header.Get("Message-ID") != c.MessageID {
		t.Errorf("fields %v\n%s", got.Header, raw)
	}
}

// bodies has go-message read the parts.
func bodies(t *testing.T, m Message, raw string) {
	e, err := gomessage.Read(strings.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	var texts, files []string
	var walk func(e *gomessage.Entity)
	walk = func(e *gomessage.Entity) {
		if r := e.MultipartReader(); r != nil {
			for {
				p, err := r.NextPart()
				if err == io.EOF {
					return
				}
				if err != nil {
					t.Fatalf("%v\n%s", err, raw)
				}
				walk(p)
			}
		}
		body, err := io.ReadAll(e.Body)
		if err != nil {
			t.Fatalf("%v\n%s", err, raw)
		}
		disposition, params, err := e.Header.ContentDisposition()
		if disposition == "" {
			texts = append(texts, string(body))
			return
		}
		if want := shown(m.Attachments[0].Filename); err != nil || params["filename"] != want {
			t.Errorf("filename %q, %v, want %q\n%s", params["filename"], err, want, raw)
		}
		if kind, _, _ := e.Header.ContentType(); kind == "message/rfc822" {
			body = base64.StdEncoding.AppendEncode(nil, body)
			want := base64.StdEncoding.EncodeToString([]byte(canonical(read(t, m.Attachments[0]))))
			if string(body) != want {
				t.Errorf("message %q, want %q", body, want)
			}
			body = []byte(read(t, m.Attachments[0]))
		}
		files = append(files, string(body))
	}
	walk(e)
	want := []string{canonical(*m.Text), canonical(*m.HTML)}
	if *m.HTML == "" {
		want = want[:1]
	} else if *m.Text == "" {
		want = want[1:]
	}
	content := read(t, m.Attachments[0])
	if strings.Join(texts, "|") != strings.Join(want, "|") || strings.Join(files, "|") != content+"|"+content {
		t.Errorf("texts %q, want %q; files %q, want two of %q\n%s", texts, want, files, content, raw)
	}
}

func read(t *testing.T, a Attachment) string {
	r, err := a.Open()
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// FuzzRaw: of a whole message nothing is changed but line ends, and no blind copy is told.
func FuzzRaw(f *testing.F) {
	f.Add([]byte("From: a@b\nTo: c@d\nBcc: e@f,\n g@h\nX: y\n z\n\nbody\n.\n"))
	f.Add([]byte("Bcc : e@f\r\nTO:c@d\r\nMessage-ID: <x@y>\r\n\r\n\r\nx"))
	f.Add([]byte("to: \"a, b\" <c@d>;\n\t\nRESENT-bcc: x@y"))
	f.Fuzz(func(t *testing.T, in []byte) {
		m := raw("")
		m.Raw = in
		c, err := Compose(m, options())
		if err != nil {
			return
		}
		out := written(t, c)
		head, body, _ := strings.Cut(out, "\r\n\r\n")
		was := canonical2(in)
		if head := headerEnd([]byte(was)); head < len(was) && strings.TrimSuffix(body, "\r\n") != strings.TrimSuffix(was[head+2:], "\r\n") {
			t.Errorf("body %q of %q", body, was)
		}
		before := message.ParseHeader([]byte(was))
		after := message.ParseHeader([]byte(head + "\r\n\r\n"))
		delete(before, "bcc")
		delete(before, "resent-bcc")
		for name, values := range before {
			if name != "x-postrider-id" && strings.Join(values, "\n") != strings.Join(after[name], "\n") {
				t.Errorf("%s was %q, is %q", name, values, after[name])
			}
		}
	})
}

// canonical2 ends lines with CRLF, of what has no bare CR.
func canonical2(b []byte) string {
	return string(bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n")))
}

// FuzzDerive: whatever an original says, the answer to it can be sent.
func FuzzDerive(f *testing.F) {
	f.Add([]byte("From: Bob <bob@example.net>\nTo: ann@example.org, x\nSubject: =?utf-8?q?=0D=0A?=\nMessage-ID: <a@b>\nReferences: <c@d> <e f>\n"), "text", "<p>html <img src='cid:a'>", "a\r\nb", "text/x; y=\"\n\"", "<a>", "de")
	f.Fuzz(func(t *testing.T, head []byte, text, html, filename, kind, cid, locale string) {
		o := Original{Header: message.ParseHeader(head), Text: text, HTML: html, Attachments: []Attachment{inline(filename, kind, "x", cid), file(filename, kind, "y")}}
		for _, action := range []Action{Reply, ReplyAll, Forward} {
			m, err := Derive(o, Reference{Action: action, Inline: true, ForwardAttachments: true, Locale: locale}, Message{From: Address{"", "ann@example.org"}, Date: day})
			if err != nil {
				t.Fatal(err)
			}
			m.Bcc = []Address{{"", "someone@example.org"}}
			c, err := Compose(m, options())
			if e, ok := err.(*Error); ok && e.Has(TooManyRecipients) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			written(t, c)
		}
	})
}
