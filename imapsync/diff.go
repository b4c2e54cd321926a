package imapsync

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
)

// A commit holds at most this much, so that one script stays short; what is silent may
// be more.
const (
	chunkMessages = 500
	chunkBytes    = 1 << 20
	chunkSilent   = 5000
)

// draft is the next state of one folder in the making: what the server said is told to
// it, it compares that with the blocks, and it gathers the events of the differences.
// It does no I/O: the blocks a call touches MUST have been handed to load before.
//
// The order of calls decides nothing but the order of blocks being compared; events
// come out in the order of events.md section 1.
type draft struct {
	site
	keep    string           // storeIdentity
	oneMove bool             // notifyMoves
	base    uint64           // version of the folder that the draft was made from
	meta    store.FolderMeta // the next one
	blocks  map[uint32][]store.Record
	was     map[uint32]int // messages in a block when it was loaded
	touched map[uint32]bool

	about   []events.Event // of the folder itself
	deleted []events.Event
	arrived []arrivedEvent
	updated []events.Event
	missing []events.Event
	spoken  map[uint32]bool // UIDs of arrived, updated and missing
	recent  map[store.Identity][]store.Place
	seen    map[store.MessageKey]store.Identity
	hold    []store.Gone // of this folder, to be told later
	ended   []string     // held messages that the events tell of
	claimed []string     // our own changes whose effect the draft has

	messages int // messages that differ
	bytes    int // of events, about
	returned bool
	moved    bool // meta differs beside the cursor of a step's end
}

type arrivedEvent struct {
	uid uint32
	ev  events.Event
}

// newDraft begins from what is committed.
func newDraft(s site, meta store.FolderMeta) *draft {
	d := &draft{site: s, blocks: map[uint32][]store.Record{}, was: map[uint32]int{}}
	d.restart(meta)
	return d
}

// restart begins the next chunk from what is now committed; loaded blocks stay.
func (d *draft) restart(meta store.FolderMeta) {
	d.base, d.meta = meta.Version, meta
	d.meta.Pending = slices.Clone(meta.Pending)
	for idx := range d.touched {
		d.was[idx] = len(d.blocks[idx])
	}
	d.touched = map[uint32]bool{}
	d.about, d.deleted, d.arrived, d.updated, d.missing = nil, nil, nil, nil, nil
	d.spoken = map[uint32]bool{}
	d.seen, d.hold, d.ended, d.claimed = nil, nil, nil, nil
	d.recent, d.messages, d.bytes, d.returned, d.moved = nil, 0, 0, false, false
}

// forget drops loaded blocks that hold no change, once they are many.
func (d *draft) forget(most int) {
	if len(d.blocks) <= most {
		return
	}
	for idx := range d.blocks {
		if !d.touched[idx] {
			delete(d.blocks, idx)
			delete(d.was, idx)
		}
	}
}

// need names the blocks of these UIDs that are not loaded.
func (d *draft) need(uids ...uint32) []uint32 {
	var out []uint32
	for _, uid := range uids {
		idx := store.BlockOf(uid)
		if _, ok := d.blocks[idx]; !ok && !slices.Contains(out, idx) {
			out = append(out, idx)
		}
	}
	return out
}

// load hands over blocks as they are stored; a block that is not stored is empty.
func (d *draft) load(want []uint32, got map[uint32][]store.Record) {
	for _, idx := range want {
		if _, ok := d.blocks[idx]; !ok {
			d.blocks[idx], d.was[idx] = got[idx], len(got[idx])
		}
	}
}

func compareUID(r store.Record, uid uint32) int { return cmp.Compare(r.UID, uid) }

// record finds a message in the state.
func (d *draft) record(uid uint32) (store.Record, bool) {
	recs := d.blocks[store.BlockOf(uid)]
	i, ok := slices.BinarySearchFunc(recs, uid, compareUID)
	if !ok {
		return store.Record{}, false
	}
	return recs[i], true
}

// put writes one message into its block, copying the block at its first change.
func (d *draft) put(r store.Record) {
	if d.meta.Fast {
		return
	}
	recs := d.own(store.BlockOf(r.UID))
	i, ok := slices.BinarySearchFunc(recs, r.UID, compareUID)
	if ok {
		recs[i] = r
	} else {
		recs = slices.Insert(recs, i, r)
	}
	d.blocks[store.BlockOf(r.UID)] = recs
}

// own makes a block ours to change.
func (d *draft) own(idx uint32) []store.Record {
	if !d.touched[idx] {
		d.touched[idx] = true
		d.blocks[idx] = slices.Clone(d.blocks[idx])
	}
	return d.blocks[idx]
}

