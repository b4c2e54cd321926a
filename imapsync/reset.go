package imapsync

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
)

// turned is another UIDVALIDITY that was seen once.
type turned struct {
	value uint32
	next  time.Time
}

const (
	turnedWait   = 5 * time.Second // between the two looks at another UIDVALIDITY
	resetsADay   = 5
	relinkWindow = 1000
)

// judgeValidity compares UIDVALIDITY with what is stored. A new value counts when it is
// seen twice; none at all never resets a folder.
func (s *step) judgeValidity() error {
	f := s.f
	was := f.delays().turned
	if s.sel.UIDValidity == 0 || f.meta.UIDValidity == 0 || s.sel.UIDValidity == f.meta.UIDValidity {
		f.turnsTo(turned{})
		return nil
	}
	if f.meta.Count == 0 && f.meta.UIDNext <= 1 && f.meta.Baseline == nil {
		// QUIRK(courier): a folder that nobody has selected yet has no UIDVALIDITY of its
		// own, and EXAMINE, which writes nothing, tells the time instead:
		//	S: * 0 EXISTS … * OK [UIDVALIDITY 795345253] Ok
		//	S: * 0 EXISTS … * OK [UIDVALIDITY 795345256] Ok	three seconds later
		// Where there was never a message, there is nothing to be mistaken for another.
		f.turnsTo(turned{})
		s.d.meta.UIDValidity = s.sel.UIDValidity
		return nil
	}
	now := time.Now()
	if was.value != s.sel.UIDValidity || now.Before(was.next) {
		if was.value != s.sel.UIDValidity {
			f.turnsTo(turned{s.sel.UIDValidity, now.Add(turnedWait)})
		}
		return errAgain
	}
	if err := f.turnsTooOften(now); err != nil {
		f.turnsTo(turned{})
		return err
	}
	s.turnedTo = true
	return nil
}

// turnsTo notes another UIDVALIDITY that was seen once, or that there is none.
func (f *folder) turnsTo(t turned) { f.delay(func(d *delays) { d.turned = t }) }

// turnsTooOften says that a folder has been taken in anew as often as it may be in a day.
func (f *folder) turnsTooOften(now time.Time) error {
	n := len(f.resets(now))
	if n < resetsADay {
		return nil
	}
	return &Error{
		Kind: ErrNo, Stage: StageCommand, Command: "EXAMINE",
		Text: fmt.Sprintf("UIDVALIDITY changed %d times within a day", n+1),
	}
}

// resets are the times of the last day at which the folder was taken in anew.
func (f *folder) resets(now time.Time) []time.Time {
	return slices.DeleteFunc(slices.Clone(f.meta.Resets), func(t time.Time) bool { return now.Sub(t) > 24*time.Hour })
}

// renumbered says whether the UIDs of a folder that has no UIDVALIDITY stand for other
// messages than they did: the Message-IDs of some recent ones are asked for (sync.md §4.7).
func (s *step) renumbered(ctx context.Context) (bool, error) {
	if s.sel.UIDValidity != 0 || s.d.meta.UIDValidity != 0 {
		return false, nil
	}
	ids, err := s.messageIDs(ctx)
	if err != nil || len(ids) == 0 {
		return false, err
	}
	got, err := s.w.sess.Identities(ctx, uidSet(slices.Sorted(maps.Keys(ids))))
	if err != nil {
		return false, err
	}
	same, other := 0, 0
	for _, m := range got {
		switch id, asked := ids[m.UID]; {
		case !asked || m.MessageID == "":
		case m.MessageID == id:
			same++
		default:
			other++
		}
	}
	return other > same, nil
}

// messageIDs are the Message-IDs, as far as they were kept, of some of the newest messages
// by their UIDs.
func (s *step) messageIDs(ctx context.Context) (map[uint32]string, error) {
	const among, most = 200, 20
	uids, err := s.known(ctx)
	if err != nil {
		return nil, err
	}
	keys := s.keysOf(uids[max(0, len(uids)-among):])
	found, err := s.w.st.IdentitiesAt(ctx, s.w.id, keys)
	if err != nil {
		return nil, err
	}
	places, err := s.places(ctx, slices.Collect(maps.Values(found)))
	if err != nil {
		return nil, err
	}
	ids := map[uint32]string{}
	for _, key := range slices.Backward(keys) {
		for _, p := range places[found[key]] {
			if p.Folder == key.Folder && p.UID == key.UID && p.Gone == 0 && p.MessageID != "" && len(ids) < most {
				ids[key.UID] = p.MessageID
			}
		}
	}
	return ids, nil
}

