package message

import (
	"regexp"
	"strings"
	"sync"

	"github.com/microcosm-cc/bluemonday"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// WebSafe makes HTML that may stand in a page of ours: known elements without scripts,
// forms, frames and event handlers; links to http, https and mailto only, opened apart;
// images by http, https, cid and data; of styles only what stays where it is. Every
// element is closed. Beyond most bytes it is cut between elements or in their text.
func WebSafe(s string, most int) (safe string, more bool) {
	return balance(policy().Sanitize(s), most)
}

var policy = sync.OnceValue(func() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements("a", "abbr", "address", "article", "aside", "b", "bdi", "bdo", "big", "blockquote", "br", "caption",
		"center", "cite", "code", "col", "colgroup", "dd", "del", "details", "dfn", "div", "dl", "dt", "em", "figcaption", "figure",
		"font", "footer", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "i", "img", "ins", "kbd", "li", "main", "mark", "nav",
		"ol", "p", "pre", "q", "rp", "rt", "ruby", "s", "samp", "section", "small", "span", "strike", "strong", "sub", "summary",
		"sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "tt", "u", "ul", "var", "wbr")
	p.SkipElementsContent("title", "template", "noscript", "textarea", "select", "svg", "math")
	p.AllowNoAttrs().OnElements("a", "font", "span")
	p.AllowAttrs("dir", "lang", "title", "style").Globally()
	p.AllowAttrs("align", "valign", "bgcolor", "width", "height").Matching(plainValue).
		OnElements("table", "tbody", "thead", "tfoot", "tr", "td", "th", "col", "colgroup", "img", "div", "p", "h1", "h2", "h3", "h4", "h5", "h6", "hr")
	p.AllowAttrs("border", "cellpadding", "cellspacing", "colspan", "rowspan", "span", "start", "type", "face", "color", "size").Matching(plainValue).
		OnElements("table", "td", "th", "col", "colgroup", "img", "ol", "ul", "li", "font", "hr")
	p.AllowAttrs("href").OnElements("a")
	p.AllowAttrs("src", "alt").OnElements("img")
	p.AllowAttrs("cite").OnElements("blockquote", "q")
	p.RequireParseableURLs(true)
	p.AllowRelativeURLs(false) // relative to us they would lead to our own pages
	p.AllowURLSchemes("http", "https", "mailto", "cid")
	p.AllowDataURIImages()
	p.RequireNoFollowOnLinks(true)
	p.RequireNoReferrerOnLinks(true)
	p.AddTargetBlankToFullyQualifiedLinks(true)
	return p
})

var linkScheme = regexp.MustCompile(`^(?i:https?|mailto):`)

var plainValue = regexp.MustCompile(`^[#%a-zA-Z0-9,. -]{1,64}$`)

// deepest is how many elements may stand in each other; those beyond are left out, not
// what is in them.
const deepest = 256

// balance closes what HTML leaves open, drops end tags of nothing, filters styles, and
// cuts.
func balance(s string, most int) (string, bool) {
	var out strings.Builder
	var open []string
	opened := map[string]int{}
	closing := 0 // bytes of the end tags of what is open
	pop := func() {
		name := open[len(open)-1]
		open = open[:len(open)-1]
		opened[name]--
		closing -= len(name) + 3
		out.WriteString("</" + name + ">")
	}
	more := false
	z := html.NewTokenizer(strings.NewReader(s))
	for !more {
		kind := z.Next()
		if kind == html.ErrorToken {
			break
		}
		room := most - out.Len() - closing
		switch kind {
		case html.TextToken:
			text := string(z.Raw())
			if len(text) > room {
				text, more = cutText(text, room), true
			}
			out.WriteString(text)
		case html.StartTagToken, html.SelfClosingTagToken:
			t := z.Token()
			styled(&t)
			tag := t.String()
			leaf := kind == html.SelfClosingTagToken || isVoid[t.DataAtom]
			switch {
			case !leaf && len(open) >= deepest:
			case len(tag)+len(t.Data)+3 > room:
				more = true
			default:
				out.WriteString(tag)
				if !leaf {
					open = append(open, t.Data)
					opened[t.Data]++
					closing += len(t.Data) + 3
				}
			}
		case html.EndTagToken:
			name, _ := z.TagName()
			for last := ""; opened[string(name)] > 0 && last != string(name); {
				last = open[len(open)-1]
				pop()
			}
		}
	}
	for len(open) > 0 {
		pop()
	}
	return out.String(), more
}

var isVoid = map[atom.Atom]bool{atom.Br: true, atom.Col: true, atom.Hr: true, atom.Img: true, atom.Wbr: true}

// cutText cuts escaped text at a character, and not within a character reference.
func cutText(s string, most int) string {
	s, _ = Truncate(s, max(most, 0))
	if i := strings.LastIndexByte(s, '&'); i >= 0 && !strings.Contains(s[i:], ";") {
		s = s[:i]
	}
	return s
}

// styled leaves of a style only what is known to stay inside its element, and of links
// those that lead to a page or a mailbox.
func styled(t *html.Token) {
	kept := t.Attr[:0]
	for _, a := range t.Attr {
		if a.Key == "style" {
			if a.Val = safeStyle(a.Val); a.Val == "" {
				continue
			}
		}
		if a.Key == "href" && !linkScheme.MatchString(a.Val) { // data and cid are for images
			continue
		}
		kept = append(kept, a)
	}
	t.Attr = kept
}

func safeStyle(s string) string {
	var out []string
	for decl := range strings.SplitSeq(s, ";") {
		name, value, ok := strings.Cut(decl, ":")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		if ok && safeProperties[name] && len(value) <= 200 && safeValue.MatchString(value) {
			out = append(out, name+": "+value)
		}
	}
	return strings.Join(out, "; ")
}

var safeProperties = func() map[string]bool {
	m := map[string]bool{}
	for name := range strings.FieldsSeq(`background-color border border-bottom border-collapse border-color border-left border-radius
		border-right border-spacing border-style border-top border-width clear color direction display float font font-family
		font-size font-style font-variant font-weight height letter-spacing line-height list-style-type margin margin-bottom
		margin-left margin-right margin-top max-height max-width min-height min-width opacity overflow overflow-wrap padding
		padding-bottom padding-left padding-right padding-top table-layout text-align text-decoration text-indent
		text-transform vertical-align white-space width word-break word-spacing word-wrap`) {
		m[name] = true
	}
	return m
}()

// safeValue has no function but colours, no escape, no URL, and nothing negative, which
// would reach outside.
var safeValue = regexp.MustCompile(`^(?i:rgba?\([0-9., %]{1,40}\)|hsla?\([0-9., %deg]{1,40}\)|[#a-z0-9.,%"' ]|-[a-z])+(?: ?!important)?$`)
