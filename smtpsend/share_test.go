package smtpsend

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/postrider/postrider/store"
)

func TestShare(t *testing.T) {
	type ask struct {
		account store.AccountID
		host    string
		after   time.Duration // of the first
		own     bool
		place   bool
		wait    time.Duration
	}
	many := func(n int, host string, after time.Duration) (out []ask) {
		for i := range n {
			h := host
			if h == "" {
				h = fmt.Sprintf("new%d", i)
			}
			out = append(out, ask{store.AccountID(fmt.Sprintf("%s%d", h, i)), h, after, true, true, 0})
		}
		return out
	}
	for name, tt := range map[string]struct {
		known map[string]bool
		asks  []ask
	}{
		"an account has a tenth, but two": {map[string]bool{"h": true}, []ask{
			{"a", "h", 0, true, true, 0}, {"a", "h", 0, true, true, 0}, {"a", "h", 0, false, false, time.Second}, {"b", "h", 0, true, true, 0},
		}},
		"at a host that was never heard of an account has one, while many are busy": {nil, []ask{
			{"a", "h", 0, true, true, 0},
			{"a", "h", 0, true, true, 0},
			{"b", "h", 0, true, true, 0},
			{"b", "h", 0, false, true, time.Second},
			{"d", "h", 8 * time.Second, true, true, 0},
			{"d", "h", 8 * time.Second, false, true, 8 * time.Second},
		}},
		"at one that answers it has more": {map[string]bool{"h": true}, append(many(3, "h", 0), many(3, "h", 0)[:2]...)},
		"a host that hung has a tenth, but two": {map[string]bool{"h": false}, []ask{
			{"a", "h", 0, true, true, 0}, {"b", "h", 0, true, true, 0}, {"c", "h", 0, false, true, time.Second}, {"c", "h", time.Hour, false, true, lookAgain},
		}},
		"a host has half": {map[string]bool{"h": true}, append(many(5, "h", 0), ask{"z", "h", 0, false, true, time.Second})},
		"all are taken":   {nil, append(many(10, "", 0), ask{"z", "h", 9 * time.Second, false, false, time.Second})},
		"those who take long step aside": {nil, append(append(many(10, "", 0), many(5, "late", asideAfter)[:1]...),
			ask{"z", "h", asideAfter, true, true, 0})},
		"accounts without a server share none": {nil, []ask{{"a", "", 0, true, true, 0}, {"b", "", 0, true, true, 0}}},
	} {
		t.Run(name, func(t *testing.T) {
			s, now := newShare(10), time.Now()
			maps.Copy(s.answers, tt.known)
			for i, a := range tt.asks {
				if p, own, wait := s.take(a.account, a.host, now.Add(a.after)); (p != nil) != a.place || own != a.own || wait != a.wait {
					t.Errorf("%d: %s at %s: %+v, %v, wait %v", i, a.account, a.host, p, own, wait)
				}
			}
		})
	}
}

// Those who hung the last time fill what is aside and nothing of what the others have, and
// are let through again as they end.
func TestShare_those_who_hung(t *testing.T) {
	s, now := newShare(10), time.Now()
	var places []*place
	for i := range 11 {
		host := fmt.Sprintf("hung%d", i)
		s.learn(&place{host: host, since: now.Add(-asideAfter)}, false, now)
		p, own, wait := s.take(store.AccountID(host), host, now)
		if own != (i < 10) || i < 10 && wait != 0 || i == 10 && wait != asideAfter {
			t.Fatalf("%d: own %v, wait %v", i, own, wait)
		}
		places = append(places, p)
	}
	s.give(places[10]) // it had nothing that goes elsewhere
	for i := range 10 {
		host := fmt.Sprintf("new%d", i)
		if p, own, _ := s.take(store.AccountID(host), host, now); p == nil || !own {
			t.Fatalf("%s waits for those who hung", host)
		}
	}
	s.give(places[0])
	s.learn(places[0], true, now)
	if _, own, _ := s.take("hung10", "hung10", now); !own {
		t.Error("there is room aside again")
	}
	for _, p := range places[1:10] {
		s.give(p)
	}
	if n := len(s.held); n != 11 {
		t.Errorf("%d places are held", n)
	}
}

// What goes by a gateway takes nothing of its account's own server.
func TestShare_by_a_gateway(t *testing.T) {
	s, now := newShare(10), time.Now()
	p, _, _ := s.take("a", "h", now)
	s.goes(p, "gw")
	if _, own, _ := s.take("b", "h", now); !own {
		t.Error("a transaction at a gateway is counted for the account's server")
	}
}
