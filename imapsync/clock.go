package imapsync

import (
	"time"

	"github.com/postrider/postrider/store"
)

// notAhead takes back times of a folder's state that lie ahead: they were written by a clock
// that was. What waits until then would wait for as long as that was wrong, and mail that
// comes would be older than the last look.
func notAhead(m *store.FolderMeta, now time.Time) {
	now = now.UTC()
	for _, t := range []*time.Time{&m.Look, &m.Audit.At, &m.Audit.Flags} {
		*t = earliest(*t, now)
	}
	if m.Fail != nil {
		fail := *m.Fail
		fail.Since, fail.Next = earliest(fail.Since, now), earliest(fail.Next, now.Add(failWait(fail.Count)))
		m.Fail = &fail
	}
	for i := range m.Pending {
		p := &m.Pending[i]
		p.Since, p.Next = earliest(p.Since, now), earliest(p.Next, now.Add(missingSlow))
	}
	for i := range m.Resets {
		m.Resets[i] = earliest(m.Resets[i], now)
	}
}
