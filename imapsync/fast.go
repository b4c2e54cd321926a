package imapsync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/postrider/postrider/store"
)

// Of a folder that is watched fast new mail alone is told, and nothing is kept of its messages:
// the cursor says which were told of. So it moves only over what the server has named; where
// UIDs before the next that came are missing, not before the number of messages says that
// they are gone.

// fast says whether the account wants folders to be watched so. It holds for a folder from its
// first look on, until its state begins anew.
func (w *worker) fast() bool { return w.account().Indexer == store.IndexerFast }

// onlyNew is differences for a folder that is watched fast.
func (s *step) onlyNew(ctx context.Context) error {
	err := s.arrivals(ctx)
	if errors.Is(err, errAgain) {
		if cerr := s.commit(ctx); cerr != nil {
			return cerr
		}
	}
	if err != nil {
		return err
	}
	s.hear()
	return s.complete(ctx, false)
}

// arrivals tells of what the server assigned since the cursor, and of what is waited for.
func (s *step) arrivals(ctx context.Context) error {
	m, now := &s.d.meta, time.Now()
	s.before = max(m.UIDNext, 1)
	s.exists = s.w.sess.Exists()
	waited := slices.ContainsFunc(m.Pending, func(p store.Pending) bool { return !now.Before(p.Next) })
	if err := s.awaited(ctx); err != nil {
		return err
	}
	more := int(s.exists) - int(m.Snap.Messages) + s.expunged // at least
	missing := false
	if s.hints.Exists || s.fresh && (more > 0 || s.sel.UIDNext == 0 || s.sel.UIDNext > m.UIDNext || s.exists != s.sel.Exists) {
		from := max(m.UIDNext, 1)
		e, err := s.w.sess.UIDs(ctx, from, 0)
		if err == nil && !e.Complete {
			err = errPartial
		}
		if err != nil {
			return err
		}
		end := uint64(from)
		if s.fresh {
			end = max(end, uint64(s.sel.UIDNext))
		}
		if n := len(e.UIDs); n > 0 {
			end = max(end, uint64(e.UIDs[n-1])+1)
		}
		missing = len(e.UIDs) < max(more, int(end-uint64(from)))
		sure := len(e.UIDs)
		for i, uid := range e.UIDs {
			if missing && uid != from+uint32(i) {
				sure = i
				break
			}
		}
		if err := s.fetchAll(ctx, e.UIDs[:sure]); err != nil {
			return err
		}
	}
	if missing || waited && len(m.Pending) > 0 {
		return s.counted(ctx)
	}
	return nil
}

// counted finds out by the number of messages whether what did not come is gone, and tells of
// what came behind it. While messages are counted that are not listed the cursor stays.
func (s *step) counted(ctx context.Context) error {
	uids, proof, err := s.listed(ctx)
	if err != nil {
		return err
	}
	m := &s.d.meta
	switch {
	case proof == proofAbsent:
		s.disagreed(false)
		for _, p := range slices.Clone(m.Pending) {
			if _, there := slices.BinarySearch(uids, p.UID); !there {
				s.d.gone(p.UID)
			}
		}
	case s.again: // it changes just now
		s.f.dirty = true
		return errAgain
	default:
		if err := s.disagree(int(s.w.sess.Exists())-len(uids), proof); err != nil {
			return err
		}
	}
	i, _ := slices.BinarySearch(uids, max(m.UIDNext, 1))
	return s.fetchAll(ctx, uids[i:])
}

// fastPlan says which folders are watched fast, and whether that is to change.
func (w *worker) fastPlan() (plan []string, all bool) {
	watched, fast := 0, 0
	for _, f := range w.folders {
		if f.Watched != watchedNo && !f.meta.Unlooked {
			watched++
			if f.meta.Fast {
				fast++
			}
		}
	}
	all = watched > 0 && fast == watched
	switch {
	case all:
		plan = append(plan, "new mail only: changes and deletions are not told (imapIndexer: fast)")
	case fast > 0:
		plan = append(plan, fmt.Sprintf("%d folders: new mail only, changes and deletions are not told", fast))
	}
	if watched > 0 && (w.fast() && !all || !w.fast() && fast > 0) {
		plan = append(plan, "imapIndexer: was changed, which takes a flush to have its effect")
	}
	return plan, all
}
