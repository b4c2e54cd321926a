package imapsync

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
)

// The words of store.Folder.Watched.
const (
	watchedIdle = "idle" // the main folder: the connection waits in it
	watchedPoll = "poll"
	watchedNo   = "no"
)

// suspicion is a folder list that lost so much that it is not believed at once.
type suspicion struct {
	names []string
	next  time.Time
}

const suspicionWait = 30 * time.Second

// errListAgain ends a session whose folder list is to be asked for on a new one.
var errListAgain = errors.New("the folder list lost most folders: asked again on a new connection")

// list asks for the folders and commits what differs: folders that are gone are said
// at once, new ones when they were looked at, renamed ones as a linked pair.
func (w *worker) list(ctx context.Context) ([]Listed, error) {
	asked := time.Now()
	if w.listHint {
		w.listVain = min(w.listVain+1, 10)
	} else {
		w.listVain = 0
	}
	w.listHint = false
	w.listed, w.listAt = asked, asked.Add(w.cfg.ListInterval)
	answer, err := w.sess.Folders(ctx)
	if err != nil {
		return nil, err
	}
	listed := answer.Folders
	believed, err := w.believe(listed)
	if err != nil || !believed {
		return nil, err
	}
	w.labels = w.asLabels(listed)
	main := w.mainOf(listed)
	byRaw := make(map[string]*folder, len(w.folders))
	for _, f := range w.folders {
		byRaw[f.Raw] = f
	}
	var fresh []Listed
	change := &store.ListChange{Version: w.listVersion}
	still := map[*folder]bool{}
	for _, l := range listed {
		f := byRaw[l.Raw]
		if f == nil || f.isShell(l) {
			fresh = append(fresh, l)
			continue
		}
		still[f] = true
		if l.MailboxID == "" {
			l.MailboxID = cmp.Or(f.mailboxID, f.MailboxID) // told only when the folder is opened
		}
		if next := w.entry(f.Num, l, main); !sameEntry(f.Folder, next) {
			change.Put = append(change.Put, next)
		}
	}
	var gone []*folder
	for _, f := range w.folders {
		if !still[f] && answer.Whole {
			gone = append(gone, f)
		}
	}
	left := len(gone)
	if gone, err = w.reallyGone(ctx, gone, fresh); err != nil {
		return nil, err
	}
	answer.Whole = answer.Whole && len(gone) == left
	fresh = slices.DeleteFunc(fresh, func(l Listed) bool { // a shell whose folder is there all the same
		f := byRaw[l.Raw]
		return f != nil && !slices.Contains(gone, f)
	})
	if len(fresh) == 0 && len(gone) == 0 && len(change.Put) == 0 {
		if answer.Whole {
			w.listLook = asked
		}
		return listed, nil
	}
	c := store.Change{List: change}
	renamed, err := w.renames(ctx, gone, fresh)
	if err != nil {
		return nil, err
	}
	// What left a folder is told under the name that it had.
	if err := w.tellHeld(ctx, holdsOf(gone...)); err != nil {
		return nil, err
	}
	for _, f := range gone {
		if to, ok := renamed[f]; ok {
			next := w.entry(f.Num, to.Listed, main)
			change.Put = append(change.Put, next)
			// Another folder may have had this path, this UIDVALIDITY and these UIDs.
			meta := f.meta
			meta.Incarnation = w.incarnation()
			c.Folders = append(c.Folders, store.FolderChange{Num: f.Num, Version: f.meta.Version, Meta: meta})
			c.Events = append(c.Events, w.renameEvents(ctx, f, next, meta.Incarnation, to.evidence)...)
			continue
		}
		change.Drop = append(change.Drop, f.Num)
		c.Folders = append(c.Folders, store.FolderChange{Num: f.Num, Version: f.meta.Version, Drop: true})
		if !f.meta.Unlooked || f.meta.UIDValidity != 0 { // flushed: it was told of
			c.Events = append(c.Events, w.deletedEvent(f, nil))
		}
	}
	next := w.nextNum
	for _, l := range fresh {
		if isRenamed(renamed, l) {
			continue
		}
		change.Put = append(change.Put, w.entry(next, l, main))
		c.Folders = append(c.Folders, store.FolderChange{Num: next, Meta: w.unlooked(), Version: 0})
		next++
	}
	change.NextNum, change.Count = next, len(w.folders)-len(change.Drop)+int(next-w.nextNum)
	if err := w.commit(ctx, c); err != nil {
		return nil, err
	}
	if err := w.loadFolders(ctx); err != nil {
		return nil, err
	}
	w.listLook, w.listVain = asked, 0
	return listed, nil
}

