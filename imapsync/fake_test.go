package imapsync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/postrider/postrider/internal/message"
)

// fakeServer is a mail server without a wire: what a Session would answer, with the
// lies a test wants. Everything is under one mutex.
type fakeServer struct {
	mu       sync.Mutex
	folders  map[string]*fakeFolder
	modseq   uint64
	sessions []*fakeSession

	condstore  bool
	qresync    bool
	ghosts     uint32                     // messages that are counted and never shown
	version    string                     // of its ID
	lie        func(Delta) (Delta, error) // what becomes of an answer to CHANGEDSINCE
	shown      func(modseq uint64) uint64 // HIGHESTMODSEQ as it is told
	questions  []string                   // about the messages of folders, of all sessions
	listStatus bool
	objectID   bool // EMAILID, THREADID and MAILBOXID are told
	dialErr    error
	bye        error                                          // what IDLE ends with
	mute       bool                                           // commands never answer
	hidden     map[uint32]bool                                // UIDs that FETCH leaves out
	poisoned   map[uint32]bool                                // UIDs whose whole FETCH is NO
	deadly     map[uint32]bool                                // UIDs whose FETCH, whatever of them, ends the connection
	fetchedAll func()                                         // called once, behind the answer to the next whole FETCH
	parts      func(uid uint32, p PartWanted) ([]byte, error) // content of messages
	slow       time.Duration                                  // answers with content take that long
	structure  *message.Part                                  // of all messages
	roomFor    int                                            // messages in a whole FETCH at most; 0 = any
	given      int                                            // messages, by whole FETCHes
	size       int64                                          // of all messages; 0 = 100
	commands   int                                            // of all sessions
	refused    map[string]bool                                // folders whose EXAMINE is NO
	examines   map[string]bool                                // likewise, and whose STATUS is not
	shells     map[string]bool                                // folders that are \Noselect
	saidShells map[string]bool                                // folders that are said to be
	readErr    error                                          // what EXAMINE, STATUS and FETCH of messages are answered with
	noFolders  bool                                           // LIST answers nothing, with OK
	garbled    string                                         // the folder whose line in LIST cannot be read
	cutSearch  int                                            // SEARCH names only so many UIDs
	limited    bool                                           // and says that it was limited
	fetchMost  int                                            // FETCH of flags gives so many at most, and says so
	panics     int                                            // LISTs that panic

	notify    bool // NOTIFY is offered
	notifyErr error
	notifies  int      // how often it was asked for
	caps      []string // besides IMAP4rev1
	noIdle    bool
	compress  bool              // COMPRESS is offered
	dialsMost int               // how many dials succeed in spite of dialErr
	wedged    chan struct{}     // Idle waits for it, whatever else happens
	roles     map[string]string // special uses, by folder
	statuses  []string          // folders that STATUS was asked for
	lists     int
	dials     int
	opened    map[string]int
	bare      bool              // as Courier: EXAMINE tells no UIDNEXT, and a folder that never had mail the time as its UIDVALIDITY
	strike    func(n int) error // what becomes of the n-th command, if it is not nil
}

type fakeFolder struct {
	validity, next uint32
	mailboxID      string
	msgs           map[uint32]*fakeMessage
	had            map[uint32]bool   // UIDs, as of the last act
	gone           map[uint32]uint64 // MODSEQ of those that vanished
}

type fakeMessage struct {
	uid     uint32
	id      string
	emailID string // stays with the message wherever it is moved or copied
	flags   []string
	date    time.Time
	modseq  uint64
}

func newFakeServer(condstore bool) *fakeServer {
	s := &fakeServer{
		folders: map[string]*fakeFolder{}, condstore: condstore, listStatus: true, modseq: 1,
		hidden: map[uint32]bool{}, poisoned: map[uint32]bool{}, refused: map[string]bool{}, opened: map[string]int{},
	}
	for _, n := range []string{"INBOX", "Archive"} {
		s.create(n)
	}
	return s
}

