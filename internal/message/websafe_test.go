package message

import (
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/net/html"
)

func TestWebSafe(t *testing.T) {
	for in, want := range map[string]string{
		"<p>hi":                                 "<p>hi</p>",
		"</div></p>hi":                          "hi",
		"<b><i>x</b>y":                          "<b><i>x</i></b>y",
		"a<br>b<hr/>c":                          "a<br>b<hr/>c",
		"<script>alert(1)</script>x":            "x",
		"<style>p{}</style>x":                   "x",
		"<title>no</title>x":                    "x",
		"<svg><script>alert(1)</script></svg>x": "x",
		`<p onclick="x()" style="color: red; position: fixed; background: url(http://x)">a</p>`: `<p style="color: red">a</p>`,
		`<p style="color:expression(alert(1))">a</p>`:                                           `<p>a</p>`,
		`<p style="margin-left:-900px;width:10px">a</p>`:                                        `<p style="width: 10px">a</p>`,
		`<td bgcolor="#fff" width="50%">a`:                                                      `<td bgcolor="#fff" width="50%">a</td>`,
		`<img src="cid:a@b" alt="x" onerror=y>`:                                                 `<img src="cid:a@b" alt="x">`,
		`<img src="data:image/png;base64,iVBORw0KGgo=">`:                                        `<img src="data:image/png;base64,iVBORw0KGgo=">`,
		`<img src="data:text/html;base64,PHA+">`:                                                "",
		`<a href="javascript:x">a</a>`:                                                          "<a>a</a>",
		`<a href="/accounts">a</a>`:                                                             "<a>a</a>",
		`<a href=" JaVa&#10;script:x">a</a>`:                                                    "<a>a</a>",
		`<a href="https://example.com/?a=1&b=2">a</a>`:                                          `<a href="https://example.com/?a=1&amp;b=2" rel="nofollow noreferrer noopener" target="_blank">a</a>`,
		`<form action=x><input name=y>a</form>`:                                                 "a",
		`<iframe src=x></iframe><object></object>a`:                                             "a",
		`<base href="//evil"><meta http-equiv=refresh>a`:                                        "a",
		`<!-- x --><![if mso]>a<![endif]>`:                                                      "a",
		`a < b & c`:                                                                             "a &lt; b &amp; c",
		"":                                                                                      "",
	} {
		got, more := WebSafe(in, 1000)
		if got != want || more {
			t.Errorf("%s\n got %s\nwant %s", in, got, want)
		}
	}
	for _, c := range []struct {
		in   string
		most int
		want string
	}{
		{"<p>hello world</p>", 12, "<p>hello</p>"},
		{"<p>a&amp;b</p>", 10, "<p>a</p>"},
		{"<p>üü</p>", 10, "<p>ü</p>"},
		{"<p><b>x</b></p>", 9, "<p></p>"},
		{"<p>", 2, ""},
	} {
		if got, more := WebSafe(c.in, c.most); got != c.want || !more {
			t.Errorf("%s to %d: %s %v, want %s", c.in, c.most, got, more, c.want)
		}
	}
}

func FuzzWebSafe(f *testing.F) {
	for _, s := range []string{
		"<p>hi", `<a href="javascript:alert(1)">x`, "<b><i></b></i>", `<img src=x onerror=alert(1)//`, "<svg/onload=alert(1)>", "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
		`<p style="color:red;}">`, "<noscript><p title=\"</noscript><img src=x onerror=alert(1)>\">", "<textarea><img title=\"</textarea><script>\">", "&lt;script&gt;", "<!--><script>x</script>-->",
	} {
		f.Add(s, 100)
	}
	f.Fuzz(func(t *testing.T, s string, most int) {
		most = max(0, min(most, 1<<16))
		out, _ := WebSafe(s, most)
		if len(out) > most || !utf8.ValidString(out) && utf8.ValidString(s) {
			t.Errorf("%d bytes: %q", len(out), out)
		}
		// As a browser's tokenizer sees it: nothing but what is allowed, all of it closed.
		depth := 0
		for z := html.NewTokenizer(strings.NewReader(out)); ; {
			kind := z.Next()
			if kind == html.ErrorToken {
				break
			}
			tok := z.Token()
			switch kind {
			case html.StartTagToken:
				if !isVoid[tok.DataAtom] {
					depth++
				}
			case html.EndTagToken:
				depth--
			}
			switch tok.Data {
			case "script", "style", "iframe", "form", "input", "object", "embed", "svg", "math", "base", "meta", "link":
				if kind != html.TextToken {
					t.Errorf("<%s> in %q", tok.Data, out)
				}
			}
			for _, a := range tok.Attr {
				v := strings.ToLower(strings.TrimSpace(a.Val))
				if strings.HasPrefix(a.Key, "on") || (a.Key == "href" || a.Key == "src") && strings.HasPrefix(v, "javascript") {
					t.Errorf("%s=%q in %q", a.Key, a.Val, out)
				}
			}
		}
		if depth != 0 {
			t.Errorf("left open: %q", out)
		}
	})
}

func TestWebSafeLinks(t *testing.T) {
	for _, link := range []string{"data:image/svg+xml;base64,PHN2Zz4=", "cid:x", "javascript:x", "/x"} {
		if got, _ := WebSafe(`<a href="`+link+`">y</a>`, 1000); strings.Contains(got, "href") {
			t.Errorf("%q", got)
		}
	}
	for _, link := range []string{"http://x", "HTTPS://x", "mailto:x@y"} {
		if got, _ := WebSafe(`<a href="`+link+`">y</a>`, 1000); !strings.Contains(got, "href") {
			t.Errorf("%q", got)
		}
	}
}
