package imapsync

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/postrider/postrider/store"
)

// uidAhead is how far above the cursor UIDs are asked for without being named. It
// stands in for `n:*`, which brings the newest message even when that is older than n;
// a server that leaves larger gaps is found out by the count check.
const uidAhead = 1 << 20

// news looks for messages above the cursor.
func (s *step) news(ctx context.Context) error {
	m := &s.d.meta
	n := max(m.UIDNext, 1)
	least := int(s.w.sess.Exists()) - m.Skew - s.d.known() + s.expunged
	want := least
	last := n + uidAhead
	if last < n {
		last = ^uint32(0)
	}
	switch {
	case s.fresh && s.sel.UIDNext != 0 && s.w.sess.Exists() == s.sel.Exists:
		if s.sel.UIDNext <= n {
			return nil // below n: rule 7, the count check finds out
		}
		last = s.sel.UIDNext - 1
		want = int(min(last-n+1, 1<<30))
	case s.fresh && s.sel.UIDNext == 0:
		// QUIRK(courier): EXAMINE tells no UIDNEXT, and a number of messages that adds up is
		// no proof: as many may have gone as have come.
	case want <= 0 && !s.hints.Exists:
		return nil
	}
	return s.above(ctx, n, last, want, least)
}

// gapMost is how large a folder may be to be listed because of a gap; a larger one the
// daily audit lists.
const gapMost = 100_000

// gaps finds out whether UIDs above the cursor, which the server has assigned since the
// last complete look, did not come. They may have gone again; or they cannot be read yet, and as
// many others have gone, so that the number fits. What vanished only T1 tells apart.
func (s *step) gaps(ctx context.Context) error {
	m := &s.d.meta
	from, end := max(s.before, m.Snap.UIDNext, 1), s.sel.UIDNext
	if s.fresh && end != 0 && end < s.before && end != m.Snap.UIDNext {
		// A mailbox of before: as many may have come back as are lost. Or other UIDs, where
		// no UIDVALIDITY tells: first the audit compares Message-IDs.
		s.gap, s.f.auditNow = s.sel.UIDValidity != 0, true
		return nil
	}
	if !s.fresh || end <= from || s.tier() == tierQResync || s.d.known() > gapMost {
		return nil
	}
	if end-from > chunkMessages {
		s.gap = true
		return nil
	}
	for uid := from; uid < end && !s.gap; uid++ {
		if err := s.load(ctx, uid); err != nil {
			return err
		}
		_, known := s.d.record(uid)
		s.gap = !known && s.d.awaited(uid) == nil
	}
	return nil
}

// above announces the messages n..last, of which there are about want, and least by the
// number of messages.
func (s *step) above(ctx context.Context, n, last uint32, want, least int) error {
	if want > s.limit() || s.f.limit > 0 { // by name where a FETCH ended the connection
		e, err := s.w.sess.UIDs(ctx, n, 0)
		if err != nil {
			return err
		}
		return s.fetchAll(ctx, e.UIDs)
	}
	var set imap.UIDSet
	set.AddRange(imap.UID(n), imap.UID(last))
	msgs, err := s.w.sess.Messages(ctx, set)
	gaps := len(msgs) > 0 && int(msgs[len(msgs)-1].UID-n) >= len(msgs)
	switch {
	case err == nil && (len(msgs) >= least || !gaps):
		return s.consume(ctx, msgs)
	case err != nil && !goesOn(err):
		s.f.limit = 1 // by name, one by one, on the next connection
		return err
	}
	// The server refuses some message of the range, or one that there is cannot be read yet
	// and others behind it can: find out which.
	e, err := s.w.sess.UIDs(ctx, n, 0)
	if err != nil {
		return err
	}
	return s.fetchAll(ctx, e.UIDs)
}

func (s *step) limit() int {
	if s.f.limit > 0 {
		return int(s.f.limit)
	}
	return chunkMessages
}

// awaited asks again for UIDs that were announced and not handed out.
func (s *step) awaited(ctx context.Context) error {
	now := time.Now()
	var due []uint32
	for _, p := range s.d.meta.Pending {
		if !now.Before(p.Next) && (p.UID < s.d.meta.UIDNext || !s.d.meta.Fast) {
			due = append(due, p.UID)
		}
	}
	return s.fetchAll(ctx, due)
}

