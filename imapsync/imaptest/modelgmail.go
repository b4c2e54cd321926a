package imaptest

import (
	"maps"
	"slices"
	"strings"
)

// gmail says whether folders are labels: every message is in All Mail, in Spam or in
// Trash, once, and a folder shows those that have its label.
func (u *ModelUser) gmail() bool { return u.m.d.Has("X-GM-EXT-1") }

// systemLabels are the labels of folders that are no names.
var systemLabels = map[string]string{"INBOX": `\Inbox`, gmailRoot + "Sent Mail": `\Sent`, gmailRoot + "Drafts": `\Draft`}

// physical says whether a folder holds messages by itself.
func physical(f *mFolder) bool { return f.use == `\All` || f.use == `\Junk` || f.use == `\Trash` }

func (u *ModelUser) byUse(use string) *mFolder {
	i := slices.IndexFunc(u.folders, func(f *mFolder) bool { return f.use == use })
	if i < 0 {
		return nil
	}
	return u.folders[i]
}

// label puts a message into a folder: gives it the label, or moves it where it is once.
// The UID is the one in that folder.
func (u *ModelUser) label(f *mFolder, c *mContent, flags uint32, date int64) uint32 {
	if uid, there := c.at[f]; there {
		return uid
	}
	if physical(f) { // All Mail, Spam and Trash: nowhere else
		for _, other := range u.places(c) {
			if f.use != `\All` || physical(other) {
				u.remove(other, []uint32{c.at[other]})
			}
		}
		return u.put(f, c, flags, date)
	}
	all := u.byUse(`\All`)
	uid := u.put(f, c, flags, date)
	if _, there := c.at[all]; !there {
		for _, other := range u.places(c) { // out of Spam or Trash
			if physical(other) {
				u.remove(other, []uint32{c.at[other]})
			}
		}
		u.put(all, c, flags, date)
	} else {
		u.relabelled(c)
	}
	return uid
}

// places are the folders a message is in, in the order of folders.
func (u *ModelUser) places(c *mContent) []*mFolder {
	return slices.SortedFunc(maps.Keys(c.at), func(a, b *mFolder) int { return int(a.id) - int(b.id) })
}

// relabelled moves the MODSEQ of a message in all its folders, since its labels are
// others.
func (u *ModelUser) relabelled(c *mContent) {
	for _, f := range u.places(c) {
		if i, ok := f.index(c.at[f]); ok {
			f.modseq++
			f.msgs[i].modseq = f.modseq
			u.touch(f)
		}
	}
}

// unlabel takes messages out of a folder. Out of All Mail means into Trash, out of Trash
// and Spam for ever.
func (u *ModelUser) unlabel(f *mFolder, uids []uint32) {
	for _, uid := range uids {
		i, ok := f.index(uid)
		if !ok {
			continue
		}
		c := u.share(f, &f.msgs[i])
		m := f.msgs[i]
		if trash := u.byUse(`\Trash`); f.use == `\All` && trash != nil {
			u.label(trash, c, m.flags, m.date)
			continue
		}
		u.remove(f, []uint32{uid})
		u.relabelled(c)
	}
}

// labelOf is what a folder is called as a label.
func labelOf(f *mFolder) string {
	if l, ok := systemLabels[f.name]; ok {
		return l
	}
	return f.name
}

// labels are X-GM-LABELS of a message: all but that of the folder it is seen in.
func (u *ModelUser) labels(f *mFolder, m *mMessage) []string {
	if m.body == nil {
		return nil
	}
	var out []string
	for _, x := range u.places(m.body) {
		if x != f && !physical(x) {
			out = append(out, labelOf(x))
		}
	}
	slices.Sort(out)
	return out
}

// category is the tab of the inbox that a message stands in, which it says itself in a header
// field, as in Gmail's exports; "" = not in the inbox.
func (u *ModelUser) category(f *mFolder, m *mMessage) string {
	if f.name != "INBOX" && !slices.Contains(u.labels(f, m), `\Inbox`) {
		return ""
	}
	head, _ := splitMessage(f.raw(m))
	for label := range strings.SplitSeq(headerValue(head, "X-Gmail-Labels"), ",") {
		if name, ok := strings.CutPrefix(label, "Category "); ok {
			return strings.ToLower(name)
		}
	}
	return "primary"
}

// setLabels is STORE X-GM-LABELS; a label that is no folder becomes one.
func (u *ModelUser) setLabels(f *mFolder, uids []uint32, op byte, labels []string) {
	folder := func(label string) *mFolder {
		for _, x := range u.folders {
			if labelOf(x) == label {
				return x
			}
		}
		return u.create(label, "")
	}
	for _, uid := range uids {
		i, ok := f.index(uid)
		if !ok {
			continue
		}
		c := u.share(f, &f.msgs[i])
		m := f.msgs[i]
		for _, l := range combine(u.labels(f, &m), op, labels) {
			if x := folder(l); op != flagsDel && x != nil {
				u.label(x, c, m.flags, m.date)
			}
		}
		for _, l := range u.labels(f, &m) {
			if has := slices.Contains(labels, l); op == flagsDel && has || op == flagsSet && !has {
				if x := folder(l); x != nil && !physical(x) {
					u.unlabel(x, []uint32{c.at[x]})
				}
			}
		}
	}
}

// appendLabels writes X-GM-LABELS: system labels are atoms with a backslash in quotes.
func appendLabels(out []byte, labels []string) []byte {
	out = append(out, '(')
	for i, l := range labels {
		if i > 0 {
			out = append(out, ' ')
		}
		out = append(out, quoted(utf7Of(l))...)
	}
	return append(out, ')')
}