// isShell says whether only the name of a folder is left: RFC 3501 section 6.3.4 has a deleted
// folder stay as \Noselect while others are below it. What was in it is gone.
func (f *folder) isShell(l Listed) bool {
	return !l.Selectable && (!f.meta.Unlooked || f.meta.UIDValidity != 0)
}

// incarnation counts the folders of a path. It follows from the version of the folder
// list: 1 in the first, and always more than any before it.
func (w *worker) incarnation() uint32 { return uint32(w.listVersion) + 1 }

// unlooked is the state of a folder that was listed for the first time.
func (w *worker) unlooked() store.FolderMeta {
	m := store.FolderMeta{Incarnation: w.incarnation(), Unlooked: true, Look: w.listLook.UTC()}
	reason := reasonNew
	if !w.state.Initialized {
		reason, m.Look = reasonAdded, time.Time{}
		if w.state.Reason == store.ReasonStateLost {
			reason = reasonStateLost
		}
	}
	m.Baseline = &store.Baseline{Reason: reason}
	return m
}

// believe says whether a folder list can be taken at its word. One that lost most
// folders is asked for again on a new connection, and believed when it says the same
// twice; one that is empty never is.
func (w *worker) believe(listed []Listed) (bool, error) {
	names := make([]string, 0, len(listed))
	for _, l := range listed {
		if l.Selectable || !slices.ContainsFunc(w.folders, func(f *folder) bool { return f.Raw == l.Raw && f.isShell(l) }) {
			names = append(names, l.Raw)
		}
	}
	slices.Sort(names)
	lost, watched, lostWatched := 0, 0, 0
	for _, f := range w.folders {
		_, there := slices.BinarySearch(names, f.Raw)
		if f.Watched != watchedNo {
			watched++
		}
		if there {
			continue
		}
		lost++
		if f.Watched != watchedNo {
			lostWatched++
		}
	}
	odd := len(names) == 0 || len(w.folders) >= 4 && 2*lost > len(w.folders) || watched > 0 && lostWatched == watched
	if !odd {
		w.suspect = nil
		return true, nil
	}
	now := time.Now()
	switch {
	case len(names) == 0: // no account is without an inbox: never believed
		w.suspect = &suspicion{next: now.Add(suspicionWait)}
		w.listAt = w.suspect.next
		return false, nil
	case w.suspect == nil || !slices.Equal(w.suspect.names, names):
		w.suspect = &suspicion{names: names, next: now.Add(suspicionWait)}
		w.listAt = w.suspect.next
		return false, nil
	case now.Before(w.suspect.next):
		w.listAt = w.suspect.next
		return false, nil
	case w.suspect.next.After(w.began): // not on this connection
		return false, errListAgain
	}
	w.suspect = nil
	return true, nil
}

// mainOf is the folder that the connection waits in: the first of the wanted ones that
// exists, else All Mail where folders are labels, else the inbox.
func (w *worker) mainOf(listed []Listed) string {
	paths := w.account().Paths
	if len(paths) == 0 && w.labels {
		i := slices.IndexFunc(listed, func(l Listed) bool { return isAllMail(l.Attrs) && l.Selectable })
		return listed[i].Raw
	}
	if len(paths) == 0 {
		paths = []string{"INBOX"}
	}
	for _, p := range paths {
		for _, l := range listed {
			if l.Path == p && l.Selectable {
				return l.Raw
			}
		}
	}
	return ""
}