// fetchAll announces the messages of these UIDs, which the server named. What it does
// not hand out is waited for.
func (s *step) fetchAll(ctx context.Context, uids []uint32) error {
	for len(uids) > 0 {
		k := min(s.limit(), len(uids))
		chunk := uids[:k]
		uids = uids[k:]
		q := question{s: s}
		msgs, err := q.ask(ctx, chunk)
		if errors.Is(err, errTooLarge) && k > 1 {
			s.f.limit, uids = int32(k/2), slices.Concat(chunk, uids)
			continue
		}
		if err != nil {
			return err
		}
		if len(q.refused) > 1 && len(q.refused) == len(chunk) {
			return q.err // all of them: it is the folder, not a message
		}
		if err := s.take(ctx, chunk, msgs, &q); err != nil {
			return err
		}
		if s.f.limit > 0 {
			s.f.limit = min(2*s.f.limit, chunkMessages)
		}
		if err := s.giveWay(ctx); err != nil {
			return err
		}
	}
	return nil
}

// returning says whether a UID that the state does not have would be one that came back:
// the step began behind it, and nobody waits for it.
func (s *step) returning(uid uint32) bool { return uid < s.before && s.d.awaited(uid) == nil }

// take tells of what came of a chunk, and has what did not come be waited for, in their
// order: wherever it is stored, the cursor is past nothing that is neither.
func (s *step) take(ctx context.Context, asked []uint32, came []Message, q *question) error {
	var full error
	for _, uid := range asked {
		i, there := slices.BinarySearchFunc(came, uid, func(m Message, uid uint32) int { return cmp.Compare(m.UID, uid) })
		if there || full != nil {
			continue
		}
		if err := s.consume(ctx, came[:i]); err != nil {
			return err
		}
		came = came[i:]
		if err := s.absent(ctx, uid, q); errors.Is(err, errTooManyMissing) {
			full = err
		} else if err != nil {
			return err
		}
	}
	if err := s.consume(ctx, came); err != nil {
		return err
	}
	if full != nil {
		if err := s.commit(ctx); err != nil {
			return err
		}
	}
	return full
}

// absent notes that a message did not come.
func (s *step) absent(ctx context.Context, uid uint32, q *question) error {
	if err := s.load(ctx, uid); err != nil {
		return err
	}
	if _, ok := s.d.record(uid); ok {
		return nil // known already; whether it is gone the count check says
	}
	back := s.returning(uid)
	reason, response := "notReturned", ""
	if slices.Contains(q.refused, uid) {
		reason, response = "serverError", responseOf(q.err)
	}
	if err := s.miss(ctx, uid, time.Now(), reason, response); err != nil {
		return err
	}
	if back {
		s.d.comesBack(uid)
	}
	if uid >= s.d.meta.UIDNext { // the cursor goes past it: Pending keeps it
		s.d.meta.UIDNext, s.d.moved = uid+1, true
	}
	return nil
}

// pendingMost is how many messages of a folder are waited for at once: a server may name
// any number that it does not hand out.
const pendingMost = 10_000

// miss notes that a message did not come. Beyond what is waited for, the folder is
// refused: what it has more is asked for when that is settled.
func (s *step) miss(ctx context.Context, uid uint32, now time.Time, reason, response string) error {
	if len(s.d.meta.Pending) >= pendingMost && s.d.awaited(uid) == nil {
		if err := s.commit(ctx); err != nil {
			return err
		}
		return errTooManyMissing
	}
	s.d.miss(uid, now, reason, response)
	return nil
}

var errTooManyMissing = &Error{Kind: ErrNo, Stage: StageCommand, Command: "UID FETCH", Text: "too many messages are named and not handed out"}

// question is a FETCH that is halved where the server refuses it.
type question struct {
	s       *step
	refused []uint32 // refused even alone
	came    int
	err     error // why
}

// poisonTries is how often a single message may fail before less is asked of it.
const poisonTries = 3

