package imapsync

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/imapsync/wire"
	"github.com/postrider/postrider/internal/message"
)

// headerItem are the header fields fetched beside ENVELOPE: what ENVELOPE has no room
// for, and the ids.
var headerItem = wire.Headers("REFERENCES", "IN-REPLY-TO", "MESSAGE-ID", "LIST-ID", "LIST-UNSUBSCRIBE")

// What is asked for, in this order always: behind the first four stand the ids of
// servers that have them.
var (
	flagItems     = []wire.Item{wire.ItemUID, wire.ItemFlags}
	labelItems    = []wire.Item{wire.ItemUID, wire.ItemFlags, wire.ItemGmailLabels}
	firstItems    = []wire.Item{wire.ItemUID, wire.ItemFlags, wire.ItemInternalDate, wire.ItemSize}
	objectItems   = []wire.Item{wire.ItemEmailID, wire.ItemThreadID}
	gmailItems    = []wire.Item{wire.ItemGmailMsgID, wire.ItemGmailThreadID, wire.ItemGmailLabels}
	messageItems  = []wire.Item{wire.ItemEnvelope, wire.ItemBodyStructure, headerItem}
	identityItems = []wire.Item{wire.Headers("MESSAGE-ID")}
)

// idItems are the ids that the server has to give.
func (s *client) idItems() []wire.Item {
	switch {
	case s.plainFetch:
		return nil
	case s.info.Gmail:
		return gmailItems
	case s.info.ObjectID:
		return objectItems
	}
	return nil
}

// withIDs fetches first, the server's ids, and rest.
func (s *client) withIDs(ctx context.Context, set imap.UIDSet, first, rest []wire.Item) ([]fetched, error) {
	return orPlain(s, func(ids []wire.Item) ([]fetched, error) { return s.whole(ctx, set, slices.Concat(first, ids, rest)) })
}

// orPlain asks with the server's ids, and without where it refuses them. One that refuses
// them twice, and nothing else, is not asked for them again.
func orPlain[T any](s *client, ask func(ids []wire.Item) (T, error)) (T, error) {
	ids := s.idItems()
	got, err := ask(ids)
	if len(ids) == 0 || !is(err, ErrBad) {
		return got, err
	}
	plain, err := ask(nil)
	if err != nil {
		return plain, err
	}
	if got, err = ask(ids); !is(err, ErrBad) {
		return got, err // it was the moment
	}
	s.plainFetch = true
	return plain, nil
}

// maxReferences is how many references of a message are kept, the last ones.
const maxReferences = 50

// maxHeader is how much is kept of a fetched header block.
const maxHeader = 64 << 10

// maxKept is how much is kept of an answer: it is whole in memory before it is looked at. What a
// message says of itself has some kilobytes, and never more than the wire keeps of a response.
const maxKept = 16 << 20

// errTooLarge is the answer that is larger: fewer messages are to be asked for. One alone is
// larger only where the server repeats itself.
var errTooLarge = &Error{Kind: ErrNo, Stage: StageCommand, Command: "UID FETCH", Text: "answer is larger than can be kept"}

// fetched is what came of one message, in however many responses.
type fetched struct {
	uid       uint32
	flags     []imap.Flag
	hasFlags  bool
	date      time.Time
	size      int64
	hasSize   bool
	envelope  *wire.Envelope
	broken    bool // an ENVELOPE came that cannot be read
	structure *message.Part
	warnings  message.Warnings // of the structure
	header    []byte
	hasHeader bool
	ids       ObjectIDs
}

// Messages implements Session.
func (s *client) Messages(ctx context.Context, set imap.UIDSet) ([]Message, error) {
	got, err := s.withIDs(ctx, set, firstItems, messageItems)
	out := make([]Message, 0, len(got))
	var broken imap.UIDSet
	for i := range got {
		out = append(out, messageOf(&got[i]))
		if f := &got[i]; f.broken && f.envelope == nil || s.profile.HeadersInsteadOfEnvelope {
			broken = append(broken, imap.UIDRange{Start: imap.UID(f.uid), Stop: imap.UID(f.uid)})
		}
	}
	if err == nil {
		if err := s.reread(ctx, out, broken); err != nil {
			return nil, err
		}
	}
	return out, err
}

// Flags implements Session.
func (s *client) Flags(ctx context.Context, set imap.UIDSet) (Delta, error) {
	if err := checkStatic(set); err != nil {
		return Delta{}, err
	}
	return s.flags(ctx, set, wire.FetchOptions{})
}