func (s *fakeServer) create(name string) {
	s.modseq++
	s.folders[name] = &fakeFolder{
		validity: uint32(1000 + s.modseq), next: 1, mailboxID: fmt.Sprint("F", s.modseq),
		msgs: map[uint32]*fakeMessage{}, gone: map[uint32]uint64{},
	}
}

// act does something as another client would, and tells the sessions.
func (s *fakeServer) act(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	for _, name := range slices.Sorted(maps.Keys(s.folders)) {
		folder := s.folders[name]
		for uid := range folder.had {
			if folder.msgs[uid] == nil {
				s.modseq++
				folder.gone[uid] = s.modseq
			}
		}
		folder.had = map[uint32]bool{}
		for uid := range folder.msgs {
			folder.had[uid] = true
		}
	}
	for _, x := range s.sessions {
		x.notice()
	}
}

// validity is a folder's UIDVALIDITY as it is told.
func (x *fakeSession) validity(f *fakeFolder) uint32 {
	if x.s.bare && f.next == 1 {
		return uint32(time.Now().Unix())
	}
	return f.validity
}

// asks notes a question about messages. It is called under the lock.
func (x *fakeSession) asks(format string, args ...any) {
	x.s.questions = append(x.s.questions, x.open+" "+fmt.Sprintf(format, args...))
}

// asked takes the questions so far.
func (s *fakeServer) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.questions
	s.questions = nil
	return q
}

// highest is HIGHESTMODSEQ as it is told.
func (s *fakeServer) highest() uint64 {
	if s.shown != nil {
		return s.shown(s.modseq)
	}
	return s.modseq
}

func (s *fakeServer) put(folder, id string, flags ...string) uint32 {
	var uid uint32
	s.act(func() { uid = s.add(folder, id, time.Now(), flags...) })
	return uid
}

func (s *fakeServer) add(folder, id string, date time.Time, flags ...string) uint32 {
	f := s.folders[folder]
	uid := f.next
	f.next++
	s.modseq++
	slices.Sort(flags)
	f.msgs[uid] = &fakeMessage{
		uid: uid, id: "<" + id + ">", emailID: fmt.Sprintf("M%012x", s.modseq), flags: flags, date: date.Truncate(time.Second), modseq: s.modseq,
	}
	return uid
}

// copies puts a message into another folder, as COPY does; with move it leaves the first.
func (s *fakeServer) copies(from string, uid uint32, to string, move bool) uint32 {
	m := *s.folders[from].msgs[uid]
	n := s.add(to, "", m.date, m.flags...)
	c := s.folders[to].msgs[n]
	c.id, c.emailID = m.id, m.emailID
	if move {
		delete(s.folders[from].msgs, uid)
	}
	return n
}

// ids is what the server says that a message is.
func (s *fakeServer) ids(m *fakeMessage) ObjectIDs {
	if !s.objectID {
		return ObjectIDs{}
	}
	return ObjectIDs{EmailID: m.emailID, ThreadID: "T" + m.emailID[1:]}
}

func (s *fakeServer) expunge(folder string, uids ...uint32) {
	s.act(func() {
		for _, u := range uids {
			delete(s.folders[folder].msgs, u)
		}
		s.modseq++
	})
}

func (s *fakeServer) flag(folder string, uid uint32, flags ...string) {
	s.act(func() { s.mark(folder, uid, flags...) })
}

// mark is flag without the telling.
func (s *fakeServer) mark(folder string, uid uint32, flags ...string) {
	if m := s.folders[folder].msgs[uid]; m != nil {
		slices.Sort(flags)
		s.modseq++
		m.flags, m.modseq = flags, s.modseq
	}
}

func (s *fakeServer) dial(context.Context) (Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dials++
	if s.dialErr != nil && s.dials > s.dialsMost {
		return nil, s.dialErr
	}
	x := &fakeSession{s: s, wake: make(chan struct{}, 1), dead: make(chan struct{}), proof: time.Now()}
	s.sessions = append(s.sessions, x)
	return x, nil
}

// fakeSession is a Session on a fakeServer.
type fakeSession struct {
	s    *fakeServer
	wake chan struct{}
	dead chan struct{}
	once sync.Once

	// Under s.mu.
	open    string
	seenAt  map[uint32]uint64
	changes Changes
	zipped  bool
	heard   map[string]Status // with NOTIFY: what was told of each folder
	kicked  bool
	proof   time.Time
	speakBy time.Time
}

