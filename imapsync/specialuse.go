package imapsync

import (
	"slices"
	"strings"

	"github.com/postrider/postrider/store"
)

// The special uses (RFC 6154, RFC 8457) that a folder can have, and our own \Inbox.
const (
	RoleInbox     = `\Inbox`
	RoleSent      = `\Sent`
	RoleDrafts    = `\Drafts`
	RoleJunk      = `\Junk`
	RoleTrash     = `\Trash`
	RoleArchive   = `\Archive`
	RoleAll       = `\All`
	RoleFlagged   = `\Flagged`
	RoleImportant = `\Important`
)

// Where a special use comes from.
const (
	sourceUser      = "user"
	sourceExtension = "extension"
	sourceName      = "name"
)

// assignRoles gives folders their special use: the account's own settings first, then
// the attributes of the server, then the provider's names, then all names. One folder
// has a role, the first wins; a folder has one role. It changes and returns folders.
func assignRoles(folders []Listed, user, provider store.RoleFolder) []Listed {
	taken := make(map[string]bool)
	give := func(f *Listed, role, source string) {
		if role == "" || taken[role] || f.SpecialUse != "" {
			return
		}
		f.SpecialUse, f.SpecialUseSource = role, source
		taken[role] = true
	}
	for i := range folders {
		folders[i].SpecialUse, folders[i].SpecialUseSource = "", ""
	}
	for i := range folders {
		if folders[i].Path == "INBOX" {
			give(&folders[i], RoleInbox, sourceName)
		}
	}
	named := func(roles store.RoleFolder, source string) {
		for _, r := range []struct{ role, path string }{
			{RoleSent, roles.Sent}, {RoleDrafts, roles.Drafts}, {RoleJunk, roles.Junk}, {RoleTrash, roles.Trash}, {RoleArchive, roles.Archive},
		} {
			if r.path == "" {
				continue
			}
			if i := slices.IndexFunc(folders, func(f Listed) bool { return f.Path == r.path || f.Raw == r.path }); i >= 0 {
				give(&folders[i], r.role, source)
			}
			// What the user says is final, even while the folder is missing.
			taken[r.role] = taken[r.role] || source == sourceUser
		}
	}
	named(user, sourceUser)
	for i := range folders {
		for _, a := range folders[i].Attrs {
			give(&folders[i], roleOfAttr(a), sourceExtension)
		}
	}
	named(provider, sourceName)
	for i := range folders {
		if folders[i].Selectable {
			give(&folders[i], roleOfName(&folders[i]), sourceName)
		}
	}
	return folders
}

func roleOfAttr(attr string) string {
	for _, role := range []string{RoleSent, RoleDrafts, RoleJunk, RoleTrash, RoleArchive, RoleAll, RoleFlagged, RoleImportant} {
		if strings.EqualFold(attr, role) {
			return role
		}
	}
	// XLIST of old (developers.google.com, before RFC 6154).
	switch strings.ToLower(attr) {
	case `\spam`:
		return RoleJunk
	case `\allmail`:
		return RoleAll
	case `\starred`:
		return RoleFlagged
	}
	return ""
}

// roleOfName looks a folder's name up in the catalogue. Only names at the top, under
// INBOX or under Gmail's own root count: a "Sent" inside a project's folder is none.
func roleOfName(f *Listed) string {
	name := f.Path
	if f.Delimiter != "" {
		if i := strings.LastIndex(name, f.Delimiter); i >= 0 {
			switch parent := name[:i]; {
			case strings.EqualFold(parent, "INBOX"), parent == "[Gmail]", parent == "[Google Mail]":
				name = name[i+len(f.Delimiter):]
			default:
				return ""
			}
		}
	}
	return roleNames()[foldName(name)]
}
