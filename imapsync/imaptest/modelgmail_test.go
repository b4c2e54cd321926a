package imaptest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	gmailAll   = gmailRoot + "All Mail"
	gmailTrash = gmailRoot + "Trash"
)

// Folders are labels: a message is in All Mail once, and where its labels say.
func TestModel_folders_are_labels(t *testing.T) {
	ctx, must := t.Context(), mustDo(t)
	m, u := modelUser(t, T0())
	must(u.CreateFolder(ctx, "Work"))
	uid, err := u.Append(ctx, "INBOX", Message("a@x", "a"), []string{`\Seen`}, Date)
	must(err)
	_, err = u.Append(ctx, gmailRoot+"Sent Mail", Message("b@x", "b"), nil, Date)
	must(err)
	at := func(want map[string]map[uint32][]string) {
		t.Helper()
		truth, err := u.Truth(ctx)
		must(err)
		got := map[string]map[uint32][]string{}
		for name, f := range truth {
			if len(f.Messages) > 0 {
				got[name] = f.Messages
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("folders (-want +got):\n%s", d)
		}
	}
	type msgs = map[uint32][]string
	sent := msgs{1: {}}
	seen := []string{`\Seen`}
	at(map[string]msgs{"INBOX": {1: seen}, gmailAll: {1: seen, 2: {}}, gmailRoot + "Sent Mail": sent})

	must(u.Label(ctx, gmailAll, []uint32{1}, []string{"Work", "Fresh ä"}, nil))
	at(map[string]msgs{"INBOX": {1: seen}, "Work": {1: seen}, "Fresh ä": {1: seen}, gmailAll: {1: seen, 2: {}}, gmailRoot + "Sent Mail": sent})
	k := dialModel(t, m)
	k.do(`SELECT "[Gmail]/All Mail"`)
	k.says("UID FETCH 1:2 (X-GM-LABELS)", `* 1 FETCH (UID 1 X-GM-LABELS ("Fresh &AOQ-" "Work" "\\Inbox"))`, `* 2 FETCH (UID 2 X-GM-LABELS ("\\Sent"))`, "OK")
	ids := k.do("UID FETCH 1 (X-GM-MSGID)")
	modseq := k.do(`STATUS "[Gmail]/All Mail" (HIGHESTMODSEQ)`)[0]
	must(u.Expunge(ctx, "INBOX", uid)) // archived
	if now := k.do(`STATUS "[Gmail]/All Mail" (HIGHESTMODSEQ)`); now[len(now)-2] == modseq {
		t.Errorf("a label went, and MODSEQ stayed: %q", now)
	}
	k.says(`UID STORE 1 -X-GM-LABELS.SILENT ("Fresh &AOQ-")`, `* 1 FETCH (FLAGS (\Seen))`, "OK")
	k.says("UID STORE 1 +FLAGS (\\Flagged)", `* 1 FETCH (FLAGS (\Flagged \Seen))`, "OK")
	both := []string{`\Flagged`, `\Seen`}
	at(map[string]msgs{"Work": {1: both}, gmailAll: {1: both, 2: {}}, gmailRoot + "Sent Mail": sent})

	must(u.Move(ctx, gmailAll, gmailTrash, 1))
	at(map[string]msgs{gmailTrash: {1: both}, gmailAll: {2: {}}, gmailRoot + "Sent Mail": sent})
	k.do(`EXAMINE "[Gmail]/Trash"`)
	if now := k.do("UID FETCH 1 (X-GM-MSGID)"); now[0] != ids[0] {
		t.Errorf("was %q, is %q", ids[0], now[0])
	}
	must(u.Move(ctx, gmailTrash, "INBOX", 1))
	at(map[string]msgs{"INBOX": {2: both}, gmailAll: {2: {}, 3: both}, gmailRoot + "Sent Mail": sent})
	must(u.Expunge(ctx, gmailAll, 2))
	must(u.Expunge(ctx, gmailTrash, 2))
	at(map[string]msgs{"INBOX": {2: both}, gmailAll: {3: both}})
}

// Gmail's own search finds what stands in a tab of the inbox.
func TestModel_tabs_of_the_inbox(t *testing.T) {
	m, u := modelUser(t, T0())
	for i, folder := range []string{"INBOX", "INBOX", gmailAll} {
		raw := Message("a@x", "a")
		if i > 0 {
			raw = append([]byte("X-Gmail-Labels: Inbox,Category Social\r\n"), raw...)
		}
		_, err := u.Append(t.Context(), folder, raw, nil, Date)
		mustDo(t)(err)
	}
	k := dialModel(t, m)
	k.do(`EXAMINE "[Gmail]/All Mail"`)
	k.says(`UID SEARCH UID 1:9 X-GM-RAW "category:social"`, "* SEARCH 2", "OK")
	k.says(`UID SEARCH UID 1:9 X-GM-RAW "category:primary"`, "* SEARCH 1", "OK")
	k.says(`UID SEARCH UID 2:9 X-GM-RAW category:primary`, "* SEARCH", "OK")
	k.says(`UID SEARCH X-GM-RAW "from:ada"`, "BAD")
	k.do("EXAMINE INBOX")
	k.says(`UID SEARCH X-GM-RAW "category:social"`, "* SEARCH 2", "OK")
}