// awaited is the pending entry of a UID.
func (d *draft) awaited(uid uint32) *store.Pending {
	if i, ok := slices.BinarySearchFunc(d.meta.Pending, uid, comparePending); ok {
		return &d.meta.Pending[i]
	}
	return nil
}

func comparePending(p store.Pending, uid uint32) int { return cmp.Compare(p.UID, uid) }

// announces says whether the first look left a message to be announced.
func (d *draft) announces(uid uint32) bool { return owes(d.meta.Baseline, uid) }

// owes says whether a first look has still to announce a message.
func owes(b *store.Baseline, uid uint32) bool {
	if b == nil {
		return false
	}
	_, ok := slices.BinarySearch(b.Announce, uid)
	return ok
}

// told ends the announcing of the first look's messages up to uid.
func (d *draft) told(uid uint32) {
	b := *d.meta.Baseline
	i, ok := slices.BinarySearch(b.Announce, uid)
	if ok {
		i++
	}
	b.Announce = b.Announce[i:]
	d.meta.Baseline = &b
	d.moved = true
}

// silent takes a message into the state without an event.
func (d *draft) silent(m *IdentityOf) {
	d.put(d.kept(m))
	d.messages++
}

// kept is what folder state keeps of a message.
func (d *draft) kept(m *IdentityOf) store.Record {
	r := store.Record{UID: m.UID, Flags: m.Flags, Labels: m.Labels}
	if d.keep == store.IdentityNone {
		return r
	}
	r.EmailID, r.ThreadID = m.EmailID, m.ThreadID
	if d.keep == store.IdentityFull && len(m.MessageID) <= maxKeptID {
		r.MessageID, r.Print = m.MessageID, printOf(identityBy("", m.MessageID, m.Size), m.InternalDate.Unix())
	}
	return r
}

// maxKeptID bounds the Message-IDs of folder state: RFC 5322 section 2.1.1 lets no line
// be longer.
const maxKeptID = 998

// arrive announces a message. What the state has already is announced only when it is
// one that the first look left to be told. It is a messageNew, with the messageDeleted
// of what it was elsewhere where that was held until now; or one messageMoved for both.
func (d *draft) arrive(m *Message, a arrival) {
	a.waited = d.awaited(m.UID)
	if a.returned && a.waited == nil {
		d.comesBack(m.UID)
	}
	if a.waited != nil {
		p := *a.waited
		a.waited = &p
		if p.Held && p.Tries == 0 {
			a.waited = nil // it is ours that it is late
		}
		d.settle(m.UID)
	}
	if d.announces(m.UID) {
		d.told(m.UID)
	}
	d.put(d.kept(m.core()))
	d.meta.UIDNext = max(d.meta.UIDNext, m.UID+1)
	d.spoken[m.UID] = true
	d.messages++
	var id events.ID
	if a.from != nil && d.oneMove && a.related.Confidence == "certain" {
		id = d.moveHere(m, a)
	} else {
		id = d.newHere(m, a)
	}
	ident := m.core().identity()
	if ident == "" {
		return
	}
	d.remember(ident, append(slices.Clone(a.places), store.Place{
		Folder: d.folder.Num, UID: m.UID, InternalDate: m.InternalDate.Unix(), Event: string(id), MessageID: m.MessageID,
		At: a.now.UnixMilli(), Arrived: a.related != nil,
	}))
	if d.seen == nil {
		d.seen = map[store.MessageKey]store.Identity{}
	}
	d.seen[store.MessageKey{Folder: d.folder.Num, UIDValidity: d.meta.UIDValidity, UID: m.UID}] = ident
}

// comesBack notes that a UID of which was told that it is gone is there again: its events
// have other ids than those that were told, also when it is waited for first.
func (d *draft) comesBack(uid uint32) {
	if !d.returned {
		d.returned, d.moved = true, true
		d.meta.Returns++
	}
	if p := d.awaited(uid); p != nil {
		p.Returned = true
	}
}

// newHere is a message's messageNew.
func (d *draft) newHere(m *Message, a arrival) events.ID {
	payload := messageNew(d.site, m, a)
	id := d.messageEvent(events.MessageNewType, &d.meta, m.UID)
	d.arrived = append(d.arrived, arrivedEvent{m.UID, d.event(id, payload)})
	d.bytes += weight(&payload)
	if g := a.from; g != nil {
		d.tellHeld(g, &events.Related{
			Event: events.MessageNewType, EventID: id, ID: payload.ID, UID: m.UID, Path: d.folder.Path,
			Evidence: a.related.Evidence, Confidence: a.related.Confidence,
		})
	}
	return id
}

