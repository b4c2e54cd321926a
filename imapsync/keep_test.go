package imapsync

import (
	"testing"
	"unsafe"

	"github.com/postrider/postrider/store"
)

// A registration that is read again and says the same is not kept a second time beside
// the one that its worker has.
func TestManager_keeps_one_copy_of_a_registration(t *testing.T) {
	bubble(t, true, func(d *den) {
		m := NewManager(Options{Store: d.st, Owner: "one"})
		read := func() *store.Account {
			clear(m.versions[:]) // another account of the shard was changed
			d.ok(m.refresh(d.t.Context()))
			a, _ := m.registered(denAccount)
			return a
		}
		first := read()
		if again := read(); again != first {
			d.t.Error("read again, it is kept twice")
		}
		_, err := d.st.UpdateAccount(d.t.Context(), denAccount, 0, func(a *store.Account) error { a.Name = "Jo"; return nil })
		d.ok(err)
		if now := read(); now == first || now.Name != "Jo" || first.Name != "" {
			d.t.Errorf("changed, it is %q, and was %q", now.Name, first.Name)
		}
	})
}

// What each account keeps comes in sizes of the allocator's, which adds a word: a little
// more would cost each of them 256 bytes, or as many folders as it has times 64.
func TestWorker_size(t *testing.T) {
	if n := unsafe.Sizeof(worker{}) + 8; n > 1792 {
		t.Errorf("a worker takes %d bytes", n)
	}
	if n := unsafe.Sizeof(folder{}) + 8; n > 704 {
		t.Errorf("a folder takes %d bytes", n)
	}
}