// relink takes a folder in anew, under a new UIDVALIDITY or because its state is gone.
// Messages that recent identities know are matched silently; of the rest those that
// arrived since the last look are announced. All of it is one commit; a crash before
// it begins anew.
func (s *step) relink(ctx context.Context, reason string) error {
	uids, proof, err := s.listed(ctx)
	if err == nil && proof == proofNone {
		err = errPartial // what is left out would come back later, as if it had been gone
	}
	if err != nil {
		return err
	}
	var had census
	if !s.f.lost {
		if had, err = s.census(ctx); err != nil {
			return err
		}
	}
	if err := s.w.tellHeld(ctx, holdsOf(s.f)); err != nil {
		return err // under the UIDVALIDITY that they had
	}
	old := s.f.meta
	look := s.f.lookedAt()
	if look.IsZero() {
		look = s.w.listLook
	}
	m := store.FolderMeta{
		Version: old.Version, Incarnation: old.Incarnation + 1, UIDValidity: s.sel.UIDValidity, UIDNext: max(s.sel.UIDNext, 1),
		ModSeq: s.sel.ModSeq, Look: look, Told: old.Told, Skew: s.d.meta.Skew, Fast: old.Fast, Fail: old.Fail,
		Resets: append(s.f.resets(time.Now()), time.Now().UTC()),
	}
	if m.Short = proof != proofAbsent; m.Short {
		m.UIDNext = 1 // what does not show itself yet may be above what does
	}
	if old.Incarnation == 0 {
		// What the folder's events were derived from is gone: any number but the old ones.
		m.Incarnation, m.Fast = uint32(time.Now().Unix()), s.w.fast()
	}
	s.d.restart(m)
	clear(s.d.blocks)
	clear(s.d.was)
	next := store.Baseline{Reason: reasonReset, Low: 1, ModSeq: s.sel.ModSeq}
	// A first look that was still announcing what it found goes on with it.
	from := s.w.notifyFrom().Truncate(time.Second)
	untold := old.Baseline != nil && old.Baseline.Reason == reasonAdded && !from.IsZero()
	matched := 0
	for chunk := range slices.Chunk(uids, relinkWindow) {
		ids, rest, err := all(ctx, chunk, span(chunk), s.w.sess.Identities)
		if err != nil {
			return err
		}
		places, err := s.recents(ctx, ids, true)
		if err != nil {
			return err
		}
		for i := range ids {
			one := &ids[i]
			s.d.load(s.d.need(one.UID), nil)
			s.d.silent(one)
			s.d.meta.UIDNext = max(s.d.meta.UIDNext, one.UID+1)
			known := had.has(one)
			switch {
			case s.match(one, places, old.Baseline) || known:
				matched++
			case !tooOld(one.InternalDate, look), untold && !one.InternalDate.Before(from):
				next.Announce = append(next.Announce, one.UID)
			}
		}
		if m.Fast { // no list of what is known shows later that they are new
			next.Announce = append(next.Announce, rest...)
			slices.Sort(next.Announce)
		}
		s.w.progress(ctx, len(ids))
	}
	next.Top = s.d.meta.UIDNext
	s.d.meta.Baseline = &next
	reset := events.MailboxReset{
		Folder: s.d.mailbox(), UIDValidity: validity(m.UIDValidity), Reason: reason,
		Messages: s.d.known(), Matched: matched, Announced: len(next.Announce),
	}
	if m.Fast {
		reset.Messages, s.d.meta.Snap.Messages = len(uids), uint32(len(uids))
	}
	if old.UIDValidity != 0 {
		prev := validity(old.UIDValidity)
		reset.PrevUIDValidity = &prev
	}
	s.d.tell(events.MailboxResetType, reset)
	c := s.d.change()
	c.Folders[0].Reset = true
	if err := s.w.commit(ctx, c); err != nil {
		return err
	}
	s.f.meta = c.Folders[0].Meta
	s.f.meta.Version = c.Folders[0].Version + 1
	s.f.lost, s.turnedTo, s.f.look = false, false, time.Time{}
	s.f.turnsTo(turned{})
	s.w.met.resets.WithLabelValues(reason).Inc()
	s.d.restart(s.f.meta)
	clear(s.d.blocks)
	clear(s.d.was)
	if err := s.baseline(ctx); err != nil {
		return err
	}
	if err := s.differences(ctx); err != nil {
		return err
	}
	s.settled()
	return nil
}

// match recognises a message by its identity and gives its place the new UID. One that was
// told of before a flush, and is still to be told of again, is none of those.
func (s *step) match(m *IdentityOf, places map[store.Identity][]store.Place, first *store.Baseline) bool {
	ident := m.identity()
	if ident == "" {
		return false
	}
	list := places[ident]
	for i := range list {
		p := &list[i]
		if p.Folder != s.f.Num || p.Gone != 0 || p.InternalDate != m.InternalDate.Unix() || p.Event == s.eventOf(m.UID) {
			continue
		}
		if owes(first, p.UID) {
			places[ident] = slices.Delete(list, i, i+1)
			s.d.remember(ident, places[ident])
			return false
		}
		p.UID, p.Event = m.UID, s.eventOf(m.UID)
		s.d.remember(ident, list)
		return true
	}
	return false
}

// eventOf is the messageNew that a message would have been announced with.
func (s *step) eventOf(uid uint32) string {
	return string(s.d.messageEvent(events.MessageNewType, &s.d.meta, uid))
}