// moveHere is the messageMoved of a message that was held.
func (d *draft) moveHere(m *Message, a arrival) events.ID {
	g := a.from
	id := d.messageEvent(events.MessageMovedType, &d.meta, m.UID, events.Uint(g.Incarnation), g.Path, events.Uint(g.UID))
	d.deleted = append(d.deleted, d.event(id, events.MessageMoved{
		ID: messageID(d.folder.Num, m.UID), UID: m.UID,
		Previous: events.Previous{ID: messageID(g.Folder, g.UID), UID: g.UID, Path: g.Path, SpecialUse: g.SpecialUse},
		EmailID:  m.EmailID, ThreadID: m.ThreadID, MessageID: m.MessageID, Flags: m.Flags, Labels: m.Labels, Evidence: a.related.Evidence, Cause: g.Cause,
	}))
	d.ended = append(d.ended, g.Event)
	d.bytes += 700
	return id
}

// tellHeld tells of a message that was held.
func (d *draft) tellHeld(g *store.Gone, rel *events.Related) {
	d.deleted = append(d.deleted, goneEvent(g, rel))
	d.ended = append(d.ended, g.Event)
	d.bytes += 500
}

// wait has a UID asked for again at next: until then other folders are looked at.
func (d *draft) wait(uid uint32, next time.Time) {
	d.await(store.Pending{UID: uid, Since: next.Add(-holdArrived), Next: next, Held: true})
	d.meta.UIDNext = max(d.meta.UIDNext, uid+1)
}

// await adds a UID to those that are waited for.
func (d *draft) await(p store.Pending) {
	i, _ := slices.BinarySearchFunc(d.meta.Pending, p.UID, comparePending)
	d.meta.Pending, d.moved = slices.Insert(d.meta.Pending, i, p), true
}

// maxPlaces bounds how many places one identity may have: a message that is sent to
// oneself a thousand times is recognised by its newest.
const maxPlaces = 20

// remember replaces the places of an identity.
func (d *draft) remember(ident store.Identity, places []store.Place) {
	if d.recent == nil {
		d.recent = map[store.Identity][]store.Place{}
	}
	if len(places) > maxPlaces {
		places = places[len(places)-maxPlaces:]
	}
	d.recent[ident] = places
}

// flags compares the flags and labels of a known message, as far as they were told. It
// says whether they differ, which is one event.
func (d *draft) flags(now *FlagsOf) bool {
	r, ok := d.record(now.UID)
	if !ok || !differs(&r, now) {
		return false
	}
	// No MODSEQ is asked for, so the folder's version tells one change from the next.
	key := []string{events.Uint(d.base)}
	var changes events.Changes
	if now.Known && !slices.Equal(r.Flags, now.Flags) {
		key = append(append(key, "f"), now.Flags...)
		changes.Flags = difference(r.Flags, now.Flags)
		r.Flags = now.Flags
	}
	if now.HasLabels && !slices.Equal(r.Labels, now.Labels) {
		key = append(append(key, "l"), now.Labels...)
		changes.Labels = difference(r.Labels, now.Labels)
		r.Labels = now.Labels
	}
	d.put(r)
	d.spoken[r.UID] = true
	d.updated = append(d.updated, d.event(d.messageEvent(events.MessageUpdatedType, &d.meta, r.UID, key...), events.MessageUpdated{
		ID: messageID(d.folder.Num, r.UID), UID: r.UID, EmailID: r.EmailID, ThreadID: r.ThreadID, MessageID: r.MessageID,
		Changes: changes,
	}))
	d.messages++
	d.bytes += 300 + 30*len(key)
	return true
}

// differs says whether flags or labels are told and are others than those of the state.
func differs(r *store.Record, now *FlagsOf) bool {
	return now.Known && !slices.Equal(r.Flags, now.Flags) || now.HasLabels && !slices.Equal(r.Labels, now.Labels)
}

func difference(was, now []string) *events.Difference {
	return &events.Difference{Value: now, Added: without(now, was), Deleted: without(was, now)}
}

func without(list, other []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(other, s) {
			out = append(out, s)
		}
	}
	return out
}

// leave takes a message out of the state, and gives what its messageDeleted says. It MUST
// only be called behind a complete, counted answer.
func (d *draft) leave(uid uint32) (g store.Gone, ok bool) {
	idx := store.BlockOf(uid)
	r, ok := d.record(uid)
	if !ok {
		return g, false
	}
	recs := d.own(idx)
	i, _ := slices.BinarySearchFunc(recs, uid, compareUID)
	d.blocks[idx] = slices.Delete(recs, i, i+1)
	d.messages++
	return store.Gone{
		Event:  string(d.messageEvent(events.MessageDeletedType, &d.meta, uid)),
		Folder: d.folder.Num, UID: uid, Incarnation: d.meta.Incarnation, Path: d.folder.Path, SpecialUse: d.folder.SpecialUse,
		Print: r.Print, EmailID: r.EmailID, ThreadID: r.ThreadID, MessageID: r.MessageID, Flags: r.Flags, Labels: r.Labels,
	}, true
}

