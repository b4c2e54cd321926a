package imapsync

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/postrider/postrider/events"
)

// ledger is what somebody knows who has read nothing but the journal.
type ledger struct {
	folders map[string]map[uint32]told
	silent  map[string]bool // folders that were taken in without telling of each message
	news    map[string]int  // messageNew by path and Message-ID
	known   map[string]bool // Message-IDs that were told of; "" where one was told without
	strange map[uint64]bool // seqs of messages that came back and of which was never told
	count   map[events.Type]int
	closed  int               // messageDeleted of what messageMissing alone told of
	early   map[string]uint32 // highest UIDs before the account was registered

	seq      uint64
	ids      map[events.ID]bool
	renamed  map[string]map[uint32]told // folders that went, as they were
	silenced map[string]bool
	missing  map[string]map[uint32]bool // told of by messageMissing alone
	ever     map[string]map[uint32]bool // told of in whatever way, UIDs that are gone included
}

// Ledger is for tests outside of the package.
type Ledger = ledger

// NewLedger is that of an account of which nothing was read yet.
func NewLedger(early map[string]uint32) *Ledger {
	return &ledger{
		folders: map[string]map[uint32]told{}, silent: map[string]bool{}, news: map[string]int{},
		known: map[string]bool{}, strange: map[uint64]bool{}, count: map[events.Type]int{}, early: early,
		ids: map[events.ID]bool{}, renamed: map[string]map[uint32]told{}, silenced: map[string]bool{},
		missing: map[string]map[uint32]bool{}, ever: map[string]map[uint32]bool{},
	}
}

// told is a message as events told of it.
type told struct{ id, flags, labels string }

