package imaptest

import (
	"cmp"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"time"
)

// mFolder is a folder in memory; its user's lock protects it.
type mFolder struct {
	id          uint32 // MAILBOXID; of the messages that Fill made
	name        string // UTF-8
	use         string
	subscribed  bool
	deleted     bool
	uidValidity uint32
	uidNext     uint32
	modseq      uint64 // HIGHESTMODSEQ
	changes     uint64 // counts everything that happens to it
	msgs        []mMessage
	gone        []goneUIDs // ascending MODSEQ
	forgotten   uint64     // what was expunged up to this MODSEQ is not known any more
}

// mMessage is a message in a folder: 32 bytes, for a million of them is a test.
type mMessage struct {
	body   *mContent // nil: synthetic, made of folder and UID
	modseq uint64
	date   int64 // INTERNALDATE, Unix seconds
	uid    uint32
	flags  uint32 // index into the user's flag sets
}

// mContent is what copies of a message share.
type mContent struct {
	raw    []byte
	num    uint64 // EMAILID, X-GM-MSGID
	thread uint64 // THREADID, X-GM-THRID
	at     map[*mFolder]uint32
}

type goneUIDs struct {
	uidRange
	modseq uint64
}

// maxGone bounds the memory of what was expunged; beyond it the older half is forgotten.
const maxGone = 100_000

// index is where a UID is, or would be.
func (f *mFolder) index(uid uint32) (int, bool) {
	return slices.BinarySearchFunc(f.msgs, uid, func(m mMessage, uid uint32) int { return cmp.Compare(m.uid, uid) })
}

// num is the number that names a message's content.
func (f *mFolder) num(m *mMessage) uint64 {
	if m.body != nil {
		return m.body.num
	}
	return uint64(f.id)<<32 | uint64(m.uid)
}

func (f *mFolder) thread(m *mMessage) uint64 {
	if m.body != nil {
		return m.body.thread
	}
	return f.num(m)
}

// raw is the message itself.
func (f *mFolder) raw(m *mMessage) []byte {
	if m.body != nil {
		return m.body.raw
	}
	return synthetic(f.num(m), m.date)
}

func (f *mFolder) size(m *mMessage) int {
	if m.body != nil {
		return len(m.body.raw)
	}
	return syntheticSize
}

const (
	syntheticHead = "From: Alice <alice@example.com>\r\nTo: Bob <bob@example.com>\r\nSubject: Message "
	syntheticID   = "\r\nMessage-ID: <"
	syntheticDate = "@model.example.com>\r\nDate: "
	syntheticBody = "\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nHello "
	dateLayout    = "Mon, 02 Jan 2006 15:04:05 +0000"
	syntheticSize = len(syntheticHead) + len(syntheticID) + len(syntheticDate) + len(dateLayout) + len(syntheticBody) + 3*16 + 2
)

// synthetic makes the message of a number, always of the same size.
func synthetic(num uint64, date int64) []byte {
	n := hex16(num)
	b := make([]byte, 0, syntheticSize)
	b = append(append(b, syntheticHead...), n...)
	b = append(append(b, syntheticID...), n...)
	b = time.Unix(date, 0).UTC().AppendFormat(append(b, syntheticDate...), dateLayout)
	b = append(append(b, syntheticBody...), n...)
	return append(b, "\r\n"...)
}

func hex16(n uint64) string {
	s := strconv.FormatUint(n, 16)
	return strings.Repeat("0", 16-len(s)) + s
}

// threadOf finds a conversation's number: the first message named, else itself.
func threadOf(raw []byte) uint64 {
	head, _ := splitMessage(raw)
	for _, name := range []string{"References", "In-Reply-To", "Message-ID"} {
		if ids := strings.Fields(headerValue(head, name)); len(ids) > 0 {
			h := fnv.New64a()
			_, _ = h.Write([]byte(ids[0]))
			return h.Sum64() >> 1
		}
	}
	return 0
}

// touch says that something happened to a folder and wakes whoever listens.
func (u *ModelUser) touch(f *mFolder) {
	f.changes++
	u.changes++
	for s := range u.sessions {
		s.wake()
	}
}

// folder finds a folder by its name; only INBOX has no case.
func (u *ModelUser) folder(name string) *mFolder {
	if strings.EqualFold(name, "INBOX") {
		name = "INBOX"
	}
	for _, f := range u.folders {
		if f.name == name {
			return f
		}
	}
	return nil
}