var errFakeClosed = &Error{Kind: ErrClosed, Stage: StageCommand, Err: errors.New("closed")}

// notice compares the open folder with what the session knows, as pushes would.
func (x *fakeSession) notice() {
	if x.heard != nil {
		x.tell()
	}
	f := x.s.folders[x.open]
	if f == nil {
		return
	}
	order := slices.Sorted(maps.Keys(f.msgs))
	for i, uid := range order {
		switch at, known := x.seenAt[uid]; {
		case !known:
			x.changes.Exists = true
		case at != f.msgs[uid].modseq:
			x.changes.Flags = append(x.changes.Flags, uint32(i+1))
		}
	}
	for uid := range x.seenAt {
		if f.msgs[uid] == nil {
			x.changes.Expunged++
			if x.s.qresync {
				x.changes.Vanished.AddNum(imap.UID(uid))
			}
		}
	}
	x.look(f)
	if x.changes.Any() {
		x.poke()
	}
}

// tell is what NOTIFY pushes of other folders.
func (x *fakeSession) tell() {
	for name := range x.s.folders {
		st := x.status(name)
		was, known := x.heard[name]
		switch x.heard[name] = st; {
		case !known:
			x.changes.Listed = true
		case was.Messages != st.Messages || was.UIDNext != st.UIDNext || was.UIDValidity != st.UIDValidity:
			if st.UIDValidity == was.UIDValidity {
				st.HasUIDValidity = false
			}
			if name != x.open {
				x.changes.Folders = append(x.changes.Folders, FolderHint{Raw: name, Status: &st})
			}
		}
	}
	for name := range x.heard {
		if x.s.folders[name] == nil {
			delete(x.heard, name)
			x.changes.Listed = true
		}
	}
	if x.changes.Else() {
		x.poke()
	}
}

// overflow says NOTIFICATIONOVERFLOW, and no more.
func (s *fakeServer) overflow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.sessions {
		x.heard, x.changes.Overflow = nil, true
		x.poke()
	}
}

func (x *fakeSession) Compress(ctx context.Context) error {
	if err := x.command(ctx); err != nil {
		return err
	}
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	x.zipped = true
	return nil
}

func (x *fakeSession) Notify(ctx context.Context) error {
	if err := x.command(ctx); err != nil {
		return err
	}
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	x.s.notifies++
	if x.s.notifyErr != nil {
		return x.s.notifyErr
	}
	x.heard = map[string]Status{}
	for name := range x.s.folders {
		st := x.status(name)
		x.heard[name] = st
		x.changes.Folders = append(x.changes.Folders, FolderHint{Raw: name, Status: &st})
	}
	return nil
}

func (x *fakeSession) look(f *fakeFolder) {
	x.seenAt = map[uint32]uint64{}
	for uid, m := range f.msgs {
		x.seenAt[uid] = m.modseq
	}
}

func (x *fakeSession) poke() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// command is what every question begins with.
func (x *fakeSession) command(ctx context.Context) error {
	x.s.mu.Lock()
	mute := x.s.mute
	if mute {
		x.speakBy = time.Now().Add(70 * time.Second)
	}
	x.s.mu.Unlock()
	if mute {
		select {
		case <-x.dead:
		case <-ctx.Done():
		}
		return errFakeClosed
	}
	select {
	case <-x.dead:
		return errFakeClosed
	case <-ctx.Done():
		x.Close()
		return errFakeClosed
	default:
	}
	x.s.mu.Lock()
	x.proof = time.Now()
	x.s.commands++
	n, strike := x.s.commands, x.s.strike
	x.s.mu.Unlock()
	if strike == nil {
		return nil
	}
	err := strike(n)
	if err != nil && !goesOn(err) {
		x.Close()
	}
	return err
}

// dies ends the connection for a set that names a deadly message.
func (x *fakeSession) dies(set imap.UIDSet) bool {
	for uid := range x.s.deadly {
		if set.Contains(imap.UID(uid)) {
			x.Close()
			return true
		}
	}
	return false
}

