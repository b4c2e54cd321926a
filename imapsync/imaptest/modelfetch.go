package imaptest

import (
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// fetchItem is something asked of a message.
type fetchItem struct {
	name    string // in capitals; of a body section "BODY"
	section *bodySection
	peek    bool
	from, n int // partial; n < 0 = whole
	partial bool
}

// bodySection is what stands in the brackets of BODY[].
type bodySection struct {
	text   string // as asked for, in capitals but for field names
	part   []int
	what   string // "", HEADER, TEXT, MIME, FIELDS, FIELDS.NOT
	fields []string
}

func (s *mSession) doFetch(p *mParser, byUID bool) string {
	p.sp()
	set := p.set()
	p.sp()
	items := s.fetchItems(p)
	since, vanished, changed := uint64(0), false, false
	if p.take(' ') {
		p.list(func() {
			switch m := p.atom(); {
			case m == "CHANGEDSINCE" && s.m.d.Has("CONDSTORE"):
				p.sp()
				since, changed = p.number(), true
			case m == "VANISHED" && byUID && s.qresync:
				vanished = true
			default:
				p.fail()
			}
		})
	}
	if !p.done() {
		return ""
	}
	if vanished && !changed {
		return "BAD VANISHED without CHANGEDSINCE"
	}
	has := func(name string) bool {
		return slices.ContainsFunc(items, func(it fetchItem) bool { return it.name == name })
	}
	if byUID && !has("UID") {
		items = append([]fetchItem{{name: "UID"}}, items...)
	}
	if changed || has("MODSEQ") {
		s.condstore = true
	}
	if changed && !has("MODSEQ") {
		items = append(items, fetchItem{name: "MODSEQ"})
	}
	s.u.mu.Lock()
	defer s.u.mu.Unlock()
	lies := s.u.lies
	f := s.sel.f
	ranges, from, answer := s.limited(s.numbers(set, byUID))
	if vanished {
		if lies.QResyncDead {
			return "BAD unknown modifier"
		}
		s.vanished(f, set.resolve(max(f.uidNext, 2)-1).within(uidRanges{{from, star}}), since)
	}
	if changed && lies.ChangedSinceDeaf {
		return answer
	}
	if changed && lies.ChangedSinceNoFlags {
		items = slices.DeleteFunc(items, func(it fetchItem) bool { return it.name == "FLAGS" })
	}
	plain := !slices.ContainsFunc(items, func(it fetchItem) bool {
		return !slices.Contains([]string{"UID", "FLAGS", "INTERNALDATE", "RFC822.SIZE", "MODSEQ"}, it.name)
	})
	for _, r := range ranges {
		for i := r.lo; i < r.hi; i++ { // indexes; what is open does not change meanwhile
			uid := s.sel.uids[i]
			switch {
			case slices.Contains(lies.Unfetchable[f.name], uid), !plain && slices.Contains(lies.Poison[f.name], uid):
				return "NO [SERVERBUG] cannot read a message"
			case slices.Contains(lies.NotReturned[f.name], uid), s.u.held(f, uid):
				continue
			}
			j, ok := f.index(uid)
			if !ok || changed && f.msgs[j].modseq <= since && !lies.ChangedSinceIgnored {
				continue
			}
			s.see(f, uid, items)
			j, _ = f.index(uid)
			s.fetchOne(int(i)+1, f, &f.msgs[j], items)
			if len(s.out) >= maxModelFlush {
				s.u.mu.Unlock() // others act while the client reads
				err := s.flush()
				s.u.mu.Lock()
				if err != nil {
					s.over = true
					return ""
				}
			}
		}
	}
	return answer
}

// limited cuts ranges of indexes to the highest that the dialect's limit lets be fetched,
// and says from which UID on, and the answer.
func (s *mSession) limited(ranges uidRanges) (_ uidRanges, from uint32, answer string) {
	limit := s.m.d.messageLimit()
	left := uint32(limit)
	for i := len(ranges) - 1; limit > 0 && i >= 0; i-- {
		r := &ranges[i]
		if n := r.hi - r.lo; n < left || n == left && i == 0 {
			left -= n
			continue
		}
		r.lo = r.hi - left
		uid := s.sel.uids[r.lo]
		return ranges[i:], uid, "OK [MESSAGELIMIT " + strconv.Itoa(limit) + " " + itoa(uid) + "] fetched some"
	}
	return ranges, 0, "OK fetched"
}

// numbers makes ranges of indexes into what is open, from lo to below hi.
func (s *mSession) numbers(set uidRanges, byUID bool) uidRanges {
	uids := s.sel.uids
	if len(uids) == 0 {
		return nil
	}
	if !byUID {
		set = set.resolve(uint32(len(uids)))
	} else {
		set = set.resolve(uids[len(uids)-1])
	}
	var out uidRanges
	for _, r := range set {
		lo, hi := int(r.lo)-1, int(min(uint64(r.hi), uint64(len(uids))))
		if byUID {
			lo = sort.Search(len(uids), func(i int) bool { return uids[i] >= r.lo })
			hi = sort.Search(len(uids), func(i int) bool { return uids[i] > r.hi })
		}
		if lo < hi {
			out = append(out, uidRange{uint32(lo), uint32(hi)})
		}
	}
	return out
}

// see sets \Seen where a body is read without PEEK (RFC 3501 section 6.4.5).
func (s *mSession) see(f *mFolder, uid uint32, items []fetchItem) {
	reads := func(it fetchItem) bool { return it.section != nil && !it.peek }
	if !s.sel.readOnly && slices.ContainsFunc(items, reads) {
		s.u.setFlags(f, []uint32{uid}, flagsAdd, []string{`\Seen`})
	}
}

var fetchMacros = map[string][]string{
	"FAST": {"FLAGS", "INTERNALDATE", "RFC822.SIZE"},
	"ALL":  {"FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"},
	"FULL": {"FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"},
}

func (s *mSession) fetchItems(p *mParser) []fetchItem {
	var items []fetchItem
	one := func() { items = append(items, s.fetchItem(p)) }
	if p.peek() == '(' {
		p.list(one)
		return items
	}
	at := p.i
	if macro, ok := fetchMacros[p.atom()]; ok {
		for _, name := range macro {
			items = append(items, fetchItem{name: name})
		}
		return items
	}
	p.i = at
	one()
	return items
}

func (s *mSession) fetchItem(p *mParser) fetchItem {
	it := fetchItem{name: strings.ToUpper(p.word(`(){"[`)), n: -1}
	needs := map[string]string{"MODSEQ": "CONDSTORE", "EMAILID": "OBJECTID", "THREADID": "OBJECTID", "X-GM-MSGID": "X-GM-EXT-1", "X-GM-THRID": "X-GM-EXT-1", "X-GM-LABELS": "X-GM-EXT-1"}
	switch need, special := needs[it.name]; {
	case special && !s.m.d.Has(need):
		p.fail()
	case special:
	case it.name == "RFC822":
		it.section = &bodySection{}
	case it.name == "RFC822.HEADER":
		it.section, it.peek = &bodySection{what: "HEADER"}, true
	case it.name == "RFC822.TEXT":
		it.section = &bodySection{what: "TEXT"}
	case (it.name == "BODY" || it.name == "BODY.PEEK") && p.peek() == '[':
		it.peek, it.name = it.name == "BODY.PEEK", "BODY"
		it.section = p.section()
		if p.take('<') {
			it.partial = true
			it.from = int(min(p.number(), maxModelLiteral))
			p.expect('.')
			it.n = int(min(p.number(), maxModelLiteral))
			p.expect('>')
		}
	case !slices.Contains([]string{"UID", "FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY", "BODYSTRUCTURE"}, it.name):
		p.fail()
	}
	return it
}

// section reads `[1.2.HEADER.FIELDS (…)]`.
func (p *mParser) section() *bodySection {
	p.expect('[')
	sec := &bodySection{}
	begin := p.i
	for p.peek() >= '0' && p.peek() <= '9' {
		sec.part = append(sec.part, int(min(p.number(), 1<<20)))
		if !p.take('.') {
			break
		}
	}
	if p.peek() != ']' {
		switch sec.what = strings.ToUpper(p.word(`(){"]`)); sec.what {
		case "HEADER", "TEXT":
		case "MIME":
			if sec.part == nil {
				p.fail()
			}
		case "HEADER.FIELDS", "HEADER.FIELDS.NOT":
			p.sp()
			p.list(func() { sec.fields = append(sec.fields, p.astring()) })
		default:
			p.fail()
		}
	}
	if p.err == nil {
		sec.text = strings.ToUpper(string(p.b[begin:p.i]))
	}
	p.expect(']')
	return sec
}

// fetchOne tells of one message.
func (s *mSession) fetchOne(seq int, f *mFolder, m *mMessage, items []fetchItem) {
	out := append(strconv.AppendInt(append(s.out, "* "...), int64(seq), 10), " FETCH ("...)
	first := true
	for i := range items {
		it := &items[i]
		if it.name == "FLAGS" && s.u.lies.NoFlags {
			continue
		}
		if !first {
			out = append(out, ' ')
		}
		first = false
		if it.section == nil {
			out = append(out, it.name...)
			out = append(out, ' ')
		}
		switch it.name {
		case "UID":
			out = strconv.AppendUint(out, uint64(m.uid), 10)
		case "FLAGS":
			out = append(out, '(')
			for k, flag := range s.u.flagSets[m.flags] {
				if k > 0 {
					out = append(out, ' ')
				}
				out = append(out, flag...)
			}
			out = append(out, ')')
		case "MODSEQ":
			out = append(strconv.AppendUint(append(out, '('), m.modseq, 10), ')')
		case "INTERNALDATE":
			out = time.Unix(m.date, 0).UTC().AppendFormat(out, `"_2-Jan-2006 15:04:05 -0700"`)
		case "RFC822.SIZE":
			out = strconv.AppendInt(out, int64(f.size(m)), 10)
		case "ENVELOPE":
			head, _ := splitMessage(f.raw(m))
			out = appendEnvelope(out, head)
		case "BODYSTRUCTURE", "BODY":
			if it.section != nil {
				out = s.appendSection(out, f, m, it)
				break
			}
			out = appendStructure(out, f.raw(m), it.name == "BODYSTRUCTURE")
		case "EMAILID", "THREADID":
			id := "M" + hex16(f.num(m))
			if it.name == "THREADID" {
				id = "T" + hex16(f.thread(m))
			}
			if s.u.lies.NoObjectID {
				out = append(out, "NIL"...)
			} else {
				out = append(append(append(out, '('), id...), ')')
			}
		case "X-GM-MSGID":
			out = strconv.AppendUint(out, f.num(m), 10)
		case "X-GM-THRID":
			out = strconv.AppendUint(out, f.thread(m), 10)
		case "X-GM-LABELS":
			out = appendLabels(out, s.u.labels(f, m))
		default:
			out = s.appendSection(out, f, m, it)
		}
	}
	s.out = append(out, ")\r\n"...)
}

// appendSection writes `BODY[…]<n> {…}` and the bytes.
func (s *mSession) appendSection(out []byte, f *mFolder, m *mMessage, it *fetchItem) []byte {
	b, ok := sectionOf(f.raw(m), it.section)
	if len(it.section.part) > 0 && s.u.lies.PartsShort {
		b = nil
	}
	out = append(out, it.name...)
	if it.name == "BODY" {
		out = append(append(append(out, '['), it.section.text...), ']')
	}
	if it.partial {
		out = append(strconv.AppendInt(append(out, '<'), int64(it.from), 10), '>')
		b = b[min(it.from, len(b)):]
		b = b[:min(it.n, len(b))]
	}
	if !ok {
		return append(out, " NIL"...)
	}
	return appendLiteral(append(out, ' '), b)
}

func appendLiteral(out, b []byte) []byte {
	out = append(strconv.AppendInt(append(out, '{'), int64(len(b)), 10), "}\r\n"...)
	return append(out, b...)
}