// create makes a folder; nil when there is one.
func (u *ModelUser) create(name, use string) *mFolder {
	if name == "" || u.folder(name) != nil {
		return nil
	}
	u.lastFolder++
	u.lastValidity++
	f := &mFolder{id: u.lastFolder, name: name, use: use, subscribed: true, uidValidity: u.lastValidity, uidNext: 1, modseq: 1}
	u.folders = append(u.folders, f)
	u.touch(f)
	return f
}

// drop deletes a folder with its messages.
func (u *ModelUser) drop(f *mFolder) {
	all := make([]uint32, 0, len(f.msgs))
	var had []*mContent
	for i := range f.msgs {
		all = append(all, f.msgs[i].uid)
		if c := f.msgs[i].body; c != nil {
			had = append(had, c)
		}
	}
	u.remove(f, all)
	for _, c := range had {
		u.relabelled(c)
	}
	f.deleted = true
	u.folders = slices.DeleteFunc(u.folders, func(x *mFolder) bool { return x == f })
	u.touch(f)
}

// rename renames a folder and those below it.
func (u *ModelUser) rename(f *mFolder, to string) {
	from := f.name
	for _, x := range u.folders {
		if x == f {
			x.name = to
		} else if rest, ok := strings.CutPrefix(x.name, from+"/"); ok {
			x.name = to + "/" + rest
		}
	}
	for i := range f.msgs {
		if c := f.msgs[i].body; c != nil {
			u.relabelled(c)
		}
	}
	u.touch(f)
}

// add puts a message into a folder and returns its UID.
func (u *ModelUser) add(f *mFolder, c *mContent, flags []string, date int64) uint32 {
	if u.gmail() {
		return u.label(f, c, u.flagSet(flags), date)
	}
	return u.put(f, c, u.flagSet(flags), date)
}

// put is add without what labels mean.
func (u *ModelUser) put(f *mFolder, c *mContent, flags uint32, date int64) uint32 {
	f.modseq++
	uid := f.uidNext
	f.uidNext++
	f.msgs = append(f.msgs, mMessage{body: c, modseq: f.modseq, date: date, uid: uid, flags: flags})
	if c.at != nil {
		c.at[f] = uid
	}
	u.touch(f)
	return uid
}

// content makes the content of an arriving message.
func (u *ModelUser) content(raw []byte) *mContent {
	u.lastContent++
	c := &mContent{raw: raw, num: 1<<60 | u.lastContent, thread: threadOf(raw)}
	if c.thread == 0 {
		c.thread = c.num
	}
	if u.gmail() {
		c.at = map[*mFolder]uint32{}
	}
	return c
}

// share is a message's content for a second place; a synthetic one becomes real.
func (u *ModelUser) share(f *mFolder, m *mMessage) *mContent {
	if m.body == nil {
		m.body = &mContent{raw: f.raw(m), num: f.num(m), thread: f.thread(m)}
		if u.gmail() {
			m.body.at = map[*mFolder]uint32{f: m.uid}
		}
	}
	return m.body
}

// How flags are stored.
const (
	flagsSet = 0
	flagsAdd = '+'
	flagsDel = '-'
)

// setFlags changes the flags of messages that are there, all at one MODSEQ, and only
// where something changes. It returns those that are there.
func (u *ModelUser) setFlags(f *mFolder, uids []uint32, op byte, flags []string) []uint32 {
	var there []uint32
	moved := map[*mFolder]bool{}
	apply := func(f *mFolder, uid uint32) bool {
		i, ok := f.index(uid)
		if !ok {
			return false
		}
		m := &f.msgs[i]
		to := u.flagSet(combine(u.flagSets[m.flags], op, flags))
		if to == m.flags {
			return true
		}
		if !moved[f] {
			f.modseq++
			moved[f] = true
		}
		m.flags, m.modseq = to, f.modseq
		return true
	}
	for _, uid := range uids {
		if !apply(f, uid) {
			continue
		}
		there = append(there, uid)
		if i, _ := f.index(uid); f.msgs[i].body != nil {
			for other, uid := range f.msgs[i].body.at { // Gmail: a message has its flags once
				if other != f {
					apply(other, uid)
				}
			}
		}
	}
	for f := range moved {
		u.touch(f)
	}
	return there
}

