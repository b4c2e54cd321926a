package imaptest

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

// utf7Of encodes a name (RFC 3501 section 5.1.3).
func utf7Of(name string) string {
	var b strings.Builder
	var wide []uint16
	end := func() {
		if len(wide) > 0 {
			raw := make([]byte, 0, 2*len(wide))
			for _, w := range wide {
				raw = append(raw, byte(w>>8), byte(w))
			}
			b.WriteString("&" + strings.ReplaceAll(base64.RawStdEncoding.EncodeToString(raw), "/", ",") + "-")
			wide = wide[:0]
		}
	}
	for _, r := range name {
		switch {
		case r == '&':
			end()
			b.WriteString("&-")
		case r >= ' ' && r <= '~':
			end()
			b.WriteRune(r)
		default:
			wide = utf16.AppendRune(wide, r)
		}
	}
	end()
	return b.String()
}

// name reads a folder's name.
func (p *mParser) name() string { return utf7Name(p.astring()) }

// open finds a folder; the answer says why there is none.
func (s *mSession) open(name string) (*mFolder, string) {
	if f := s.u.folder(name); f != nil {
		return f, ""
	}
	return nil, "NO [NONEXISTENT] no such folder"
}

func (s *mSession) doEnable(p *mParser, _ string) string {
	s.u.mu.Lock()
	defer s.u.mu.Unlock()
	var named []string
	for p.take(' ') {
		switch c := p.atom(); {
		case c == "QRESYNC" && s.m.d.Has(c), c == "CONDSTORE" && s.m.d.Has(c):
			named = append(named, c)
		}
	}
	if !p.done() {
		return ""
	}
	if s.u.lies.EnableNothing {
		return "OK enabled"
	}
	s.qresync = s.qresync || slices.Contains(named, "QRESYNC")
	s.condstore = s.condstore || len(named) > 0
	if s.u.lies.EnableEmpty {
		named = nil
	}
	s.printf("* ENABLED%s\r\n", strings.Join(append([]string{""}, named...), " "))
	return "OK enabled"
}

// listOptions are what LIST is asked to choose and to return.
type listOptions struct {
	subscribed, special bool // chosen
	returns             []string
	status              []string
}

