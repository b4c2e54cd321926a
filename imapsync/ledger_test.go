package imapsync

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/postrider/postrider/events"
)

// ledger is what somebody knows who has read nothing but the journal.
type ledger struct {
	folders map[string]map[uint32]told
	silent  map[string]bool // folders that were taken in without telling of each message
	news    map[string]int  // messageNew by path and Message-ID
	known   map[string]bool // Message-IDs that were told of; "" where one was told without
	strange map[uint64]bool // seqs of messages that came back and of which was never told
	count   map[events.Type]int
}

// told is a message as events told of it.
type told struct{ id, flags, labels string }

// ledger folds the whole journal, and holds it against what every journal promises:
// numbers without a gap, no id twice, nothing told of that is not there.
func (d *den) ledger() (*ledger, error) {
	l := &ledger{
		folders: map[string]map[uint32]told{}, silent: map[string]bool{}, news: map[string]int{},
		known: map[string]bool{}, strange: map[uint64]bool{}, count: map[events.Type]int{},
	}
	ids := map[events.ID]bool{}
	renamed, silenced := map[string]map[uint32]told{}, map[string]bool{}
	missing := map[string]map[uint32]bool{} // told of by messageMissing alone
	ever := map[string]map[uint32]bool{}    // told of in whatever way, UIDs that are gone included
	seq := uint64(0)
	for e, err := range d.st.Journal(d.t.Context(), denAccount, 0) {
		if err != nil {
			return nil, err
		}
		if seq++; seq == 1 {
			seq = e.Seq // after a loss it begins elsewhere
		}
		if e.Seq != seq {
			return nil, fmt.Errorf("seq %d where %d belongs", e.Seq, seq)
		}
		if ids[e.ID] {
			return nil, fmt.Errorf("seq %d: %s %s twice", e.Seq, e.Type, e.ID)
		}
		ids[e.ID] = true
		l.count[e.Type]++
		var p struct {
			UID                uint32
			PreviousPath       string
			Flags, Labels      []string
			MessageID, Subject string
			Origin             events.Origin
			Related            *struct{ Path string }
			Previous           struct {
				Path string
				UID  uint32
			}
			Changes struct{ Flags, Labels *struct{ Value []string } }
		}
		if err := json.Unmarshal(e.Data.(events.Raw), &p); err != nil {
			return nil, err
		}
		if ever[e.Path] == nil {
			ever[e.Path] = map[uint32]bool{}
		}
		folder := l.folders[e.Path]
		_, there := folder[p.UID]
		switch e.Type {
		case events.AccountStateLostType:
			for path := range l.folders {
				l.silent[path] = true
			}
			l.silent["*"] = true
		case events.MailboxNewType:
			if folder != nil && p.Related == nil { // flushed: all is told again
				maps.DeleteFunc(l.news, func(place string, _ int) bool { return strings.HasPrefix(place, e.Path+" ") })
			}
			l.folders[e.Path] = map[uint32]told{}
			ever[e.Path] = map[uint32]bool{}
			if p.Related != nil {
				l.folders[e.Path] = renamed[p.Related.Path]
				l.silent[e.Path] = silenced[p.Related.Path]
				missing[e.Path], ever[e.Path] = missing[p.Related.Path], ever[p.Related.Path]
			}
		case events.MailboxDeletedType:
			renamed[e.Path], silenced[e.Path] = folder, l.silent[e.Path]
			delete(l.folders, e.Path)
			delete(l.silent, e.Path)
		case events.MailboxResetType:
			l.folders[e.Path], l.silent[e.Path] = map[uint32]told{}, true
		case events.MessageNewType:
			if there {
				return nil, fmt.Errorf("seq %d: UID %d of %s is new twice", e.Seq, p.UID, e.Path)
			}
			if p.Origin == events.OriginReappeared && !ever[e.Path][p.UID] && p.UID > d.early[e.Path] && !l.silent[e.Path] && !l.silent["*"] {
				l.strange[e.Seq] = true
			}
			if folder == nil && !l.silent["*"] {
				return nil, fmt.Errorf("seq %d: a message in %s, which was not told of", e.Seq, e.Path)
			}
			if folder == nil {
				folder = map[uint32]told{}
				l.folders[e.Path], l.silent[e.Path] = folder, true
			}
			folder[p.UID] = told{p.Subject, strings.Join(p.Flags, " "), strings.Join(p.Labels, " ")}
			ever[e.Path][p.UID] = true
			l.news[e.Path+" "+p.Subject]++
			l.known[strings.Trim(p.MessageID, "<>")] = true // the subject may not be readable
		case events.MessageMovedType:
			from, ok := l.folders[p.Previous.Path][p.Previous.UID]
			if there || !ok && !l.silent[p.Previous.Path] && !l.silent["*"] && p.Previous.UID > d.early[p.Previous.Path] {
				return nil, fmt.Errorf("seq %d: UID %d of %s moved from %+v", e.Seq, p.UID, e.Path, p.Previous)
			}
			ever[e.Path][p.UID] = true
			delete(l.folders[p.Previous.Path], p.Previous.UID)
			folder[p.UID] = told{from.id, strings.Join(p.Flags, " "), strings.Join(p.Labels, " ")}
		case events.MailboxRenamedType:
			l.folders[e.Path], l.silent[e.Path] = l.folders[p.PreviousPath], l.silent[p.PreviousPath]
			missing[e.Path], ever[e.Path] = missing[p.PreviousPath], ever[p.PreviousPath]
			delete(l.folders, p.PreviousPath)
			delete(l.silent, p.PreviousPath)
		case events.MessageMissingType:
			if missing[e.Path] == nil {
				missing[e.Path] = map[uint32]bool{}
			}
			missing[e.Path][p.UID], ever[e.Path][p.UID] = true, true
		case events.MessageUpdatedType, events.MessageDeletedType:
			// What was there before the account may go before it could be announced.
			early := p.UID <= d.early[e.Path] || missing[e.Path][p.UID]
			if !there && !early && !l.silent[e.Path] && !l.silent["*"] {
				return nil, fmt.Errorf("seq %d: %s of UID %d of %s, which was not told of", e.Seq, e.Type, p.UID, e.Path)
			}
			if e.Type == events.MessageDeletedType {
				delete(folder, p.UID)
				continue
			}
			now := folder[p.UID]
			if c := p.Changes.Flags; c != nil {
				now.flags = strings.Join(c.Value, " ")
			}
			if c := p.Changes.Labels; c != nil {
				now.labels = strings.Join(c.Value, " ")
			}
			if there {
				folder[p.UID] = now
			}
		}
	}
	return l, nil
}

