package imapsync

import (
	"context"
	"slices"
	"strings"
)

// unlistedMost is how many folders that LIST leaves out are asked for by name. Where one
// of them is there, those beyond may be, too.
const unlistedMost = 20

// reallyGone are the folders, of those that LIST leaves out or says to be names alone, that
// are not there when they are asked for by name: that one is told to be gone costs the
// application all its messages.
func (w *worker) reallyGone(ctx context.Context, unlisted []*folder, fresh []Listed) (gone []*folder, err error) {
	there := false
	for i, f := range unlisted {
		switch {
		case i >= unlistedMost && there:
			continue
		case i >= unlistedMost, slices.ContainsFunc(fresh, func(l Listed) bool { return l.Raw != f.Raw && strings.EqualFold(l.Raw, f.Raw) }):
			gone = append(gone, f) // a server that does not tell cases apart has it under both names
			continue
		}
		if f == w.open { // of the selected folder STATUS is not asked
			w.open = nil
			_, err = w.sess.Select(ctx, f.Raw)
		} else {
			_, err = w.sess.Status(ctx, f.Raw)
		}
		switch {
		case err != nil && !usable(err):
			return nil, err
		case err != nil && refusesQuestion(err):
			gone = append(gone, f)
		default:
			there = true
			w.log.InfoContext(ctx, "folder is there and not listed", "account", w.id, "path", f.Path, "err", err)
		}
	}
	return gone, nil
}
