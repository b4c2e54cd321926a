package imapsync

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/emersion/go-imap/v2"
)

// incompleteCodes are response codes of a tagged OK that say that the answer is not all.
var incompleteCodes = []string{"MESSAGELIMIT", "LIMIT", "PARTIAL", "NOTSAVED", "INPROGRESS"}

// UIDs implements Session.
func (s *client) UIDs(ctx context.Context, from, to uint32) (Enumeration, error) {
	from = max(from, 1)
	if to != 0 && to < from {
		return Enumeration{Complete: true}, nil
	}
	if s.Exists() == 0 {
		return Enumeration{Complete: true}, nil // no question to ask
	}
	var c imap.SearchCriteria
	whole := from == 1 && to == 0
	if !whole {
		var set imap.UIDSet
		set.AddRange(imap.UID(from), imap.UID(to)) // 0 is *
		c.UID = []imap.UIDSet{set}
	}
	uids, complete, err := s.search(ctx, &c, true)
	if err == nil && complete && whole && len(uids) == 0 && s.info.ESearch && !s.plainSearch {
		// Row 59: an ESEARCH answer without ALL although there are messages.
		uids, complete, err = s.search(ctx, &c, false)
	}
	if err != nil {
		return Enumeration{}, err
	}
	uids = slices.DeleteFunc(uids, func(u uint32) bool { return u < from || to != 0 && u > to })
	return Enumeration{UIDs: uids, Complete: complete}, nil
}

// Since implements Session.
func (s *client) Since(ctx context.Context, day time.Time) ([]uint32, error) {
	if s.Exists() == 0 {
		return nil, nil
	}
	uids, complete, err := s.search(ctx, &imap.SearchCriteria{Since: day}, true)
	if err == nil && !complete {
		return nil, &Error{Kind: ErrNo, Stage: StageCommand, Command: "UID SEARCH", Text: "answer is incomplete"}
	}
	return uids, err
}

// search asks, with ESEARCH where it is offered and wanted, and returns the UIDs
// ascending.
func (s *client) search(ctx context.Context, c *imap.SearchCriteria, extended bool) ([]uint32, bool, error) {
	var opts *imap.SearchOptions
	if extended && s.info.ESearch && !s.plainSearch {
		opts = &imap.SearchOptions{ReturnAll: true}
	}
	// What came in time counts: EXISTS may grow while the answer is on its way.
	known := s.Exists()
	data, err := do(ctx, s, "UID SEARCH", s.slow(), func() (*imap.SearchData, error) {
		return s.imap.UIDSearch(c, opts).Wait()
	})
	if e, ok := errors.AsType[*Error](err); ok && e.Kind == ErrBad && opts != nil {
		s.plainSearch = true
		return s.search(ctx, c, false)
	}
	if err != nil {
		return nil, false, err
	}
	set, ok := data.All.(imap.UIDSet)
	if !ok && data.All != nil {
		return nil, false, nil // sequence numbers: not what was asked for
	}
	known = max(known, s.Exists())
	uids, ok := expand(set, uint64(known)+uint64(known)/10+1000)
	if slices.Contains(incompleteCodes, s.c.lastReply().code) {
		ok = false
	}
	return uids, ok, nil
}

// expand lists a set ascending, each UID once; false, and nothing, when it has more
// members than most or is not a static set of valid UIDs. It allocates by most alone.
func expand(set imap.UIDSet, most uint64) ([]uint32, bool) {
	var n uint64
	for _, r := range set {
		if r.Start == 0 || r.Stop < r.Start {
			return nil, false
		}
		if n += uint64(r.Stop-r.Start) + 1; n > most {
			return nil, false
		}
	}
	if n == 0 {
		return nil, true
	}
	out := make([]uint32, 0, n)
	for _, r := range set {
		for u := uint64(r.Start); u <= uint64(r.Stop); u++ {
			out = append(out, uint32(u))
		}
	}
	slices.Sort(out)
	return slices.Compact(out), true
}
