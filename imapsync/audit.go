package imapsync

import (
	"context"
	"encoding/binary"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/postrider/postrider/store"
)

// How often a folder is compared with the server whatever its numbers say
// (sync.md §4.13).
const (
	auditEvery   = 24 * time.Hour
	auditSkewed  = time.Hour          // where EXISTS and what is listed are known to disagree
	auditFlags   = 7 * 24 * time.Hour // all flags; at the other times those of auditSample messages
	auditSample  = 2000
	auditRetry   = 10 * time.Minute // after one that did not come to an end, doubling to auditEvery
	auditSilence = time.Hour        // without proof of life: then at once
)

// auditAt is when the folder is audited next; zero = not at all yet.
func (w *worker) auditAt(f *folder) time.Time {
	m := &f.meta
	if m.Unlooked || m.Baseline != nil || m.Audit.At.IsZero() || f.lost {
		return time.Time{}
	}
	every := auditEvery
	if m.Skew != 0 {
		every = auditSkewed
	}
	at := nextAudit(m.Audit.At, every, auditOffset(w.id, f.Num)%every)
	if f.auditNow {
		at = m.Audit.At
	}
	wait := []time.Time{f.auditNext}
	if f.short != nil {
		wait = append(wait, f.short.next)
	}
	if f.doubt != nil {
		wait = append(wait, f.doubt.next)
	}
	for _, next := range wait { // a look before that cannot come to its end, nor to the audit
		if next.After(at) {
			at = next
		}
	}
	return at
}

// nextAudit is the first time behind at that is offset into a period: the folders of an
// installation spread over it.
func nextAudit(at time.Time, every, offset time.Duration) time.Time {
	return at.Add(-offset).Truncate(every).Add(every + offset)
}

// auditOffset is a folder's own.
func auditOffset(id store.AccountID, num uint32) time.Duration {
	h := fnv.New64a()
	_, _ = h.Write(binary.BigEndian.AppendUint32([]byte(id), num))
	x := h.Sum64() // of neighbours its low bits alone are not spread
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	return time.Duration((x ^ x>>33) >> 2)
}

// afterSilence has all folders audited when nothing proved for long that the account
// was watched.
func (w *worker) afterSilence(now time.Time) {
	last := w.lastProof()
	for _, t := range []time.Time{w.state.LastAlive, w.state.Status.SyncTime} {
		if t.After(last) {
			last = t
		}
	}
	if last.IsZero() || now.Sub(last) <= auditSilence {
		return
	}
	for _, f := range w.folders {
		f.auditNow = true
	}
}

// audit lists the whole folder and compares both ways, then flags where the server
// counts changes. Differences become ordinary events; in a tier that ought to have told
// of them they are counted, and the second time switches it off.
func (s *step) audit(ctx context.Context) error {
	f, now, t := s.f, time.Now(), s.tier()
	f.auditNext = now.Add(min(auditRetry<<min(f.audits, 8), auditEvery))
	f.audits++
	switch turned, err := s.renumbered(ctx); {
	case err != nil:
		return err
	case turned:
		if err := f.turnsTooOften(now); err != nil {
			return err
		}
		return s.relink(ctx, "uidValidityChange")
	}
	s.expunged, s.listedAll = 0, false
	if err := s.enumerate(ctx); err != nil {
		return err
	}
	if !s.listedAll || s.expunged > 0 {
		return s.commit(ctx) // it changes just now
	}
	s.repaired(t, "new", s.found)
	if s.repaired(t, "deleted", s.lost); s.lost > 0 && t == tierQResync {
		s.w.distrust(latchQResync, "messages were gone that VANISHED did not name")
	}
	all := now.Sub(s.d.meta.Audit.Flags) >= auditFlags
	if t != tierBaseline && s.d.meta.ModSeq > 0 && s.d.meta.UIDNext > 1 {
		hidden, err := s.auditFlags(ctx, all)
		if s.repaired(t, "flags", hidden); hidden > 0 {
			s.w.distrust(latchCondstore, "flags had changed and HIGHESTMODSEQ did not tell")
		}
		if err != nil {
			return err
		}
	}
	next := store.Audit{At: now.UTC(), Flags: s.d.meta.Audit.Flags}
	if all {
		next.Flags = next.At
	}
	s.d.meta.Audit, s.d.moved = next, true
	f.auditNow, f.auditNext, f.audits = false, time.Time{}, 0
	return s.write(ctx)
}

func (s *step) repaired(t tier, kind string, n int) {
	if n > 0 {
		s.w.met.repairs.WithLabelValues(t.String(), kind).Add(float64(n))
		s.w.log.Warn("audit found differences", "account", s.w.id, "path", s.f.Path, "tier", t, "kind", kind, "messages", n)
	}
}

// auditFlags compares the flags of some messages, or of all, and counts the differences
// that the server does not tell of.
func (s *step) auditFlags(ctx context.Context, all bool) (hidden int, err error) {
	uids, err := s.known(ctx)
	if err != nil {
		return 0, err
	}
	if !all && len(uids) > auditSample {
		rand.Shuffle(len(uids), func(i, j int) { uids[i], uids[j] = uids[j], uids[i] })
		uids = uids[:auditSample]
		slices.Sort(uids)
	}
	for chunk := range slices.Chunk(uids, compareSlice) {
		set := uidSet(chunk)
		if all {
			set = imap.UIDSet{{Start: imap.UID(chunk[0]), Stop: imap.UID(chunk[len(chunk)-1])}}
		}
		n, err := s.hidden(ctx, s.d.meta.UIDNext, set)
		if hidden += n; err != nil {
			return hidden, err
		}
	}
	return hidden, nil
}
