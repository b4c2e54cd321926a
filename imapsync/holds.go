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

// loadGone reads what is held; what of it cannot be read stays where it is, and nothing
// is told of it. How much of the account was looked at since is not
// stored: from here on all of it has to be.
func (w *worker) loadGone(ctx context.Context) error {
	list, err := w.st.Gones(ctx, w.id)
	if errors.Is(err, store.ErrCorrupt) {
		w.log.ErrorContext(ctx, "held messages cannot be read", "account", w.id, "err", err)
		err = nil
	}
	if err != nil {
		return err
	}
	w.gone, w.heldAt = map[string]store.Gone{}, map[string]uint64{}
	latest := time.Now().Add(holdDeleted).UnixMilli() // another machine's clock may be ahead
	for _, g := range list {
		g.Until = min(g.Until, latest)
		w.gone[g.Event], w.heldAt[g.Event] = g, w.looks
	}
	return nil
}

// committed keeps what is held as the store now has it.
func (w *worker) committed(c *store.Change) {
	for _, event := range c.Told {
		delete(w.gone, event)
		delete(w.heldAt, event)
	}
	for _, g := range c.Hold {
		w.gone[g.Event], w.heldAt[g.Event] = g, w.looks
	}
}

// mayHaveGone says whether what left f may be found in another folder, and may be held
// until that was looked at; more are held in the draft.
func (w *worker) mayHaveGone(f *folder, more int) bool {
	return len(w.gone)+more < maxHeld && slices.ContainsFunc(w.folders, func(g *folder) bool { return g != f && g.Watched != watchedNo })
}

// missed says whether all other folders were looked at since a message left, and
// nobody found it there.
func (w *worker) missed(g *store.Gone) bool {
	for _, f := range w.folders {
		if f.Watched == watchedNo || f.Num == g.Folder {
			continue
		}
		waits := slices.ContainsFunc(f.meta.Pending, func(p store.Pending) bool { return p.Held })
		if waits || f.sure <= w.heldAt[g.Event] {
			return false
		}
	}
	return true
}

// endHolds tells of the messages that left and did not come anywhere; with whole, also
// those whose time is not over when every folder was looked at since.
func (w *worker) endHolds(ctx context.Context, whole bool) error {
	if len(w.gone) == 0 {
		return nil
	}
	now := time.Now().UnixMilli()
	return w.tellHeld(ctx, func(g *store.Gone) bool { return g.Until <= now || whole && w.missed(g) })
}

// tellHeld tells of held messages, in the order in which they left.
func (w *worker) tellHeld(ctx context.Context, which func(*store.Gone) bool) error {
	var due []store.Gone
	for _, g := range w.gone {
		if which(&g) {
			due = append(due, g)
		}
	}
	slices.SortFunc(due, func(a, b store.Gone) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Folder, b.Folder), cmp.Compare(a.UID, b.UID))
	})
	for chunk := range slices.Chunk(due, chunkMessages) {
		var c store.Change
		for i := range chunk {
			c.Events = append(c.Events, goneEvent(&chunk[i], nil))
			c.Told = append(c.Told, chunk[i].Event)
		}
		if err := w.commit(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// holdsOf are the held messages of these folders.
func holdsOf(folders ...*folder) func(*store.Gone) bool {
	return func(g *store.Gone) bool {
		return slices.ContainsFunc(folders, func(f *folder) bool { return f.Num == g.Folder })
	}
}

// heldHere is a held message by its place; nil when it is none.
func (w *worker) heldHere(f *folder, uid uint32) *store.Gone {
	for _, g := range w.gone {
		if g.Folder == f.Num && g.UID == uid {
			return &g
		}
	}
	return nil
}

// heldUntil is when the first of the held messages is told at the latest; zero = none.
func (w *worker) heldUntil() time.Time {
	var at time.Time
	for _, g := range w.gone {
		if t := time.UnixMilli(g.Until); at.IsZero() || t.Before(at) {
			at = t
		}
	}
	return at
}

// goneEvent is the messageDeleted of a message that left.
func goneEvent(g *store.Gone, rel *events.Related) events.Event {
	return events.Event{ID: events.ID(g.Event), Path: g.Path, SpecialUse: g.SpecialUse, Data: events.MessageDeleted{
		ID: messageID(g.Folder, g.UID), UID: g.UID, EmailID: g.EmailID, ThreadID: g.ThreadID, MessageID: g.MessageID,
		Flags: g.Flags, Labels: g.Labels, Related: rel, Cause: g.Cause,
	}}
}
