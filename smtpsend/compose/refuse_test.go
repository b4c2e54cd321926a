package compose

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// told are the problems as "location code", in order of the request.
func told(t *testing.T, m Message, o Options) []string {
	t.Helper()
	c, err := Compose(m, o)
	if err == nil {
		return nil
	}
	e, ok := err.(*Error)
	if !ok || c != nil {
		t.Fatalf("%+v, %v", c, err)
	}
	var out []string
	for _, p := range e.Problems {
		if p.Message == "" {
			t.Errorf("%+v says nothing", p)
		}
		out = append(out, strings.TrimSpace(p.Location+" "+string(p.Code)))
	}
	return out
}

func TestRefuse(t *testing.T) {
	to := func(a string) Message { return with(func(m *Message) { m.To = []Address{{"", a}} }) }
	header := func(name, value string) Message {
		return with(func(m *Message) { m.Headers = []Header{{name, value}} })
	}
	attach := func(a ...Attachment) Message { return with(func(m *Message) { m.Attachments = a }) }
	cids := func(one, two string) Message {
		return attach(inline("", "", "", one), inline("", "", "", two))
	}
	for name, tt := range map[string]struct {
		m    Message
		want string // "" = it is sent
	}{
		"another command in an address":  {to("a@b> SIZE=1"), "to[0].address AddressInvalid"},
		"no domain":                      {to("a"), "to[0].address AddressInvalid"},
		"no local part":                  {to("@example.org"), "to[0].address AddressInvalid"},
		"nothing":                        {to(""), "to[0].address AddressInvalid"},
		"a group":                        {to("friends: a@b, c@d;"), "to[0].address AddressInvalid"},
		"two":                            {to("a@example.org, b@example.org"), "to[0].address AddressInvalid"},
		"brackets":                       {to("<a@example.org>"), "to[0].address AddressInvalid"},
		"a comment":                      {to("a(x)@example.org"), "to[0].address AddressInvalid"},
		"a space":                        {to("a b@example.org"), "to[0].address AddressInvalid"},
		"two dots":                       {to("a..b@example.org"), "to[0].address AddressInvalid"},
		"a dot at the end":               {to("a@example.org."), "to[0].address AddressInvalid"},
		"64 octets of local part":        {to(strings.Repeat("a", 64) + "@example.org"), ""},
		"65 octets of local part":        {to(strings.Repeat("a", 65) + "@example.org"), "to[0].address AddressInvalid"},
		"64 octets of local part, UTF-8": {to(strings.Repeat("é", 33) + "@example.org"), "to[0].address AddressInvalid"},
		"a long path":                    {to("a@" + strings.Repeat("a.", 126) + "b"), "to[0].address AddressInvalid"},
		"the longest path":               {to("a@" + strings.Repeat("a.", 125) + "bc"), ""},
		"a long label":                   {to("a@" + strings.Repeat("a", 64) + ".org"), "to[0].address AddressInvalid"},
		"an underscore":                  {to("a@b_c.org"), "to[0].address AddressInvalid"},
		"hyphens where IDNA has its own": {to("a@r3---sn.example.org"), ""},
		"a false A-label in letters":     {to("a@xn--ü.org"), "to[0].address AddressInvalid"},
		"an address literal":             {to("a@[192.0.2.1]"), ""},
		"an address literal of IPv6":     {to("a@[IPv6:2001:db8::1]"), ""},
		"no address literal":             {to("a@[b]"), "to[0].address AddressInvalid"},
		"IPv4 called IPv6":               {to("a@[IPv6:192.0.2.1]"), "to[0].address AddressInvalid"},
		"quotes":                         {to(`"a b"@example.org`), ""},
		"quotes, an escape":              {to(`"a\"b"@example.org`), ""},
		"quotes that do not end":         {to(`"a\"@example.org`), "to[0].address AddressInvalid"},
		"quotes, none in them":           {to(`"a"b"@example.org`), "to[0].address AddressInvalid"},
		"no UTF-8":                       {to("a\xff@example.org"), "to[0].address AddressInvalid"},
		"a space that is not ASCII":      {to("a\u00a0b@example.org"), "to[0].address AddressInvalid"},

		"nobody":              {with(func(m *Message) { m.To = nil }), "to NoRecipients"},
		"an envelope without": {with(func(m *Message) { m.Envelope = &Envelope{From: "a@b"} }), "envelope.to NoRecipients"},
		"a bad envelope": {
			with(func(m *Message) { m.Envelope = &Envelope{"a", []string{"b@c", "d"}} }),
			"envelope.from AddressInvalid, envelope.to[1] AddressInvalid",
		},
		"bcc alone":       {with(func(m *Message) { m.To, m.Bcc = nil, m.To }), ""},
		"nobody it is of": {with(func(m *Message) { m.From = Address{} }), "from.address AddressInvalid"},

		"no field's name":              {header("X Y", "a"), "headers HeaderNotAllowed"},
		"no name":                      {header("", "a"), "headers HeaderNotAllowed"},
		"name with a colon":            {header("X:Y", "a"), "headers HeaderNotAllowed"},
		"name of 76":                   {header(strings.Repeat("X", 76), "é"), ""},
		"name of 77":                   {header(strings.Repeat("X", 77), "a"), "headers HeaderNotAllowed"},
		"our own field":                {header("x-postrider-ID", "a"), "headers.x-postrider-ID HeaderNotAllowed"},
		"a word of 991":                {header("X-Foo", strings.Repeat("a", 991)), ""},
		"a word of 992":                {header("X-Foo", strings.Repeat("a", 992)), "headers.X-Foo LineTooLong"},
		"a second word of 997":         {header("X-Foo", "a "+strings.Repeat("a", 997)), ""},
		"a second word of 998":         {header("X-Foo", "a "+strings.Repeat("a", 998)), "headers.X-Foo LineTooLong"},
		"a word that can be encoded":   {header("X-Foo", strings.Repeat("é", 1000)), ""},
		"both ways of answering":       {with(func(m *Message) { m.InReplyTo, m.Headers = "<a@b>", []Header{{"in-reply-to", "<c@d>"}} }), "headers.in-reply-to ConflictingFields"},
		"100 fields":                   {with(func(m *Message) { m.Headers = slices.Repeat([]Header{{"X", "y"}}, 100) }), ""},
		"101 fields":                   {with(func(m *Message) { m.Headers = slices.Repeat([]Header{{"X", "y"}}, 101) }), "headers LineTooLong"},
		"much of fields":               {with(func(m *Message) { m.Headers = slices.Repeat([]Header{{"X", strings.Repeat("y ", 400)}}, 90) }), "headers LineTooLong"},
		"a long subject":               {with(func(m *Message) { m.Subject = strings.Repeat("é", 999) }), "subject LineTooLong"},
		"the longest subject":          {with(func(m *Message) { m.Subject = strings.Repeat("é", 998) }), ""},
		"no message id":                {with(func(m *Message) { m.MessageID = "a@b" }), "messageId ValueInvalid"},
		"a space in the message id":    {with(func(m *Message) { m.MessageID = "<a b@c>" }), "messageId ValueInvalid"},
		"two message ids":              {with(func(m *Message) { m.MessageID = "<a@b><c@d>" }), "messageId ValueInvalid"},
		"a message id of 251":          {with(func(m *Message) { m.MessageID = "<" + strings.Repeat("a", 247) + "@b>" }), "messageId ValueInvalid"},
		"a message id of 250":          {with(func(m *Message) { m.MessageID = "<" + strings.Repeat("a", 246) + "@b>" }), ""},
		"a long text":                  {with(func(m *Message) { m.Text = new(strings.Repeat("a", 5<<20+1)) }), "text MessageTooLarge"},
		"one cid twice":                {cids("a", "<a>"), "attachments[1].cid ContentIdDuplicate"},
		"a cid of two words":           {cids("a", "b c"), "attachments[1].cid ValueInvalid"},
		"a multipart for a file":       {attach(file("", "multipart/mixed; boundary=x", "")), "attachments[0].contentType ValueInvalid"},
		"a type without subtype":       {attach(file("", "text", "")), "attachments[0].contentType ValueInvalid"},
		"a type that is a sentence":    {attach(file("", "text/a b", "")), "attachments[0].contentType ValueInvalid"},
		"parameters that end":          {attach(file("", `text/plain; a*=utf-8''%0d%0aBcc:x`, "")), "attachments[0].contentType ValueInvalid"},
		"an attachment of nothing":     {attach(Attachment{}), "attachments[0] ValueInvalid"},
		"101 attachments":              {attach(make([]Attachment, 101)...), "attachments ValueInvalid"},
		"a file with a very long name": {attach(file(strings.Repeat("a", 999), "", "")), "attachments[0].filename LineTooLong"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := strings.Join(told(t, tt.m, options()), ", "); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
			if c, err := Compose(tt.m, options()); err == nil {
				written(t, c)
			}
		})
	}
	for _, name := range []string{
		"From", "SENDER", "to", "Cc", "Bcc", "Subject", "Date", "Message-Id", "Reply-To", "Resent-To", "Resent-Bcc", "Mime-Version", "Content-Type",
		"Content-Foo", "Received", "Return-Path", "DKIM-Signature", "ARC-Seal", "Authentication-Results",
	} {
		if got := told(t, header(name, "x"), options()); !slices.Equal(got, []string{"headers." + name + " HeaderNotAllowed"}) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// CR, LF and NUL get into nothing, wherever they stand.
func TestInjection(t *testing.T) {
	for place, set := range map[string]func(*Message, string){
		"from.name":                  func(m *Message, s string) { m.From.Name = s },
		"from.address":               func(m *Message, s string) { m.From.Address = s + "@example.org" },
		"to[0].name":                 func(m *Message, s string) { m.To[0].Name = s },
		"to[0].address":              func(m *Message, s string) { m.To[0].Address = "a@example.org" + s },
		"cc[0].address":              func(m *Message, s string) { m.Cc = []Address{{"", `"` + s + `"@example.org`}} },
		"bcc[0].address":             func(m *Message, s string) { m.Bcc = []Address{{"", s + "@example.org"}} },
		"replyTo[0].name":            func(m *Message, s string) { m.ReplyTo = []Address{{s, "a@example.org"}} },
		"envelope.from":              func(m *Message, s string) { m.Envelope = &Envelope{s + "@a", []string{"a@b"}} },
		"envelope.to[1]":             func(m *Message, s string) { m.Envelope = &Envelope{"", []string{"a@b", "a@b" + s}} },
		"subject":                    func(m *Message, s string) { m.Subject = s },
		"messageId":                  func(m *Message, s string) { m.MessageID = "<" + s + "@x>" },
		"inReplyTo":                  func(m *Message, s string) { m.InReplyTo = "<" + s + "@x>" },
		"references[1]":              func(m *Message, s string) { m.References = []string{"<a@b>", "<" + s + "@x>"} },
		"headers":                    func(m *Message, s string) { m.Headers = []Header{{"X-" + s, "a"}} },
		"headers.X-Foo":              func(m *Message, s string) { m.Headers = []Header{{"X-Foo", s}} },
		"attachments[0].filename":    func(m *Message, s string) { m.Attachments = []Attachment{file(s, "", "")} },
		"attachments[0].contentType": func(m *Message, s string) { m.Attachments = []Attachment{file("", "text/plain; a="+s, "")} },
		"attachments[0].cid":         func(m *Message, s string) { m.Attachments = []Attachment{inline("", "", "", "a"+s+"b")} },
	} {
		for _, s := range []string{"a\r\nBcc: eve@example.org", "a\nb", "a\rb", "a\x00b"} {
			m := base()
			set(&m, s)
			if got, want := told(t, m, options()), []string{place + " HeaderInjection"}; !slices.Equal(got, want) {
				t.Errorf("%q in %s: %q", s, place, got)
			}
		}
	}
}

// All problems are told at once; those of many things are bounded.
func TestRefuseTogether(t *testing.T) {
	m := Message{
		From: Address{"a\r\n", "x"}, To: []Address{{"", "a@b"}, {"", "b"}}, Subject: "\x00", MessageID: "x",
		Headers: []Header{{"To", "x"}, {"X", "\n"}}, Attachments: []Attachment{inline("\r", "a", "", "c"), inline("", "", "", "c")},
	}
	want := []string{
		"from.name HeaderInjection", "from.address AddressInvalid", "to[1].address AddressInvalid", "subject HeaderInjection",
		"messageId ValueInvalid", "headers.To HeaderNotAllowed", "headers.X HeaderInjection",
		"attachments[0].filename HeaderInjection", "attachments[0].contentType ValueInvalid", "attachments[1].cid ContentIdDuplicate",
	}
	if d := cmp.Diff(want, told(t, m, options())); d != "" {
		t.Error(d)
	}
	m.To = make([]Address, 1000)
	if got := told(t, m, options()); len(got) != maxProblems {
		t.Errorf("%d problems", len(got))
	}
}

func TestRecipients(t *testing.T) {
	m := base()
	m.To = nil
	for i := range 501 {
		m.Bcc = append(m.Bcc, Address{"", strings.Repeat("a", i%50+1) + strings.Repeat("b", i/50) + "@example.org"})
	}
	if got := told(t, m, options()); !slices.Equal(got, []string{"to TooManyRecipients"}) {
		t.Error(got)
	}
	m.Bcc[500] = m.Bcc[0]
	if got := told(t, m, options()); got != nil {
		t.Error(got)
	}
	o := options()
	o.MaxRecipients = 499
	if got := told(t, m, o); !slices.Equal(got, []string{"to TooManyRecipients"}) {
		t.Error(got)
	}
}