func (x *fakeSession) Info() Info {
	return Info{
		Capabilities: append([]string{"IMAP4rev1"}, x.s.caps...), ServerName: "fake", Version: x.s.version,
		CondStore: x.s.condstore, QResync: x.s.qresync, Idle: !x.s.noIdle, Notify: x.s.notify, Compress: x.s.compress, ListStatus: x.s.listStatus, ObjectID: x.s.objectID,
	}
}

func (x *fakeSession) Folders(ctx context.Context) (Listing, error) {
	if err := x.command(ctx); err != nil {
		return Listing{}, err
	}
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	x.s.lists++
	if x.s.panics > 0 {
		x.s.panics--
		panic("planted")
	}
	if x.s.noFolders {
		return Listing{Whole: true}, nil
	}
	var out []Listed
	for _, name := range slices.Sorted(maps.Keys(x.s.folders)) {
		l := Listed{Raw: name, Path: name, Delimiter: "/", Selectable: true}
		if name == "INBOX" {
			l.SpecialUse = `\Inbox`
		}
		if x.s.shells[name] || x.s.saidShells[name] {
			l.Selectable, l.Attrs = false, []string{`\Noselect`}
		}
		if role := x.s.roles[name]; role != "" {
			l.SpecialUse, l.SpecialUseSource = role, sourceExtension
		}
		if x.s.objectID {
			l.MailboxID = x.s.folders[name].mailboxID
		}
		if x.s.listStatus && l.Selectable {
			st := x.status(name)
			l.Status = &st
		}
		if name != x.s.garbled {
			out = append(out, l)
		}
	}
	return Listing{Folders: out, Whole: x.s.garbled == ""}, nil
}

func (x *fakeSession) status(name string) Status {
	f := x.s.folders[name]
	st := Status{Messages: uint32(len(f.msgs)) + x.s.ghosts, UIDNext: f.next, UIDValidity: x.validity(f), HasMessages: true, HasUIDNext: true, HasUIDValidity: true}
	if x.s.condstore {
		st.ModSeq, st.HasModSeq = x.s.highest(), true
	}
	return st
}

var errFakeNo = &Error{Kind: ErrNo, Stage: StageCommand, Text: "cannot"}

func (x *fakeSession) Status(ctx context.Context, raw string) (Status, error) {
	if err := x.command(ctx); err != nil {
		return Status{}, err
	}
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	x.s.statuses = append(x.s.statuses, raw)
	if x.s.readErr != nil {
		return Status{}, x.s.readErr
	}
	if x.s.folders[raw] == nil || x.s.refused[raw] || x.s.shells[raw] {
		return Status{}, errFakeNo
	}
	return x.status(raw), nil
}

func (x *fakeSession) Select(ctx context.Context, raw string) (Selected, error) {
	if err := x.command(ctx); err != nil {
		return Selected{}, err
	}
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	f := x.s.folders[raw]
	if x.s.readErr != nil {
		return Selected{}, x.s.readErr
	}
	x.open = ""
	x.changes = Changes{Folders: x.changes.Folders, Listed: x.changes.Listed, Overflow: x.changes.Overflow}
	if f == nil || x.s.refused[raw] || x.s.examines[raw] || x.s.shells[raw] {
		return Selected{}, errFakeNo
	}
	x.open = raw
	x.s.opened[raw]++
	x.look(f)
	sel := Selected{UIDValidity: x.validity(f), UIDNext: f.next, Exists: uint32(len(f.msgs)) + x.s.ghosts}
	if x.s.bare {
		sel.UIDNext = 0
	}
	if x.s.objectID {
		sel.MailboxID = f.mailboxID
	}
	if x.s.condstore {
		sel.ModSeq = x.s.highest()
	}
	return sel, nil
}

func (x *fakeSession) Exists() uint32 {
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	return uint32(len(x.seenAt)) + x.s.ghosts
}

func (x *fakeSession) Changes() Changes {
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	c := x.changes
	x.changes = Changes{}
	return c
}

