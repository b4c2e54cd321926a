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

// A move is seen in two halves, whichever folder is looked at first (events.md
// section 4). What left with an identity is held, without an event, until the other
// half came or every other folder was looked at. What came under an EMAILID that is
// known in another folder waits until that was looked at. Both waits are stored, in the
// commit that begins them.
const (
	holdDeleted = time.Minute      // at most that long a messageDeleted is held
	holdArrived = 10 * time.Second // likewise a messageNew that cannot be new mail
	maxHeld     = 5000             // messageDeleted of an account; what is beyond is told at once
	maxWaiting  = 1000             // messageNew of a folder

	// linkFor is how long after it was announced an arrival may be the other half of
	// what leaves now: mail programs that copy first and delete later are that slow.
	linkFor = 10 * time.Minute
)

// evidence is what a server's id of a message is called, and how sure it makes a link.
func (w *worker) evidence(certain bool) (events.Evidence, string) {
	switch {
	case !certain:
		return events.EvidenceFingerprint, "likely"
	case w.info.Gmail:
		return events.EvidenceGmailID, "certain"
	}
	return events.EvidenceEmailID, "certain"
}

// places reads where messages of these identities were seen, as the draft has it.
func (s *step) places(ctx context.Context, idents []store.Identity) (map[store.Identity][]store.Place, error) {
	places := map[store.Identity][]store.Place{}
	if len(idents) > 0 {
		stored, err := s.w.st.Recents(ctx, s.w.id, idents)
		if err != nil {
			return nil, err
		}
		for _, id := range idents {
			places[id] = stored[id]
		}
	}
	for id, p := range s.d.recent {
		if _, asked := places[id]; asked {
			places[id] = p
		}
	}
	return places, nil
}

// twins counts how often identities occur.
func twins(idents []store.Identity) map[store.Identity]int {
	n := make(map[store.Identity]int, len(idents))
	for _, id := range idents {
		n[id]++
	}
	return n
}

// keysOf are what messages of the folder are found by among the recent identities.
func (s *step) keysOf(uids []uint32) []store.MessageKey {
	keys := make([]store.MessageKey, len(uids))
	for i, uid := range uids {
		keys[i] = store.MessageKey{Folder: s.f.Num, UIDValidity: s.d.meta.UIDValidity, UID: uid}
	}
	return keys
}

// vanish tells the draft that messages left the folder. The blocks MUST be loaded.
func (s *step) vanish(ctx context.Context, uids []uint32) error {
	keys := s.keysOf(uids)
	found, err := s.w.st.IdentitiesAt(ctx, s.w.id, keys)
	if err != nil {
		return err
	}
	idents := make([]store.Identity, len(uids))
	for i, uid := range uids {
		idents[i] = found[keys[i]]
		if r, ok := s.d.record(uid); ok && r.EmailID != "" {
			idents[i] = identityBy(r.EmailID, "", 0)
		}
	}
	places, err := s.places(ctx, slices.DeleteFunc(slices.Clone(idents), func(id store.Identity) bool { return id == "" }))
	if err != nil {
		return err
	}
	own, err := s.intents(ctx)
	if err != nil {
		return err
	}
	same := twins(idents)
	now := time.Now()
	for i, uid := range uids {
		ident := idents[i]
		g, ok := s.d.leave(uid)
		if !ok {
			continue
		}
		list := slices.Clone(places[ident])
		self := slices.IndexFunc(list, func(p store.Place) bool { return p.Folder == s.f.Num && p.UID == uid && p.Gone == 0 })
		g.Identity, g.At, g.Until = ident, now.UnixMilli(), now.Add(holdDeleted).UnixMilli()
		g.EmailID = cmp.Or(g.EmailID, emailIDOf(ident))
		if self >= 0 {
			p := &list[self]
			g.InternalDate, g.MessageID = p.InternalDate, cmp.Or(p.MessageID, g.MessageID)
			p.Gone, p.Event = g.At, g.Event
		}
		if g.EmailID == "" && g.Print == 0 && g.InternalDate != 0 {
			g.Print = printOf(ident, g.InternalDate)
		}
		ours := s.left(own, &g)
		var rel *events.Related
		if same[ident] == 1 && ours != store.IntentExpunge {
			rel = s.cameBefore(&g, list, self, now)
		}
		switch {
		case rel == nil && ours != store.IntentExpunge && (g.EmailID != "" || g.Print != 0 || g.To.UID != 0) && s.w.mayHaveGone(s.f, len(s.d.hold)):
			s.d.hold = append(s.d.hold, g)
		default:
			s.d.deleted = append(s.d.deleted, goneEvent(&g, rel))
			s.d.bytes += 500
		}
		if len(list) > 0 {
			s.d.remember(ident, list)
			places[ident] = list
		}
	}
	return nil
}