func (q *question) ask(ctx context.Context, uids []uint32) ([]Message, error) {
	f := q.s.f
	if len(uids) == 1 && f.poison[uids[0]] >= poisonTries {
		return q.askLess(ctx, uids[0])
	}
	msgs, err := q.s.w.sess.Messages(ctx, uidSet(uids))
	switch {
	case err == nil:
		q.came += len(msgs)
		return msgs, nil
	case ctx.Err() != nil:
		return nil, err
	case len(uids) == 1:
		if f.poison == nil {
			f.poison = map[uint32]int{}
		}
		f.poison[uids[0]]++
		if !goesOn(err) {
			return nil, err
		}
		q.refused, q.err = append(q.refused, uids[0]), err
		return msgs, nil
	case errors.Is(err, errTooLarge): // nor are the halves held together
		return nil, err
	case !goesOn(err):
		f.limit = int32(max(1, len(uids)/2))
		return nil, err
	}
	const giveUp = 8 // refused one by one and nothing came: it is not the messages
	if q.came == 0 && len(q.refused) >= giveUp {
		return nil, err
	}
	left := slices.DeleteFunc(slices.Clone(uids), func(uid uint32) bool {
		return slices.ContainsFunc(msgs, func(m Message) bool { return m.UID == uid })
	})
	if len(left) == 0 {
		return msgs, nil
	}
	for _, half := range [][]uint32{left[:len(left)/2], left[len(left)/2:]} {
		if len(half) == 0 {
			continue
		}
		more, err := q.ask(ctx, half)
		if err != nil {
			return nil, err
		}
		msgs = append(msgs, more...)
	}
	slices.SortFunc(msgs, func(a, b Message) int { return int(int64(a.UID) - int64(b.UID)) })
	return msgs, nil
}

// errPoison stands for a question that was not asked, because it ended the connection
// whenever it was.
var errPoison = errors.New("asking for the message ends the connection")

// askLess gets what a server gives of a message whose parts it cannot hand out.
func (q *question) askLess(ctx context.Context, uid uint32) ([]Message, error) {
	sess, poison := q.s.w.sess, q.s.f.poison
	m := Message{UID: uid, Damaged: []string{"envelope", "bodyStructure", "headers"}}
	if poison[uid] >= 3*poisonTries {
		q.refused, q.err = append(q.refused, uid), errPoison
		return nil, nil
	}
	var ids []IdentityOf
	err := errPoison
	if poison[uid] < 2*poisonTries {
		if ids, err = sess.Identities(ctx, uidSet([]uint32{uid})); err != nil && !goesOn(err) {
			poison[uid]++ // it ends the connection: less is asked of it on another one
			return nil, err
		}
	}
	if err == nil && len(ids) == 1 {
		i := ids[0]
		m.Flags, m.FlagsKnown, m.InternalDate, m.Size, m.MessageID, m.ObjectIDs = i.Flags, i.FlagsKnown, i.InternalDate, i.Size, i.MessageID, i.ObjectIDs
		return []Message{m}, nil
	}
	flags, ferr := sess.Flags(ctx, uidSet([]uint32{uid}))
	if ferr != nil && !goesOn(ferr) {
		poison[uid]++
		return nil, ferr
	}
	if f := flags.Flags; ferr == nil && len(f) == 1 {
		m.Flags, m.FlagsKnown, m.ObjectIDs = f[0].Flags, f[0].Known, f[0].ObjectIDs
		m.Damaged = append(m.Damaged, "internalDate", "size")
		return []Message{m}, nil
	}
	q.refused, q.err = append(q.refused, uid), errors.Join(err, ferr)
	return nil, nil
}

