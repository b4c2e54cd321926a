package imapsync

import (
	"context"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
)

// An arrival whose identity is still present elsewhere may be the second half of a
// move whose first half was not looked at yet. Such expectations live in memory only:
// without them the deletion is said all the same, only without its link.
const (
	expectFor  = 10 * time.Minute
	expectMost = 2000
)

type placeKey struct{ folder, uid uint32 }

// expectation is a deletion that would be the other half of an arrival.
type expectation struct {
	ident     store.Identity
	messageID string
	related   events.Related
	at        time.Time
}

// expect notes where the arrival may have come from, and has a look taken there. Two
// candidates are none.
func (s *step) expect(m *Message, e events.MessageNew, places []store.Place) {
	if e.Related != nil || m.InternalDate.IsZero() {
		return
	}
	var candidates []store.Place
	for _, p := range places {
		if p.Folder != s.f.Num && !p.Linked && p.Gone == 0 && p.InternalDate == m.InternalDate.Unix() && s.w.byNum(p.Folder) != nil {
			candidates = append(candidates, p)
		}
	}
	if len(candidates) != 1 {
		return
	}
	w, p := s.w, candidates[0]
	if len(w.expected) >= expectMost {
		clear(w.expected)
	}
	if w.expected == nil {
		w.expected = map[placeKey]expectation{}
	}
	w.expected[placeKey{p.Folder, p.UID}] = expectation{
		ident: identityOf(m.MessageID, m.Size), messageID: m.MessageID, at: time.Now(),
		related: events.Related{
			Event: events.MessageNewType, EventID: s.d.messageEvent(events.MessageNewType, &s.d.meta, m.UID),
			ID: e.ID, UID: m.UID, Path: s.f.Path, Evidence: events.EvidenceFingerprint, Confidence: "likely",
		},
	}
	w.byNum(p.Folder).dirty = true
}

// vanish tells the draft that messages left the folder, each with the arrival that it
// became, where that is known. The blocks MUST be loaded.
func (s *step) vanish(ctx context.Context, uids []uint32) error {
	found := map[uint32]expectation{}
	var idents []store.Identity
	now := time.Now()
	for _, uid := range uids {
		k := placeKey{s.f.Num, uid}
		x, ok := s.w.expected[k]
		if !ok {
			continue
		}
		delete(s.w.expected, k)
		if now.Sub(x.at) <= expectFor {
			found[uid] = x
			idents = append(idents, x.ident)
		}
	}
	var places map[store.Identity][]store.Place
	if len(idents) > 0 {
		var err error
		if places, err = s.w.st.Recents(ctx, s.w.id, idents); err != nil {
			return err
		}
	}
	for _, uid := range uids {
		x, ok := found[uid]
		if !ok {
			s.d.vanish(uid, nil, "")
			continue
		}
		if !s.d.vanish(uid, &x.related, x.messageID) {
			continue
		}
		list := places[x.ident]
		if earlier, ok := s.d.recent[x.ident]; ok {
			list = earlier
		}
		for i := range list {
			if list[i].Folder == s.f.Num && list[i].UID == uid {
				list[i].Gone, list[i].Linked = now.UnixMilli(), true
			}
		}
		if len(list) > 0 {
			s.d.remember(x.ident, list)
		}
	}
	return nil
}