func (s *mSession) doList(p *mParser, _ string) string {
	var o listOptions
	var patterns []string
	p.sp()
	if p.peek() == '(' && s.m.d.Has("LIST-EXTENDED") {
		p.list(func() {
			switch p.atom() {
			case "SUBSCRIBED":
				o.subscribed = true
			case "SPECIAL-USE":
				o.special = true
			case "REMOTE", "RECURSIVEMATCH":
			default:
				p.fail()
			}
		})
		p.sp()
	}
	ref := p.name()
	p.sp()
	if p.peek() == '(' {
		p.list(func() { patterns = append(patterns, ref+p.name()) })
	} else {
		patterns = []string{ref + p.name()}
	}
	if p.take(' ') {
		if p.atom() != "RETURN" || !s.m.d.Has("LIST-EXTENDED") {
			p.fail()
		}
		p.sp()
		p.list(func() {
			switch r := p.atom(); {
			case r == "STATUS" && s.m.d.Has("LIST-STATUS"):
				p.sp()
				p.list(func() { o.status = append(o.status, p.atom()) })
			case r == "SPECIAL-USE" && s.m.d.Has(r), r == "SUBSCRIBED", r == "CHILDREN":
				o.returns = append(o.returns, r)
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
	if len(patterns) == 1 && patterns[0] == ref && ref == "" {
		s.printf("* LIST (\\Noselect) \"/\" \"\"\r\n")
		return "OK listed"
	}
	if !s.u.lies.ListEmpty {
		s.list("LIST", patterns, &o)
	}
	return "OK listed"
}

func (s *mSession) doLsub(p *mParser, _ string) string {
	p.sp()
	ref := p.name()
	p.sp()
	pattern := ref + p.name()
	if p.done() {
		s.u.mu.Lock()
		defer s.u.mu.Unlock()
		s.list("LSUB", []string{pattern}, &listOptions{subscribed: true})
	}
	return "OK listed"
}

// list tells the folders that match, parents that are none, and their STATUS.
func (s *mSession) list(word string, patterns []string, o *listOptions) {
	told := map[string]bool{}
	matches := func(name string) bool {
		return slices.ContainsFunc(patterns, func(pt string) bool { return listMatch(pt, name) })
	}
	for _, f := range s.u.folders {
		if o.subscribed && !f.subscribed || o.special && f.use == "" || slices.Contains(s.u.lies.ListWithout, f.name) {
			continue
		}
		for i, c := range f.name { // a folder below one that is none: its parent is shown
			if parent := f.name[:i]; c == '/' && !told[parent] && s.u.folder(parent) == nil && matches(parent) && !o.subscribed && !o.special {
				told[parent] = true
				s.printf("* %s (\\Noselect \\HasChildren) \"/\" %s\r\n", word, quoted(utf7Of(parent)))
			}
		}
		if !matches(f.name) {
			continue
		}
		s.printf("* %s (%s) \"/\" %s\r\n", word, strings.Join(s.attrs(f, o), " "), quoted(utf7Of(f.name)))
		if len(o.status) > 0 && !slices.Contains(s.u.lies.NoStatus, f.name) && !slices.Contains(s.u.lies.StatusRefused, f.name) {
			s.status(f, o.status)
		}
	}
}

func (s *mSession) attrs(f *mFolder, o *listOptions) []string {
	var attrs []string
	if s.m.d.Has("CHILDREN") {
		kids := slices.ContainsFunc(s.u.folders, func(x *mFolder) bool { return strings.HasPrefix(x.name, f.name+"/") })
		attrs = append(attrs, map[bool]string{true: `\HasChildren`, false: `\HasNoChildren`}[kids])
	}
	if f.use != "" && s.m.d.Has("SPECIAL-USE") {
		attrs = append(attrs, f.use)
	}
	if f.subscribed && (slices.Contains(o.returns, "SUBSCRIBED") || o.subscribed && s.m.d.Has("LIST-EXTENDED")) {
		attrs = append(attrs, `\Subscribed`)
	}
	return attrs
}

// listMatch matches a name with `*` and `%` (RFC 3501 section 6.3.8).
func listMatch(pattern, name string) bool {
	if strings.EqualFold(pattern, name) && strings.EqualFold(name, "INBOX") {
		return true
	}
	i := strings.IndexAny(pattern, "*%")
	if i < 0 {
		return pattern == name
	}
	rest, ok := strings.CutPrefix(name, pattern[:i])
	if !ok {
		return false
	}
	for j := 0; ; j++ {
		if listMatch(pattern[i+1:], rest[j:]) {
			return true
		}
		if j == len(rest) || pattern[i] == '%' && rest[j] == '/' {
			return false
		}
	}
}

func (s *mSession) doStatus(p *mParser, _ string) string {
	p.sp()
	name := p.name()
	p.sp()
	var items []string
	p.list(func() { items = append(items, p.atom()) })
	if !p.done() {
		return ""
	}
	s.u.mu.Lock()
	defer s.u.mu.Unlock()
	f, no := s.open(name)
	switch {
	case f == nil:
		return no
	case slices.Contains(s.u.lies.StatusRefused, f.name):
		return "NO [UNAVAILABLE] not now"
	case !s.status(f, items):
		return "BAD unknown item"
	}
	return "OK status"
}

// status tells numbers of a folder; false: an item is not known here.
func (s *mSession) status(f *mFolder, items []string) bool {
	var out []string
	add := func(name string, n uint64) { out = append(out, name, strconv.FormatUint(n, 10)) }
	for _, it := range items {
		if s.u.lies.StatusMessagesOnly && it != "MESSAGES" {
			continue
		}
		switch {
		case it == "MESSAGES":
			add(it, uint64(len(f.msgs)))
		case it == "RECENT":
			add(it, 0)
		case it == "UIDNEXT":
			add(it, uint64(f.uidNext))
		case it == "UIDVALIDITY":
			add(it, uint64(f.uidValidity))
		case it == "UNSEEN":
			n := uint64(0)
			for i := range f.msgs {
				if !slices.Contains(s.u.flagSets[f.msgs[i].flags], `\Seen`) {
					n++
				}
			}
			add(it, n)
		case it == "HIGHESTMODSEQ" && s.m.d.Has("CONDSTORE"):
			add(it, s.highest(f))
		case it == "MAILBOXID" && s.m.d.Has("OBJECTID"):
			out = append(out, it, "("+mailboxID(f)+")")
		default:
			return false
		}
	}
	s.printf("* STATUS %s (%s)\r\n", quoted(utf7Of(f.name)), strings.Join(out, " "))
	return true
}

func mailboxID(f *mFolder) string { return "F" + strconv.FormatUint(uint64(f.id), 10) }

// highest is HIGHESTMODSEQ as it is told.
func (s *mSession) highest(f *mFolder) uint64 {
	if lie := s.u.lies.HighestModSeq; lie != nil {
		return lie(f.name, f.modseq)
	}
	return f.modseq
}

func (s *mSession) doCreate(p *mParser, _ string) string {
	p.sp()
	name := strings.TrimSuffix(p.name(), "/")
	use := ""
	if p.take(' ') { // RFC 6154 section 3: (USE (\Sent))
		p.list(func() {
			if p.atom() != "USE" {
				p.fail()
			}
			p.sp()
			p.list(func() { use = p.word(`(){"`) })
		})
	}
	if !p.done() {
		return ""
	}
	s.u.mu.Lock()
	defer s.u.mu.Unlock()
	f := s.u.create(name, use)
	if f == nil {
		return "NO [ALREADYEXISTS] there is one"
	}
	if s.m.d.Has("OBJECTID") {
		return "OK [MAILBOXID (" + mailboxID(f) + ")] created"
	}
	return "OK created"
}

func (s *mSession) doDelete(p *mParser, _ string) string {
	p.sp()
	name := p.name()
	if !p.done() {
		return ""
	}
	s.u.mu.Lock()
	defer s.u.mu.Unlock()
	f, no := s.open(name)
	if f == nil {
		return no
	}
	if f.name == "INBOX" {
		return "NO not that one"
	}
	s.u.drop(f)
	return "OK deleted"
}

func (s *mSession) doRename(p *mParser, _ string) string {
	p.sp()
	name := p.name()
	p.sp()
	to := p.name()
	if !p.done() {
		return ""
	}
	s.u.mu.Lock()
	defer s.u.mu.Unlock()
	f, no := s.open(name)
	switch {
	case f == nil:
		return no
	case f.name == "INBOX" || to == "":
		return "NO not that one"
	case s.u.folder(to) != nil:
		return "NO [ALREADYEXISTS] there is one"
	}
	s.u.rename(f, to)
	return "OK renamed"
}

func (s *mSession) doSubscribe(p *mParser, on bool) string {
	p.sp()
	name := p.name()
	if !p.done() {
		return ""
	}
	s.u.mu.Lock()
	defer s.u.mu.Unlock()
	f, no := s.open(name)
	if f == nil {
		return no
	}
	f.subscribed = on
	return "OK done"
}