// ledger folds the whole journal.
func (d *den) ledger() (*ledger, error) {
	l := NewLedger(d.early)
	for e, err := range d.st.Journal(d.t.Context(), denAccount, 0) {
		if err != nil {
			return nil, err
		}
		if err := l.Take(e); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// Take folds the next event, and holds it against what every journal promises: numbers
// without a gap, no id twice, nothing told of that is not there.
func (l *ledger) Take(e events.Event) error {
	if l.seq++; l.seq == 1 {
		l.seq = e.Seq // after a loss it begins elsewhere
	}
	if e.Seq != l.seq {
		return fmt.Errorf("seq %d where %d belongs", e.Seq, l.seq)
	}
	if l.ids[e.ID] {
		return fmt.Errorf("seq %d: %s %s twice", e.Seq, e.Type, e.ID)
	}
	l.ids[e.ID] = true
	l.count[e.Type]++
	var p struct {
		UID                uint32
		PreviousPath       string
		Flags, Labels      []string
		MessageID, Subject string
		Origin             events.Origin
		Related            *struct{ Path string }
		Previous           struct {
			Path string
			UID  uint32
		}
		Changes struct{ Flags, Labels *struct{ Value []string } }
	}
	if err := json.Unmarshal(e.Data.(events.Raw), &p); err != nil {
		return err
	}
	if l.ever[e.Path] == nil {
		l.ever[e.Path] = map[uint32]bool{}
	}
	folder := l.folders[e.Path]
	_, there := folder[p.UID]
	switch e.Type {
	case events.AccountStateLostType:
		for path := range l.folders {
			l.silent[path] = true
		}
		l.silent["*"] = true
	case events.MailboxNewType:
		if folder != nil && p.Related == nil { // flushed: all is told again
			maps.DeleteFunc(l.news, func(place string, _ int) bool { return strings.HasPrefix(place, e.Path+" ") })
		}
		l.folders[e.Path] = map[uint32]told{}
		l.ever[e.Path] = map[uint32]bool{}
		if p.Related != nil {
			l.folders[e.Path] = l.renamed[p.Related.Path]
			l.silent[e.Path] = l.silenced[p.Related.Path]
			l.missing[e.Path], l.ever[e.Path] = l.missing[p.Related.Path], l.ever[p.Related.Path]
		}
	case events.MailboxDeletedType:
		l.renamed[e.Path], l.silenced[e.Path] = folder, l.silent[e.Path]
		delete(l.folders, e.Path)
		delete(l.silent, e.Path)
	case events.MailboxResetType:
		l.folders[e.Path], l.silent[e.Path] = map[uint32]told{}, true
	case events.MessageNewType:
		if there {
			return fmt.Errorf("seq %d: UID %d of %s is new twice", e.Seq, p.UID, e.Path)
		}
		if p.Origin == events.OriginReappeared && !l.ever[e.Path][p.UID] && p.UID > l.early[e.Path] && !l.silent[e.Path] && !l.silent["*"] {
			l.strange[e.Seq] = true
		}
		if folder == nil && !l.silent["*"] {
			return fmt.Errorf("seq %d: a message in %s, which was not told of", e.Seq, e.Path)
		}
		if folder == nil {
			folder = map[uint32]told{}
			l.folders[e.Path], l.silent[e.Path] = folder, true
		}
		folder[p.UID] = told{p.Subject, strings.Join(p.Flags, " "), strings.Join(p.Labels, " ")}
		l.ever[e.Path][p.UID] = true
		l.news[e.Path+" "+p.Subject]++
		l.known[cmp.Or(strings.Trim(p.MessageID, "<>"), p.Subject)] = true // neither may be readable
	case events.MessageMovedType:
		from, ok := l.folders[p.Previous.Path][p.Previous.UID]
		if there || !ok && !l.silent[p.Previous.Path] && !l.silent["*"] && p.Previous.UID > l.early[p.Previous.Path] {
			return fmt.Errorf("seq %d: UID %d of %s moved from %+v", e.Seq, p.UID, e.Path, p.Previous)
		}
		l.ever[e.Path][p.UID] = true
		delete(l.folders[p.Previous.Path], p.Previous.UID)
		folder[p.UID] = told{from.id, strings.Join(p.Flags, " "), strings.Join(p.Labels, " ")}
	case events.MailboxRenamedType:
		l.folders[e.Path], l.silent[e.Path] = l.folders[p.PreviousPath], l.silent[p.PreviousPath]
		l.missing[e.Path], l.ever[e.Path] = l.missing[p.PreviousPath], l.ever[p.PreviousPath]
		delete(l.folders, p.PreviousPath)
		delete(l.silent, p.PreviousPath)
	case events.MessageMissingType:
		if l.missing[e.Path] == nil {
			l.missing[e.Path] = map[uint32]bool{}
		}
		l.missing[e.Path][p.UID], l.ever[e.Path][p.UID] = true, true
	case events.MessageUpdatedType, events.MessageDeletedType:
		// What was there before the account may go before it could be announced.
		early := p.UID <= l.early[e.Path] || l.missing[e.Path][p.UID]
		if !there && !early && !l.silent[e.Path] && !l.silent["*"] {
			return fmt.Errorf("seq %d: %s of UID %d of %s, which was not told of", e.Seq, e.Type, p.UID, e.Path)
		}
		if e.Type == events.MessageDeletedType {
			if !there && l.missing[e.Path][p.UID] {
				l.closed++
			}
			delete(folder, p.UID)
			return nil
		}
		now := folder[p.UID]
		if c := p.Changes.Flags; c != nil {
			now.flags = strings.Join(c.Value, " ")
		}
		if c := p.Changes.Labels; c != nil {
			now.labels = strings.Join(c.Value, " ")
		}
		if there {
			folder[p.UID] = now
		}
	}
	return nil
}

// onceEach says which message was announced in one folder more than once.
func (l *ledger) onceEach() error {
	for _, place := range slices.Sorted(maps.Keys(l.news)) {
		if n := l.news[place]; n > 1 {
			return fmt.Errorf("%s was announced %d times", place, n)
		}
	}
	return nil
}

// Summary is for people who look at a failure.
func (l *ledger) Summary() string {
	types := slices.SortedFunc(maps.Keys(l.count), func(a, b events.Type) int { return cmp.Compare(a, b) })
	var s strings.Builder
	for _, t := range types {
		fmt.Fprintf(&s, "%s %d ", t, l.count[t])
	}
	return s.String()
}
