package imapsync

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/postrider/postrider/store"
)

// census is by what the messages of a folder's state are recognised when their UIDs are no
// more: hashes, ascending, of the server's ids or of what storeIdentity has kept, and of how
// many messages each one is. 16 bytes a message.
type census []counted

type counted struct {
	hash uint64
	n    uint32
}

// censusMost bounds a census to 16 MiB. What is beyond is not recognised.
const censusMost = 1 << 20

// census counts the messages of the folder's state, but those whose announcement the first
// look still owed.
func (s *step) census(ctx context.Context) (census, error) {
	var c census
	err := s.records(ctx, func(recs []store.Record) error {
		for i := range recs {
			if h := hashOf(recs[i].EmailID, recs[i].Print); h != 0 && len(c) < censusMost && !s.d.announces(recs[i].UID) {
				c = append(c, counted{h, 1})
			}
		}
		return nil
	})
	slices.SortFunc(c, func(a, b counted) int { return cmp.Compare(a.hash, b.hash) })
	out := c[:0]
	for _, one := range c {
		if n := len(out); n > 0 && out[n-1].hash == one.hash {
			out[n-1].n++
			continue
		}
		out = append(out, one)
	}
	return out, err
}

// has says whether a message is one of those that were counted, and counts it off.
func (c census) has(m *IdentityOf) bool {
	h := hashOf(m.EmailID, printOf(identityBy("", m.MessageID, m.Size), m.InternalDate.Unix()))
	i, ok := slices.BinarySearchFunc(c, h, func(one counted, h uint64) int { return cmp.Compare(one.hash, h) })
	if h == 0 || !ok || c[i].n == 0 {
		return false
	}
	c[i].n--
	return true
}

// hashOf is what a message is recognised by: the server's id of it, else its print; 0
// where there is neither.
func hashOf(emailID string, print uint64) uint64 {
	if emailID == "" {
		return print
	}
	sum := sha256.Sum256([]byte(emailID))
	return binary.LittleEndian.Uint64(sum[:])
}
