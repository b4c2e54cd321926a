package imapsync

import (
	"context"
	"slices"
	"strings"
)

// gmailCategories are the tabs of Gmail's inbox, and what it also sorts mail into. A message
// may be found under several; the first of them is told.
var gmailCategories = []string{"primary", "social", "promotions", "updates", "forums", "reservations", "purchases"}

// categories are those of some messages, asked for together when the first is told of.
type categories struct {
	asked map[uint32]string // "" = none
}

// of is the category of the first of msgs, "" where it has none or that is not wanted; the
// others are those that are told of next. Errors are the session's end.
func (c *categories) of(ctx context.Context, s *step, msgs []Message) (string, error) {
	m := &msgs[0]
	if !s.w.info.Gmail || !s.inInbox(m) {
		return "", nil
	}
	if category, ok := c.asked[m.UID]; ok || !s.w.gmailCategories(ctx) || s.w.plainInbox || s.w.categoryEnds >= contentTries {
		return category, nil
	}
	var uids []uint32
	for i := range msgs[:min(len(msgs), chunkMessages)] {
		if _, known := s.d.record(msgs[i].UID); s.inInbox(&msgs[i]) && (!known || s.d.announces(msgs[i].UID)) {
			uids = append(uids, msgs[i].UID)
		}
	}
	err := c.ask(ctx, s.w, uids)
	return c.asked[m.UID], err
}

// ask asks category by category about the messages that are in none before it.
func (c *categories) ask(ctx context.Context, w *worker, uids []uint32) error {
	c.asked = make(map[uint32]string, len(uids))
	for _, uid := range uids {
		c.asked[uid] = ""
	}
	for _, category := range gmailCategories {
		if len(uids) == 0 {
			break
		}
		found, err := w.sess.Gmail(ctx, uids, "category:"+category)
		stray := func(uid uint32) bool {
			_, asked := slices.BinarySearch(uids, uid)
			return !asked
		}
		switch {
		case err != nil && ctx.Err() != nil:
			return err
		case err != nil && !usable(err):
			// A server that hangs up each time is not asked for ever: there is mail to tell of.
			w.categoryEnds++
			return err
		case err != nil, !found.Complete, slices.ContainsFunc(found.UIDs, stray):
			w.plainInbox = true
			w.log.InfoContext(ctx, "categories not told", "account", w.id, "err", err)
			return nil
		}
		for _, uid := range found.UIDs {
			c.asked[uid] = category
		}
		uids = slices.DeleteFunc(uids, func(uid uint32) bool { return c.asked[uid] != "" })
	}
	return nil
}

// inInbox says whether a message is in Gmail's inbox, by its folder or by its labels.
func (s *step) inInbox(m *Message) bool {
	return s.f.SpecialUse == RoleInbox || slices.ContainsFunc(m.Labels, func(l string) bool { return strings.EqualFold(l, RoleInbox) })
}
