package imapsync

import "sync"

// folderView is what the wire said, in its order, about the selected folder. It is
// written by the reading goroutine before the client sees the same bytes.
type folderView struct {
	hint chan struct{} // cap 1: something changed, or IDLE ended

	mu        sync.Mutex
	count     uint32
	selecting bool
	changes   Changes
}

// maxFlagHints bounds Changes.Flags.
const maxFlagHints = 1000

func (v *folderView) signal() {
	select {
	case v.hint <- struct{}{}:
	default:
	}
}

// selectBegins forgets the folder before: until the tagged reply the numbers are those
// of the new one.
func (v *folderView) selectBegins() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.count, v.selecting = 0, true
	v.changes = Changes{Bye: v.changes.Bye, Alert: v.changes.Alert}
}

// selectFailed leaves no folder selected.
func (v *folderView) selectFailed() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.count, v.selecting = 0, false
}

func (v *folderView) tagged() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.selecting = false
}

func (v *folderView) exists(n uint32) {
	v.mu.Lock()
	defer v.mu.Unlock()
	changed := n != v.count
	v.count = n
	if changed && !v.selecting {
		v.changes.Exists = true
		v.signal()
	}
}

func (v *folderView) expunge() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.count > 0 {
		v.count--
	}
	if !v.selecting {
		v.changes.Expunged++
		v.signal()
	}
}

func (v *folderView) flags(seq uint32) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.changes.Flags) < maxFlagHints {
		v.changes.Flags = append(v.changes.Flags, seq)
	}
	v.signal()
}

func (v *folderView) bye(text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.changes.Bye = text
}

func (v *folderView) alert(text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.changes.Alert = text
}

func (v *folderView) number() uint32 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.count
}

func (v *folderView) pending() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.changes.Any()
}

func (v *folderView) take() Changes {
	v.mu.Lock()
	defer v.mu.Unlock()
	c := v.changes
	v.changes = Changes{}
	return c
}
