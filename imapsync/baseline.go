package imapsync

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
)

// Why a folder's messages are taken in without the events that arrivals would be.
const (
	reasonAdded     = "added"     // the account is new, or was flushed
	reasonStateLost = "stateLost" // what was known of the account is gone
	reasonNew       = "new"       // the folder was found later
	reasonReset     = "reset"     // UIDVALIDITY changed, or the folder's state was lost
)

// baselineWindow is how many messages of a first look are read and committed at once.
const baselineWindow = 5000

// firstLook opens a folder's baseline: what is there is counted, what of it is to be
// announced is written down, and mailboxNew is said. From here on a crash only repeats
// the window it happened in.
func (s *step) firstLook(ctx context.Context) error {
	uids, proof, err := s.listed(ctx)
	if err == nil && proof == proofNone {
		err = errPartial
	}
	if err != nil {
		return err
	}
	m := &s.d.meta
	first := store.Baseline{Reason: reasonAdded}
	if m.Baseline != nil {
		first = *m.Baseline
	}
	top := s.sel.UIDNext
	if s.disagreed(proof != proofAbsent); m.Short {
		top = 0 // what does not show itself yet may be above what does
	}
	if n := len(uids); top == 0 && n > 0 {
		top = uids[n-1] + 1
	}
	top = max(top, 1)
	i, _ := slices.BinarySearch(uids, top)
	uids = uids[:i]
	if first.Announce, err = s.toAnnounce(ctx, first.Reason, uids); err != nil {
		return err
	}
	first.Top, first.Low, first.ModSeq = top, top, s.sel.ModSeq
	if m.Fast = s.w.fast(); m.Fast {
		first.Low, m.Snap.Messages = 1, uint32(len(uids)) // nothing is taken in
	}
	m.Unlooked, m.UIDValidity, m.UIDNext, m.Baseline = false, s.sel.UIDValidity, top, &first
	if first.Reason != reasonNew {
		m.Look = time.Now().UTC()
	}
	m.Told, s.d.moved = uint32(len(first.Announce)), true
	if first.Reason != reasonStateLost {
		s.d.tell(events.MailboxNewType, events.MailboxNew{
			Folder: s.d.mailbox(), UIDValidity: validity(m.UIDValidity), Messages: len(uids), Announced: len(first.Announce),
		})
	}
	s.uids = uids
	return s.write(ctx)
}

// toAnnounce chooses which of the messages that are there already are announced.
func (s *step) toAnnounce(ctx context.Context, reason string, uids []uint32) ([]uint32, error) {
	if len(uids) == 0 {
		return nil, nil
	}
	var from time.Time
	switch reason {
	case reasonAdded:
		// INTERNALDATE has whole seconds: the second of the registration counts.
		from = s.w.notifyFrom().Truncate(time.Second)
		switch {
		case from.IsZero():
			return nil, nil
		case from.Year() <= 1970: // all: no server has older mail, and some know no older days
			return slices.Clone(uids), nil
		}
	case reasonNew:
		if len(uids) <= s.w.newFolderLimit(ctx) {
			return slices.Clone(uids), nil
		}
		from = s.f.lookedAt().Add(-existingAfter)
	default:
		return nil, nil
	}
	hits, err := s.w.sess.Since(ctx, from.AddDate(0, 0, -1))
	if err != nil {
		return nil, err
	}
	var out []uint32
	for chunk := range slices.Chunk(hits, 1000) {
		ids, rest, err := all(ctx, chunk, uidSet(chunk), s.w.sess.Identities)
		if err != nil {
			return nil, err
		}
		places, err := s.recents(ctx, ids, reason == reasonNew)
		if err != nil {
			return nil, err
		}
		for _, uid := range rest { // of which nobody can say that it is old
			if _, there := slices.BinarySearch(uids, uid); there {
				out = append(out, uid)
			}
		}
		for _, m := range ids {
			if _, there := slices.BinarySearch(uids, m.UID); !there || m.InternalDate.Before(from) {
				continue
			}
			if len(places[m.identity()]) == 0 {
				out = append(out, m.UID)
			}
		}
	}
	slices.Sort(out)
	return out, nil
}

