package compose

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func raw(s string) Message {
	return Message{From: Address{"Ann", "ann@example.org"}, Date: day, Raw: []byte(s)}
}

const ours = "X-Postrider-Id: 01kq8\r\n"

func TestRaw(t *testing.T) {
	const whole = "From: a@b\r\nTo: c@d\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\nMessage-ID: <x@y>\r\nMIME-Version: 1.0\r\n"
	const made = "Message-ID: <3gdx5ttng2fkygtpigpmmj6h@example.org>\r\n"
	to := func(m Message, list ...string) Message {
		for _, a := range list {
			m.To = append(m.To, Address{"", a})
		}
		return m
	}
	for name, tt := range map[string]struct {
		m     Message
		want  string
		from  string
		to    []string
		eight bool
		utf8  bool
	}{
		"as it is": {
			m: raw(whole + "x-ODD:  a \r\n\tb\r\n\r\nbody\r\n.\r\n..\r\n.x\r\n"), from: "a@b", to: []string{"c@d"},
			want: ours + whole + "x-ODD:  a \r\n\tb\r\n\r\nbody\r\n.\r\n..\r\n.x\r\n",
		},
		"LF only": {
			m: raw(strings.ReplaceAll(whole, "\r\n", "\n") + "\nbody\n\n.\n"), from: "a@b", to: []string{"c@d"},
			want: ours + whole + "\r\nbody\r\n\r\n.\r\n",
		},
		"both line ends, no last":        {m: raw(whole + "A: b\n\r\nx\ny\r\nz"), from: "a@b", to: []string{"c@d"}, want: ours + whole + "A: b\r\n\r\nx\r\ny\r\nz\r\n"},
		"header alone":                   {m: raw(whole), from: "a@b", to: []string{"c@d"}, want: ours + whole + "\r\n"},
		"header alone, without its end":  {m: raw(strings.TrimSuffix(whole, "\r\n")), from: "a@b", to: []string{"c@d"}, want: ours + whole + "\r\n"},
		"no body":                        {m: raw(whole + "\n"), from: "a@b", to: []string{"c@d"}, want: ours + whole + "\r\n"},
		"a body that begins with a line": {m: raw(whole + "\r\n\r\n\r\nx\r\n"), from: "a@b", to: []string{"c@d"}, want: ours + whole + "\r\n\r\n\r\nx\r\n"},
		"everything missing": {
			m: to(raw("\nbody\n"), "z@example.net"), from: "ann@example.org", to: []string{"z@example.net"},
			want: "From: Ann <ann@example.org>\r\nDate: Sun, 22 Nov 2026 13:00:05 +0100\r\n" + made + ours + "MIME-Version: 1.0\r\n\r\nbody\r\n",
		},
		"nothing at all": {
			m: to(raw(""), "z@example.net"), from: "ann@example.org", to: []string{"z@example.net"},
			want: "From: Ann <ann@example.org>\r\nDate: Sun, 22 Nov 2026 13:00:05 +0100\r\n" + made + ours + "MIME-Version: 1.0\r\n\r\n",
		},
		"blind copies in all forms": {
			m:    raw("Bcc: a@example.net,\r\n b@example.net\r\n" + whole + "BCC :c@example.net\r\nresent-bcc: \"D, E\" <d@example.net>\r\nX-Bcc: kept\r\nbcc:\r\n\te@example.net\r\n\r\nBcc: body@example.net\r\n"),
			want: ours + whole + "X-Bcc: kept\r\n\r\nBcc: body@example.net\r\n",
			from: "a@b", to: []string{"c@d", "a@example.net", "b@example.net", "c@example.net", "e@example.net", "d@example.net"},
		},
		"recipients beside it": {
			m:    to(raw(whole+"Bcc: a@example.net\r\n\r\n"), "z@example.net"),
			want: ours + whole + "\r\n", from: "a@b", to: []string{"z@example.net"},
		},
		"an envelope beside it": {
			m: func() Message {
				m := raw(whole + "\r\n")
				m.Envelope = &Envelope{"", []string{"q@example.net"}}
				return m
			}(),
			want: ours + whole + "\r\n", to: []string{"q@example.net"},
		},
		"groups, names, IDN, resent": {
			m:    raw(whole + "Cc: all: \"X, Y\" <e@f>, G@bücher.example;, undisclosed:;\r\nResent-To: r@r\r\nResent-Cc: s@s\r\n\r\n"),
			want: ours + whole + "Cc: all: \"X, Y\" <e@f>, G@bücher.example;, undisclosed:;\r\nResent-To: r@r\r\nResent-Cc: s@s\r\n\r\n",
			from: "a@b", to: []string{"c@d", "e@f", "G@xn--bcher-kva.example"}, utf8: true, eight: true,
		},
		"8 bits in the body":           {m: raw(whole + "\r\n\xe4\r\n"), want: ours + whole + "\r\n\xe4\r\n", from: "a@b", to: []string{"c@d"}, eight: true},
		"8 bits in the header, no UTF": {m: raw(whole + "X: \xe4\r\n\r\n"), want: ours + whole + "X: \xe4\r\n\r\n", from: "a@b", to: []string{"c@d"}, eight: true},
		"998 octets":                   {m: raw(whole + "\r\n" + strings.Repeat("x", 998) + "\n"), want: ours + whole + "\r\n" + strings.Repeat("x", 998) + "\r\n", from: "a@b", to: []string{"c@d"}},
		"an answer": {
			m: func() Message {
				m := raw(whole + "References: <r@r>\r\n\r\n")
				m.InReplyTo, m.References, m.Headers = "<i@i>", []string{"<j@j>"}, []Header{{"X-Foo", "bar"}}
				return m
			}(),
			want: "In-Reply-To: <i@i>\r\nX-Foo: bar\r\n" + ours + whole + "References: <r@r>\r\n\r\n", from: "a@b", to: []string{"c@d"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, got := composed(t, tt.m, options())
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(Envelope{tt.from, tt.to}, c.Envelope); d != "" || c.Needs8Bit != tt.eight || c.NeedsUTF8 != tt.utf8 || c.Size < 0 {
				t.Errorf("8 bit %v, UTF-8 %v, size %d %s", c.Needs8Bit, c.NeedsUTF8, c.Size, d)
			}
			if !strings.Contains(got, "Message-ID: "+c.MessageID+"\r\n") || c.OwnID == strings.Contains(string(tt.m.Raw), c.MessageID) {
				t.Errorf("says that its id is %s, made here %v", c.MessageID, c.OwnID)
			}
		})
	}
	c, _ := composed(t, raw("From: a@b\nTo: c@d\nSubject: =?utf-8?q?=C3=A4?=\nDate: Sun, 22 Nov 2026 12:00:00 +0000\n\n"), options())
	if c.Subject != "ä" || c.Date.UTC().Hour() != 12 {
		t.Errorf("%+v", c)
	}
	// It stands in the row and in every event.
	c, got := composed(t, raw("From: a@b\nTo: c@d\nSubject: é\n"+strings.Repeat(" "+strings.Repeat("y", 900)+"\n", 250)+"\n"), options())
	if n := len([]rune(c.Subject)); n != 998 || !strings.HasPrefix(c.Subject, "é y") || strings.Count(got, "y") < 250*900 {
		t.Errorf("a subject of %d characters", n)
	}
}