// Changed implements Session.
func (s *client) Changed(ctx context.Context, upTo uint32, since uint64, vanished bool) (Delta, error) {
	var set imap.UIDSet
	set.AddRange(1, imap.UID(max(upTo, 1)))
	return s.flags(ctx, set, wire.FetchOptions{ChangedSince: since, Vanished: vanished})
}

// flags fetches UID and FLAGS, and labels where the server has them.
func (s *client) flags(ctx context.Context, set imap.UIDSet, o wire.FetchOptions) (Delta, error) {
	if !s.info.Gmail {
		return s.fetchFlags(ctx, set, flagItems, o)
	}
	return orPlain(s, func(ids []wire.Item) (Delta, error) {
		if len(ids) == 0 {
			return s.fetchFlags(ctx, set, flagItems, o)
		}
		return s.fetchFlags(ctx, set, labelItems, o)
	})
}

func (s *client) fetchFlags(ctx context.Context, set imap.UIDSet, items []wire.Item, o wire.FetchOptions) (Delta, error) {
	var out []FlagsOf
	// The wire gives messages with equal flags one list: so do we, and for labels too.
	lists := map[*imap.Flag][]string{}
	labels := map[string][]string{}
	ordered, kept := true, 0
	most := 2 * (min(int(s.Exists()), maxListed) + 5000)
	got, err := s.c.Fetch(ctx, set, items, o, func(m *wire.Message) error {
		f := FlagsOf{UID: uint32(m.UID), Known: m.HasFlags, Flags: noFlags}
		if len(m.Flags) > 0 {
			list, ok := lists[&m.Flags[0]]
			if !ok {
				list = flagsOf(m.Flags)
				lists[&m.Flags[0]] = list
				kept += 32 * len(list)
			}
			f.Flags = list
		}
		if m.HasLabels {
			key := strings.Join(m.Labels, "\x00")
			list, ok := labels[key]
			if !ok {
				list = labelsOf(m.Labels)
				labels[key] = list
				kept += 2*len(key) + 16*len(list)
			}
			f.Labels, f.HasLabels = list, true
		}
		if kept > maxKept {
			return errTooMany
		}
		if len(out) == most { // the same again and again, or more than there is
			if out, ordered = lastFlags(out), true; len(out) > most/2 {
				return errTooMany
			}
		}
		ordered = ordered && (len(out) == 0 || out[len(out)-1].UID < f.UID)
		out = append(out, f)
		return nil
	})
	if errors.Is(err, errTooMany) {
		s.Close()
		return Delta{}, err
	}
	if err = failure(err); err != nil && !usable(err) {
		return Delta{}, err
	}
	if !ordered {
		out = lastFlags(out)
	}
	return Delta{Flags: out, Vanished: got.Vanished, Complete: err == nil && !got.Partial()}, err
}

// maxListed is of how many messages one answer tells flags, whatever EXISTS says: each takes
// 100 bytes.
const maxListed = 4 << 20

var errTooMany = &Error{Kind: ErrLimit, Stage: StageCommand, Command: "UID FETCH", Text: "answer names more messages than there are"}

var noFlags = []string{}

// lastFlags sorts by UID and keeps what was said last of each (row 28): of flags, and of
// labels, which a push for the message leaves out.
func lastFlags(in []FlagsOf) []FlagsOf {
	slices.SortStableFunc(in, func(a, b FlagsOf) int { return cmp.Compare(a.UID, b.UID) })
	out := in[:0]
	for _, f := range in {
		if n := len(out); n > 0 && out[n-1].UID == f.UID {
			last := &out[n-1]
			if f.Known {
				last.Flags, last.Known = f.Flags, true
			}
			if f.HasLabels {
				last.Labels, last.HasLabels = f.Labels, true
			}
			continue
		}
		out = append(out, f)
	}
	return out
}

// Window implements Session.
func (s *client) Window(ctx context.Context, set imap.UIDSet) ([]FlagsOf, error) {
	return orPlain(s, func(ids []wire.Item) ([]FlagsOf, error) {
		if len(ids) == 0 {
			d, err := s.fetchFlags(ctx, set, flagItems, wire.FetchOptions{})
			return d.Flags, err
		}
		got, err := s.fetch(ctx, set, slices.Concat(flagItems, ids))
		out := make([]FlagsOf, 0, len(got))
		for i := range got {
			f := &got[i]
			out = append(out, FlagsOf{UID: f.uid, Flags: flagsOf(f.flags), Known: f.hasFlags, ObjectIDs: f.ids})
		}
		return out, err
	})
}

