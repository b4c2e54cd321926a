package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/internal/peertest"
	"github.com/postrider/postrider/smtpsend/smtptest"
)

// python reads the messages in files, named on its standard input, by a parser that
// shares nothing with us.
const python = `
import email, email.policy, hashlib, json, sys
out = []
for path in json.load(sys.stdin):
    raw = open(path, "rb").read()
    if raw.partition(b"\n\n")[0].isascii():
        m = email.message_from_bytes(raw, policy=email.policy.default)
    else:  # RFC 6532
        m = email.message_from_string(raw.decode(), policy=email.policy.default)
    def people(field):
        return ["%s <%s>" % (a.display_name, a.addr_spec) for a in m[field].addresses] if m[field] else None
    seen = {"Subject": str(m["Subject"] or ""), "From": people("From"), "To": people("To"), "Cc": people("Cc"), "Files": None,
            "Custom": [str(v) for v in m.get_all("X-Custom", [])] or None, "Bcc": "Bcc" in m, "Text": None, "HTML": None,
            "Defects": [str(d) for p in m.walk() for d in p.defects] or None}
    for p in m.walk():
        if p.is_multipart():
            continue
        body = p.get_payload(decode=True)
        if p.get_filename() or p["Content-ID"]:
            seen["Files"] = (seen["Files"] or []) + [{"Name": p.get_filename() or "", "Type": p.get_content_type(), "CID": p["Content-ID"] or "", "Sum": hashlib.sha256(body).hexdigest()}]
        else:
            seen["HTML" if p.get_content_subtype() == "html" else "Text"] = body.decode(p.get_content_charset("utf-8"))
    out.append(seen)
json.dump(out, sys.stdout)
`

type pythonFile struct{ Name, Type, CID, Sum string }

// pythonMail is a message as Python reads it.
type pythonMail struct {
	Subject      string
	From, To, Cc []string
	Text, HTML   *string
	Files        []pythonFile
	Custom       []string
	Bcc          bool
	Defects      []string
}

