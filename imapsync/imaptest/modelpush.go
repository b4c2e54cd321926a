package imaptest

import (
	"slices"
	"strconv"
	"strings"
)

func (s *mSession) doSelect(p *mParser, readOnly bool) string {
	p.sp()
	name := p.name()
	var known struct {
		validity, modseq uint64
		uids             uidRanges
		asked            bool
	}
	if p.take(' ') {
		p.list(func() {
			switch param := p.atom(); {
			case param == "CONDSTORE" && s.m.d.Has("CONDSTORE"):
				s.condstore = true
			case param == "QRESYNC" && s.qresync: // RFC 7162 section 3.2.5
				known.asked = true
				p.sp()
				p.expect('(')
				known.validity = p.number()
				p.sp()
				known.modseq = p.number()
				if p.take(' ') && p.peek() != '(' {
					known.uids = p.set()
					p.take(' ')
				}
				if p.peek() == '(' { // what the client knows of sequence numbers helps only memory
					p.list(func() { p.set() })
				}
				p.expect(')')
			default:
				p.fail()
			}
		})
	}
	if !p.done() {
		return ""
	}
	s.u.mu.Lock()
	defer s.u.mu.Unlock()
	lies := &s.u.lies
	if s.sel != nil && s.qresync {
		s.printf("* OK [CLOSED] closed\r\n")
	}
	s.sel = nil
	f, no := s.open(name)
	if f == nil {
		return no
	}
	if slices.Contains(lies.ExamineRefused, f.name) {
		return "NO [UNAVAILABLE] cannot be opened"
	}
	x := &mSelected{f: f, validity: f.uidValidity, readOnly: readOnly, next: f.uidNext, modseq: f.modseq, changes: f.changes, uids: make([]uint32, len(f.msgs))}
	flags := map[uint32]bool{}
	unseen := 0
	for i := range f.msgs {
		m := &f.msgs[i]
		x.uids[i] = m.uid
		if !flags[m.flags] {
			flags[m.flags] = true
		}
		if unseen == 0 && !slices.Contains(s.u.flagSets[m.flags], `\Seen`) {
			unseen = i + 1
		}
	}
	s.sel = x
	s.printf("* FLAGS (%s)\r\n", strings.Join(s.u.keywords(flags), " "))
	if readOnly {
		s.printf("* OK [PERMANENTFLAGS ()] read-only\r\n")
	} else {
		s.printf("* OK [PERMANENTFLAGS (%s \\*)] these stay\r\n", strings.Join(s.u.keywords(flags), " "))
	}
	s.exists(len(x.uids))
	s.printf("* 0 RECENT\r\n")
	if unseen > 0 {
		s.printf("* OK [UNSEEN %d] first\r\n", unseen)
	}
	validity := f.uidValidity
	if slices.Contains(lies.AlternatingUIDs, f.name) {
		if s.u.alternate++; s.u.alternate%2 == 0 {
			validity += 1000
		}
	}
	if !lies.NoUIDValidity {
		s.printf("* OK [UIDVALIDITY %d] valid\r\n", validity)
	}
	if !lies.NoUIDNext {
		s.printf("* OK [UIDNEXT %d] next\r\n", f.uidNext)
	}
	switch {
	case !s.m.d.Has("CONDSTORE"):
	case lies.NoModSeq:
		s.printf("* OK [NOMODSEQ] none here\r\n")
	default:
		s.printf("* OK [HIGHESTMODSEQ %d] highest\r\n", s.highest(f))
	}
	if s.m.d.Has("OBJECTID") {
		s.printf("* OK [MAILBOXID (%s)] id\r\n", mailboxID(f))
	}
	if known.asked && known.validity == uint64(f.uidValidity) {
		s.resync(known.modseq, known.uids)
	}
	if readOnly {
		return "OK [READ-ONLY] open"
	}
	return "OK [READ-WRITE] open"
}

// resync tells what changed since a MODSEQ, as SELECT with QRESYNC does.
func (s *mSession) resync(since uint64, uids uidRanges) {
	f := s.sel.f
	if uids == nil {
		uids = uidRanges{{1, star}}
	}
	set := uids.resolve(f.uidNext - 1)
	s.vanished(f, set, since)
	for seq, uid := range s.sel.uids {
		if i, ok := f.index(uid); ok && f.msgs[i].modseq > since && set.contains(uid) {
			s.flagsChanged(seq+1, &f.msgs[i])
		}
	}
}

