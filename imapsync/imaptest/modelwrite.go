package imaptest

import (
	"strings"
	"time"
)

const readOnlyAnswer = "NO [READ-ONLY] opened by EXAMINE"

func (s *mSession) doStore(p *mParser, byUID bool) string {
	p.sp()
	set := p.set()
	p.sp()
	unchanged, conditional := uint64(0), false
	if p.peek() == '(' { // RFC 7162 section 3.1.3
		p.list(func() {
			if p.atom() != "UNCHANGEDSINCE" || !s.m.d.Has("CONDSTORE") {
				p.fail()
			}
			p.sp()
			unchanged, conditional = p.number(), true
		})
		p.sp()
	}
	item := p.atom()
	p.sp()
	name, silent := strings.CutSuffix(item, ".SILENT")
	op := byte(flagsSet)
	if name != "" && (name[0] == '+' || name[0] == '-') {
		op, name = name[0], name[1:]
	}
	labels := name == "X-GM-LABELS" && s.m.d.Has("X-GM-EXT-1")
	if name != "FLAGS" && !labels {
		p.fail()
	}
	var flags []string
	switch {
	case labels && p.peek() == '(':
		p.list(func() { flags = append(flags, p.name()) })
	case labels:
		flags = []string{p.name()}
	case p.peek() == '(':
		flags = p.flags()
	default:
		for {
			flags = append(flags, p.word(`(){"`))
			if !p.take(' ') {
				break
			}
		}
	}
	if !p.done() {
		return ""
	}
	if conditional {
		s.condstore = true
	}
	s.u.mu.Lock()
	defer s.u.mu.Unlock()
	if s.sel.readOnly {
		return readOnlyAnswer
	}
	s.pollSelected(false) // so that what follows is all ours
	if s.sel == nil {
		return "NO gone"
	}
	f := s.sel.f
	var uids, seqs, modified []uint32
	for _, r := range s.numbers(set, byUID) {
		for i := r.lo; i < r.hi; i++ {
			uid := s.sel.uids[i]
			j, ok := f.index(uid)
			if ok && conditional && f.msgs[j].modseq > unchanged {
				if !byUID {
					uid = i + 1
				}
				modified = append(modified, uid)
			} else if ok {
				uids, seqs = append(uids, uid), append(seqs, i+1)
			}
		}
	}
	told := s.sel.changes == f.changes
	if labels {
		s.u.setLabels(f, uids, op, flags)
	} else {
		s.u.setFlags(f, uids, op, flags)
	}
	for i, uid := range uids {
		if j, ok := f.index(uid); ok && !labels && (!silent || s.condstore) {
			s.stored(int(seqs[i]), &f.msgs[j], silent)
		}
	}
	if !labels {
		s.sel.modseq = f.modseq
		if told {
			s.sel.changes = f.changes
		}
	}
	if len(modified) > 0 {
		return "OK [MODIFIED " + inOrder(modified) + "] not all"
	}
	return "OK stored"
}

// stored answers for one message; silent means without its flags.
func (s *mSession) stored(seq int, m *mMessage, silent bool) {
	if !silent {
		s.flagsChanged(seq, m)
		return
	}
	s.printf("* %d FETCH (UID %d MODSEQ (%d))\r\n", seq, m.uid, m.modseq)
}

func (s *mSession) doExpunge(p *mParser, byUID bool) string {
	set := uidRanges{{1, star - 1}}
	if byUID {
		p.sp()
		set = p.set()
	}
	if !p.done() {
		return ""
	}
	s.u.mu.Lock()
	defer s.u.mu.Unlock()
	if s.sel.readOnly {
		return readOnlyAnswer
	}
	s.expungeDeleted(set.resolve(max(s.sel.f.uidNext, 2) - 1))
	if s.qresync {
		s.pollSelected(true)
		return "OK [HIGHESTMODSEQ " + utoa(s.highest(s.sel.f)) + "] expunged"
	}
	return "OK expunged"
}

// expungeDeleted removes what is flagged \Deleted in a set of UIDs.
func (s *mSession) expungeDeleted(set uidRanges) {
	f := s.sel.f
	var uids []uint32
	for i := range f.msgs {
		if x := (searched{u: s.u, f: f, m: &f.msgs[i]}); x.flag(`\Deleted`) && set.contains(f.msgs[i].uid) {
			uids = append(uids, f.msgs[i].uid)
		}
	}
	s.u.expunge(f, uids)
}

func (s *mSession) doClose(p *mParser, _ string) string {
	if !p.done() {
		return ""
	}
	s.u.mu.Lock()
	defer s.u.mu.Unlock()
	if !s.sel.readOnly {
		s.expungeDeleted(uidRanges{{1, star - 1}})
	}
	s.sel = nil // the expunges are not told (RFC 3501 section 6.4.2)
	return "OK closed"
}

func (s *mSession) doCopy(p *mParser, byUID, move bool) string {
	p.sp()
	set := p.set()
	p.sp()
	name := p.name()
	if !p.done() {
		return ""
	}
	s.u.mu.Lock()
	defer s.u.mu.Unlock()
	if move && s.sel.readOnly {
		return readOnlyAnswer
	}
	to, _ := s.open(name)
	if to == nil {
		return "NO [TRYCREATE] no such folder"
	}
	f := s.sel.f
	var uids []uint32
	for _, r := range s.numbers(set, byUID) {
		uids = append(uids, s.sel.uids[r.lo:r.hi]...)
	}
	var from, copies []uint32
	if move {
		from, copies = s.u.move(f, to, uids)
	} else {
		from, copies = s.u.copy(f, to, uids)
	}
	if len(from) == 0 || !s.m.d.Has("UIDPLUS") {
		return "OK done"
	}
	code := "[COPYUID " + itoa(to.uidValidity) + " " + inOrder(from) + " " + inOrder(copies) + "]"
	if move { // RFC 6851 section 4.3: before the expunges
		s.printf("* OK %s moved\r\n", code)
		return "OK done"
	}
	return "OK " + code + " copied"
}

func (s *mSession) doAppend(p *mParser, _ string) string {
	p.sp()
	name := p.name()
	p.sp()
	var flags []string
	if p.peek() == '(' {
		flags = p.flags()
		p.sp()
	}
	date := time.Now()
	if p.peek() == '"' {
		t, err := time.Parse("_2-Jan-2006 15:04:05 -0700", p.astring())
		if err != nil {
			p.fail()
		}
		date = t
		p.sp()
	}
	raw := p.literal()
	if !p.done() {
		return ""
	}
	s.u.mu.Lock()
	defer s.u.mu.Unlock()
	f, _ := s.open(name)
	if f == nil {
		return "NO [TRYCREATE] no such folder"
	}
	uid := s.u.add(f, s.u.content(raw), flags, date.Unix())
	if !s.m.d.Has("UIDPLUS") {
		return "OK appended"
	}
	return "OK [APPENDUID " + itoa(f.uidValidity) + " " + itoa(uid) + "] appended"
}
