package compose

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/postrider/postrider/internal/message"
)

// original is one that has this header.
func original(header string) Original {
	return Original{Header: message.ParseHeader([]byte(strings.ReplaceAll(header, "; ", "\n")))}
}

func list(s string) (out []Address) {
	for _, a := range message.Addresses(s, nil) {
		out = append(out, Address(a))
	}
	return out
}

func ids(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("<%d@x>", i))
	}
	return out
}

func TestDerive(t *testing.T) {
	own := []string{"ann@example.org", "Ann.Alias@example.org"}
	const from = "From: Bob <bob@example.net>; Message-ID: <m@x>; Subject: Lunch; "
	hundred := strings.Join(ids(150), " ")
	for name, tt := range map[string]struct {
		original    string
		action      Action
		given       Message
		to, cc      string
		subject     string
		inReplyTo   string
		references  []string
		noneOfThese bool // ids are not looked at
	}{
		"reply": {original: from + "To: ann@example.org, eve@example.net", to: "Bob <bob@example.net>", subject: "Re: Lunch", inReplyTo: "<m@x>", references: []string{"<m@x>"}},
		"reply to whom it says": {
			original: from + "Reply-To: List <list@example.net>, b2@example.net; To: ann@example.org",
			to:       "List <list@example.net>, b2@example.net", subject: "Re: Lunch", noneOfThese: true,
		},
		"reply to an empty Reply-To": {original: from + "Reply-To: ", to: "Bob <bob@example.net>", subject: "Re: Lunch", noneOfThese: true},
		"reply to what is our own": {
			original: "From: ANN@example.org; Reply-To: x@example.net; To: bob@example.net, eve@example.net; Cc: c@example.net",
			to:       "bob@example.net, eve@example.net", subject: "Re:",
		},
		"reply-all to what is our own": {
			original: "From: ann@example.org; To: bob@example.net; Cc: c@example.net, ann@example.org", action: ReplyAll,
			to: "bob@example.net", cc: "c@example.net", subject: "Re:",
		},
		"reply to oneself": {original: "From: ann@example.org; To: ann@example.org", to: "ann@example.org", subject: "Re:"},
		"reply, to given":  {original: from, given: Message{To: list("z@example.net")}, to: "z@example.net", subject: "Re: Lunch", noneOfThese: true},
		"reply, subject and cc given": {
			original: from, given: Message{Subject: "Dinner", Cc: list("z@example.net")},
			to: "Bob <bob@example.net>", cc: "z@example.net", subject: "Dinner", noneOfThese: true,
		},
		"reply-all": {
			original: from + "To: Ann <ann@example.org>, Eve <eve@example.net>; Cc: ANN.ALIAS@example.org, dan@example.net, EVE@example.net", action: ReplyAll,
			to: "Bob <bob@example.net>", cc: "Eve <eve@example.net>, dan@example.net", subject: "Re: Lunch", noneOfThese: true,
		},
		"reply-all, the author among them": {
			original: from + "To: bob@example.net, ann@example.org, eve@example.net", action: ReplyAll,
			to: "Bob <bob@example.net>", cc: "eve@example.net", subject: "Re: Lunch", noneOfThese: true,
		},
		"reply-all, never bcc, never names of groups": {
			original: from + "To: undisclosed-recipients:;; Cc: Friends: eve@example.net, Dan <dan@example.net>;; Bcc: secret@example.net", action: ReplyAll,
			to: "Bob <bob@example.net>", cc: "eve@example.net, Dan <dan@example.net>", subject: "Re: Lunch", noneOfThese: true,
		},
		"reply-all, cc and bcc given": {
			original: from + "To: eve@example.net, dan@example.net, kim@example.net", action: ReplyAll, given: Message{Cc: list("z@example.net, dan@example.net"), Bcc: list("kim@example.net")},
			to: "Bob <bob@example.net>", cc: "z@example.net, dan@example.net, eve@example.net", subject: "Re: Lunch", noneOfThese: true,
		},
		"reply-all, what cannot be sent to is left out": {
			original: from + "To: x@b_d, eve@example.net, nobody, \"two words\"@example.net; Cc: a@" + strings.Repeat("x", 300), action: ReplyAll,
			to: "Bob <bob@example.net>", cc: `eve@example.net, "two words"@example.net`, subject: "Re: Lunch", noneOfThese: true,
		},
		"re, once": {original: from + "X: y", given: Message{To: list("z@z")}, to: "z@z", subject: "Re: Lunch", noneOfThese: true},
		"re, already": {
			original: "From: b@b; Subject: RE: re[2]: Re : =?utf-8?q?Caf=C3=A9?=: two",
			to:       "b@b", subject: "Re: Café: two",
		},
		"forward": {
			original: from + "To: eve@example.net; Reply-To: r@r; References: <a@x>", action: Forward, given: Message{To: list("z@example.net")},
			to: "z@example.net", subject: "Fwd: Lunch", references: []string{"<a@x>", "<m@x>"},
		},
		"forward, to nobody yet":   {original: from, action: Forward, subject: "Fwd: Lunch", references: []string{"<m@x>"}},
		"forward of an answer":     {original: "Subject: Fw: FWD: Re: x", action: Forward, subject: "Fwd: Re: x"},
		"conversation":             {original: "From: b@b; Message-ID: <m@x>; References: <a@x>\n\t<b@x>; In-Reply-To: <b@x>", to: "b@b", subject: "Re:", inReplyTo: "<m@x>", references: []string{"<a@x>", "<b@x>", "<m@x>"}},
		"conversation by In-Reply": {original: "From: b@b; Message-ID: <m@x>; In-Reply-To: <b@x>", to: "b@b", subject: "Re:", inReplyTo: "<m@x>", references: []string{"<b@x>", "<m@x>"}},
		"two In-Reply":             {original: "From: b@b; Message-ID: <m@x>; In-Reply-To: <b@x> <c@x>", to: "b@b", subject: "Re:", inReplyTo: "<m@x>", references: []string{"<m@x>"}},
		"a long conversation": {
			original: "From: b@b; Message-ID: <m@x>; References: " + hundred, to: "b@b", subject: "Re:", inReplyTo: "<m@x>",
			references: slices.Concat([]string{"<0@x>"}, ids(150)[52:], []string{"<m@x>"}),
		},
		"ids that cannot be written": {original: "From: b@b; Message-ID: <no at>; References: <a@x> <b c@x> <d@x", to: "b@b", subject: "Re:", references: []string{"<a@x>"}},
		"itself among the ids":       {original: "From: b@b; Message-ID: <m@x>; References: <m@x> <a@x> <a@x>", to: "b@b", subject: "Re:", inReplyTo: "<m@x>", references: []string{"<a@x>", "<m@x>"}},
		"fields given": {
			original: "From: b@b; Message-ID: <m@x>", given: Message{Headers: []Header{{"in-reply-to", "<i@i>"}, {"References", "<r@r>"}}},
			to: "b@b", subject: "Re:",
		},
		"nothing known":  {original: "X: y", subject: "Re:"},
		"a long subject": {original: "From: b@b; Subject: " + strings.Repeat("é", 2000), to: "b@b", subject: "Re: " + strings.Repeat("é", 994)},
	} {
		t.Run(name, func(t *testing.T) {
			o := original(tt.original)
			got, err := Derive(o, Reference{Action: tt.action, Own: own}, tt.given)
			if err != nil {
				t.Fatal(err)
			}
			want := tt.given
			want.To, want.Cc, want.Subject, want.InReplyTo, want.References = list(tt.to), list(tt.cc), tt.subject, tt.inReplyTo, tt.references
			if tt.noneOfThese {
				want.InReplyTo, want.References = got.InReplyTo, got.References
			}
			if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
				t.Error(d)
			}
			got.From, got.Date = Address{"", "ann@example.org"}, day
			if len(got.To) > 0 { // what was derived can be sent
				composed(t, got, options())
			}
		})
	}
}