func combine(old []string, op byte, flags []string) []string {
	if op == flagsSet {
		return flags
	}
	out := slices.Clone(old)
	for _, f := range flags {
		i := slices.IndexFunc(out, func(o string) bool { return strings.EqualFold(o, f) })
		switch {
		case op == flagsAdd && i < 0:
			out = append(out, f)
		case op == flagsDel && i >= 0:
			out = slices.Delete(out, i, i+1)
		}
	}
	return out
}

// flagSet is the number of a set of flags.
func (u *ModelUser) flagSet(flags []string) uint32 {
	set := make([]string, 0, len(flags))
	for _, f := range flags {
		if strings.EqualFold(f, `\Recent`) || f == "" {
			continue
		}
		if f[0] == '\\' { // system flags have no case (RFC 3501 section 2.3.2)
			f = `\` + strings.ToUpper(f[1:2]) + strings.ToLower(f[2:])
		}
		set = append(set, f)
	}
	slices.Sort(set)
	set = slices.Compact(set)
	key := strings.Join(set, " ")
	n, ok := u.flagIndex[key]
	if !ok {
		n = uint32(len(u.flagSets))
		u.flagSets = append(u.flagSets, set)
		u.flagIndex[key] = n
	}
	return n
}

// remove takes messages out of a folder, all at one MODSEQ, and remembers their UIDs.
func (u *ModelUser) remove(f *mFolder, uids []uint32) {
	uids = slices.Clone(uids)
	slices.Sort(uids)
	first := true
	kept := f.msgs[:0]
	for i := range f.msgs {
		m := f.msgs[i]
		if _, ok := slices.BinarySearch(uids, m.uid); !ok {
			kept = append(kept, m)
			continue
		}
		if first {
			f.modseq++
			first = false
		}
		if last := len(f.gone) - 1; last >= 0 && f.gone[last].modseq == f.modseq && f.gone[last].hi+1 == m.uid {
			f.gone[last].hi = m.uid
		} else {
			f.gone = append(f.gone, goneUIDs{uidRange{m.uid, m.uid}, f.modseq})
		}
		if m.body != nil {
			delete(m.body.at, f)
		}
	}
	if first {
		return
	}
	clear(f.msgs[len(kept):])
	f.msgs = kept
	if len(f.gone) > maxGone {
		half := len(f.gone) / 2
		f.forgotten = f.gone[half-1].modseq
		f.gone = slices.Clone(f.gone[half:])
	}
	u.touch(f)
}

// copy puts messages into another folder; the UIDs are as many as were there.
func (u *ModelUser) copy(f, to *mFolder, uids []uint32) (from, copies []uint32) {
	for _, uid := range uids {
		i, ok := f.index(uid)
		if !ok {
			continue
		}
		c := u.share(f, &f.msgs[i])
		m := f.msgs[i]
		from = append(from, uid)
		if u.gmail() {
			copies = append(copies, u.label(to, c, m.flags, m.date))
		} else {
			copies = append(copies, u.put(to, c, m.flags, m.date))
		}
	}
	return from, copies
}

// move is copy, and then the messages are not here any more.
func (u *ModelUser) move(f, to *mFolder, uids []uint32) (from, copies []uint32) {
	from, copies = u.copy(f, to, uids)
	if u.gmail() {
		u.unlabel(f, from)
	} else {
		u.remove(f, from)
	}
	return from, copies
}

// expunge removes messages for good; where folders are labels, from this folder.
func (u *ModelUser) expunge(f *mFolder, uids []uint32) {
	if u.gmail() {
		u.unlabel(f, uids)
		return
	}
	u.remove(f, uids)
}

// vanished are the UIDs within set that were expunged after a MODSEQ. Where that is too
// long ago to be known, all that are not there are named (RFC 7162 section 3.2.6).
func (f *mFolder) vanished(set uidRanges, since uint64) uidRanges {
	var out uidRanges
	if since < f.forgotten {
		next := uint32(1)
		for i := range f.msgs {
			if uid := f.msgs[i].uid; uid > next {
				out = append(out, uidRange{next, uid - 1})
			}
			next = f.msgs[i].uid + 1
		}
		if next < f.uidNext {
			out = append(out, uidRange{next, f.uidNext - 1})
		}
		return out.within(set)
	}
	i, _ := slices.BinarySearchFunc(f.gone, since+1, func(g goneUIDs, m uint64) int { return cmp.Compare(g.modseq, m) })
	for ; i < len(f.gone); i++ {
		out = append(out, f.gone[i].uidRange)
	}
	return out.normal().within(set)
}
