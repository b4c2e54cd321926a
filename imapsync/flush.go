package imapsync

import (
	"cmp"
	"context"
	"time"

	"github.com/postrider/postrider/store"
)

// flush forgets what is known of the account's folders, as was asked for, and has them
// looked at again as if for the first time. Folder numbers stay, and message ids with them.
// What is held is told first, while its messages are known; a flush that ends in the middle
// is begun again, by whoever holds the account then.
func (w *worker) flush(ctx context.Context) error {
	if err := w.tellHeld(ctx, func(*store.Gone) bool { return true }); err != nil {
		return err
	}
	st := w.state.Status
	st.Sync = store.SyncPhase{}
	c := store.Change{
		Flush:  &store.FlushChange{Flush: *w.state.Flush, Epoch: w.state.Epoch},
		Status: &store.StatusChange{Version: w.state.StatusVersion, Status: st},
	}
	for _, f := range w.folders {
		c.Folders = append(c.Folders, store.FolderChange{Num: f.Num, Version: f.meta.Version, Meta: w.flushed(f), Reset: true})
	}
	w.loaded = false
	if err := w.commit(ctx, c); err != nil {
		return err
	}
	w.log.InfoContext(ctx, "account flushed", "account", w.id, "folders", len(c.Folders))
	w.folders, w.messages = nil, 0
	return w.load(ctx)
}

// flushed is the state of a folder of which all is forgotten. What was told of the folder
// itself is not: it is known (its UIDVALIDITY says so), and may have been said to refuse.
func (w *worker) flushed(f *folder) store.FolderMeta {
	m := store.FolderMeta{
		Incarnation: cmp.Or(f.meta.Incarnation, w.incarnation()), Returns: f.meta.Returns, UIDValidity: f.meta.UIDValidity,
		Unlooked: true, Baseline: &store.Baseline{Reason: reasonAdded},
	}
	if f.meta.Fail != nil {
		fail := *f.meta.Fail
		fail.Next = time.Time{} // tried at once
		m.Fail = &fail
	}
	return m
}

// notifyFrom is since when what is there at the first look is announced.
func (w *worker) notifyFrom() time.Time {
	if from := w.state.NotifyFrom; !from.IsZero() {
		return from
	}
	return w.account().NotifyFrom
}
