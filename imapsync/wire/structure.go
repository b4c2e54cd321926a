package wire

import (
	"math"
	"strings"

	"github.com/emersion/go-imap/v2"
)

// structure reads BODYSTRUCTURE and BODY (RFC 3501 section 7.4.2). It recurses once per
// level and never deeper than Limits.Depth.
type structure struct {
	c     *Conn
	s     *scanner
	m     *Message
	parts int
	leafs int
}

// whole reads the value; NIL is absent.
func (p *structure) whole() (imap.BodyStructure, string) {
	at := p.s.i
	switch t, _ := p.s.next(); t {
	case tNil:
		return nil, ""
	case tOpen:
	default:
		p.s.seek(at)
		return nil, whySyntax
	}
	bs, why := p.body(1)
	if why != "" {
		p.m.PartSizes = nil
		return nil, why
	}
	return bs, ""
}

// body reads a part behind its opening parenthesis, through the closing one.
func (p *structure) body(depth int) (imap.BodyStructure, string) {
	if depth > p.c.lim.Depth {
		return nil, whyTooDeep
	}
	if p.parts++; p.parts > p.c.lim.List {
		return nil, whyTooMany
	}
	if p.s.peek() == '(' {
		return p.multi(depth)
	}
	at := p.s.i
	t, typ := p.s.next()
	switch t {
	case tClose: // `()`
		return &imap.BodyStructureSinglePart{Type: "APPLICATION", Subtype: "OCTET-STREAM"}, ""
	case tString, tAtom, tNil:
	default:
		p.s.seek(at)
		return nil, whySyntax
	}
	// Row 44: a multipart without children, `(NIL "mixed" …)` or `("ALTERNATIVE" ("BOUNDARY" …))`.
	if t == tNil || p.s.peek() == '(' {
		if bs, ok := p.childless(typ); ok {
			return bs, ""
		}
	}
	p.s.seek(at)
	return p.single(depth)
}

// childless reads a multipart that has no part.
func (p *structure) childless(typ []byte) (imap.BodyStructure, bool) {
	at := p.s.i
	sub := typ
	if len(typ) == 0 { // NIL
		t, v := p.s.next()
		if t != tString && t != tAtom {
			p.s.seek(at)
			return nil, false
		}
		if sub = v; !multipartSubtype(sub) {
			p.s.seek(at)
			return nil, false
		}
	}
	mp := &imap.BodyStructureMultiPart{Subtype: p.str(sub)}
	if why := p.multiExt(mp); why != "" {
		p.s.seek(at)
		return nil, false
	}
	return mp, true
}

// multipartSubtype says whether a word is a subtype of multipart, where its type is NIL.
func multipartSubtype(v []byte) bool {
	for _, w := range []string{"MIXED", "ALTERNATIVE", "RELATED", "DIGEST", "PARALLEL", "SIGNED", "ENCRYPTED", "REPORT", "FORM-DATA"} {
		if foldEqual(v, w) {
			return true
		}
	}
	return false
}

func (p *structure) multi(depth int) (imap.BodyStructure, string) {
	mp := &imap.BodyStructureMultiPart{}
	for p.s.open() {
		child, why := p.body(depth + 1)
		if why != "" {
			return nil, why
		}
		mp.Children = append(mp.Children, child)
	}
	switch t, v := p.s.next(); t {
	case tClose:
		mp.Subtype = "MIXED"
		return mp, ""
	case tString, tAtom:
		mp.Subtype = p.str(v)
	case tNil:
		mp.Subtype = "MIXED"
	default:
		return nil, whySyntax
	}
	return mp, p.multiExt(mp)
}

// multiExt reads parameters, disposition, language, location, and passes what follows,
// parts that come behind (row 45) included.
func (p *structure) multiExt(mp *imap.BodyStructureMultiPart) string {
	if p.s.peek() == ')' {
		p.s.i++
		return ""
	}
	ext := &imap.BodyStructureMultiPartExt{}
	var why string
	if ext.Params, why = p.params(); why != "" {
		return why
	}
	if ext.Disposition, ext.Language, ext.Location, why = p.tail(); why != "" {
		return why
	}
	mp.Extended = ext
	return ""
}

