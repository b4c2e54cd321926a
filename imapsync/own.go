package imapsync

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
)

// What we change on a server ourselves is written down before the command, as an intent
// with a result behind it (actor.go). It changes no cursor and no block: the step that
// sees the effect says whose it is, and consumes the intent with its commit.
const (
	causeAPI = "api"

	// A watching connection may see an effect before the reply of the command is
	// written down: as long as this the step waits for it. A command that ended
	// without one, with its process, is not waited for once it is resultYoung old.
	resultWait  = time.Second
	resultPoll  = 100 * time.Millisecond
	resultYoung = 5 * time.Second
)

// intents reads our own changes in the folder of which no effect was seen yet. It MUST
// be called behind the answer in which an effect may be.
func (s *step) intents(ctx context.Context) ([]store.Intent, error) {
	for end := time.Now().Add(resultWait); ; {
		list, err := s.w.st.Intents(ctx, s.w.id)
		if err != nil {
			return nil, err
		}
		open := false
		list = slices.DeleteFunc(list, func(i store.Intent) bool {
			here := i.Folder == s.f.Num && (i.Kind == store.IntentAppend || i.UIDValidity == s.d.meta.UIDValidity)
			there := i.Target == s.f.Num && (i.Kind == store.IntentMove || i.Kind == store.IntentCopy)
			if !here && !there || slices.Contains(s.d.claimed, i.ID) {
				return true
			}
			open = open || !i.Done && i.Kind != store.IntentStore && i.Age < resultYoung
			return false
		})
		if !open || time.Now().After(end) {
			return list, nil
		}
		if err := wait(ctx, resultPoll); err != nil {
			return nil, err
		}
	}
}

// claim has the draft's commit consume an intent.
func (d *draft) claim(i *store.Intent) { d.claimed = append(d.claimed, i.ID) }

// toldWhere says whether the server told where the message came, in this folder as it is.
func (s *step) toldWhere(i *store.Intent) bool {
	return i.NewUID != 0 && i.NewUIDValidity == s.d.meta.UIDValidity
}

// appended is our APPEND that an arrival is; nil when it is none.
func (s *step) appended(own []store.Intent, m *Message) *store.Intent {
	for n := range own {
		i := &own[n]
		if i.Kind != store.IntentAppend || slices.Contains(s.d.claimed, i.ID) {
			continue
		}
		if s.toldWhere(i) && i.NewUID == m.UID || !s.toldWhere(i) && i.MessageID != "" && i.MessageID == m.MessageID && i.Size == m.Size {
			return i
		}
	}
	return nil
}

// came recognises an arrival that is our COPY. It returns the folder to be looked at
// first where the arrival is a move of ours that was not seen leaving.
func (s *step) came(own []store.Intent, m *Message, a *arrival) (from *folder) {
	if a.related != nil {
		return nil
	}
	for n := range own {
		i := &own[n]
		if i.Target != s.f.Num || !s.toldWhere(i) || i.NewUID != m.UID || slices.Contains(s.d.claimed, i.ID) {
			continue
		}
		switch i.Kind {
		case store.IntentCopy:
			a.copied = true
			s.d.claim(i)
			return nil
		case store.IntentMove:
			f := s.w.byNum(i.Folder)
			if f == nil || f == s.f || f.Watched == watchedNo || f.lost || f.meta.Unlooked || f.meta.UIDValidity != i.UIDValidity {
				return nil
			}
			return f
		}
	}
	return nil
}

// left recognises a message that we moved or expunged; "" when it is none. What was
// moved knows then where it went, unless it was announced there already.
func (s *step) left(own []store.Intent, g *store.Gone) store.IntentKind {
	var kind store.IntentKind
	for n := range own {
		i := &own[n]
		if i.Folder != g.Folder || i.UID != g.UID || i.Kind != store.IntentMove && i.Kind != store.IntentExpunge {
			continue
		}
		s.d.claim(i)
		kind, g.Cause = i.Kind, causeAPI
		f := s.w.byNum(i.Target)
		if i.Kind == store.IntentMove && i.NewUID != 0 && f != nil && f.Watched != watchedNo && !f.lost && f.meta.UIDValidity == i.NewUIDValidity &&
			(i.NewUID >= f.meta.UIDNext || f.awaits(i.NewUID)) {
			g.To = store.MessageKey{Folder: i.Target, UIDValidity: i.NewUIDValidity, UID: i.NewUID}
		}
	}
	return kind
}

// awaits says whether a message of the folder was named and not announced yet.
func (f *folder) awaits(uid uint32) bool {
	_, ok := slices.BinarySearchFunc(f.meta.Pending, uid, comparePending)
	return ok
}

// cameByUs links an arrival with what our own move took away.
func (s *step) cameByUs(m *Message, a *arrival) bool {
	here := store.MessageKey{Folder: s.f.Num, UIDValidity: s.d.meta.UIDValidity, UID: m.UID}
	for _, g := range s.w.gone {
		if g.To != here || slices.Contains(s.d.ended, g.Event) {
			continue
		}
		for n := range a.places {
			if a.places[n].Event == g.Event {
				a.places[n].Linked = true
			}
		}
		a.from = &g
		a.related = &events.Related{
			Event: events.MessageDeletedType, EventID: events.ID(g.Event), ID: messageID(g.Folder, g.UID), UID: g.UID, Path: g.Path,
			Evidence: events.EvidenceCopyUID, Confidence: "certain",
		}
		return true
	}
	return false
}

// ownFlags marks the flag changes of the draft that are ours and nothing else.
func (s *step) ownFlags(ctx context.Context) error {
	if len(s.d.updated) == 0 {
		return nil
	}
	own, err := s.intents(ctx)
	if err != nil {
		return err
	}
	own = slices.DeleteFunc(own, func(i store.Intent) bool { return i.Kind != store.IntentStore || i.Folder != s.f.Num })
	if len(own) == 0 {
		return nil
	}
	for n := range s.d.updated {
		u, ok := s.d.updated[n].Data.(events.MessageUpdated)
		if !ok || u.Changes.Flags == nil || u.Cause != "" {
			continue
		}
		var seen []string
		if u.Cause, seen = causeOf(u, own); len(seen) > 0 {
			s.d.claimed = append(s.d.claimed, seen...)
			s.d.updated[n].Data = u
		}
	}
	return nil
}

// causeOf compares a change of flags with what we did to the message, in its order. An
// effect that goes beyond it has no cause. The intents whose effect shows are over either way.
func causeOf(u events.MessageUpdated, own []store.Intent) (cause string, seen []string) {
	c := u.Changes.Flags
	now := folded(c.Value)
	at := without(append(slices.Clone(now), folded(c.Deleted)...), folded(c.Added))
	for _, i := range own {
		if i.UID != u.UID {
			continue
		}
		add, remove := folded(i.Add), folded(i.Remove)
		if len(without(add, now)) > 0 || len(without(remove, now)) < len(remove) {
			continue
		}
		seen = append(seen, i.ID)
		at = append(without(without(at, remove), add), add...)
	}
	slices.Sort(at)
	slices.Sort(now)
	if len(seen) > 0 && u.Changes.Labels == nil && slices.Equal(slices.Compact(at), slices.Compact(now)) {
		cause = causeAPI
	}
	return cause, seen
}

// folded are flags as they are compared: RFC 3501 section 2.3.2 knows no case.
func folded(flags []string) []string {
	out := make([]string, len(flags))
	for i, f := range flags {
		out[i] = strings.ToLower(f)
	}
	return out
}
