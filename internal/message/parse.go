package message

import (
	"bytes"
	"strconv"
	"strings"
)

// Bounds of what Parse looks at.
const (
	MaxDepth = 30
	MaxParts = 1000
)

// Message is a message that was read.
type Message struct {
	Header Header
	Root   *Part
	// Cut says that there are more parts, or deeper ones, than were looked at.
	Cut bool
}

// Part is one part of a MIME tree.
type Part struct {
	Number      string // as IMAP numbers it: "1", "2.1"; "" for the multipart that is the message
	Type        string // "text/plain", in lower case
	Params      map[string]string
	Disposition string // "attachment", "inline" or what else was said, in lower case; "" = nothing
	Filename    string
	ContentID   string // with angle brackets, as it came
	Encoding    string // of the transfer, in lower case
	Size        int64  // octets, as transferred
	Body        []byte // of parts that Parse found and that have no Children; still encoded
	Children    []*Part
}

// Parse reads a message. It never fails: what has no header is a text, a multipart whose
// boundary is missing or does not come is a text too.
func Parse(raw []byte, w *Warnings) *Message {
	p := parser{lines: lines{b: raw, cr: bytes.IndexByte(raw, '\n') < 0}, w: w}
	h, _ := readHeader(&p.lines, p.delimits)
	m := &Message{Header: h, Root: &Part{}}
	p.parts = 1
	p.begin(m.Root, h, "text/plain")
	p.run()
	p.end(0, len(raw))
	if m.Root.Number == "" && m.Root.Children == nil {
		m.Root.Number = "1"
	}
	m.Cut = p.cut
	return m
}

// parser goes over a message once, line by line. What is open stands in a list, not on
// the stack.
type parser struct {
	lines
	w     *Warnings
	open  []multipart
	leaf  *Part // the part whose body is being passed; nil in a preamble or epilogue
	from  int   // where that body begins
	parts int
	cut   bool
}

type multipart struct {
	part     *Part
	boundary string
	from     int // where its body begins
	closed   bool
}

func (p *parser) run() {
	for p.at < len(p.b) {
		begin := p.at
		line, after := p.next()
		p.at = after
		k, last := p.match(line)
		if k < 0 {
			continue
		}
		p.end(k+1, p.lineEnd(begin))
		if last {
			p.open[k].closed = true
			continue
		}
		if p.parts == MaxParts {
			p.cut = true
			return
		}
		p.parts++
		mother := p.open[k].part
		child := &Part{Number: strconv.Itoa(len(mother.Children) + 1)}
		if mother.Number != "" {
			child.Number = mother.Number + "." + child.Number
		}
		mother.Children = append(mother.Children, child)
		h, _ := readHeader(&p.lines, p.delimits)
		other := "text/plain"
		if mother.Type == "multipart/digest" { // RFC 2046 section 5.1.5
			other = "message/rfc822"
		}
		p.begin(child, h, other)
	}
}

// begin takes what a header says of a part whose body begins here.
func (p *parser) begin(part *Part, h Header, other string) {
	part.describe(h, other, p.w)
	p.leaf, p.from = part, p.at
	if !strings.HasPrefix(part.Type, "multipart/") {
		return
	}
	boundary := strings.TrimRight(part.Params["boundary"], " \t")
	switch {
	case boundary == "":
		part.Type = "text/plain"
	case len(p.open) == MaxDepth:
		p.cut = true
	default:
		p.open = append(p.open, multipart{part: part, boundary: boundary, from: p.at})
		p.leaf = nil
	}
}

// end closes what is open from level k on; bodies end at a place.
func (p *parser) end(k, at int) {
	if p.leaf != nil {
		p.leaf.setBody(p.b[p.from:max(p.from, at)])
		p.leaf = nil
	}
	for i := len(p.open) - 1; i >= k; i-- {
		m := &p.open[i]
		m.part.Size = int64(max(0, at-m.from))
		if m.part.Children == nil { // its boundary never came
			m.part.Type = "text/plain"
			m.part.setBody(p.b[m.from:max(m.from, at)])
		}
	}
	p.open = p.open[:min(k, len(p.open))]
}

func (q *Part) setBody(b []byte) { q.Body, q.Size = b, int64(len(b)) }

// lineEnd is where the line before the one at begin ends: the line end before a boundary
// belongs to it.
func (p *parser) lineEnd(begin int) int {
	if begin > 0 && (p.b[begin-1] == '\n' || p.b[begin-1] == '\r') {
		begin--
	}
	if begin > 0 && p.b[begin] == '\n' && p.b[begin-1] == '\r' {
		begin--
	}
	return begin
}

// delimits says whether a line ends a header because it is a boundary that is open.
func (p *parser) delimits(line []byte) bool {
	k, _ := p.match(line)
	return k >= 0
}

// match finds the innermost multipart that a line is a boundary of; -1: it is none. last
// says that it closes it.
func (p *parser) match(line []byte) (k int, last bool) {
	if len(p.open) == 0 || len(line) < 3 || line[0] != '-' || line[1] != '-' {
		return -1, false
	}
	s := bytes.TrimRight(line[2:], " \t\r")
	for k := len(p.open) - 1; k >= 0; k-- {
		b := p.open[k].boundary
		switch {
		case p.open[k].closed || len(s) < len(b) || len(s) > len(b)+2 || string(s[:len(b)]) != b:
		case len(s) == len(b):
			return k, false
		case string(s[len(b):]) == "--":
			return k, true
		}
	}
	return -1, false
}

// describe fills in what a part's header says of it.
func (q *Part) describe(h Header, other string, w *Warnings) {
	q.Type, q.Params = Params(h.First("content-type"), w)
	if major, minor, ok := strings.Cut(q.Type, "/"); !ok || major == "" || minor == "" || strings.ContainsAny(q.Type, " \t\"") {
		q.Type = other // RFC 2045 section 5.2
		if len(h["content-type"]) > 0 {
			q.Type = "text/plain"
		}
	}
	var params map[string]string
	q.Disposition, params = Params(h.First("content-disposition"), w)
	if q.Filename = params["filename"]; q.Filename == "" {
		q.Filename = q.Params["name"]
	}
	q.ContentID = strings.TrimSpace(h.First("content-id"))
	q.Encoding, _, _ = strings.Cut(strings.ToLower(h.First("content-transfer-encoding")), ";")
	q.Encoding = strings.TrimSpace(q.Encoding)
}