// all asks for messages, which stand in set, until no more of them come: an answer may be
// limited. What did not come is the rest.
func all(ctx context.Context, uids []uint32, set imap.UIDSet, ask func(context.Context, imap.UIDSet) ([]IdentityOf, error)) (got []IdentityOf, rest []uint32, err error) {
	for rest = uids; len(rest) > 0; set = uidSet(rest[:min(len(rest), relinkWindow)]) {
		some, err := ask(ctx, set)
		if err != nil {
			return nil, nil, err
		}
		came := make(map[uint32]bool, len(some))
		for i := range some {
			came[some[i].UID] = true
		}
		got = append(got, some...)
		left := slices.DeleteFunc(slices.Clone(rest), func(uid uint32) bool { return came[uid] })
		if len(left) == len(rest) {
			break
		}
		rest = left
	}
	slices.SortFunc(got, func(a, b IdentityOf) int { return cmp.Compare(a.UID, b.UID) })
	return slices.CompactFunc(got, func(a, b IdentityOf) bool { return a.UID == b.UID }), rest, nil
}

// span is the set from the first to the last of an ascending list.
func span(uids []uint32) imap.UIDSet {
	return imap.UIDSet{{Start: imap.UID(uids[0]), Stop: imap.UID(uids[len(uids)-1])}}
}

// recents looks the identities of these messages up, if asked to.
func (s *step) recents(ctx context.Context, ids []IdentityOf, look bool) (map[store.Identity][]store.Place, error) {
	var idents []store.Identity
	for _, m := range ids {
		if id := m.identity(); id != "" {
			idents = append(idents, id)
		}
	}
	if !look || len(idents) == 0 {
		return nil, nil
	}
	return s.w.st.Recents(ctx, s.w.id, idents)
}

// baseline takes in what the first look counted: windows of messages, newest first and
// silent, then the messages to announce. Mail that arrives meanwhile is announced
// between the windows.
func (s *step) baseline(ctx context.Context) error {
	if err := s.windows(ctx); err != nil {
		return err
	}
	if err := s.announce(ctx); err != nil {
		return err
	}
	m := &s.d.meta
	m.ModSeq, m.Baseline, s.d.moved = m.Baseline.ModSeq, nil, true
	s.uids = nil
	return nil
}

func (s *step) windows(ctx context.Context) error {
	low := s.d.meta.Baseline.Low
	if low <= 1 {
		return nil
	}
	uids := s.uids
	if uids == nil {
		var proof proof
		var err error
		if uids, proof, err = s.listed(ctx); err == nil && proof == proofNone {
			err = errPartial // what is left out would be announced as new
		}
		if err != nil {
			return err
		}
		i, _ := slices.BinarySearch(uids, low)
		uids = uids[:i]
	}
	if len(uids) > baselineWindow {
		select {
		case s.w.baselines <- struct{}{}:
			defer func() { <-s.w.baselines }()
		default: // the process reads enough large folders at once
			s.f.delay(func(d *delays) { d.queued = time.Now().Add(time.Second) })
			return errAgain
		}
	}
	s.f.delay(func(d *delays) { d.queued = time.Time{} })
	if err := s.w.compress(ctx, len(uids)); err != nil {
		return err
	}
	exists := int(s.w.sess.Exists())
	for len(uids) > 0 {
		var window []uint32
		window, uids = cutWindow(uids)
		if err := s.window(ctx, window, len(uids) == 0); err != nil {
			return err
		}
		s.w.progress(ctx, len(window))
		var err error
		if exists, err = s.live(ctx, exists); err != nil {
			return err
		}
		if err := s.giveWay(ctx); err != nil {
			return err
		}
	}
	if s.d.meta.Baseline.Low > 1 {
		s.setLow(1)
	}
	return nil
}

// cutWindow takes about baselineWindow UIDs off the end, at a block's boundary, so that
// every block is written once.
func cutWindow(uids []uint32) (window, rest []uint32) {
	i := max(0, len(uids)-baselineWindow)
	for i > 0 && store.BlockOf(uids[i-1]) == store.BlockOf(uids[i]) {
		i--
	}
	return uids[i:], uids[:i]
}

func (s *step) setLow(low uint32) {
	b := *s.d.meta.Baseline
	b.Low = low
	s.d.meta.Baseline, s.d.moved = &b, true
}