// entry is a folder's place in the list.
func (w *worker) entry(num uint32, l Listed, main string) store.Folder {
	paths := w.account().Paths
	watched := watchedPoll
	switch {
	case !l.Selectable, w.labels && !holdsMail(l.Attrs), len(paths) > 0 && !slices.Contains(paths, l.Path) && !slices.Contains(paths, "*"):
		watched = watchedNo
	case l.Raw == main:
		watched = watchedIdle
	}
	return store.Folder{
		Num: num, Raw: l.Raw, Path: l.Path, Delimiter: l.Delimiter, Attrs: l.Attrs,
		SpecialUse: l.SpecialUse, SpecialUseSource: l.SpecialUseSource, Subscribed: l.Subscribed, Watched: watched,
		MailboxID: l.MailboxID,
	}
}

func sameEntry(a, b store.Folder) bool {
	attrs := slices.Equal(a.Attrs, b.Attrs)
	a.Attrs, b.Attrs = nil, nil
	return attrs && a.Num == b.Num && a.Raw == b.Raw && a.Path == b.Path && a.Delimiter == b.Delimiter &&
		a.SpecialUse == b.SpecialUse && a.SpecialUseSource == b.SpecialUseSource && a.Subscribed == b.Subscribed && a.Watched == b.Watched && a.MailboxID == b.MailboxID
}

// renameLimit is the largest folder whose UIDs are compared before it is believed to
// be another one under a new name; above it the numbers must do.
const renameLimit = 100_000

// rename is what a folder became, and how that is known.
type rename struct {
	Listed
	evidence events.Evidence
}

// mailboxIs says whether a MAILBOXID is this folder's, of which something was told.
func (f *folder) mailboxIs(id string) bool {
	return id != "" && !f.lost && !f.meta.Unlooked && (f.MailboxID == id || f.mailboxID == id)
}