// cameBefore is the arrival, announced already, that a message leaving now became; nil
// where there is none, or more than one.
func (s *step) cameBefore(g *store.Gone, list []store.Place, self int, now time.Time) *events.Related {
	certain := g.EmailID != ""
	at := -1
	for i, p := range list {
		if i == self || p.Linked {
			continue
		}
		if !certain && (p.InternalDate != g.InternalDate || p.InternalDate == 0) {
			continue
		}
		came := p.Folder != s.f.Num && p.Gone == 0 && !p.Arrived && now.Sub(time.UnixMilli(p.At)) < linkFor &&
			(self < 0 || p.At >= list[self].At && i > self) && s.w.byNum(p.Folder) != nil
		switch {
		case came && at < 0:
			at = i
		case came, !certain:
			return nil // two that it may have become, or that it may be
		}
	}
	if at < 0 {
		return nil
	}
	p := &list[at]
	p.Arrived = true
	if self >= 0 {
		list[self].Linked = true
	}
	evidence, confidence := s.w.evidence(certain)
	return &events.Related{
		Event: events.MessageNewType, EventID: events.ID(p.Event), ID: messageID(p.Folder, p.UID), UID: p.UID,
		Path: s.w.byNum(p.Folder).Path, Evidence: evidence, Confidence: confidence,
	}
}

// cameFrom finds what an arrival left: a message that is held, or one whose
// messageDeleted was told. All it finds are candidates; only one alone is a link.
func (s *step) cameFrom(m *Message, a *arrival, twin bool) {
	if s.cameByUs(m, a) || twin {
		return
	}
	ident := m.core().identity()
	certain, date := m.EmailID != "", m.InternalDate.Unix()
	if ident == "" || !certain && m.InternalDate.IsZero() {
		return
	}
	rivals := 0 // other messages that it may as well be
	at := -1
	for i, p := range a.places {
		switch {
		case p.Linked, !certain && p.InternalDate != date:
		case p.Folder != s.f.Num && p.Gone != 0 && p.Gone >= a.look.UnixMilli() && s.w.byNum(p.Folder) != nil && at < 0:
			at = i
		case p.Gone != 0, !certain:
			rivals++
		}
	}
	print := printOf(ident, date)
	var held *store.Gone
	for _, g := range s.w.gone {
		same := certain && g.EmailID == m.EmailID || !certain && g.Print != 0 && g.Print == print
		if !same || g.Folder == s.f.Num || slices.Contains(s.d.ended, g.Event) {
			continue
		}
		if held != nil {
			return
		}
		held = &g
	}
	evidence, confidence := s.w.evidence(certain)
	rel := events.Related{Event: events.MessageDeletedType, Evidence: evidence, Confidence: confidence}
	switch {
	case held != nil && (at < 0 || a.places[at].Event == held.Event) && rivals == 0:
		rel.EventID, rel.ID, rel.UID, rel.Path = events.ID(held.Event), messageID(held.Folder, held.UID), held.UID, held.Path
		a.from = held
	case held == nil && at >= 0 && rivals == 0:
		p := a.places[at]
		rel.EventID, rel.ID, rel.UID, rel.Path = events.ID(p.Event), messageID(p.Folder, p.UID), p.UID, s.w.byNum(p.Folder).Path
	default:
		return
	}
	if at >= 0 {
		a.places[at].Linked = true
	}
	a.related = &rel
}

