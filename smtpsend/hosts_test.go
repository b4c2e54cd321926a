package smtpsend

import (
	"testing"
	"time"

	"github.com/postrider/postrider/store"
)

func TestHosts(t *testing.T) {
	h := newHosts()
	for n := range hostFails - 1 {
		h.report("mx:25", []store.AccountID{"a", "b", "c"}[n%3], true)
	}
	if _, ok := h.enter("mx:25", noon); !ok {
		t.Error("closed before its time")
	}
	h.report("mx:25", "a", true)
	if _, ok := h.enter("mx:25", noon); !ok {
		t.Error("the first probe is not let through")
	}
	if at, ok := h.enter("mx:25", noon.Add(time.Second)); ok || !at.Equal(noon.Add(hostProbe)) {
		t.Error("a second one within 30 s", at, ok)
	}
	if _, ok := h.enter("other:25", noon); !ok {
		t.Error("another host")
	}
	h.leave("mx:25")
	if _, ok := h.enter("mx:25", noon.Add(time.Second)); !ok {
		t.Error("who asked nothing of the host was the probe")
	}
	h.report("mx:25", "b", false)
	if _, ok := h.enter("mx:25", noon.Add(time.Second)); !ok {
		t.Error("closed after it answered")
	}
	for range 50 {
		h.report("mx:25", "a", true)
	}
	if _, ok := h.enter("mx:25", noon); !ok {
		t.Error("one account's trouble is everybody's")
	}
}

func TestHosts_fewer_connections(t *testing.T) {
	h := newHosts()
	h.tooMany("a", noon)
	h.tooMany("a", noon.Add(time.Minute))
	for _, tt := range []struct {
		slots int
		at    time.Duration
		want  int
	}{{3, 2 * time.Minute, 1}, {1, 2 * time.Minute, 1}, {3, 12 * time.Minute, 3}} {
		if got := h.slots("a", tt.slots, noon.Add(tt.at)); got != tt.want {
			t.Errorf("%d after %v: %d", tt.slots, tt.at, got)
		}
	}
}

func TestHosts_account_without_a_server(t *testing.T) {
	h := newHosts()
	for n := range 3 * hostFails {
		h.report("", []store.AccountID{"a", "b", "c"}[n%3], true)
	}
	for range 2 {
		if _, ok := h.enter("", noon); !ok {
			t.Error("accounts that use gateways only wait for no server")
		}
	}
}

func TestHosts_holds_once(t *testing.T) {
	h := newHosts()
	for n, tt := range []struct {
		account store.AccountID
		until   time.Duration
		want    bool
	}{{"a", 1, true}, {"a", 1, false}, {"b", 1, true}, {"a", 2, true}, {"b", 1, false}} {
		if got := h.holds(tt.account, noon.Add(tt.until)); got != tt.want {
			t.Errorf("%d: %v", n, got)
		}
	}
}