// matching are the messages of a set, ascending.
func (x *fakeSession) matching(set imap.UIDSet) []*fakeMessage {
	var out []*fakeMessage
	f := x.s.folders[x.open]
	if f == nil {
		return nil
	}
	for _, uid := range slices.Sorted(maps.Keys(f.msgs)) {
		if set.Contains(imap.UID(uid)) && !x.s.hidden[uid] {
			out = append(out, f.msgs[uid])
		}
	}
	return out
}

func (x *fakeSession) Messages(ctx context.Context, set imap.UIDSet) ([]Message, error) {
	if err := x.command(ctx); err != nil {
		return nil, err
	}
	defer func() {
		x.s.mu.Lock()
		f := x.s.fetchedAll
		x.s.fetchedAll = nil
		x.s.mu.Unlock()
		if f != nil {
			f()
		}
	}()
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	if x.dies(set) {
		return nil, errFakeClosed
	}
	if x.s.readErr != nil {
		return nil, x.s.readErr
	}
	var out []Message
	if n := len(x.matching(set)); x.s.roomFor > 0 && n > x.s.roomFor {
		return nil, errTooLarge
	}
	for _, m := range x.matching(set) {
		if x.s.poisoned[m.uid] {
			return out, errFakeNo
		}
		out = append(out, Message{UID: m.uid, Flags: m.flags, FlagsKnown: true, InternalDate: m.date, Size: cmp.Or(x.s.size, 100), MessageID: m.id, Subject: m.id, Structure: x.s.structure, ObjectIDs: x.s.ids(m)})
	}
	x.s.given += len(out)
	return out, nil
}

func (x *fakeSession) Flags(ctx context.Context, set imap.UIDSet) (Delta, error) {
	if err := x.command(ctx); err != nil {
		return Delta{}, err
	}
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	x.asks("FETCH %s FLAGS", set)
	d := Delta{Flags: x.flags(set, 0), Complete: x.s.fetchMost == 0}
	if most := x.s.fetchMost; most > 0 {
		d.Flags = d.Flags[:min(len(d.Flags), most)]
	}
	return d, nil
}

func (x *fakeSession) flags(set imap.UIDSet, since uint64) []FlagsOf {
	var out []FlagsOf
	for _, m := range x.matching(set) {
		if m.modseq > since {
			out = append(out, FlagsOf{UID: m.uid, Flags: m.flags, Known: true})
		}
	}
	return out
}

func (x *fakeSession) Changed(ctx context.Context, upTo uint32, since uint64, vanished bool) (Delta, error) {
	if err := x.command(ctx); err != nil {
		return Delta{}, err
	}
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	var set imap.UIDSet
	set.AddRange(1, imap.UID(upTo))
	d := Delta{Flags: x.flags(set, since), Complete: true}
	word := ""
	if vanished {
		word = " VANISHED"
		for uid, at := range x.s.folders[x.open].gone {
			if at > since && uid <= upTo {
				d.Vanished.AddNum(imap.UID(uid))
			}
		}
	}
	x.asks("CHANGEDSINCE%s", word)
	if x.s.lie != nil {
		return x.s.lie(d)
	}
	return d, nil
}

func (x *fakeSession) Window(ctx context.Context, set imap.UIDSet) ([]FlagsOf, error) {
	if err := x.command(ctx); err != nil {
		return nil, err
	}
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	var out []FlagsOf
	for _, m := range x.matching(set) {
		out = append(out, FlagsOf{UID: m.uid, Flags: m.flags, Known: true, ObjectIDs: x.s.ids(m)})
	}
	return out, nil
}

func (x *fakeSession) Identities(ctx context.Context, set imap.UIDSet) ([]IdentityOf, error) {
	if err := x.command(ctx); err != nil {
		return nil, err
	}
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	if x.dies(set) {
		return nil, errFakeClosed
	}
	var out []IdentityOf
	for _, m := range x.matching(set) {
		out = append(out, IdentityOf{UID: m.uid, Flags: m.flags, FlagsKnown: true, InternalDate: m.date, Size: 100, MessageID: m.id, ObjectIDs: x.s.ids(m)})
	}
	return out, nil
}