func TestDeriveMismatch(t *testing.T) {
	o := original("From: b@b; Message-ID: <m@x>")
	for id, ok := range map[string]bool{"": true, "<m@x>": true, "m@x": true, "<M@x>": false, "<n@x>": false} {
		if _, err := Derive(o, Reference{MessageID: id}, Message{}); (err == nil) != ok || !ok && !hasProblem(err, "reference.messageId", ReferenceMismatch) {
			t.Errorf("%q: %v", id, err)
		}
	}
	for location, r := range map[string]Reference{"reference.inline": {Inline: true}, "reference.forwardAttachments": {Action: Forward, ForwardAttachments: true}} {
		if _, err := Derive(o, r, Message{Raw: []byte("x")}); !hasProblem(err, location, ConflictingFields) {
			t.Error(err)
		}
	}
	m, err := Derive(o, Reference{}, Message{Raw: []byte("From: a@b\nTo: c@d\n\n")})
	if err != nil || len(m.To) > 0 || m.Subject != "" || m.InReplyTo != "<m@x>" {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestQuote(t *testing.T) {
	berlin := time.FixedZone("CET", 3600)
	image := inline("logo.png", "image/png", "PNG", "logo@x")
	other := inline("unseen.png", "image/png", "PNG", "unseen@x")
	pdf := file("a\r\n.pdf", "multipart/mixed", "%PDF")
	o := Original{
		Header:      original("From: Bob <bob@example.net>; To: Ann <ann@example.org>; Subject: =?utf-8?q?Caf=C3=A9?=; Date: Sun, 22 Nov 2026 12:30:00 +0000").Header,
		Text:        "one\n\n> two\nthree  \n",
		HTML:        `<body><p onclick="x()">one <img src="cid:logo@x"><script>bad()</script></p>`,
		Attachments: []Attachment{image, other, pdf},
	}
	textOnly := o
	textOnly.HTML = ""
	htmlOnly := o
	htmlOnly.Text = ""
	const line = "On Sun, 22 Nov 2026 at 13:30, Bob <bob@example.net> wrote:\n"
	const quotedText = "> one\n>\n>> two\n> three\n"
	const quotedHTML = `<p>one <img src="cid:logo@x"></p>`
	const block = `<blockquote type="cite" style="margin: 0 0 0 0.8ex; border-left: 1px solid #ccc; padding-left: 1ex">`
	const htmlLine = `<br><div>On Sun, 22 Nov 2026 at 13:30, Bob &lt;bob@example.net&gt; wrote:</div>`
	const summary = "---------- Forwarded message ----------\nFrom: Bob <bob@example.net>\nDate: Sun, 22 Nov 2026 at 13:30\nSubject: Café\nTo: Ann <ann@example.org>\n"
	htmlSummary := "<br><div>" + strings.NewReplacer("<", "&lt;", ">", "&gt;", "\n", "<br>").Replace(strings.TrimSpace(summary)) + "</div>"
	for name, tt := range map[string]struct {
		o          Original
		r          Reference
		text, html *string
		wantText   *string
		wantHTML   *string
		files      string
	}{
		"text":             {o: o, text: new("Yes\n"), wantText: new("Yes\n\n" + line + quotedText)},
		"html":             {o: o, html: new("<p>Yes"), wantText: new("Yes\n\n" + line + quotedText), wantHTML: new("<p>Yes" + htmlLine + block + quotedHTML + "</blockquote>"), files: "logo.png inline image/png"},
		"html, no text":    {o: o, text: new(""), html: new("<p>Yes"), wantText: new(""), wantHTML: new("<p>Yes" + htmlLine + block + quotedHTML + "</blockquote>"), files: "logo.png inline image/png"},
		"inside the body":  {o: o, text: new(""), html: new("<Body>Yes</Body></html>"), wantText: new(""), wantHTML: new("<Body>Yes" + htmlLine + block + quotedHTML + "</blockquote></Body></html>"), files: "logo.png inline image/png"},
		"neither":          {o: o, wantText: new(line + quotedText), wantHTML: new(htmlLine + block + quotedHTML + "</blockquote>"), files: "logo.png inline image/png"},
		"neither, of text": {o: textOnly, wantText: new(line + quotedText)},
		"html, of text": {
			o: textOnly, text: new(""), html: new("Yes"), wantText: new(""),
			wantHTML: new("Yes" + htmlLine + block + "<div style=\"white-space: pre-wrap\">one\n\n&gt; two\nthree  \n</div></blockquote>"),
		},
		"text, of html": {o: htmlOnly, text: new("Yes"), wantText: new("Yes\n\n" + line + "> one\n")},
		"forward": {
			o: o, r: Reference{Action: Forward}, text: new("See"), html: new("See"), wantText: new("See\n\n" + summary + "\n" + o.Text),
			wantHTML: new("See" + htmlSummary + "<br><div>" + quotedHTML + "</div>"), files: "logo.png inline image/png",
		},
		"forward with everything": {
			o: o, r: Reference{Action: Forward, ForwardAttachments: true}, html: new("See"), text: new(""), wantText: new(""),
			wantHTML: new("See" + htmlSummary + "<br><div>" + quotedHTML + "</div>"),
			files:    "logo.png inline image/png, unseen.png image/png, a.pdf application/octet-stream",
		},
		"German":                     {o: textOnly, r: Reference{Locale: "de-AT"}, text: new("Ja"), wantText: new("Ja\n\nAm 22.11.2026 um 13:30 schrieb Bob <bob@example.net>:\n" + quotedText)},
		"a language we do not speak": {o: textOnly, r: Reference{Locale: "tlh"}, text: new(""), wantText: new(line + quotedText)},
	} {
		t.Run(name, func(t *testing.T) {
			tt.r.Inline, tt.r.Zone = true, berlin
			got, err := Derive(tt.o, tt.r, with(func(m *Message) { m.Text, m.HTML = tt.text, tt.html }))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.wantText, got.Text) + cmp.Diff(tt.wantHTML, got.HTML); d != "" {
				t.Error(d)
			}
			var files []string
			for _, a := range got.Attachments {
				how := " "
				if a.Inline {
					how = " inline "
				}
				files = append(files, a.Filename+how+a.ContentType)
			}
			if s := strings.Join(files, ", "); s != tt.files {
				t.Errorf("attached %q, want %q", s, tt.files)
			}
			composed(t, got, options())
		})
	}
	m, err := Derive(o, Reference{Action: Forward, ForwardAttachments: true}, base())
	if err != nil || len(m.Attachments) != 3 || m.Text != nil || m.HTML != nil {
		t.Errorf("%+v, %v", m, err)
	}
}

// An original of any size can be quoted.
func TestQuoteBounds(t *testing.T) {
	o := original("From: b@b")
	o.Text, o.HTML = strings.Repeat(strings.Repeat("é", 100)+"\n", 27_000), "<p>"+strings.Repeat("xxxxxxx ", 3<<17)
	m, err := Derive(o, Reference{Inline: true}, base())
	if err != nil || len(*m.Text) > maxText || len(*m.HTML) > maxText || !strings.Contains(*m.HTML, "<blockquote") {
		t.Fatal(err, len(*m.Text), len(*m.HTML))
	}
	m, err = Derive(o, Reference{Inline: true}, with(func(m *Message) { m.HTML = new(strings.Repeat("x", 4<<20)) }))
	if err != nil || len(*m.HTML) > maxText || strings.Contains(*m.HTML, "<blockquote") {
		t.Fatal(err, len(*m.HTML))
	}
}

func TestPlainOf(t *testing.T) {
	for in, want := range map[string]string{
		"":                                "",
		"a <b>b</b>\n  c":                 "a b c",
		"<p>a</p><p>b</p>c<br>d<br><br>e": "a\n\nb\n\nc\nd\n\ne",
		"<div>a</div><div>b</div>":        "a\nb",
		"<ul><li>a<li> b</ul>c":           "- a\n- b\n\nc",
		"<style>x{}</style><title>t</title><script>s()</script>a":                                                         "a",
		`<a href="https://x.example/">here</a>, <a href="https://y.example/">y.example</a>, <a href="javascript:x">z</a>`: "here <https://x.example/>, y.example, z",
		`<a href="mailto:a@b">a@b</a>`:           "a@b",
		`<img alt="a logo" src=x>&amp;&nbsp;b`:   "a logo&\u00a0b",
		"<pre>a\n  b\n</pre>c":                   "a\n  b\n\nc",
		"<table><tr><td>a<td>b<tr><td>c</table>": "a b\nc",
		"a<hr>b":                                 "a\n\n----------\n\nb",
		"<p><p><p>":                              "",
	} {
		if got := plainOf(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