// renames recognises folders that only changed their name: one that is gone and one
// that is new with the same MAILBOXID; else with the same UIDVALIDITY, UIDNEXT, count
// and UIDs, each the only one.
func (w *worker) renames(ctx context.Context, gone []*folder, fresh []Listed) (map[*folder]rename, error) {
	pairs := map[*folder][]rename{}
	olds := map[string]int{}
	for _, l := range fresh {
		if !l.Selectable || len(gone) == 0 {
			continue
		}
		if i := slices.IndexFunc(gone, func(f *folder) bool { return f.mailboxIs(l.MailboxID) }); i >= 0 {
			pairs[gone[i]] = append(pairs[gone[i]], rename{l, events.EvidenceMailboxID})
			olds[l.Raw]++
			continue
		}
		w.open = nil
		sel, err := w.sess.Select(ctx, l.Raw)
		if err != nil && goesOn(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, f := range gone {
			if sel.MailboxID != "" && !f.mailboxIs(sel.MailboxID) && f.MailboxID+f.mailboxID != "" {
				continue // two folders, whatever they hold
			}
			same, err := w.sameContent(ctx, f, sel)
			if err != nil {
				return nil, err
			}
			if same {
				pairs[f] = append(pairs[f], rename{l, events.EvidenceContent})
				olds[l.Raw]++
			}
		}
	}
	out := map[*folder]rename{}
	for f, to := range pairs {
		if len(to) == 1 && olds[to[0].Raw] == 1 {
			out[f] = to[0]
		}
	}
	return out, nil
}

// sameContent compares a folder's state with the folder that is open now.
func (w *worker) sameContent(ctx context.Context, f *folder, sel Selected) (bool, error) {
	m := f.meta
	if f.lost || m.Unlooked || m.Baseline != nil || sel.UIDValidity == 0 || m.UIDValidity != sel.UIDValidity ||
		m.Messages()+m.Skew != int(sel.Exists) || sel.UIDNext != 0 && sel.UIDNext != max(m.UIDNext, m.Snap.UIDNext) {
		return false, nil
	}
	if m.Count == 0 || m.Count > renameLimit { // or it is watched fast
		return true, nil
	}
	e, err := w.sess.UIDs(ctx, 1, 0)
	if err != nil {
		return false, err
	}
	s := &step{w: w, f: f, d: newDraft(w.site(f), f.meta)}
	known, err := s.known(ctx)
	if errors.Is(err, store.ErrCorrupt) {
		return false, nil
	}
	return slices.Equal(known, e.UIDs), err
}

func isRenamed(renamed map[*folder]rename, l Listed) bool {
	for _, to := range renamed {
		if to.Raw == l.Raw {
			return true
		}
	}
	return false
}

// deletedEvent says that a folder is gone.
func (w *worker) deletedEvent(f *folder, rel *events.RelatedFolder) events.Event {
	s := w.site(f)
	id := s.mailboxEvent(events.MailboxDeletedType, f.meta.Incarnation, f.meta.UIDValidity, w.listVersion)
	return s.event(id, events.MailboxDeleted{Folder: s.mailbox(), Messages: f.meta.Messages(), Related: rel})
}

// renameEvents are the linked pair of a rename, or its mailboxRenamed: the messages keep
// their ids and have no events.
func (w *worker) renameEvents(ctx context.Context, f *folder, to store.Folder, incarnation uint32, evidence events.Evidence) []events.Event {
	now := site{account: w.id, epoch: w.state.Epoch, folder: to}
	if w.notifyMoves(ctx) {
		id := now.mailboxEvent(events.MailboxRenamedType, incarnation, f.meta.UIDValidity, w.listVersion)
		return []events.Event{now.event(id, events.MailboxRenamed{
			Folder: now.mailbox(), PreviousPath: f.Path, UIDValidity: validity(f.meta.UIDValidity), Evidence: evidence,
		})}
	}
	newID := now.mailboxEvent(events.MailboxNewType, incarnation, f.meta.UIDValidity, w.listVersion)
	deleted := w.deletedEvent(f, &events.RelatedFolder{Event: events.MailboxNewType, EventID: newID, Path: to.Path, IDsKept: true})
	return []events.Event{deleted, now.event(newID, events.MailboxNew{
		Folder: now.mailbox(), UIDValidity: validity(f.meta.UIDValidity), Messages: f.meta.Messages(),
		Related: &events.RelatedFolder{Event: events.MailboxDeletedType, EventID: deleted.ID, Path: f.Path, IDsKept: true},
	})}
}

// loadFolders reads the folder list and what is known of each folder, keeping what the
// worker remembers of those it had. A folder whose state is not there is to be
// relinked; a list or states that are mostly gone are a lost account.
func (w *worker) loadFolders(ctx context.Context) error {
	list, version, err := w.st.Folders(ctx, w.id)
	if err != nil {
		return err
	}
	if len(list) == 0 && w.state.Initialized {
		return store.ErrStateLost
	}
	nums := make([]uint32, len(list))
	for i, f := range list {
		nums[i] = f.Num
	}
	metas := map[uint32]store.FolderMeta{}
	if len(nums) > 0 {
		if metas, err = w.st.FolderMetas(ctx, w.id, nums); err != nil {
			return err
		}
	}
	if missing := len(nums) - len(metas); missing > 1 && 2*missing > len(nums) {
		return store.ErrStateLost
	}
	folders := make([]*folder, 0, len(list))
	for _, entry := range list {
		f := w.byNum(entry.Num)
		if f == nil {
			f = &folder{dirty: true}
		}
		meta, ok := metas[entry.Num]
		notAhead(&meta, time.Now())
		f.Folder, f.meta = entry, meta
		if !ok || meta.Unreadable || meta.Lost {
			f.lost, f.dirty = true, true
		}
		folders = append(folders, f)
	}
	w.folders, w.listVersion = folders, version
	if w.nextNum < w.state.NextNum {
		w.nextNum = w.state.NextNum
	}
	for _, f := range folders {
		w.nextNum = max(w.nextNum, f.Num+1)
	}
	return nil
}

// byNum finds a folder by its number; nil when there is none.
func (w *worker) byNum(num uint32) *folder {
	for _, f := range w.folders {
		if f.Num == num {
			return f
		}
	}
	return nil
}

// main is the folder the connection waits in; nil when there is none.
func (w *worker) main() *folder {
	for _, f := range w.folders {
		if f.Watched == watchedIdle {
			return f
		}
	}
	return nil
}

func (w *worker) site(f *folder) site {
	return site{account: w.id, epoch: w.state.Epoch, folder: f.Folder}
}
