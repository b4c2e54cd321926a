package imapsync

import (
	"slices"
	"strings"
)

// Gmail shows labels as folders, and a message in each of those of its labels. Where All
// Mail is to be seen, a message is watched once, there, with its labels beside its flags;
// only Trash and Spam hold messages that All Mail does not (sync.md §4.8).

// holdsMail says whether a folder of Gmail's is more than a label. Its attributes alone
// say so: the account may use All Mail as its archive, and a label may have any name.
func holdsMail(attrs []string) bool {
	return isAllMail(attrs) || slices.ContainsFunc(attrs, func(a string) bool { return roleOfAttr(a) == RoleTrash || roleOfAttr(a) == RoleJunk })
}

func isAllMail(attrs []string) bool {
	return slices.ContainsFunc(attrs, func(a string) bool { return roleOfAttr(a) == RoleAll })
}

// asLabels says whether the folders that are labels are left alone. They are not when All
// Mail is hidden from IMAP, nor when the account asks for one of them.
func (w *worker) asLabels(listed []Listed) bool {
	all := false
	for _, l := range listed {
		all = all || l.Selectable && isAllMail(l.Attrs)
		if !holdsMail(l.Attrs) && slices.Contains(w.account().Paths, l.Path) {
			return false
		}
	}
	return all && w.info.Gmail
}

// labelPlan says how the messages of an account with labels are watched.
func (w *worker) labelPlan() []string {
	if !w.info.Gmail || len(w.folders) == 0 {
		return nil
	}
	is := func(want func(*folder) bool) bool { return slices.ContainsFunc(w.folders, want) }
	switch {
	case is(func(f *folder) bool { return f.Watched != watchedNo && !holdsMail(f.Attrs) }):
		if is(func(f *folder) bool { return isAllMail(f.Attrs) }) {
			return []string{"labels: watched as folders, as the account's path asks"}
		}
		return []string{"labels: watched as folders, because All Mail is not shown to IMAP: a message with several labels comes several times"}
	default:
		return []string{"labels: a message is watched once, in All Mail, Spam or Trash; the other folders are its labels"}
	}
}

// labelRoles are the roles that a message can have by its labels, the first that fits.
var labelRoles = []string{RoleTrash, RoleJunk, RoleDrafts, RoleSent, RoleInbox}

// roleOfLabel is the role that a label stands for; "" = none.
func roleOfLabel(label string) string {
	switch {
	case strings.EqualFold(label, `\Draft`):
		return RoleDrafts
	case strings.EqualFold(label, `\Spam`):
		return RoleJunk
	}
	if i := slices.IndexFunc(labelRoles, func(r string) bool { return strings.EqualFold(r, label) }); i >= 0 {
		return labelRoles[i]
	}
	return ""
}

// roleOf is what a message's place is for: the role of its folder, or the first that its
// labels have. A message does not have the label of the folder that it is seen in.
func roleOf(m *Message, specialUse string) string {
	if !m.HasLabels {
		return specialUse
	}
	roles := []string{specialUse}
	for _, l := range m.Labels {
		roles = append(roles, roleOfLabel(l))
	}
	for _, r := range labelRoles {
		if slices.Contains(roles, r) {
			return r
		}
	}
	if specialUse == RoleAll {
		return "" // archived: All Mail is no place of its own
	}
	return specialUse
}