func (s *step) window(ctx context.Context, window []uint32, last bool) error {
	got, _, err := all(ctx, window, span(window), s.taken)
	if err != nil {
		return err
	}
	uids := make([]uint32, len(got))
	for i := range got {
		uids[i] = got[i].UID
	}
	if err := s.load(ctx, uids...); err != nil {
		return err
	}
	for i := range got {
		if _, known := s.d.record(got[i].UID); !known {
			s.d.silent(&got[i])
		}
	}
	low := window[0]
	if last {
		low = 1
	}
	s.setLow(low)
	if err := s.write(ctx); err != nil {
		return err
	}
	s.d.forget(0)
	return nil
}

// taken fetches of these messages what folder state keeps of them.
func (s *step) taken(ctx context.Context, set imap.UIDSet) ([]IdentityOf, error) {
	sess := s.w.sess
	var got []FlagsOf
	var err error
	switch s.d.keep {
	case store.IdentityFull:
		return sess.Identities(ctx, set)
	case store.IdentityNone:
		var d Delta
		d, err = sess.Flags(ctx, set)
		got = d.Flags
	default:
		got, err = sess.Window(ctx, set)
	}
	out := make([]IdentityOf, len(got))
	for i, g := range got {
		out[i] = IdentityOf{UID: g.UID, Flags: g.Flags, FlagsKnown: g.Known, ObjectIDs: g.ObjectIDs}
	}
	return out, err
}

// live announces what arrived since EXISTS was exists, and returns what it is now.
func (s *step) live(ctx context.Context, exists int) (int, error) {
	c := s.w.heard()
	s.expunged += c.Expunged
	now := int(s.w.sess.Exists())
	if !c.Exists || s.d.meta.Fast {
		return now, nil
	}
	n := max(s.d.meta.UIDNext, 1)
	want := now - exists + c.Expunged
	if err := s.above(ctx, n, max(n, n+uidAhead), want, want); err != nil {
		return now, err
	}
	return now, s.commit(ctx)
}

// announce says what the first look left to be said, ascending.
func (s *step) announce(ctx context.Context) error {
	exists := int(s.w.sess.Exists())
	for len(s.d.meta.Baseline.Announce) > 0 {
		left := s.d.meta.Baseline.Announce
		chunk := slices.Clone(left[:min(s.limit(), len(left))])
		q := question{s: s}
		msgs, err := q.ask(ctx, chunk)
		if err != nil {
			return err
		}
		if len(q.refused) > 1 && len(q.refused) == len(chunk) {
			return q.err
		}
		for _, uid := range q.refused {
			// Asked alone until less is asked of it: nothing to announce is skipped.
			for range poisonTries {
				more, err := (&question{s: s}).ask(ctx, []uint32{uid})
				if err != nil {
					return err
				}
				if len(more) > 0 {
					msgs = append(msgs, more...)
					break
				}
			}
		}
		slices.SortFunc(msgs, func(a, b Message) int { return int(int64(a.UID) - int64(b.UID)) })
		if err := s.withhold(ctx, chunk, msgs); err != nil {
			return err
		}
		if err := s.consume(ctx, msgs); err != nil {
			return err
		}
		s.d.told(chunk[len(chunk)-1])
		if err := s.write(ctx); err != nil {
			return err
		}
		if exists, err = s.live(ctx, exists); err != nil {
			return err
		}
		if err := s.giveWay(ctx); err != nil {
			return err
		}
	}
	return nil
}

// withhold takes messages to announce that did not come out of the state, to wait for
// them: whether they are gone the count check says.
func (s *step) withhold(ctx context.Context, asked []uint32, came []Message) error {
	if len(came) == len(asked) {
		return nil
	}
	if err := s.load(ctx, asked...); err != nil {
		return err
	}
	now := time.Now()
	for _, uid := range asked {
		if slices.ContainsFunc(came, func(m Message) bool { return m.UID == uid }) {
			continue
		}
		s.d.withhold(uid)
		if err := s.miss(ctx, uid, now, "notReturned", ""); err != nil {
			return err
		}
	}
	return nil
}

// uidSet makes ranges of an ascending list.
func uidSet(uids []uint32) imap.UIDSet {
	var set imap.UIDSet
	for i := 0; i < len(uids); {
		j := i
		for j+1 < len(uids) && uids[j+1] == uids[j]+1 {
			j++
		}
		set = append(set, imap.UIDRange{Start: imap.UID(uids[i]), Stop: imap.UID(uids[j])})
		i = j + 1
	}
	return set
}