func (x *fakeSession) Parts(ctx context.Context, uid uint32, want []PartWanted) ([][]byte, error) {
	if err := x.command(ctx); err != nil {
		return nil, err
	}
	x.s.mu.Lock()
	slow := x.s.slow
	x.s.mu.Unlock()
	if wait(ctx, slow) != nil {
		x.Close()
		return nil, errFakeClosed
	}
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	out := make([][]byte, len(want))
	if x.s.parts == nil || x.s.folders[x.open] == nil || x.s.folders[x.open].msgs[uid] == nil {
		return out, nil
	}
	for i, p := range want {
		data, err := x.s.parts(uid, p)
		if err != nil {
			if !goesOn(err) {
				x.Close()
			}
			return out, err
		}
		out[i] = data
	}
	return out, nil
}

func (x *fakeSession) UIDs(ctx context.Context, from, to uint32) (Enumeration, error) {
	if err := x.command(ctx); err != nil {
		return Enumeration{}, err
	}
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	e := Enumeration{Complete: !x.s.limited}
	x.asks("SEARCH")
	f := x.s.folders[x.open]
	if f == nil {
		return e, nil
	}
	for _, uid := range slices.Sorted(maps.Keys(f.msgs)) {
		if uid >= from && (to == 0 || uid <= to) {
			e.UIDs = append(e.UIDs, uid)
		}
	}
	if x.s.cutSearch > 0 {
		e.UIDs = e.UIDs[:min(len(e.UIDs), x.s.cutSearch)]
	}
	return e, nil
}

func (x *fakeSession) Since(ctx context.Context, day time.Time) ([]uint32, error) {
	if err := x.command(ctx); err != nil {
		return nil, err
	}
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	var out []uint32
	for uid, m := range x.s.folders[x.open].msgs {
		if !m.date.Before(day.Truncate(24 * time.Hour)) {
			out = append(out, uid)
		}
	}
	slices.Sort(out)
	return out, nil
}

func (x *fakeSession) Gmail(context.Context, []uint32, string) (Enumeration, error) {
	return Enumeration{}, errors.New("this is no Gmail")
}

func (x *fakeSession) Noop(ctx context.Context) error { return x.command(ctx) }

func (x *fakeSession) Idle(ctx context.Context, most time.Duration) (IdleEnd, error) {
	if err := x.command(ctx); err != nil {
		return "", err
	}
	x.s.mu.Lock()
	bye, wedged := x.s.bye, x.s.wedged
	if x.zipped {
		bye = errors.New("IDLE on a compressed connection")
	}
	if wedged != nil {
		x.speakBy = time.Now()
	}
	x.s.mu.Unlock()
	if wedged != nil {
		<-wedged
		return "", errFakeClosed
	}
	if bye != nil {
		x.Close()
		return "", bye
	}
	t := time.NewTimer(most)
	defer t.Stop()
	for {
		x.s.mu.Lock()
		changed, kicked := x.changes.Any() || x.changes.Else(), x.kicked
		x.kicked = false
		x.s.mu.Unlock()
		switch {
		case kicked:
			return IdleKicked, nil
		case changed:
			return IdleChanged, nil
		}
		select {
		case <-x.wake:
		case <-t.C:
			return IdleTimeout, x.command(ctx)
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-x.dead:
			return "", errFakeClosed
		}
	}
}

func (x *fakeSession) Kick() {
	x.s.mu.Lock()
	x.kicked = true
	x.s.mu.Unlock()
	x.poke()
}

func (x *fakeSession) LastProof() time.Time {
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	return x.proof
}

func (x *fakeSession) SpeakBy() time.Time {
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	return x.speakBy
}

func (x *fakeSession) Logout(context.Context) error { x.Close(); return nil }

func (x *fakeSession) Close() { x.once.Do(func() { close(x.dead) }) }

func fakeID(n int) string { return "m" + strconv.Itoa(n) + "@fake" }

// counted reads the logins and commands so far.
func (s *fakeServer) counted() (dials, commands int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dials, s.commands
}