// Identities implements Session.
func (s *client) Identities(ctx context.Context, set imap.UIDSet) ([]IdentityOf, error) {
	got, err := s.withIDs(ctx, set, firstItems, identityItems)
	out := make([]IdentityOf, 0, len(got))
	for i := range got {
		f := &got[i]
		out = append(out, IdentityOf{
			UID: f.uid, Flags: flagsOf(f.flags), FlagsKnown: f.hasFlags,
			InternalDate: f.date, Size: f.size, ObjectIDs: f.ids,
			MessageID: firstID(message.ParseHeader(f.header)["message-id"]),
		})
	}
	return out, err
}

// whole runs fetch, and once more for messages of which nothing but flags came: those
// may be a push for a message that is gone by now. What does not come then is.
func (s *client) whole(ctx context.Context, set imap.UIDSet, items []wire.Item) ([]fetched, error) {
	got, err := s.fetch(ctx, set, items)
	var again imap.UIDSet
	for i := range got {
		if got[i].pushed() {
			again.AddNum(imap.UID(got[i].uid))
		}
	}
	if len(again) == 0 {
		return got, err
	}
	got = slices.DeleteFunc(got, func(f fetched) bool { return f.pushed() })
	if err != nil {
		return got, err
	}
	more, err := s.fetch(ctx, again, items)
	if err != nil && !usable(err) {
		return nil, err
	}
	got = append(got, more...)
	slices.SortFunc(got, func(a, b fetched) int { return cmp.Compare(a.uid, b.uid) })
	return got, err
}

// pushed says whether nothing came but what a server also says unasked.
func (f *fetched) pushed() bool {
	return !f.hasSize && !f.hasHeader && f.date.IsZero() && f.envelope == nil && !f.broken && f.structure == nil
}

func checkStatic(set imap.UIDSet) error {
	for _, r := range set {
		if r.Start == 0 || r.Stop == 0 {
			set = nil
		}
	}
	if len(set) == 0 {
		return &Error{Kind: ErrConfig, Stage: StageCommand, Command: "UID FETCH", Text: "UID set is empty or open"}
	}
	return nil
}

// fetch runs UID FETCH to its end and returns the messages of set, by UID, each once,
// joined of all responses for it. What came is returned beside an error that leaves
// the connection usable, but for errTooLarge.
func (s *client) fetch(ctx context.Context, set imap.UIDSet, items []wire.Item) ([]fetched, error) {
	if err := checkStatic(set); err != nil {
		return nil, err
	}
	var out []fetched
	at := map[uint32]int{}
	kept := 0
	_, err := s.c.Fetch(ctx, set, items, wire.FetchOptions{}, func(m *wire.Message) error {
		if kept += m.Bytes; kept > maxKept {
			return nil
		}
		i, ok := at[uint32(m.UID)]
		if !ok {
			i = len(out)
			at[uint32(m.UID)] = i
			out = append(out, fetched{uid: uint32(m.UID)})
		}
		out[i].join(m)
		return nil
	})
	if err = failure(err); err != nil && !usable(err) {
		return nil, err // the last message may be cut
	}
	if kept > maxKept {
		return nil, errTooLarge
	}
	slices.SortFunc(out, func(a, b fetched) int { return cmp.Compare(a.uid, b.uid) })
	return out, err
}

// join adds a response for the message; what it says replaces what was said before.
func (f *fetched) join(m *wire.Message) {
	if m.HasFlags {
		f.flags, f.hasFlags = m.Flags, true
	}
	if !m.InternalDate.IsZero() {
		f.date = m.InternalDate
	}
	if m.HasSize {
		f.size, f.hasSize = m.Size, true
	}
	if m.Envelope != nil {
		f.envelope = m.Envelope
	}
	f.ids.join(m)
	f.broken = f.broken || m.IsDamaged("ENVELOPE")
	if m.Structure != nil { // of which there may be much more than is looked at
		f.warnings = nil
		f.structure = partTree(m.Structure, &f.warnings)
	}
	// One section is asked for, so the first that comes is it, however its name is
	// echoed (row 50).
	for _, sec := range m.Sections {
		if sec.Data != nil && !f.hasHeader {
			f.header, f.hasHeader = slices.Clone(sec.Data[:min(len(sec.Data), maxHeader)]), true
		}
	}
}