// agrees says how the events folded up and the state differ from the server. A message
// in a folder that was taken in silently must have been told of somewhere before, or be
// older than the loss (of nobody: the account's state was lost).
func (d *den) agrees() error {
	l, err := d.ledger()
	if err != nil {
		return err
	}
	return d.against(d.served(), l)
}

// against compares events and state with what is there. It changes want.
func (d *den) against(want map[string]map[uint32]told, l *ledger) error {
	if err := unequal("events", want, l.folders, func(path string, m told) bool {
		return l.silent["*"] || l.silent[path] && (l.known[strings.Trim(m.id, "<>")] || l.known[""] || strings.HasPrefix(m.id, "old"))
	}); err != nil {
		return err
	}
	state, whole, err := d.stored()
	if err != nil {
		return err
	}
	for path, done := range whole {
		if !done {
			return fmt.Errorf("%s is not looked at to its end", path)
		}
	}
	for path, msgs := range want {
		for uid, m := range msgs {
			m.id = ""
			msgs[uid] = m
		}
		want[path] = msgs
	}
	return unequal("state", want, state, func(string, told) bool { return false })
}

// served is what the server holds.
func (d *den) served() map[string]map[uint32]told {
	d.t.Helper()
	want := map[string]map[uint32]told{}
	if d.truth != nil {
		for name, msgs := range d.truth() {
			want[name] = map[uint32]told{}
			for uid, flags := range msgs {
				want[name][uid] = told{flags: strings.Join(flags, " ")}
			}
		}
		return want
	}
	d.srv.act(func() {
		for name, f := range d.srv.folders {
			want[name] = map[uint32]told{}
			for uid, m := range f.msgs {
				want[name][uid] = told{id: m.id, flags: strings.Join(m.flags, " ")}
			}
		}
	})
	return want
}