// readByPython has Python read messages.
func readByPython(t *testing.T, raws [][]byte) (got []pythonMail) {
	t.Helper()
	dir := t.TempDir()
	var names []string
	for i, raw := range raws {
		names = append(names, filepath.Join(dir, fmt.Sprint(i)))
		if err := os.WriteFile(names[i], raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	peertest.Python(t, python, names, &got)
	return got
}

// letter is a message to send, and what a reader must find in it.
type letter struct {
	name string
	ask  map[string]any
	want pythonMail
	once bool     // by the first way alone
	to   []string // whom it is delivered to; nil = one recipient, whoever it is
}

func address(name, addr string) map[string]string {
	return map[string]string{"name": name, "address": addr}
}

func attached(name, kind, cid string, content []byte) (map[string]any, pythonFile) {
	a := map[string]any{"filename": name, "contentType": kind, "content": base64.StdEncoding.EncodeToString(content)}
	sum := sha256.Sum256(content)
	f := pythonFile{Name: name, Type: kind, Sum: hex.EncodeToString(sum[:])}
	if cid != "" {
		a["cid"], f.CID = cid, "<"+cid+">"
	}
	return a, f
}

// letters are those of which each is difficult in a way of its own.
func letters() []letter {
	me, you := []string{"Jo <jo@sender.example>"}, []string{" <you@example.net>"}
	to := address("", "you@example.net")
	text := func(s string) *string { return &s }
	content := make([]byte, 25<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(content) // never fails
	big, bigFile := attached("film.bin", "application/octet-stream", "", content)
	pic, picFile := attached("Grüße.png", "image/png", "logo@x", content[:3000])
	pdf, pdfFile := attached("résumé 日本.pdf", "application/pdf", "", content[:70001])
	none, noneFile := attached("nothing.dat", "application/octet-stream", "", nil)
	long := strings.Repeat("x", 990) + "\n" + strings.Repeat("lang ü ", 900) + "\n" + strings.Repeat("y", 5000) + "\n"
	dots := ".\n..\n.x\n\n.\n\n...\nFrom here\n \n.\n"
	html := `<p style="` + strings.Repeat("margin:0;", 200) + `">Grüße <img src="cid:logo@x"></p>` + "\n.\n"
	raw := func(s string) map[string]any {
		return map[string]any{"raw": base64.StdEncoding.EncodeToString([]byte(s))}
	}
	const eight = "From: Jo <jo@sender.example>\r\nTo: you@example.net\r\nSubject: 8 bit\r\nX-Kept:   as   it\t is\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGr\xfc\xdfe\r\n.\r\n..\xe9\r\n"
	const bare = "From: Jo <jo@sender.example>\nTo: you@example.net\nBcc: hidden@example.net\nSubject: LF\n\n.a\n.\n\nend"
	return []letter{
		{
			name: "text", ask: map[string]any{"to": to, "subject": "Grüße aus Köln: 日本語 🚲", "text": "Schöne Grüße,\n日本語 🚲\n"},
			want: pythonMail{Subject: "Grüße aus Köln: 日本語 🚲", From: me, To: you, Text: text("Schöne Grüße,\n日本語 🚲\n")},
		},
		{
			name: "25 MiB", once: true, ask: map[string]any{"to": to, "subject": "big", "text": "see there", "attachments": []any{big}},
			want: pythonMail{Subject: "big", From: me, To: you, Text: text("see there"), Files: []pythonFile{bigFile}},
		},
		{
			name: "all parts", ask: map[string]any{"to": to, "subject": "parts", "text": dots, "html": html, "attachments": []any{pdf, pic}},
			want: pythonMail{Subject: "parts", From: me, To: you, Text: &dots, HTML: &html, Files: []pythonFile{picFile, pdfFile}},
		},
		{
			name: "long lines", ask: map[string]any{"to": to, "subject": strings.Repeat("Größe ", 100) + "end", "text": long},
			want: pythonMail{Subject: strings.Repeat("Größe ", 100) + "end", From: me, To: you, Text: &long},
		},
		{name: "dots", ask: map[string]any{"to": to, "subject": "dots", "text": dots}, want: pythonMail{Subject: "dots", From: me, To: you, Text: &dots}},
		{
			name: "empty parts", ask: map[string]any{"to": to, "text": "", "attachments": []any{none}},
			want: pythonMail{From: me, To: you, Text: text(""), Files: []pythonFile{noneFile}},
		},
		{name: "empty", ask: map[string]any{"to": to, "subject": "", "text": ""}, want: pythonMail{From: me, To: you, Text: text("")}},
		{name: "raw, 8 bit", ask: raw(eight), want: pythonMail{Subject: "8 bit", From: me, To: you, Text: text("Grüße\n.\n..é\n")}},
		{name: "raw, LF", ask: raw(bare), want: pythonMail{Subject: "LF", From: me, To: you, Text: text(".a\n.\n\nend\n")}, to: []string{"you@example.net", "hidden@example.net"}},
		{name: "names", ask: map[string]any{
			"from": address("Müller, Jörg", "jo@sender.example"), "to": []any{address(`O'Neil, "Q" (x)`, "q@example.net"), address("日本語 日本語", "jp@example.net")},
			"cc": address("Zoë", "zoe@example.net"), "subject": "names", "text": "n\n",
		}, want: pythonMail{
			Subject: "names", From: []string{"Müller, Jörg <jo@sender.example>"}, To: []string{`O'Neil, "Q" (x) <q@example.net>`, "日本語 日本語 <jp@example.net>"},
			Cc: []string{"Zoë <zoe@example.net>"}, Text: text("n\n"),
		}, to: []string{"q@example.net", "jp@example.net", "zoe@example.net"}},
		{
			name: "IDN", ask: map[string]any{"to": address("", "info@bücher.example"), "subject": "IDN", "text": "n\n"},
			want: pythonMail{Subject: "IDN", From: me, To: []string{" <info@xn--bcher-kva.example>"}, Text: text("n\n")}, to: []string{"info@xn--bcher-kva.example"},
		},
		{
			name: "SMTPUTF8", ask: map[string]any{"to": address("Jörg", "jörg@bücher.example"), "subject": "Grüße", "text": "n\n"},
			want: pythonMail{Subject: "Grüße", From: me, To: []string{"Jörg <jörg@xn--bcher-kva.example>"}, Text: text("n\n")}, to: []string{"jörg@xn--bcher-kva.example"},
		},
		{
			name: "Bcc", ask: map[string]any{
				"to": to, "bcc": address("", "secret@example.net"), "subject": "Bcc", "text": "n\n",
				"headers": map[string]any{"X-Custom": []string{"one", "Wert ü " + strings.Repeat("lang ", 40) + "end"}},
			}, want: pythonMail{Subject: "Bcc", From: me, To: you, Text: text("n\n"), Custom: []string{"one", "Wert ü " + strings.Repeat("lang ", 40) + "end"}},
			to: []string{"you@example.net", "secret@example.net"},
		},
	}
}

// untraced takes the fields off that Postfix puts in front, and returns the value of
// Received and of Delivered-To.
func untraced(raw []byte) (message []byte, received, delivered string) {
	for {
		name, _, _ := bytes.Cut(raw, []byte(":"))
		end := bytes.IndexByte(raw, '\n') + 1
		for end < len(raw) && (raw[end] == ' ' || raw[end] == '\t') {
			end += bytes.IndexByte(raw[end:], '\n') + 1
		}
		value := strings.TrimSpace(string(raw[len(name)+1 : end]))
		switch string(name) {
		case "Received":
			received = value
		case "Delivered-To":
			delivered = value
		case "Return-Path", "X-Original-To":
		default:
			return raw, received, delivered
		}
		raw = raw[end:]
	}
}

// raw reads what is or was going to be sent, as composed.
func (s *served) raw(queueID string) []byte {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), "GET", s.URL+"/v1/outbox/"+queueID+"/raw", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.Token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("raw: %v %d %s", err, resp.StatusCode, b[:min(len(b), 300)])
	}
	return b
}

// Whatever the way to a real submission server, what arrives is octet for octet what was
// composed, and another program reads in it what was asked for.
func TestSendFlow_postfix(t *testing.T) {
	p := smtptest.StartPostfix(t, smtptest.PostfixOptions{
		Users: map[string]string{"jo": "s3cret"},
		Main: []string{
			"mynetworks = 127.0.0.0/8", "smtpd_relay_restrictions = permit_mynetworks, reject", "smtpd_recipient_restrictions = permit_mynetworks, reject",
			"smtpd_tls_received_header = yes",
		},
	})
	s := startServe(t, loopbackEnv())
	auth, ca := map[string]string{"user": "jo", "pass": "s3cret"}, map[string]string{"ca": p.CA}
	ways := []struct {
		id, with string // with: what Postfix notes in Received
		smtp     map[string]any
	}{
		{"starttls", "SMTPSA", map[string]any{"host": p.Host, "port": p.Port, "secure": false, "auth": auth, "tls": ca}},
		{"implicit", "SMTPSA", map[string]any{"host": p.Host, "port": p.TLSPort, "secure": true, "auth": auth, "tls": ca}},
		{"plain", "SMTP", map[string]any{"host": p.Host, "port": p.Port, "secure": false, "plaintext": true}},
	}
	type sent struct {
		letter
		raw  []byte // with the line ends that a maildir has
		with string
	}
	var all []sent
	deliveries := 0
	list := letters()
	for i, w := range ways {
		s.Call("POST", "/v1/account", map[string]any{"account": w.id, "name": "Jo", "email": "jo@sender.example", "imap": false, "smtp": w.smtp}, nil)
		for _, l := range list {
			if l.once && i > 0 {
				continue
			}
			l.ask["hold"] = true
			var row outboxRow
			s.Call("POST", "/v1/account/"+w.id+"/submit", l.ask, &row)
			raw := s.raw(row.QueueID)
			if i == 1 {
				var preview struct{ Preview []byte }
				l.ask["dryRun"] = true
				s.Call("POST", "/v1/account/"+w.id+"/submit", l.ask, &preview)
				delete(l.ask, "dryRun")
				if d := cmp.Diff(settled(preview.Preview), settled(raw)); d != "" {
					t.Errorf("%s: the preview differs from what is queued: %s", l.name, d)
				}
			}
			s.Call("POST", "/v1/outbox/"+row.QueueID+"/release", nil, nil)
			l.name = w.id + ", " + l.name
			all = append(all, sent{l, bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")), w.with})
			deliveries += max(1, len(l.to))
		}
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	arrived, err := p.Wait(ctx, deliveries)
	if err != nil {
		t.Fatal(err)
	}
	if len(arrived) != deliveries {
		t.Errorf("%d messages arrived, want %d", len(arrived), deliveries)
	}
	type copies struct {
		raw []byte
		to  []string
		via string
	}
	found := map[[32]byte]*copies{}
	for _, a := range arrived {
		raw, received, to := untraced(a)
		sum := sha256.Sum256(raw)
		if found[sum] == nil {
			found[sum] = &copies{raw: raw}
		}
		found[sum].to = append(found[sum].to, to)
		found[sum].via = received
	}
	var raws [][]byte
	var want []sent
	for _, m := range all {
		c := found[sha256.Sum256(m.raw)]
		if c == nil {
			t.Errorf("%s: did not arrive as composed:\n%.3000s", m.name, m.raw)
			continue
		}
		if !strings.Contains(c.via, m.with+" ") {
			t.Errorf("%s: came by %q, want %s", m.name, c.via, m.with)
		}
		slices.Sort(m.to)
		slices.Sort(c.to)
		if m.to != nil && !slices.Equal(c.to, m.to) || m.to == nil && len(c.to) != 1 {
			t.Errorf("%s: was delivered to %q, want %q", m.name, c.to, m.to)
		}
		if header, _, _ := bytes.Cut(c.raw, []byte("\n\n")); bytes.Contains(header, []byte("hidden@")) || bytes.Contains(header, []byte("secret@")) {
			t.Errorf("%s: names the hidden recipient:\n%s", m.name, header)
		}
		raws, want = append(raws, c.raw), append(want, m)
	}
	for i, got := range readByPython(t, raws) {
		if d := cmp.Diff(want[i].want, got); d != "" {
			t.Errorf("%s, as Python reads it: %s", want[i].name, d)
		}
	}
	for _, used := range []string{"sasl_method=PLAIN", "sasl_method=LOGIN"} {
		if !strings.Contains(p.Log(), used) {
			t.Errorf("no login by %s", used)
		}
	}
}

var madeUp = regexp.MustCompile(`=_[a-z2-7]{24}|(?m:^(Date|Message-ID|X-Postrider-Id): .*$)`)

// settled is a message without what is another each time it is composed.
func settled(raw []byte) string { return madeUp.ReplaceAllString(string(raw), "*") }