// vanished tells VANISHED (EARLIER).
func (s *mSession) vanished(f *mFolder, set uidRanges, since uint64) {
	lies := &s.u.lies
	gone := f.vanished(set, since)
	switch {
	case lies.VanishedDeaf:
		gone = nil
	case lies.VanishedTooMuch:
		// What is gone is named, too: as many others in its place no number gives away.
		gone = append(set.within(uidRanges{{1, max(f.uidNext, 3) - 2}}), gone...).normal()
	case lies.VanishedOthers:
		gone = f.others(gone)
	case lies.VanishedUnseen:
		gone = append(gone, uidRange{f.uidNext + 10, f.uidNext + 20})
	}
	if len(gone) > 0 {
		s.out = gone.append(append(s.out, "* VANISHED (EARLIER) "...))
		s.out = append(s.out, "\r\n"...)
	}
}

// others are the first messages of a folder, as many as a set names.
func (f *mFolder) others(set uidRanges) uidRanges {
	n := 0
	for _, r := range set {
		n += int(r.hi-r.lo) + 1
	}
	var uids []uint32
	for i := range f.msgs[:min(n, len(f.msgs))] {
		uids = append(uids, f.msgs[i].uid)
	}
	return rangesOf(uids)
}

func (s *mSession) exists(n int) {
	s.printf("* %d EXISTS\r\n", max(0, n+s.u.lies.ExistsOff))
}

// flagsChanged tells a message's flags, asked or not.
func (s *mSession) flagsChanged(seq int, m *mMessage) {
	s.printf("* %d FETCH (", seq)
	if s.condstore {
		s.printf("UID %d MODSEQ (%d) ", m.uid, m.modseq)
	}
	s.printf("FLAGS (%s))\r\n", strings.Join(s.u.flagSets[m.flags], " "))
}

// poll tells what happened since it was told last; expunges only where they may be told.
func (s *mSession) poll(expunges bool) {
	s.u.mu.Lock()
	defer s.u.mu.Unlock()
	if s.off != "" {
		s.bye = s.off
		return
	}
	s.pollSelected(expunges)
	if s.notify != nil {
		s.tellNotify()
	}
}

// pollSelected compares what the client knows of the open folder with what is there.
func (s *mSession) pollSelected(expunges bool) {
	x := s.sel
	if x == nil || x.changes == x.f.changes {
		return
	}
	f := x.f
	if f.uidValidity != x.validity || f.deleted {
		s.bye, s.sel = "the folder is another one now", nil
		return
	}
	whole := true
	kept := x.uids[:0]
	var gone []uint32
	for i, j := 0, 0; i < len(x.uids); i++ {
		uid := x.uids[i]
		for j < len(f.msgs) && f.msgs[j].uid < uid {
			j++
		}
		there := j < len(f.msgs) && f.msgs[j].uid == uid
		if there || !expunges {
			whole = whole && there
			kept = append(kept, uid)
			continue
		}
		gone = append(gone, uid)
		if !s.qresync && !s.u.lies.MergedExpunge {
			s.printf("* %d EXPUNGE\r\n", len(kept)+1)
		}
	}
	x.uids = kept
	switch {
	case len(gone) > 0 && s.u.lies.MergedExpunge:
		s.exists(len(x.uids))
	case len(gone) > 0 && s.qresync: // RFC 7162 section 3.2.10
		told := rangesOf(gone)
		if s.u.lies.VanishedOthers {
			told = f.others(told)
		}
		s.out = append(told.append(append(s.out, "* VANISHED "...)), "\r\n"...)
	}
	for i, j := 0, 0; i < len(x.uids) && f.modseq > x.modseq; i++ {
		for j < len(f.msgs) && f.msgs[j].uid < x.uids[i] {
			j++
		}
		if j < len(f.msgs) && f.msgs[j].uid == x.uids[i] && f.msgs[j].modseq > x.modseq {
			s.flagsChanged(i+1, &f.msgs[j])
		}
	}
	before := len(x.uids)
	last := uint32(0)
	if before > 0 {
		last = x.uids[before-1]
	}
	i, _ := f.index(last + 1)
	for ; i < len(f.msgs); i++ {
		if uid := f.msgs[i].uid; uid >= x.next {
			x.uids = append(x.uids, uid)
		}
	}
	if len(x.uids) > before {
		s.exists(len(x.uids))
	}
	x.modseq, x.next = f.modseq, f.uidNext
	if whole {
		x.changes = f.changes
	}
}