// consume tells the draft of messages, and commits when a chunk is full.
func (s *step) consume(ctx context.Context, msgs []Message) error {
	if len(msgs) == 0 {
		return nil
	}
	uids := make([]uint32, len(msgs))
	var idents []store.Identity
	for i := range msgs {
		uids[i] = msgs[i].UID
		if id := msgs[i].core().identity(); id != "" {
			idents = append(idents, id)
		}
	}
	if err := s.load(ctx, uids...); err != nil {
		return err
	}
	places, err := s.places(ctx, idents)
	if err != nil {
		return err
	}
	own, err := s.intents(ctx)
	if err != nil {
		return err
	}
	same := twins(idents)
	old, err := s.foundElsewhere(ctx, msgs, places)
	if err != nil {
		return err
	}
	if s.toldAt.IsZero() {
		s.toldAt = time.Now()
	}
	var inbox categories
	for i := range msgs {
		m := &msgs[i]
		_, known := s.d.record(m.UID)
		tell := s.d.announces(m.UID)
		if known && !tell {
			s.d.flags(&FlagsOf{UID: m.UID, Flags: m.Flags, Known: m.FlagsKnown, ObjectIDs: m.ObjectIDs})
			continue
		}
		if !known && m.UID < s.d.meta.UIDNext && s.d.meta.Baseline != nil && m.UID < s.d.meta.Baseline.Top && !tell {
			continue // the windows of the first look take it silently
		}
		if s.d.meta.Fast && (m.UID < s.d.meta.UIDNext || m.UID == ^uint32(0)) && !tell && s.d.awaited(m.UID) == nil {
			continue // told of, or there before the first look; no cursor gets past the last UID there can be
		}
		ident := m.core().identity()
		ours := s.appended(own, m)
		a := s.arrival(m, places[ident], same[ident] > 1 || ours != nil)
		if a.own = ours != nil; a.own {
			s.d.claim(ours)
		}
		p := s.d.awaited(m.UID)
		a.returned = !known && !tell && (s.returning(m.UID) || p != nil && p.Returned)
		a.backfill = tell && s.d.meta.Baseline.Reason == reasonAdded
		if from := s.came(own, m, &a); from != nil && !tell && s.d.awaited(m.UID) == nil && len(s.d.meta.Pending) < maxWaiting {
			s.postpone(m.UID, []*folder{from}, a.returned)
			continue
		}
		if m.EmailID != "" && a.related == nil && !a.own && !a.copied {
			live, err := s.stillAt(ctx, m.EmailID, a.places)
			if err != nil {
				return err
			}
			for _, f := range old[m.EmailID] {
				if !slices.Contains(live, f) {
					live = append(live, f)
				}
			}
			waited := s.d.awaited(m.UID)
			if len(live) > 0 && !tell && waited == nil && !a.returned && len(s.d.meta.Pending) < maxWaiting {
				s.postpone(m.UID, live, false)
				continue
			}
			a.copied = len(live) > 0
		}
		if g := s.w.heldHere(s.f, m.UID); g != nil {
			s.d.tellHeld(g, nil) // it left and is back: both are told, in this order
		}
		if a.category, err = inbox.of(ctx, s, msgs[i:]); err != nil {
			return err
		}
		var done func()
		if a.content, done, err = s.content(ctx, m); err != nil {
			return err
		}
		s.d.arrive(m, a)
		delete(s.f.waits, m.UID)
		if ident != "" {
			places[ident] = s.d.recent[ident]
			s.suspect(m, a.places)
		}
		if s.d.full() || a.content != nil && time.Since(s.toldAt) > tellWithin {
			err := s.write(ctx)
			s.toldAt = time.Now()
			if done(); err != nil {
				return err
			}
			// Blocks that the rest of the batch touches may have been dropped.
			if err := s.load(ctx, uids[i+1:]...); err != nil {
				return err
			}
		} else {
			done()
		}
	}
	return nil
}

// tellWithin is how long a message whose content was read waits for others to be told
// with it.
const tellWithin = time.Second

// arrival gathers what decides a message's origin. Of twins none is known to be the one
// that left another folder.
func (s *step) arrival(m *Message, places []store.Place, twin bool) arrival {
	a := arrival{now: time.Now(), look: s.f.lookedAt()}
	if p := s.d.awaited(m.UID); p != nil && p.Since.Before(a.look) {
		a.look = p.Since // later looks did show it
	}
	for _, p := range places {
		if p.Folder == s.f.Num && p.UID == m.UID {
			continue // itself, announced before its folder was reset or its state lost
		}
		a.known = true
		a.places = append(a.places, p)
	}
	s.cameFrom(m, &a, twin)
	return a
}
