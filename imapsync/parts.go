package imapsync

import (
	"bytes"
	"context"

	"github.com/emersion/go-imap/v2"

	"github.com/postrider/postrider/imapsync/wire"
)

// maxPiece is the largest piece of a message that is asked for at once: what the wire
// keeps of a literal. maxPieces bytes are asked for in one command, whose answer it holds.
const (
	maxPiece  = 1 << 20
	maxPieces = 2 << 20
)

// PartWanted is a piece of a message.
type PartWanted struct {
	Section      string // "" = the whole message, "HEADER", "1.2"
	Offset, Size int64  // at most maxPiece
}

// Parts implements Session.
func (s *client) Parts(ctx context.Context, uid uint32, want []PartWanted) ([][]byte, error) {
	return parts(ctx, s.c, uid, want)
}

// parts reads pieces of a message of the open folder. What did not come is nil; what is
// empty has ended.
func parts(ctx context.Context, c *wire.Conn, uid uint32, want []PartWanted) ([][]byte, error) {
	items := make([]wire.Item, len(want), len(want)+1)
	for i, p := range want {
		items[i] = wire.Body(p.Section, p.Offset, p.Size)
	}
	out := make([][]byte, len(want))
	ask := append(items[:len(items):len(items)], wire.ItemUID)
	_, err := c.Fetch(ctx, imap.UIDSet{{Start: imap.UID(uid), Stop: imap.UID(uid)}}, ask, wire.FetchOptions{}, func(m *wire.Message) error {
		for i, it := range items {
			sec := m.Section(it)
			// A server that knows no pieces begins at the beginning again.
			if sec == nil || sec.Data == nil || sec.Origin != want[i].Offset {
				continue
			}
			out[i] = bytes.Clone(sec.Data[:min(int64(len(sec.Data)), want[i].Size)])
		}
		return nil
	})
	if err = failure(err); err != nil && !usable(err) {
		return nil, err
	}
	return out, err
}