func (s *mSession) doIdle(p *mParser, _ string) string {
	if !p.done() {
		return ""
	}
	s.printf("+ idling\r\n")
	for {
		s.u.mu.Lock()
		deaf := s.u.lies.NoPush
		s.u.mu.Unlock()
		if !deaf {
			s.poll(true)
		}
		if s.bye != "" || s.flush() != nil {
			s.over = true
			return ""
		}
		there, err := s.wait(true)
		if err != nil {
			s.over = true
			return ""
		}
		if there {
			break
		}
	}
	line, err := s.readLine()
	if err != nil {
		s.over = true
		return ""
	}
	if !strings.EqualFold(string(line), "DONE") {
		return "BAD not DONE"
	}
	return "OK awake"
}

// mNotify is what NOTIFY (RFC 5465) keeps telling a session.
type mNotify struct {
	names bool // MailboxName
	known map[uint32]notified
}

type notified struct {
	name    string
	changes uint64
}

func (s *mSession) doNotify(p *mParser, _ string) string {
	p.sp()
	switch p.atom() {
	case "NONE":
		if p.done() {
			s.notify = nil
		}
		return "OK quiet"
	case "SET":
	default:
		p.fail()
	}
	n := &mNotify{known: map[uint32]notified{}}
	status, groups := false, 0
	for p.take(' ') {
		if p.peek() != '(' {
			status = status || p.atom() == "STATUS"
			continue
		}
		p.i++
		groups++
		which := p.atom()
		if which != "SELECTED" && which != "PERSONAL" {
			return "NO [BADEVENT (MessageNew MessageExpunge FlagChange MailboxName)] only selected and personal"
		}
		p.sp()
		p.list(func() {
			switch e := p.atom(); e {
			case "MESSAGENEW", "MESSAGEEXPUNGE", "FLAGCHANGE":
			case "MAILBOXNAME":
				n.names = true
			default:
				p.fail()
			}
		})
		p.expect(')')
	}
	if !p.done() || groups == 0 {
		return "BAD no events"
	}
	s.u.mu.Lock()
	defer s.u.mu.Unlock()
	for _, f := range s.u.folders {
		n.known[f.id] = notified{f.name, f.changes}
		if status {
			items := []string{"MESSAGES", "UIDNEXT", "UIDVALIDITY"}
			if s.m.d.Has("CONDSTORE") {
				items = append(items, "HIGHESTMODSEQ")
			}
			s.status(f, items)
		}
	}
	s.notify = n
	return "OK telling"
}

// tellNotify tells of the folders that are not open: their numbers, and names that
// changed.
func (s *mSession) tellNotify() {
	lies, n := &s.u.lies, s.notify
	if lies.NoPush {
		return
	}
	now := map[uint32]bool{}
	for _, f := range s.u.folders {
		now[f.id] = true
		old, known := n.known[f.id]
		if known && old.name == f.name && old.changes == f.changes {
			continue
		}
		if lies.Overflow {
			s.printf("* OK [NOTIFICATIONOVERFLOW] too much\r\n")
			s.notify = nil
			return
		}
		n.known[f.id] = notified{f.name, f.changes}
		switch {
		case n.names && !known:
			s.printf("* LIST (%s) \"/\" %s\r\n", strings.Join(s.attrs(f, &listOptions{}), " "), quoted(utf7Of(f.name)))
		case n.names && old.name != f.name: // RFC 5465 section 5.4
			s.printf("* LIST () \"/\" %s (\"OLDNAME\" (%s))\r\n", quoted(utf7Of(f.name)), quoted(utf7Of(old.name)))
		}
		if s.sel == nil || s.sel.f != f {
			items := []string{"MESSAGES", "UIDNEXT"}
			if s.m.d.Has("CONDSTORE") {
				items = append(items, "HIGHESTMODSEQ")
			}
			s.status(f, items)
		}
	}
	for id, old := range n.known {
		if !now[id] {
			delete(n.known, id)
			if n.names {
				s.printf("* LIST (\\NonExistent) \"/\" %s\r\n", quoted(utf7Of(old.name)))
			}
		}
	}
}

// keywords are the system flags and the keywords in some flag sets.
func (u *ModelUser) keywords(sets map[uint32]bool) []string {
	out := []string{`\Answered`, `\Flagged`, `\Deleted`, `\Seen`, `\Draft`}
	for n := range sets {
		for _, f := range u.flagSets[n] {
			if !slices.Contains(out, f) {
				out = append(out, f)
			}
		}
	}
	slices.Sort(out[5:])
	return out
}

func itoa(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

func utoa(n uint64) string { return strconv.FormatUint(n, 10) }
