package smtpsend

import (
	"net"
	"testing"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/smtpsend/transport"
	"github.com/postrider/postrider/store"
)

// noReply is a transaction whose dot left and whose reply never came.
func noReply(m moment, row store.Submission) *step {
	return m.failed(row, profile(), &transport.Error{Phase: transport.PhaseDot, Kind: transport.KindSocket, Unknown: true, Err: net.ErrClosed, Accepted: row.Pending})
}

// What was sent again while nobody knew whether it had been taken may have arrived: whoever
// is told that it failed is told that too, however it ends.
func TestFailed_may_have_arrived(t *testing.T) {
	refusal := func(m moment, row store.Submission) *step {
		return m.failed(row, profile(), &transport.Error{Phase: transport.PhaseMail, Code: 550, Line: "550 no", Kind: transport.KindMessage})
	}
	for name, end := range map[string]func(m moment, row store.Submission) *step{
		"refused": func(m moment, row store.Submission) *step { return refusal(m, claimed(row)) },
		"attempts used": func(m moment, row store.Submission) *step {
			row.Crashes = maxCrashes - 1
			return m.recover(claimed(row))
		},
		"expired":   moment.expire,
		"cancelled": func(m moment, row store.Submission) *step { s, _ := m.cancel(row); return s },
		"resolved": func(m moment, row store.Submission) *step {
			row.Attempts = row.Charged + 1
			s, _ := m.resolve(noReply(m, claimed(row)).row, ResolveFailed)
			return s
		},
		"abandoned": func(m moment, row store.Submission) *step {
			row.Attempts = row.Charged + 1
			next := noReply(m, claimed(row)).row
			next.Pending, next.Deferred = row.To[:2], []store.Refusal{{Recipient: row.To[2]}}
			return m.abandon(next)
		},
	} {
		t.Run(name, func(t *testing.T) {
			row := queued(func(r *store.Submission) { r.OnUnknown = OnUnknownResend })
			for _, again := range []bool{false, true} {
				if again {
					row = noReply(at(noon), claimed(row)).row
				}
				s := end(at(noon.Add(time.Hour)), row)
				e, ok := s.events[len(s.events)-1].Data.(events.MessageFailed)
				if !ok || e.PossibleDuplicate != s.row.PossibleDuplicate || again && !e.PossibleDuplicate {
					t.Errorf("sent before: %v, told %+v", again, e)
				}
			}
		})
	}
}

// A person said of an unknown outcome that it failed, and has it sent again: the person may
// have been wrong.
func TestFailed_resolved_so_and_retried(t *testing.T) {
	for _, as := range []Resolution{ResolveFailed, ResolveRetry} {
		m := at(noon)
		s, err := m.resolve(noReply(m, claimed(queued())).row, as)
		if err == nil {
			s, err = m.retry(s.row)
		}
		if err != nil {
			t.Fatal(err)
		}
		sent := m.sent(claimed(s.row), profile(), transport.Receipt{Accepted: s.row.Pending})
		if e, ok := sent.events[0].Data.(events.MessageSent); !ok || !e.PossibleDuplicate {
			t.Errorf("resolved as %s, told %+v", as, e)
		}
	}
	refused, err := at(noon).retry(at(noon).failed(claimed(queued()), profile(), &transport.Error{Phase: transport.PhaseMail, Code: 550, Line: "550 no"}).row)
	if err != nil || refused.row.PossibleDuplicate {
		t.Errorf("refused, and sent again: %+v, %v", refused.row, err)
	}
}