// join takes the ids of a response.
func (o *ObjectIDs) join(m *wire.Message) {
	switch {
	case m.EmailID != "":
		o.EmailID = strings.Clone(m.EmailID)
	case m.GmailMsgID != 0:
		o.EmailID = strconv.FormatUint(m.GmailMsgID, 10)
	}
	switch {
	case m.ThreadID != "":
		o.ThreadID = strings.Clone(m.ThreadID)
	case m.GmailThread != 0:
		o.ThreadID = strconv.FormatUint(m.GmailThread, 10)
	}
	if m.HasLabels {
		o.Labels, o.HasLabels = labelsOf(m.Labels), true
	}
}

// labelsOf copies, sorts and makes unique what the wire keeps only until the next
// message. It is never nil.
func labelsOf(in []string) []string {
	out := make([]string, 0, len(in))
	for _, l := range in {
		out = append(out, strings.Clone(l))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// messageOf makes the value a worker sees.
func messageOf(f *fetched) Message {
	h := message.ParseHeader(f.header)
	m := Message{
		UID: f.uid, Flags: flagsOf(f.flags), FlagsKnown: f.hasFlags,
		InternalDate: f.date, Size: f.size, ObjectIDs: f.ids,
		Header:     h,
		MessageID:  firstID(h["message-id"]),
		InReplyTo:  firstID(h["in-reply-to"]),
		References: allIDs(h["references"]),
	}
	m.Structure, m.Warnings = f.structure, f.warnings
	w := &m.Warnings
	damaged := func(bad bool, name string) {
		if bad {
			m.Damaged = append(m.Damaged, name)
		}
	}
	damaged(!f.hasFlags, "flags")
	damaged(f.date.IsZero(), "internalDate")
	damaged(!f.hasSize, "size")
	damaged(f.envelope == nil, "envelope")
	damaged(f.structure == nil, "bodyStructure")
	damaged(!f.hasHeader, "headers")
	if e := f.envelope; e != nil {
		if t, ok := message.Date(e.Date); ok {
			m.Date = t
		}
		m.Subject = message.Words(e.Subject, w)
		m.From, m.Sender, m.ReplyTo = addresses(e.From, w), addresses(e.Sender, w), addresses(e.ReplyTo, w)
		m.To, m.Cc, m.Bcc = addresses(e.To, w), addresses(e.Cc, w), addresses(e.Bcc, w)
		if m.MessageID == "" {
			m.MessageID = firstID([]string{e.MessageID})
		}
		if m.InReplyTo == "" {
			m.InReplyTo = firstID([]string{e.InReplyTo})
		}
	}
	return m
}

// flagsOf sorts flags and drops \Recent, which is the session's and not the message's.
func flagsOf(in []imap.Flag) []string {
	out := make([]string, 0, len(in))
	for _, f := range in {
		if !strings.EqualFold(string(f), `\Recent`) {
			out = append(out, string(f))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// addresses flattens groups and keeps text that is no address as a name.
func addresses(in []imap.Address, w *message.Warnings) []events.Address {
	var out []events.Address
	for i := range in {
		a := &in[i]
		switch {
		case a.IsGroupStart(), a.IsGroupEnd() && a.Name == "":
			continue
		case a.Mailbox == "" || a.Host == "" || a.Host == "MISSING_DOMAIN" || a.Host == ".MISSING-HOST-NAME.":
			// QUIRK(dovecot, uw): text that is no address comes with a host that says so.
			name := a.Name
			if name == "" {
				name = a.Mailbox
			}
			out = append(out, events.Address{Name: message.Words(name, w)})
		default:
			out = append(out, events.Address{Name: message.Words(a.Name, w), Address: message.Clean(a.Mailbox + "@" + a.Host)})
		}
	}
	return out
}

// firstID is the first message id of a field, with angle brackets.
func firstID(values []string) string {
	for _, v := range values {
		if ids := message.IDs(v); len(ids) > 0 {
			return ids[0]
		}
	}
	return ""
}

// allIDs are all message ids of a field, the last maxReferences.
func allIDs(values []string) []string {
	var out []string
	for _, v := range values {
		out = append(out, message.IDs(v)...)
	}
	return out[max(0, len(out)-maxReferences):]
}
