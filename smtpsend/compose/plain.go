package compose

import (
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// plainOf makes a text of HTML, for who reads no HTML: paragraphs and list items as lines,
// links with their addresses behind them, images by their descriptions. It goes over the
// HTML once, without a tree.
func plainOf(s string) string {
	p := plain{}
	z := html.NewTokenizer(strings.NewReader(s))
	for {
		switch z.Next() {
		case html.ErrorToken:
			return strings.TrimSpace(p.out.String())
		case html.TextToken:
			p.text(string(z.Text()))
		case html.StartTagToken, html.SelfClosingTagToken:
			p.start(z.Token())
		case html.EndTagToken:
			name, _ := z.TagName()
			p.end(atom.Lookup(name))
		}
	}
}

type plain struct {
	out    strings.Builder
	breaks int       // line ends due before the next word
	space  bool      // a space is due
	begun  bool      // there are words
	hidden atom.Atom // the element whose text is not shown
	pre    int
	link   string // where the open link leads
	from   int    // where its text begins
}

var (
	hides  = map[atom.Atom]bool{atom.Script: true, atom.Style: true, atom.Title: true} // to their end tags nothing in them is one
	blocks = map[atom.Atom]int{
		atom.P: 2, atom.H1: 2, atom.H2: 2, atom.H3: 2, atom.H4: 2, atom.H5: 2, atom.H6: 2, atom.Ul: 2, atom.Ol: 2, atom.Pre: 2,
		atom.Blockquote: 2, atom.Table: 2, atom.Div: 1, atom.Li: 1, atom.Tr: 1, atom.Dt: 1, atom.Dd: 1, atom.Section: 1,
		atom.Article: 1, atom.Header: 1, atom.Footer: 1, atom.Address: 1, atom.Figure: 1,
	}
)

func (p *plain) start(t html.Token) {
	if p.hidden != 0 {
		return
	}
	p.breaks = max(p.breaks, blocks[t.DataAtom])
	switch a := t.DataAtom; {
	case hides[a] && t.Type == html.StartTagToken:
		p.hidden = a
	case a == atom.Br:
		p.breaks = min(p.breaks+1, 3)
	case a == atom.Hr:
		p.breaks = 2
		p.word("----------")
		p.breaks = 2
	case a == atom.Li:
		p.word("-")
		p.space = true
	case a == atom.Td || a == atom.Th:
		p.space = true
	case a == atom.Pre:
		p.pre++
	case a == atom.Img:
		p.text(attribute(t, "alt"))
	case a == atom.A:
		p.link, p.from = attribute(t, "href"), p.out.Len()
	}
}

func (p *plain) end(a atom.Atom) {
	if p.hidden != 0 {
		if a == p.hidden {
			p.hidden = 0
		}
		return
	}
	p.breaks = max(p.breaks, blocks[a])
	switch a {
	case atom.Pre:
		p.pre = max(0, p.pre-1)
	case atom.A:
		shown := strings.TrimSpace(p.out.String()[min(p.from, p.out.Len()):])
		if where, is := webLink(p.link); is && shown != p.link && shown != where {
			p.space = p.space || shown != ""
			p.word("<" + p.link + ">")
		}
		p.link = ""
	}
}

// webLink says whether a link leads somewhere that can be told, and how people write it.
func webLink(s string) (short string, ok bool) {
	for _, scheme := range []string{"https://", "http://", "mailto:"} {
		if short, ok = strings.CutPrefix(s, scheme); ok {
			return strings.TrimSuffix(short, "/"), !strings.ContainsAny(s, " \r\n<>")
		}
	}
	return "", false
}

func attribute(t html.Token, key string) string {
	for _, a := range t.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func (p *plain) text(s string) {
	if p.hidden != 0 {
		return
	}
	if p.pre > 0 {
		for line := range strings.Lines(s) {
			bare := strings.TrimRight(line, "\r\n")
			p.word(bare)
			if bare != line {
				p.breaks++
			}
		}
		return
	}
	for s != "" {
		rest := strings.TrimLeft(s, " \t\r\n\f")
		p.space = p.space || len(rest) < len(s)
		if rest == "" {
			return
		}
		n := strings.IndexAny(rest, " \t\r\n\f")
		if n < 0 {
			n = len(rest)
		}
		p.word(rest[:n])
		s = rest[n:]
	}
}

// word writes what is shown, behind the lines and the space that are due.
func (p *plain) word(s string) {
	switch {
	case s == "":
		return
	case p.begun && p.breaks > 0:
		p.out.WriteString("\n\n\n"[:min(p.breaks, 3)])
	case p.begun && p.space && p.pre == 0:
		p.out.WriteByte(' ')
	}
	p.out.WriteString(s)
	p.breaks, p.space, p.begun = 0, false, true
}
