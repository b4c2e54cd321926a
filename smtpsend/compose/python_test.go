package compose

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/internal/peertest"
)

// python reads messages with the standard library of Python, which shares nothing with us.
const python = `
import base64, email, email.policy, json, sys
out = []
for raw in json.load(sys.stdin):
    m = email.message_from_bytes(base64.b64decode(raw), policy=email.policy.default)
    def people(field):
        return [{"Name": a.display_name, "Address": a.addr_spec} for a in m[field].addresses] if m[field] else None
    parts = []
    for p in m.walk():
        if p.is_multipart() and p.get_content_type() != "message/rfc822":
            continue
        body = p.get_payload(decode=True)
        if body is None:
            body = p.get_payload()[0].as_bytes(policy=email.policy.SMTP)
        parts.append({"Type": p.get_content_type(), "Name": p.get_filename() or "", "CID": p["Content-ID"] or "", "Body": base64.b64encode(body).decode()})
    flaws = [str(d) for p in m.walk() for d in p.defects]
    out.append({"From": people("From"), "To": people("To"), "Cc": people("Cc"), "Subject": str(m["Subject"] or ""), "Parts": parts, "Defects": flaws})
json.dump(out, sys.stdout)
`

type seenPart struct {
	Type, Name, CID string
	Body            []byte
}

type seen struct {
	From, To, Cc []Address
	Subject      string
	Parts        []seenPart
	Defects      []string
}

func TestPythonReadsIt(t *testing.T) {
	long := strings.Repeat("abcdefghi ", 30)[:296] + ".pdf"
	binary := "\x00\r\n\xff" + strings.Repeat("x", 1000)
	text, html := "Grüße\r\n.\r\n.. \r\n"+strings.Repeat("ü", 200), `<p>é <img src="cid:logo@x">`
	var raws [][]byte
	var want []seen
	for _, name := range []string{"a.pdf", "résumé 日本.pdf", long, strings.Repeat("日本", 150), `"quoted\" 100%'.txt`, "a b;c.txt"} {
		m := base()
		// Names are short: of several encoded words in a name, Python 3.11 shows their joints.
		m.To = []Address{{"Zoë Müller", "zoe@example.net"}, {"日本語 日本語", "jp@xn--bcher-kva.example"}, {`O'Neil, "Q" (x)`, "q@example.net"}, {"", "plain@example.net"}}
		m.Cc = []Address{{"", "quoted.local+tag@example.net"}}
		m.Subject, m.Text, m.HTML = name, &text, &html
		m.Attachments = []Attachment{
			file(name, "application/pdf", binary), inline(name, "image/png", binary, "logo@x"),
			file("m.eml", "", "Subject: inner\r\n\r\n.\r\nbody\r\n"), file("", "text/plain; charset=utf-8", "é"),
		}
		_, raw := composed(t, m, options())
		raws = append(raws, []byte(raw))
		want = append(want, seen{
			From: []Address{m.From}, To: m.To, Cc: m.Cc, Subject: name, Defects: []string{},
			Parts: []seenPart{
				{"text/plain", "", "", []byte(text)},
				{"text/html", "", "", []byte(html)},
				{"image/png", name, "<logo@x>", []byte(binary)},
				{"application/pdf", name, "", []byte(binary)},
				{"message/rfc822", "m.eml", "", []byte("Subject: inner\r\n\r\n.\r\nbody\r\n")},
				{"text/plain", "", "", []byte("inner")},
				{"text/plain", "", "", []byte("é")},
			},
		})
		inner := &want[len(want)-1].Parts[5]
		inner.Body = []byte(".\r\nbody\r\n")
	}
	var got []seen
	peertest.Python(t, python, raws, &got)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
