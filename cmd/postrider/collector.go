package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// How the collector is set. Most of a large heap is what idle connections keep, and its
// headroom, which is a share of it, costs with each of them. Collecting more often costs by
// how much is allocated, which is little while they idle: then the headroom is what is
// allocated in collectorEvery, within bounds. A small heap has room to work in, which
// costs nobody anything.
const (
	smallHeadroom = 8 << 20
	leastPercent  = 15
	usualPercent  = 25
	mostPercent   = 100 // the runtime's own

	collectorEvery = 5 * time.Second
)

// thrift sets the collector's headroom, until ctx ends.
func thrift(ctx context.Context) error {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
	percent, before := 0, uint64(0)
	for {
		metrics.Read(s)
		live, allocated := s[0].Value.Uint64()+s[1].Value.Uint64(), s[2].Value.Uint64()
		if p := headroom(live, allocated-before); p != percent {
			percent = p
			debug.SetGCPercent(p)
		}
		before = allocated
		if err := wait(ctx, collectorEvery); err != nil {
			return err
		}
	}
}

// headroom is, in percent of what is live, what may be allocated until the next collection.
func headroom(live, allocated uint64) int {
	share := func(n uint64) int { return int(min(100*n/max(live, 1), mostPercent)) }
	return max(min(max(share(allocated), leastPercent), usualPercent), share(smallHeadroom))
}
