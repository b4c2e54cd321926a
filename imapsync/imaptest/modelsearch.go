package imaptest

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// searched is a message that is looked at by SEARCH.
type searched struct {
	u   *ModelUser
	f   *mFolder
	seq uint32
	m   *mMessage
}

func (x *searched) flag(name string) bool {
	return slices.ContainsFunc(x.u.flagSets[x.m.flags], func(f string) bool { return strings.EqualFold(f, name) })
}

// day is the date alone, as SEARCH compares it (RFC 3501 section 6.4.4).
func (x *searched) day() time.Time { return time.Unix(x.m.date, 0).UTC().Truncate(24 * time.Hour) }

func (x *searched) sent() time.Time {
	head, _ := splitMessage(x.f.raw(x.m))
	t, err := time.Parse("Mon, 2 Jan 2006 15:04:05 -0700", headerValue(head, "Date"))
	if err != nil {
		return time.Time{}
	}
	return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
}

func containsFold(s, part string) bool {
	return strings.Contains(strings.ToLower(s), strings.ToLower(part))
}

func (x *searched) header(name, part string) bool {
	head, _ := splitMessage(x.f.raw(x.m))
	return slices.ContainsFunc(headerFields(head), func(f []byte) bool {
		_, v, _ := strings.Cut(string(f), ":")
		return strings.EqualFold(fieldName(f), name) && containsFold(v, part)
	})
}

// criterion says whether a message is meant.
type criterion func(*searched) bool

// searchFacts are what a search's keys say beside what is meant.
type searchFacts struct {
	modseq bool
	uids   []uidRanges // of which a message must be in each
}

// from is the lowest UID that the dialect's limit lets be looked at, and the answer.
func (x *searchFacts) from(s *mSession) (uint32, string) {
	n := s.m.d.messageLimit()
	for i := len(s.sel.uids) - 1; n > 0 && i >= 0; i-- {
		uid := s.sel.uids[i]
		if slices.ContainsFunc(x.uids, func(set uidRanges) bool { return !set.contains(uid) }) {
			continue
		}
		if n--; n == 0 && i > 0 {
			return uid, "OK [MESSAGELIMIT " + strconv.Itoa(s.m.d.messageLimit()) + " " + itoa(uid) + "] looked at some"
		}
	}
	return 0, "OK found"
}

const maxSearchDepth = 50

func (s *mSession) doSearch(p *mParser, tag string, byUID bool) string {
	var returns []string
	extended := false
	p.sp()
	for prefix := true; prefix && p.err == nil; {
		at := p.i
		switch w := p.atomOrNone(); {
		case w == "RETURN" && s.m.d.Has("ESEARCH"):
			extended = true
			p.sp()
			p.list(func() { returns = append(returns, p.atom()) })
			p.sp()
		case w == "CHARSET":
			p.sp()
			p.astring()
			p.sp()
		default:
			prefix, p.i = false, at
		}
	}
	s.u.mu.Lock()
	defer s.u.mu.Unlock()
	var facts searchFacts
	match := s.criteria(p, 0, &facts)
	if !p.done() {
		return ""
	}
	if len(returns) == 0 {
		returns = []string{"ALL"}
	}
	lies, f := &s.u.lies, s.sel.f
	var found []uint32
	highest := uint64(0)
	j := 0
	from, answer := facts.from(s)
	for i, uid := range s.sel.uids {
		if uid < from {
			continue
		}
		for j < len(f.msgs) && f.msgs[j].uid < uid {
			j++
		}
		if j == len(f.msgs) || f.msgs[j].uid != uid || s.u.held(f, uid) {
			continue
		}
		if x := (searched{s.u, f, uint32(i + 1), &f.msgs[j]}); !match(&x) {
			continue
		}
		n := uint32(i + 1)
		if byUID {
			n = uid
		}
		found = append(found, n)
		highest = max(highest, f.msgs[j].modseq)
	}
	if n := lies.SearchAtMost; n > 0 && len(found) > n {
		found = found[:n]
		if !lies.SearchSilent {
			answer = "OK [MESSAGELIMIT " + strconv.Itoa(n) + " " + itoa(found[n-1]) + "] found some"
		}
	}
	if extended && lies.ESearchEmpty {
		found = nil
	}
	if extended {
		s.printf("* ESEARCH (TAG %s)", quoted(tag))
		if byUID {
			s.printf(" UID")
		}
		for _, r := range returns {
			switch {
			case r == "COUNT":
				s.printf(" COUNT %d", len(found))
			case len(found) == 0:
			case r == "MIN":
				s.printf(" MIN %d", found[0])
			case r == "MAX":
				s.printf(" MAX %d", found[len(found)-1])
			case r == "ALL":
				s.out = rangesOf(found).append(append(s.out, " ALL "...))
			}
		}
		if facts.modseq && len(found) > 0 {
			s.printf(" MODSEQ %d", highest)
		}
		s.printf("\r\n")
		return answer
	}
	s.printf("* SEARCH")
	for _, n := range found {
		s.out = strconv.AppendUint(append(s.out, ' '), uint64(n), 10)
	}
	if facts.modseq && len(found) > 0 {
		s.printf(" (MODSEQ %d)", highest)
	}
	s.printf("\r\n")
	return answer
}