// tail reads disposition, language, location, extensions and the closing parenthesis.
func (p *structure) tail() (d *imap.BodyStructureDisposition, lang []string, loc string, why string) {
	for n := 0; ; n++ {
		if p.s.peek() == ')' {
			p.s.i++
			return d, lang, loc, ""
		}
		switch n {
		case 0:
			d, why = p.disposition()
		case 1:
			lang, why = p.language()
		case 2:
			loc, why = p.nstring()
		default:
			if !p.s.skip() {
				why = whyUnclosed
			}
		}
		if why != "" {
			return nil, nil, "", why
		}
	}
}

func (p *structure) single(depth int) (imap.BodyStructure, string) {
	sp := &imap.BodyStructureSinglePart{}
	var why string
	if sp.Type, why = p.nstring(); why != "" {
		return nil, why
	}
	if sp.Subtype, why = p.nstring(); why != "" {
		return nil, why
	}
	if sp.Type == "" {
		sp.Type, sp.Subtype = "APPLICATION", "OCTET-STREAM"
	}
	if p.close() {
		return sp, ""
	}
	if sp.Params, why = p.params(); why != "" {
		return nil, why
	}
	for _, to := range []*string{&sp.ID, &sp.Description, &sp.Encoding} {
		if p.close() {
			return sp, ""
		}
		if *to, why = p.nstring(); why != "" {
			return nil, why
		}
	}
	if p.close() {
		return sp, ""
	}
	size := p.size()
	sp.Size = uint32(min(size, math.MaxUint32))
	p.sized(size)
	text := strings.EqualFold(sp.Type, "text")
	message := strings.EqualFold(sp.Type, "message") && (strings.EqualFold(sp.Subtype, "rfc822") || strings.EqualFold(sp.Subtype, "global"))
	switch {
	case message && p.s.peek() == '(':
		if sp.MessageRFC822, why = p.message(depth); why != "" {
			return nil, why
		}
	case p.isNumber() || text && p.s.peek() != ')' && p.isNil():
		// Lines of a text; row 43: some send them for other types, or NIL.
		n := int64(p.size())
		if text {
			sp.Text = &imap.BodyStructureText{NumLines: n}
		}
	}
	if text && sp.Text == nil {
		sp.Text = &imap.BodyStructureText{}
	}
	if p.close() {
		return sp, ""
	}
	ext := &imap.BodyStructureSinglePartExt{}
	if _, why = p.nstringOrList(); why != "" { // MD5
		return nil, why
	}
	if ext.Disposition, ext.Language, ext.Location, why = p.tail(); why != "" {
		return nil, why
	}
	sp.Extended = ext
	return sp, ""
}

// message reads envelope, body and lines of an embedded message. One whose body is
// empty is a leaf (row 46).
func (p *structure) message(depth int) (*imap.BodyStructureMessageRFC822, string) {
	p.s.open()
	env := new(Envelope)
	if why := p.c.envelopeFields(p.s, env); why != "" && why != whyTooLong {
		return nil, why
	}
	msg := &imap.BodyStructureMessageRFC822{Envelope: env.IMAP()}
	switch p.s.peek() {
	case '(':
		p.s.i++
		if p.s.peek() == ')' {
			p.s.i++
			msg = nil
			break
		}
		bs, why := p.body(depth + 1)
		if why != "" {
			return nil, why
		}
		msg.BodyStructure = bs
	case 'N', 'n':
		if !p.isNil() {
			return nil, whySyntax
		}
		p.s.next()
		msg = nil
	case ')':
		return nil, ""
	}
	if p.isNumber() || p.isNil() {
		n := p.size()
		if msg != nil {
			msg.NumLines = int64(n)
		}
	}
	return msg, ""
}

// sized notes a size that Structure cannot hold.
func (p *structure) sized(size uint64) {
	p.leafs++
	if size <= math.MaxUint32 {
		return
	}
	for len(p.m.PartSizes) < p.leafs {
		p.m.PartSizes = append(p.m.PartSizes, 0)
	}
	p.m.PartSizes[p.leafs-1] = int64(size)
}

// close takes a closing parenthesis that stands here.
func (p *structure) close() bool {
	if p.s.peek() != ')' {
		return false
	}
	p.s.i++
	return true
}

func (p *structure) isNumber() bool {
	b := p.s.peek()
	return b >= '0' && b <= '9' || b == '-'
}

func (p *structure) isNil() bool {
	p.s.space()
	b := p.s.b[p.s.i:]
	return hasFoldPrefix(b, "NIL") && len(b) > 3 && (b[3] == ' ' || b[3] == ')')
}

