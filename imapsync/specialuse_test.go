package imapsync

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/store"
)

func TestAssignRoles(t *testing.T) {
	list := func(names ...string) []Listed {
		var out []Listed
		for _, n := range names {
			out = append(out, Listed{Raw: n, Path: n, Delimiter: "/", Selectable: true})
		}
		return out
	}
	attr := func(l []Listed, i int, attrs ...string) []Listed {
		l[i].Attrs = attrs
		return l
	}
	type role struct{ Role, Source string }
	for _, c := range []struct {
		name string
		in   []Listed
		user store.RoleFolder
		want map[string]role
	}{
		{
			"attributes win over names", attr(list("INBOX", "Sent", "Outgoing"), 2, `\HasNoChildren`, `\Sent`),
			store.RoleFolder{},
			map[string]role{"INBOX": {RoleInbox, "name"}, "Outgoing": {RoleSent, "extension"}},
		},
		{
			"the user wins over attributes", attr(list("INBOX", "Sent", "Outgoing"), 2, `\Sent`),
			store.RoleFolder{Sent: "Sent"},
			map[string]role{"INBOX": {RoleInbox, "name"}, "Sent": {RoleSent, "user"}},
		},
		{
			"the user's folder is missing", attr(list("INBOX", "Sent", "Outgoing"), 2, `\Sent`),
			store.RoleFolder{Sent: "Mine"},
			map[string]role{"INBOX": {RoleInbox, "name"}},
		},
		{
			"the first of two wins", attr(attr(list("A", "B"), 0, `\Trash`), 1, `\trash`, `\Junk`),
			store.RoleFolder{},
			map[string]role{"A": {RoleTrash, "extension"}, "B": {RoleJunk, "extension"}},
		},
		{"a folder has one role", attr(list("A"), 0, `\Drafts`, `\Sent`), store.RoleFolder{}, map[string]role{"A": {RoleDrafts, "extension"}}},
		{
			"gmail without the extension", list("INBOX", "[Gmail]/All Mail", "[Gmail]/Gesendet", "[Gmail]/Starred", "[Gmail]/Spam"),
			store.RoleFolder{},
			map[string]role{"INBOX": {RoleInbox, "name"}, "[Gmail]/All Mail": {RoleAll, "name"}, "[Gmail]/Gesendet": {RoleSent, "name"}, "[Gmail]/Starred": {RoleFlagged, "name"}, "[Gmail]/Spam": {RoleJunk, "name"}},
		},
		{
			"names of providers", list("INBOX", "Sent Messages", "Deleted Items", "Bulk Mail", "Entwürfe", "Archives"),
			store.RoleFolder{},
			map[string]role{"INBOX": {RoleInbox, "name"}, "Sent Messages": {RoleSent, "name"}, "Deleted Items": {RoleTrash, "name"}, "Bulk Mail": {RoleJunk, "name"}, "Entwürfe": {RoleDrafts, "name"}, "Archives": {RoleArchive, "name"}},
		},
		{
			"below INBOX, not below others", list("INBOX", "INBOX/送信済みトレイ", "Projekt/Sent", "Projekt/Trash"),
			store.RoleFolder{},
			map[string]role{"INBOX": {RoleInbox, "name"}, "INBOX/送信済みトレイ": {RoleSent, "name"}},
		},
		{"case and spaces", list("sent items", " TRASH "), store.RoleFolder{}, map[string]role{"sent items": {RoleSent, "name"}, " TRASH ": {RoleTrash, "name"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := map[string]role{}
			for _, f := range assignRoles(c.in, c.user, store.RoleFolder{}) {
				if f.SpecialUse != "" {
					got[f.Path] = role{f.SpecialUse, f.SpecialUseSource}
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("roles (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAssignRolesLeavesUnselectableAlone(t *testing.T) {
	in := []Listed{{Raw: "Sent", Path: "Sent", Attrs: []string{`\Noselect`}}, {Raw: "Gesendet", Path: "Gesendet", Selectable: true}}
	if out := assignRoles(in, store.RoleFolder{}, store.RoleFolder{}); out[0].SpecialUse != "" || out[1].SpecialUse != RoleSent {
		t.Errorf("roles: %+v", out)
	}
}

// TestCatalogue: at least 30 languages with a name for each role, and every name found.
func TestCatalogue(t *testing.T) {
	langs := map[string]bool{}
	for _, l := range catalogue {
		if l.lang == "" {
			continue
		}
		langs[l.lang] = true
		for role, names := range map[string][]string{RoleSent: l.sent, RoleDrafts: l.drafts, RoleTrash: l.trash, RoleJunk: l.junk, RoleArchive: l.archive} {
			if len(names) == 0 {
				t.Errorf("%s: no name for %s", l.lang, role)
			}
			for _, n := range names {
				got := roleOfName(&Listed{Path: n})
				if got == "" {
					t.Errorf("%s: %q is not found", l.lang, n)
				}
			}
		}
	}
	if len(langs) < 30 {
		t.Errorf("%d languages, want at least 30", len(langs))
	}
}

func TestAssignRolesByProvider(t *testing.T) {
	in := []Listed{
		{Raw: "Sent Items", Path: "Sent Items", Selectable: true},
		{Raw: "Mine", Path: "Mine", Selectable: true},
		{Raw: "Bin", Path: "Bin", Selectable: true, Attrs: []string{`\Trash`}},
		{Raw: "Deleted", Path: "Deleted", Selectable: true},
	}
	out := assignRoles(in, store.RoleFolder{}, store.RoleFolder{Sent: "Mine", Trash: "Deleted", Junk: "not there"})
	for i, want := range []string{"", RoleSent, RoleTrash, ""} {
		if out[i].SpecialUse != want {
			t.Errorf("%s is %q, want %q: the provider's names come behind attributes and before all names", out[i].Path, out[i].SpecialUse, want)
		}
	}
}