// suspect has a folder looked at that an arrival may have left, where only its
// Message-ID says so: it was announced, and what left is linked to it.
func (s *step) suspect(m *Message, places []store.Place) {
	var from []*folder
	for _, p := range places {
		f := s.w.byNum(p.Folder)
		if f != nil && f != s.f && !p.Linked && p.Gone == 0 && p.InternalDate == m.InternalDate.Unix() {
			from = append(from, f)
		}
	}
	if len(from) == 1 && m.EmailID == "" {
		from[0].dirty = true
	}
}

// foundElsewhere is elsewhere for those of the messages that are too old to be new and
// known to nobody else.
func (s *step) foundElsewhere(ctx context.Context, msgs []Message, places map[store.Identity][]store.Place) (map[string][]*folder, error) {
	want := map[string]bool{}
	for i := range msgs {
		m := &msgs[i]
		if m.EmailID == "" || !tooOld(m.InternalDate, s.f.lookedAt()) || len(places[m.core().identity()]) > 0 || s.d.announces(m.UID) {
			continue
		}
		if _, known := s.d.record(m.UID); !known {
			want[m.EmailID] = true
		}
	}
	for _, g := range s.w.gone {
		delete(want, g.EmailID)
	}
	return s.elsewhere(ctx, want)
}

// elsewhere finds in which other folders messages with these EMAILIDs are, by going
// through all of folder state: only for messages that are too old to be new mail.
func (s *step) elsewhere(ctx context.Context, emailIDs map[string]bool) (map[string][]*folder, error) {
	out := map[string][]*folder{}
	for _, f := range s.w.folders {
		if len(emailIDs) == 0 || f == s.f || f.Watched == watchedNo || f.lost || f.meta.Unlooked {
			continue
		}
		look := &step{w: s.w, f: f, d: newDraft(s.w.site(f), f.meta)}
		err := look.records(ctx, func(recs []store.Record) error {
			for i := range recs {
				if id := recs[i].EmailID; id != "" && emailIDs[id] && !slices.Contains(out[id], f) {
					out[id] = append(out[id], f)
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, store.ErrCorrupt) {
			return nil, err
		}
	}
	return out, nil
}

// stillAt is in which other folders the state has a message that was seen there.
func (s *step) stillAt(ctx context.Context, emailID string, places []store.Place) (live []*folder, err error) {
	for _, p := range places {
		f := s.w.byNum(p.Folder)
		if f == nil || f == s.f || p.Gone != 0 || f.Watched == watchedNo || f.lost || f.meta.Unlooked || slices.Contains(live, f) {
			continue
		}
		look := &step{w: s.w, f: f, d: newDraft(s.w.site(f), f.meta)}
		switch err := look.load(ctx, p.UID); {
		case errors.Is(err, store.ErrCorrupt):
			continue
		case err != nil:
			return nil, err
		}
		if r, ok := look.d.record(p.UID); ok && (r.EmailID == "" || r.EmailID == emailID) {
			live = append(live, f)
		}
	}
	return live, nil
}

// postpone has the folders looked at that an arrival may have left, and the arrival wait.
func (s *step) postpone(uid uint32, live []*folder, returned bool) {
	s.d.wait(uid, time.Now().Add(holdArrived))
	if returned {
		s.d.comesBack(uid)
	}
	if s.f.waits == nil {
		s.f.waits = map[uint32][]uint32{}
	}
	for _, f := range live {
		f.dirty = true
		s.f.waits[uid] = append(s.f.waits[uid], f.Num)
	}
}

// lookedAtAll ends the waits of arrivals, in other folders, for a look at f.
func (w *worker) lookedAtAll(f *folder) {
	for _, g := range w.folders {
		for uid, nums := range g.waits {
			if nums = slices.DeleteFunc(nums, func(n uint32) bool { return n == f.Num }); len(nums) > 0 {
				g.waits[uid] = nums
				continue
			}
			delete(g.waits, uid)
			for i := range g.meta.Pending {
				if p := &g.meta.Pending[i]; p.UID == uid && p.Held {
					p.Next = time.Time{}.Add(1) // due
				}
			}
		}
	}
}