// size reads a number; anything else, and what is out of range, is 0.
func (p *structure) size() uint64 {
	at := p.s.i
	switch t, v := p.s.next(); t {
	case tAtom, tString:
		if n, ok := number(v); ok && n <= math.MaxInt64 {
			return n
		}
	case tNil:
	default:
		p.s.seek(at)
	}
	return 0
}

func (p *structure) str(v []byte) string { return p.s.string(v) }

// nstring reads a string or NIL; a number or atom is taken as it is.
func (p *structure) nstring() (string, string) {
	at := p.s.i
	switch t, v := p.s.next(); t {
	case tString, tAtom:
		return p.str(v), ""
	case tNil:
		return "", ""
	}
	p.s.seek(at)
	return "", whySyntax
}

// nstringOrList is nstring where some servers put a list, which is passed over.
func (p *structure) nstringOrList() (string, string) {
	if p.s.peek() == '(' {
		if !p.s.skip() {
			return "", whyUnclosed
		}
		return "", ""
	}
	return p.nstring()
}

// params reads `("key" "value" …)` or NIL. Keys are lower case; a key without a value
// has "" (row 45).
func (p *structure) params() (map[string]string, string) {
	at := p.s.i
	switch t, _ := p.s.next(); t {
	case tNil, tString, tAtom: // QUIRK: a bare string where parameters belong
		return nil, ""
	case tOpen:
	default:
		p.s.seek(at)
		return nil, whySyntax
	}
	var out map[string]string
	for n := 0; ; n++ {
		t, key := p.s.next()
		switch t {
		case tClose:
			return out, ""
		case tString, tAtom, tNil:
		default:
			return nil, whySyntax
		}
		if n > 1000 {
			return nil, whyTooMany
		}
		value := ""
		if p.s.peek() != ')' {
			switch t, v := p.s.next(); t {
			case tString, tAtom:
				value = p.str(v)
			case tNil:
			default:
				return nil, whySyntax
			}
		}
		if len(key) == 0 {
			continue
		}
		if out == nil {
			out = make(map[string]string, 1)
		}
		out[lowerKey(key, p)] = value
	}
}

// lowerKey is a parameter's name; the usual ones cost nothing.
func lowerKey(key []byte, p *structure) string {
	for _, w := range [...][2]string{{"CHARSET", "charset"}, {"NAME", "name"}, {"BOUNDARY", "boundary"}, {"FILENAME", "filename"}, {"FORMAT", "format"}, {"TYPE", "type"}} {
		if foldEqual(key, w[0]) {
			return w[1]
		}
	}
	return strings.ToLower(p.str(key))
}

// disposition reads `("attachment" ("filename" "x"))`, `("attachment")`, "attachment" or NIL.
func (p *structure) disposition() (*imap.BodyStructureDisposition, string) {
	at := p.s.i
	switch t, v := p.s.next(); t {
	case tNil:
		return nil, ""
	case tString, tAtom:
		if len(v) == 0 {
			return nil, ""
		}
		return &imap.BodyStructureDisposition{Value: p.str(v)}, ""
	case tOpen:
	default:
		p.s.seek(at)
		return nil, whySyntax
	}
	if p.close() {
		return nil, ""
	}
	if p.s.peek() == '(' { // a part that came behind the others
		p.s.seek(at)
		if !p.s.skip() {
			return nil, whyUnclosed
		}
		return nil, ""
	}
	value, why := p.nstring()
	if why != "" {
		return nil, why
	}
	d := &imap.BodyStructureDisposition{Value: value}
	if p.s.peek() != ')' {
		if d.Params, why = p.params(); why != "" {
			return nil, why
		}
	}
	if !p.s.rest() {
		return nil, whyUnclosed
	}
	if d.Value == "" && len(d.Params) == 0 {
		return nil, ""
	}
	return d, ""
}

// language reads a string or a list of them.
func (p *structure) language() ([]string, string) {
	if p.s.peek() != '(' {
		v, why := p.nstring()
		if v == "" {
			return nil, why
		}
		return []string{v}, why
	}
	p.s.i++
	var out []string
	for {
		switch t, v := p.s.next(); t {
		case tClose:
			return out, ""
		case tString, tAtom:
			if len(out) < 100 {
				out = append(out, p.str(v))
			}
		case tNil:
		default:
			return nil, whySyntax
		}
	}
}
