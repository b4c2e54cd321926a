package imapsync

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/store"
)

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
	return l.against(d.t.Context(), d.st, denAccount, want)
}

func (l *ledger) against(ctx context.Context, st *store.Store, id store.AccountID, want map[string]map[uint32]told) error {
	if err := unequal("events", want, l.folders, l.silently); err != nil {
		return err
	}
	state, whole, err := stored(ctx, st, id)
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

// silently says whether a message need not have been told of where it is: it came there
// with what was taken in at once, and is old, or was told of elsewhere.
func (l *ledger) silently(path string, m told) bool {
	return l.silent["*"] || l.silent[path] && (l.known[strings.Trim(m.id, "<>")] || l.known[""] || strings.HasPrefix(m.id, "old"))
}

// onlyNew says which message of these folders was not told of, and what was told beside
// new mail: of an account that is watched fast.
func (l *ledger) onlyNew(want map[string]map[uint32]told) error {
	if n := l.count[events.MessageUpdatedType] + l.count[events.MessageMovedType] + l.count[events.MessageDeletedType] - l.closed; n > 0 {
		return fmt.Errorf("more than new mail was told: %s", l.Summary())
	}
	got := map[string]map[uint32]told{}
	for path, msgs := range l.folders {
		got[path] = map[uint32]told{}
		for uid, m := range msgs {
			if w, there := want[path][uid]; there { // else it is gone, of which nothing is told
				got[path][uid] = told{m.id, w.flags, w.labels}
			}
		}
	}
	return unequal("events", want, got, l.silently)
}

// Agree compares events and state of an account with its folders. Where they agree, what
// was taken in without being told of is known from here on.
func (l *ledger) Agree(ctx context.Context, st *store.Store, id store.AccountID, truth map[string]imaptest.Folder, subjects map[string]map[uint32]string) error {
	if err := l.against(ctx, st, id, wanted(truth, subjects, nil)); err != nil {
		return err
	}
	l.folders = wanted(truth, subjects, nil)
	for path, msgs := range l.folders {
		for uid := range msgs {
			l.ever[path][uid] = true
		}
	}
	clear(l.silent)
	return nil
}

// wanted is what events should have told of these folders.
func wanted(truth map[string]imaptest.Folder, subjects map[string]map[uint32]string, labels map[string]map[uint32][]string) map[string]map[uint32]told {
	want := map[string]map[uint32]told{}
	for path, f := range truth {
		want[path] = map[uint32]told{}
		for uid, flags := range f.Messages {
			want[path][uid] = told{subjects[path][uid], strings.Join(flags, " "), strings.Join(labels[path][uid], " ")}
		}
	}
	return want
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
func stored(ctx context.Context, st *store.Store, id store.AccountID) (state map[string]map[uint32]told, whole map[string]bool, err error) {
	folders, _, err := st.Folders(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	state, whole = map[string]map[uint32]told{}, map[string]bool{}
	for _, f := range folders {
		if f.Watched == watchedNo {
			continue
		}
		meta, err := st.FolderMeta(ctx, id, f.Num)
		if err != nil {
			return nil, nil, err
		}
		blocks, err := st.Blocks(ctx, id, f.Num, meta)
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
	state, whole, err := stored(d.t.Context(), d.st, denAccount)
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