func TestRawRefused(t *testing.T) {
	const head = "From: a@b\nTo: c@d\n"
	given := func(f func(*Message)) Message { m := raw(head); f(&m); return m }
	for name, tt := range map[string]struct {
		m    Message
		want string
	}{
		"bare CR":                {raw(head + "\na\rb"), "raw BareCR"},
		"bare CR at the end":     {raw(head + "\na\r"), "raw BareCR"},
		"two CR":                 {raw(head + "\r\r\n"), "raw BareCR"},
		"bare CR in the header":  {raw("From: a@b\rBcc: x@y\nTo: c@d\n"), "raw BareCR"},
		"NUL":                    {raw(head + "\na\x00b"), "raw NULByte"},
		"999 octets":             {raw(head + "\n" + strings.Repeat("x", 999)), "raw LineTooLong"},
		"a long header":          {raw(head + strings.Repeat("X: "+strings.Repeat("y", 900)+"\n", 300)), "raw MessageTooLarge"},
		"begins with a space":    {raw(" From: a@b\n" + head), "raw ValueInvalid"},
		"a line that is none":    {raw("From a@b Sun\n" + head), "raw ValueInvalid"},
		"nobody":                 {raw("From: a@b\nResent-To: c@d\n\n"), "raw NoRecipients"},
		"no address":             {raw("From: a@b\nTo: Bob\n\n"), "raw AddressInvalid"},
		"from nobody":            {raw("From: Bob\nTo: a@b\n\n"), "raw AddressInvalid"},
		"Message-ID of nothing":  {raw(head + "Message-ID: <>\n\n"), "raw ValueInvalid"},
		"another Message-ID":     {given(func(m *Message) { m.Raw, m.MessageID = []byte(head+"Message-ID: <x@y>\n"), "<a@b>" }), "messageId ConflictingFields"},
		"a subject":              {given(func(m *Message) { m.Subject = "x" }), "subject ConflictingFields"},
		"texts and attachments":  {given(func(m *Message) { m.Text, m.HTML, m.Attachments = new(""), new(""), []Attachment{} }), "text ConflictingFields, html ConflictingFields, attachments ConflictingFields"},
		"a field that is ours":   {given(func(m *Message) { m.Headers = []Header{{"Bcc", "x"}} }), "headers.Bcc HeaderNotAllowed"},
		"a header and the body":  {given(func(m *Message) { m.Raw, m.Subject = []byte("x\n\n"), "x" }), "subject ConflictingFields, raw ValueInvalid"},
		"an address to reply to": {given(func(m *Message) { m.ReplyTo = []Address{{"", "x"}} }), "replyTo[0].address AddressInvalid"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := strings.Join(told(t, tt.m, options()), ", "); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
	o := options()
	o.MaxSize = 100
	if got := told(t, raw(head+"\n"+strings.Repeat("x\n", 100)), o); !slices.Equal(got, []string{"MessageTooLarge"}) {
		t.Error(got)
	}
}
