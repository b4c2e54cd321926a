package wire

import (
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/google/go-cmp/cmp"
)

func TestExpand(t *testing.T) {
	for _, c := range []struct {
		set  imap.UIDSet
		most uint64
		want []uint32
		ok   bool
	}{
		{imap.UIDSet{{Start: 5, Stop: 6}, {Start: 2, Stop: 2}, {Start: 6, Stop: 7}}, 10, []uint32{2, 5, 6, 7}, true},
		{nil, 0, nil, true},
		{imap.UIDSet{{Start: 1, Stop: 4294967295}}, 1000, nil, false},
		{imap.UIDSet{{Start: 4294967294, Stop: 4294967295}}, 2, []uint32{4294967294, 4294967295}, true},
		{imap.UIDSet{{Start: 1, Stop: 0}}, 1000, nil, false},
		{imap.UIDSet{{Start: 0, Stop: 0}}, 1000, nil, false},
	} {
		got, ok := Expand(c.set, c.most)
		if ok != c.ok || cmp.Diff(c.want, got) != "" {
			t.Errorf("Expand(%v, %d) = %v, %v", c.set, c.most, got, ok)
		}
	}
}