// atomOrNone reads an atom, or nothing where none stands.
func (p *mParser) atomOrNone() string {
	if c := p.peek(); c < 'A' || c > 'z' {
		return ""
	}
	return p.atom()
}

// criteria reads keys that must all hold, to the end or to the `)` of a group.
func (s *mSession) criteria(p *mParser, depth int, facts *searchFacts) criterion {
	var all []criterion
	for p.err == nil {
		all = append(all, s.criterion(p, depth, facts))
		if !p.take(' ') {
			break
		}
	}
	return func(x *searched) bool {
		for _, c := range all {
			if !c(x) {
				return false
			}
		}
		return true
	}
}

// plainFlags are the keys that ask for a flag.
var plainFlags = map[string]string{"ANSWERED": `\Answered`, "DELETED": `\Deleted`, "DRAFT": `\Draft`, "FLAGGED": `\Flagged`, "SEEN": `\Seen`}

func (s *mSession) criterion(p *mParser, depth int, facts *searchFacts) criterion {
	if depth > maxSearchDepth {
		p.fail()
	}
	if p.err != nil {
		return nil
	}
	switch c := p.peek(); {
	case c == '(':
		p.i++
		sub := s.criteria(p, depth+1, facts)
		p.expect(')')
		return sub
	case c >= '0' && c <= '9' || c == '*':
		set := p.set().resolve(uint32(len(s.sel.uids)))
		return func(x *searched) bool { return set.contains(x.seq) }
	}
	key := p.atom()
	if flag, ok := plainFlags[key]; ok {
		return func(x *searched) bool { return x.flag(flag) }
	}
	if flag, ok := plainFlags[strings.TrimPrefix(key, "UN")]; ok {
		return func(x *searched) bool { return !x.flag(flag) }
	}
	switch key {
	case "ALL", "OLD":
		return func(*searched) bool { return true }
	case "NEW", "RECENT":
		return func(*searched) bool { return false }
	case "NOT":
		p.sp()
		sub := s.criterion(p, depth+1, facts)
		return func(x *searched) bool { return !sub(x) }
	case "OR":
		p.sp()
		a := s.criterion(p, depth+1, facts)
		p.sp()
		b := s.criterion(p, depth+1, facts)
		return func(x *searched) bool { return a(x) || b(x) }
	}
	p.sp()
	switch key {
	case "UID":
		last := uint32(0)
		if n := len(s.sel.uids); n > 0 {
			last = s.sel.uids[n-1]
		}
		set := p.set().resolve(last)
		if depth == 0 {
			facts.uids = append(facts.uids, set)
		}
		return func(x *searched) bool { return set.contains(x.m.uid) }
	case "KEYWORD", "UNKEYWORD":
		flag := p.astring()
		return func(x *searched) bool { return x.flag(flag) == (key == "KEYWORD") }
	case "BEFORE", "ON", "SINCE", "SENTBEFORE", "SENTON", "SENTSINCE":
		day, err := time.Parse("2-Jan-2006", p.astring())
		if err != nil {
			p.fail()
		}
		rest, sent := strings.CutPrefix(key, "SENT")
		return func(x *searched) bool {
			d := x.day()
			if sent {
				d = x.sent()
			}
			return rest == "BEFORE" && d.Before(day) || rest == "ON" && d.Equal(day) || rest == "SINCE" && !d.Before(day)
		}
	case "LARGER", "SMALLER":
		n := int(min(p.number(), 1<<40))
		return func(x *searched) bool {
			size := x.f.size(x.m)
			return key == "LARGER" && size > n || key == "SMALLER" && size < n
		}
	case "HEADER":
		name := p.astring()
		p.sp()
		part := p.astring()
		return func(x *searched) bool { return x.header(name, part) }
	case "FROM", "TO", "CC", "BCC", "SUBJECT":
		part := p.astring()
		return func(x *searched) bool { return x.header(key, part) }
	case "BODY", "TEXT":
		part := p.astring()
		return func(x *searched) bool {
			raw := x.f.raw(x.m)
			if key == "BODY" {
				_, raw = splitMessage(raw)
			}
			return containsFold(string(raw), part)
		}
	case "MODSEQ":
		if s.m.d.Has("CONDSTORE") {
			facts.modseq, s.condstore = true, true
			n := p.number()
			return func(x *searched) bool { return x.m.modseq >= n }
		}
	case "X-GM-RAW":
		if category, ok := strings.CutPrefix(p.astring(), "category:"); ok && s.u.gmail() {
			return func(x *searched) bool { return x.u.category(x.f, x.m) == category }
		}
	case "EMAILID", "THREADID", "X-GM-MSGID", "X-GM-THRID":
		id := p.astring()
		return func(x *searched) bool {
			num, thread := x.f.num(x.m), x.f.thread(x.m)
			return map[string]string{"EMAILID": "M" + hex16(num), "THREADID": "T" + hex16(thread), "X-GM-MSGID": strconv.FormatUint(num, 10), "X-GM-THRID": strconv.FormatUint(thread, 10)}[key] == id
		}
	}
	p.fail()
	return nil
}