// withhold takes a message out of the state without an event.
func (d *draft) withhold(uid uint32) {
	if _, ok := d.record(uid); !ok {
		return
	}
	idx := store.BlockOf(uid)
	recs := d.own(idx)
	i, _ := slices.BinarySearchFunc(recs, uid, compareUID)
	d.blocks[idx] = slices.Delete(recs, i, i+1)
	d.messages++
}

// miss notes that a UID was asked for and did not come. After the last of missingSteps
// messageMissing is said; a day later the UID is given up.
func (d *draft) miss(uid uint32, now time.Time, reason, response string) {
	d.moved = true
	p := d.awaited(uid)
	if p == nil {
		d.await(await(store.Pending{UID: uid, Since: now}, now))
		return
	}
	p.Tries++
	*p = await(*p, now)
	if p.Tries < len(missingSteps) || p.Said {
		if now.Sub(p.Since) > missingFor {
			d.settle(uid)
		}
		return
	}
	p.Said, d.spoken[uid] = true, true
	d.missing = append(d.missing, d.event(d.messageEvent(events.MessageMissingType, &d.meta, uid), events.MessageMissing{
		ID: messageID(d.folder.Num, uid), UID: uid, MissingRetries: p.Tries, MissingDelay: missingDelay(p.Tries).Milliseconds(),
		Reason: reason, Response: response,
	}))
	d.bytes += 400
}

// settle ends the wait for a UID.
func (d *draft) settle(uid uint32) {
	if i, ok := slices.BinarySearchFunc(d.meta.Pending, uid, comparePending); ok {
		d.meta.Pending = slices.Delete(d.meta.Pending, i, i+1)
	}
	if len(d.meta.Pending) == 0 {
		d.meta.Pending = nil
	}
	d.moved = true
}

// gone tells that a UID that was waited for is not on the server any more. It is an
// event only if the application was told of the UID.
func (d *draft) gone(uid uint32) {
	p := d.awaited(uid)
	if p == nil {
		return
	}
	if p.Said {
		d.deleted = append(d.deleted, d.event(d.messageEvent(events.MessageDeletedType, &d.meta, uid), events.MessageDeleted{
			ID: messageID(d.folder.Num, uid), UID: uid,
		}))
	}
	d.settle(uid)
}

// mailbox adds an event of the folder itself.
func (d *draft) tell(t events.Type, data events.Payload) {
	id := d.mailboxEvent(t, d.meta.Incarnation, d.meta.UIDValidity, d.base)
	d.about = append(d.about, d.event(id, data))
}

// full says whether the chunk should be committed before more is put into it.
func (d *draft) full() bool {
	if d.quiet() {
		return d.messages >= chunkSilent
	}
	return d.messages >= chunkMessages || d.bytes >= chunkBytes
}

// quiet says that the draft has no events.
func (d *draft) quiet() bool {
	return len(d.about)+len(d.deleted)+len(d.arrived)+len(d.updated)+len(d.missing) == 0
}

// changed says whether there is anything to commit but the end of a step.
func (d *draft) changed() bool { return !d.quiet() || len(d.touched) > 0 || d.moved }

// known is how many messages of the server the state accounts for: those in the blocks
// and those that are waited for.
func (d *draft) known() int {
	n := d.meta.Count + len(d.meta.Pending)
	for idx := range d.touched {
		n += len(d.blocks[idx]) - d.was[idx]
	}
	return n
}

// change is the commit that the draft has become. The draft MUST be restarted with the
// committed meta before it is used again.
func (d *draft) change() store.Change {
	meta := d.meta
	blocks := make(map[uint32][]store.Record, len(d.touched))
	for idx := range d.touched {
		meta.Replace(idx, d.was[idx], len(d.blocks[idx]))
		blocks[idx] = d.blocks[idx]
	}
	slices.SortStableFunc(d.arrived, func(a, b arrivedEvent) int { return cmp.Compare(a.uid, b.uid) })
	evs := make([]events.Event, 0, len(d.about)+len(d.deleted)+len(d.arrived)+len(d.updated)+len(d.missing))
	evs = append(append(evs, d.about...), d.deleted...)
	for _, a := range d.arrived {
		evs = append(evs, a.ev)
	}
	evs = append(append(evs, d.updated...), d.missing...)
	return store.Change{
		Folders: []store.FolderChange{{Num: d.folder.Num, Version: d.base, Meta: meta, Blocks: blocks}},
		Recent:  maps.Clone(d.recent),
		Seen:    d.seen,
		Hold:    d.hold,
		Told:    d.ended, Consumed: d.claimed,
		Events: evs,
	}
}
