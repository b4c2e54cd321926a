package main

import "testing"

func TestCollector_headroom(t *testing.T) {
	const mb = 1 << 20
	for _, c := range []struct {
		name            string
		live, allocated uint64
		want            int
	}{
		{"at the start", 0, 0, 100},
		{"small", 5 * mb, 0, 100},
		{"some accounts", 16 * mb, 0, 50},
		{"many idle ones", 160 * mb, 15 * mb, 15},
		{"some work", 160 * mb, 32 * mb, 20},
		{"much work", 160 * mb, 600 * mb, 25},
		{"little memory, much work", 16 * mb, 600 * mb, 50},
	} {
		if got := headroom(c.live, c.allocated); got != c.want {
			t.Errorf("%s: %d %%, want %d", c.name, got, c.want)
		}
	}
}