// stored is the state of all folders; whole says of which the first look is over.
func (d *den) stored() (state map[string]map[uint32]told, whole map[string]bool, err error) {
	folders, _, err := d.st.Folders(d.t.Context(), denAccount)
	if err != nil {
		return nil, nil, err
	}
	state, whole = map[string]map[uint32]told{}, map[string]bool{}
	for _, f := range folders {
		if f.Watched == watchedNo {
			continue
		}
		meta, err := d.st.FolderMeta(d.t.Context(), denAccount, f.Num)
		if err != nil {
			return nil, nil, err
		}
		blocks, err := d.st.Blocks(d.t.Context(), denAccount, f.Num, meta)
		if err != nil {
			return nil, nil, err
		}
		whole[f.Path] = !meta.Unlooked && meta.Baseline == nil
		state[f.Path] = map[uint32]told{}
		for _, recs := range blocks {
			for _, r := range recs {
				state[f.Path][r.UID] = told{"", strings.Join(r.Flags, " "), strings.Join(r.Labels, " ")}
			}
		}
	}
	return state, whole, nil
}

// oneStep says where state and events tell different stories. It holds at every moment,
// not only when all is quiet: they change together. What is read while they change is read
// again.
func (d *den) oneStep() error {
	for {
		before, err := d.st.State(d.t.Context(), denAccount)
		if err != nil {
			return err
		}
		wrong := d.tellsTheSame()
		if wrong == nil {
			return nil
		}
		if after, err := d.st.State(d.t.Context(), denAccount); err != nil || after.Seq == before.Seq {
			return errors.Join(wrong, err)
		}
	}
}

func (d *den) tellsTheSame() error {
	l, err := d.ledger()
	if err != nil {
		return err
	}
	state, whole, err := d.stored()
	if err != nil {
		return err
	}
	held, err := d.st.Gones(d.t.Context(), denAccount)
	if err != nil {
		return err
	}
	for _, g := range held { // left the state, and is told of later
		if _, known := l.folders[g.Path][g.UID]; known && state[g.Path] != nil {
			state[g.Path][g.UID] = told{"", strings.Join(g.Flags, " "), strings.Join(g.Labels, " ")}
		}
	}
	for path, msgs := range state {
		if !whole[path] || l.silent["*"] {
			continue
		}
		folded := map[uint32]told{}
		for uid, m := range l.folders[path] {
			m.id = ""
			folded[uid] = m
		}
		err := unequal("events", map[string]map[uint32]told{path: msgs}, map[string]map[uint32]told{path: folded}, func(string, told) bool { return l.silent[path] })
		if err != nil {
			return fmt.Errorf("state against events: %w", err)
		}
	}
	return nil
}

// unequal compares; what is missing in got is forgiven where silently says so.
func unequal(what string, want, got map[string]map[uint32]told, silently func(string, told) bool) error {
	for _, path := range slices.Sorted(maps.Keys(want)) {
		if got[path] == nil && len(want[path]) > 0 && !slices.ContainsFunc(slices.Collect(maps.Values(want[path])), func(m told) bool { return silently(path, m) }) {
			return fmt.Errorf("%s: %s is missing", what, path)
		}
		for _, uid := range slices.Sorted(maps.Keys(want[path])) {
			m, ok := got[path][uid]
			w := want[path][uid]
			if !ok && !silently(path, w) || ok && (m.flags != w.flags || m.labels != w.labels || m.id != "" && w.id != "" && m.id != w.id) {
				return fmt.Errorf("%s: UID %d of %s is %v, want %v", what, uid, path, m, w)
			}
		}
		for uid, m := range got[path] {
			if _, ok := want[path][uid]; !ok {
				return fmt.Errorf("%s: UID %d of %s (%v) is not there", what, uid, path, m)
			}
		}
	}
	for path := range got {
		if want[path] == nil {
			return fmt.Errorf("%s: %s is not there", what, path)
		}
	}
	return nil
}

// onceEach says which message was announced in one folder more than once.
func (l *ledger) onceEach() error {
	for _, place := range slices.Sorted(maps.Keys(l.news)) {
		if n := l.news[place]; n > 1 {
			return fmt.Errorf("%s was announced %d times", place, n)
		}
	}
	return nil
}

// summary is for people who look at a failure.
func (l *ledger) summary() string {
	types := slices.SortedFunc(maps.Keys(l.count), func(a, b events.Type) int { return cmp.Compare(a, b) })
	var s strings.Builder
	for _, t := range types {
		fmt.Fprintf(&s, "%s %d ", t, l.count[t])
	}
	return s.String()
}
