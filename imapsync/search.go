package imapsync

import (
	"context"
	"slices"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/postrider/postrider/imapsync/wire"
)

// UIDs implements Session.
func (s *client) UIDs(ctx context.Context, from, to uint32) (Enumeration, error) {
	from = max(from, 1)
	if to != 0 && to < from {
		return Enumeration{Complete: true}, nil
	}
	var c imap.SearchCriteria
	whole := from == 1 && to == 0
	if !whole {
		c.UID = []imap.UIDSet{{{Start: imap.UID(from), Stop: imap.UID(to)}}} // 0 is *
	}
	uids, complete, err := s.search(ctx, &c, true)
	if err == nil && whole && len(uids) == 0 && !complete && s.extended() {
		// Row 59: an ESEARCH answer without ALL although there are messages.
		uids, complete, err = s.search(ctx, &c, false)
	}
	if err != nil {
		return Enumeration{}, err
	}
	if n := len(uids); n > 0 && (uids[0] < from || to != 0 && uids[n-1] > to) {
		uids = slices.DeleteFunc(uids, func(u uint32) bool { return u < from || to != 0 && u > to })
	}
	return Enumeration{UIDs: uids, Complete: complete}, nil
}

// Since implements Session.
func (s *client) Since(ctx context.Context, day time.Time) ([]uint32, error) {
	if s.Exists() == 0 {
		return nil, nil
	}
	uids, complete, err := s.search(ctx, &imap.SearchCriteria{Since: day}, true)
	if err == nil && !complete {
		return nil, errPartial
	}
	return uids, err
}

// Gmail implements Session.
func (s *client) Gmail(ctx context.Context, uids []uint32, query string) (Enumeration, error) {
	found, err := s.c.SearchGmail(ctx, uidSet(uids), query)
	if err != nil {
		return Enumeration{}, failure(err)
	}
	got, ok := wire.Expand(found.UIDs, 1<<32)
	return Enumeration{UIDs: got, Complete: ok && found.Complete}, nil
}

// errPartial refuses a folder whose messages are not all named.
var errPartial = &Error{Kind: ErrNo, Stage: StageCommand, Command: "UID SEARCH", Text: "answer is incomplete"}

// extended says whether SEARCH RETURN is asked.
func (s *client) extended() bool { return s.info.ESearch && !s.plainSearch }

// search asks, with ESEARCH where it is offered and wanted, and returns the UIDs
// ascending.
func (s *client) search(ctx context.Context, c *imap.SearchCriteria, extended bool) ([]uint32, bool, error) {
	extended = extended && s.extended()
	found, err := s.c.Search(ctx, c, extended)
	if err = failure(err); is(err, ErrBad) && extended {
		s.plainSearch = true
		return s.search(ctx, c, false)
	}
	if err != nil {
		return nil, false, err
	}
	uids, ok := wire.Expand(found.UIDs, 1<<32)
	return uids, ok && found.Complete, nil
}
