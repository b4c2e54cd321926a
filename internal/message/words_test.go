package message

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestWords(t *testing.T) {
	for _, c := range []struct {
		in, want string
		warned   bool
	}{
		{in: "plain", want: "plain"},
		{in: "=?utf-8?q?caf=C3=A9?=", want: "café"},
		{in: "=?UTF-8?B?Y2Fmw6k=?=", want: "café"},
		{in: "=?utf-8?q?a?= =?utf-8?q?b?=", want: "ab"},       // white space between words is not shown
		{in: "=?utf-8?q?a?= b =?utf-8?q?c?=", want: "a b c"},  // beside other text it is
		{in: "=?utf-8?b?4pi=?= =?utf-8?b?gg==?=", want: "☂"},  // cut inside a character
		{in: "=?utf-8?q?=E2=98?= =?utf-8?q?=82?=", want: "☂"}, // cut inside a character
		{in: "=?iso-8859-1?q?=FC?= =?utf-8?q?=C3=BC?=", want: "üü"},
		{in: "=?iso-8859-1*de?q?=FC?=", want: "ü"},
		{in: "=?utf-8?q?with space?=", want: "with space"},
		{in: "=?utf-8?q?a_b?=", want: "a b"},
		{in: "a=?utf-8?q?b?=c", want: "abc"},
		{in: "=?x-no?q?abc?= d", want: "=?x-no?q?abc?= d", warned: true},
		{in: "=?x-no?q?a?= =?x-no?q?b?=", want: "=?x-no?q?a?= =?x-no?q?b?=", warned: true},
		{in: "=?utf-8?x?abc?=", want: "=?utf-8?x?abc?="},
		{in: "=?utf-8?q?never ends", want: "=?utf-8?q?never ends"},
		{in: "=?", want: "=?"},
		{in: "=?=?=", want: "=?=?="},
		{in: "=?utf-8?q??=", want: ""},
		{in: "=?utf-8?q?=00=0A?=x", want: "x"},
		{in: "raw \xfc", want: "raw \uFFFD"},
		{in: "=?iso-2022-jp?B?GyRCJDMbKEI=?= =?iso-2022-jp?B?GyRCJHMbKEI=?=", want: "こん"},
	} {
		var w Warnings
		if got := Words(c.in, &w); got != c.want || len(w) > 0 != c.warned {
			t.Errorf("%q: %q %v, want %q", c.in, got, w, c.want)
		}
	}
}

func TestAddresses(t *testing.T) {
	for in, want := range map[string]string{
		"":                                            "",
		"a@example.com":                               "<a@example.com>",
		"A <a@example.com>":                           "A<a@example.com>",
		`"Last, First" <a@example.com>`:               "Last, First<a@example.com>",
		`"a \"b\" c" <a@example.com>`:                 `a "b" c<a@example.com>`,
		"=?utf-8?q?J=C3=BC?= <a@example.com>":         "Jü<a@example.com>",
		`"=?utf-8?q?J=C3=BC?=" <a@example.com>`:       "Jü<a@example.com>",
		"a@example.com (Jo)":                          "Jo<a@example.com>",
		"a@example.com, b@example.com,":               "<a@example.com>|<b@example.com>",
		"a@example.com; b@example.com":                "<a@example.com>|<b@example.com>",
		"team: a@example.com, B <b@example.com>;":     "<a@example.com>|B<b@example.com>",
		"undisclosed-recipients:;":                    "",
		"Jo":                                          "Jo<>",
		"Jo <>":                                       "Jo<>",
		"Jo <jo>":                                     "Jo<>",
		"<a@example.com":                              "<a@example.com>",
		"Jo <@relay.example:a@example.com>":           "Jo<a@example.com>",
		"Jo a@example.com":                            "Jo<a@example.com>",
		`"a b"@example.com`:                           `<"a b"@example.com>`,
		"good <a@example.com>, <<bad>, c@example.com": "good<a@example.com>|bad<>|<c@example.com>",
		`"never closed <a@example.com>`:               "never closed<a@example.com>",
		"a@example.com\x00":                           "<a@example.com>",
		"(only a comment)":                            "only a comment<>",
	} {
		var list []string
		for _, a := range Addresses(in, nil) {
			list = append(list, a.Name+"<"+a.Address+">")
		}
		if got := strings.Join(list, "|"); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestHeader(t *testing.T) {
	h := ParseHeader([]byte("Subject: a\r\n b\r\n\tc\r\nX: 1\r\nno field\r\n continued nothing\r\nx: 2\r\nEmpty:\r\nLIST-ID : \xff\x00\r\n\r\nBody: no\r\n"))
	want := Header{"subject": {"a b c"}, "x": {"1", "2"}, "empty": {""}, "list-id": {"\uFFFD"}}
	if d := cmp.Diff(want, h); d != "" {
		t.Error(d)
	}
	if got := ParseHeader([]byte(strings.Repeat("a: b\n", MaxHeader))); len(got["a"]) > MaxHeader/5+1 {
		t.Errorf("%d fields of a block that is too long", len(got["a"]))
	}
}

func TestIDs(t *testing.T) {
	for in, want := range map[string]string{
		"<a@b><c@d>": "[<a@b> <c@d>]", "<>": "[]", "text <a@b> more < c@d >": "[<a@b> <c@d>]", "<a@b> <c@d>": "[<a@b> <c@d>]", "a@b c@d": "[<a@b> <c@d>]", "<a@b": "[]", "x <a@b> y": "[<a@b>]", "< >": "[]", "": "[]",
	} {
		if got := fmt.Sprint(IDs(in)); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func FuzzWords(f *testing.F) {
	for _, s := range []string{"=?utf-8?q?a=C3=BC?= =?utf-8?b?YQ==?=", "=?x?y?z?=", `"a, b" <c@d>, g: e@f;`, "(((", "a\\"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		out := []string{Words(s, nil)}
		for _, a := range Addresses(s, nil) {
			out = append(out, a.Name, a.Address)
		}
		_, params := Params(s, nil)
		for k, v := range params {
			out = append(out, k, v)
		}
		for _, o := range out {
			if !utf8.ValidString(o) || strings.ContainsAny(o, "\x00\r\n") || len(o) > 4*len(s)+16 {
				t.Errorf("%q of %q", o, s)
			}
		}
	})
}

func FuzzHeader(f *testing.F) {
	f.Add([]byte("a: b\r\n c\r\n\r\nx"))
	f.Add([]byte(":\n\x00: \xff\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, values := range ParseHeader(b) {
			for _, s := range append(values, name) {
				if !utf8.ValidString(s) || strings.ContainsAny(s, "\x00\r\n") {
					t.Errorf("%q of %q", s, b)
				}
			}
		}
	})
}
