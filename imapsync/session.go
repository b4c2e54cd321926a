package imapsync

import (
	"context"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/internal/message"
)

// Session is what a worker needs of one connection: questions to the server and
// values back. What stands behind it (package wire) is known to nobody else.
//
// One goroutine calls a Session; Kick, Close, LastProof and SpeakBy MAY be called by
// any other at any time. Every method that takes a context blocks no longer than the
// deadlines of the connection, which are its own: a context that ends closes the
// connection (Idle is the exception, see there).
//
// Errors are *Error. After ErrNo and ErrBad the connection goes on; after every
// other kind it is closed and each further call returns an error at once. A server
// that answers NO or BAD has proven that it lives.
type Session interface {
	// Info is what was learnt of the server by the end of login. It never changes.
	Info() Info

	// Folders asks for all folders (LIST), with their special use and, where the
	// server has LIST-STATUS, their Status. It is returned only after the tagged OK; see
	// Listing.Whole. A folder whose Status is nil was left
	// out by the server (or the server has no LIST-STATUS): ask Status.
	// \NonExistent and \Noselect folders are in it; two entries of one name are one.
	Folders(ctx context.Context) (Listing, error)

	// Status asks for the numbers of one folder by its Listed.Raw. It MUST NOT be
	// called for the selected folder.
	Status(ctx context.Context, raw string) (Status, error)

	// Select opens a folder read-only (EXAMINE, with CONDSTORE where Info says so). It
	// forgets the Changes of the folder before it. After ErrNo or ErrBad no folder is
	// selected. Selecting the selected folder again asks the server again.
	Select(ctx context.Context, raw string) (Selected, error)

	// Exists is the number of messages in the selected folder, as of the last EXISTS
	// and the EXPUNGEs after it, in the order of the wire; 0 when none is selected.
	Exists() uint32

	// Changes returns the hints since the last call and forgets them. It does not
	// block and asks nothing. Hints are no knowledge: ask by UID.
	Changes() Changes

	// Messages fetches what messageNew is made of (sync.md §4.8 stage A) for the
	// messages of set that exist, sorted by UID, each once. Messages of set that did
	// not come are not there. On ErrNo the messages that came whole before it are
	// returned beside the error.
	// set MUST be static and not empty, and hold at most some hundred messages.
	Messages(ctx context.Context, set imap.UIDSet) ([]Message, error)

	// Flags fetches UID and FLAGS; none of the Delta is Vanished. What came before ErrNo
	// is returned beside the error. UIDs outside set are never returned; what is not there
	// proves no absence.
	Flags(ctx context.Context, set imap.UIDSet) (Delta, error)

	// Changed asks for the flags of those of the messages 1..upTo that changed after the
	// MODSEQ since, and with vanished for those that are no more. The folder MUST have a
	// Selected.ModSeq, since MUST NOT be 0, and vanished needs Info.QResync. What came
	// before ErrNo is returned beside the error.
	Changed(ctx context.Context, upTo uint32, since uint64, vanished bool) (Delta, error)

	// Window fetches what folder state keeps of messages: as Flags, with their EMAILID,
	// THREADID and labels where the server has them.
	Window(ctx context.Context, set imap.UIDSet) ([]FlagsOf, error)

	// Identities fetches what recognises a message under a new UID, sorted by UID.
	// What came before ErrNo is returned beside the error.
	Identities(ctx context.Context, set imap.UIDSet) ([]IdentityOf, error)

	// Parts fetches pieces of one message without setting \Seen: as many as are wanted, in
	// their order, each at most its Size long. One that did not come, or came as NIL, is
	// nil; one that is shorter than its Size is at its end. What came is returned beside
	// ErrNo and ErrBad. Together they MUST be at most maxPieces.
	Parts(ctx context.Context, uid uint32, want []PartWanted) ([][]byte, error)

	// UIDs lists the UIDs from..to (inclusive) of the selected folder by UID SEARCH; to
	// 0 = to the end (what `n:*` brings below from is dropped). from 0 is 1.
	UIDs(ctx context.Context, from, to uint32) (Enumeration, error)

	// Since lists the UIDs, ascending, whose INTERNALDATE is on or after day, by the
	// server's own time zone: ask for a day earlier than meant.
	Since(ctx context.Context, day time.Time) ([]uint32, error)

	// Gmail lists those of uids, which are ascending and at most some hundred, that Gmail's own
	// search finds by query. It MUST NOT be called without Info.Gmail.
	Gmail(ctx context.Context, uids []uint32, query string) (Enumeration, error)

	// Notify asks for hints about all folders (NOTIFY), which Changes then has, and which
	// end Idle. It MUST NOT be called without Info.Notify. Every hint there is comes once
	// at first.
	Notify(ctx context.Context) error

	// Compress makes the server compress what it sends (COMPRESS=DEFLATE), for the rest of
	// the connection, on which Idle is refused from then on. It MUST NOT be called without
	// Info.Compress, nor twice.
	Compress(ctx context.Context) error

	// Noop is a round trip.
	Noop(ctx context.Context) error

	// Idle waits until something seems to have changed, Kick, the server ends it, or max
	// has passed, and says which. Without IDLE (Info.Idle false) it MUST NOT be
	// called: wait and Noop. When ctx ends it ends IDLE politely within 2 s and
	// returns context.Cause(ctx) with the connection usable for Logout; to drop the
	// connection without a word call Close. Hints that came before the call end it at
	// once. The tagged reply to DONE is the proof of life.
	Idle(ctx context.Context, max time.Duration) (IdleEnd, error)

	// Kick ends a running Idle soon; when none runs, the next Idle returns at once.
	Kick()

	// LastProof is when the server last proved that it lives: a tagged reply, an
	// answer to the command in flight, the `+` to IDLE (sync.md §1.4). Untagged data
	// at other times is no proof.
	LastProof() time.Time

	// SpeakBy is the time by which the present wait must have ended, 10 s of grace
	// included; zero when nothing is waited for. Past it the connection wedged: Close.
	SpeakBy() time.Time

	// Logout says goodbye, waits at most 2 s, and closes.
	Logout(ctx context.Context) error

	// Close closes the connection, ends every wait and never blocks. It MAY be called
	// more than once.
	Close()
}

// Info is what is known of a server after login.
type Info struct {
	Capabilities []string // sorted, as the server spells them, without IMAP4rev2 (see doc of the dialer)
	ServerName   string   // "name" of its ID, else ""
	Version      string   // "version" of its ID, else ""

	CondStore  bool // CONDSTORE (or QRESYNC) is advertised; Selected.ModSeq says whether it works
	QResync    bool // the server said that it enabled QRESYNC
	ESearch    bool
	Idle       bool
	ListStatus bool
	Notify     bool
	Compress   bool // COMPRESS=DEFLATE
	SpecialUse bool
	UIDPlus    bool
	ObjectID   bool // OBJECTID: messages and folders have ids of the server's
	Gmail      bool // X-GM-EXT-1: messages have X-GM-MSGID, X-GM-THRID and labels
}

// Listing is the answer to LIST.
type Listing struct {
	Folders []Listed
	// Whole says that every line of the answer could be read. When not, a folder that is
	// not there may be one of those lines, and proves nothing.
	Whole bool
}

// Listed is one folder of a LIST answer.
type Listed struct {
	// Raw addresses the folder in other calls: the bytes of LIST, but INBOX is always
	// "INBOX". Store it as opaque.
	Raw       string
	Path      string // for people: UTF-8; INBOX is always "INBOX"
	Delimiter string // "" = flat
	Attrs     []string
	// SpecialUse is `\Inbox`, `\Sent`, `\Drafts`, `\Junk`, `\Trash`, `\Archive`,
	// `\All`, `\Flagged`, `\Important` or "", after AssignRoles; at most one folder has each.
	SpecialUse       string
	SpecialUseSource string // "user", "extension" or "name"; "" with no SpecialUse
	Subscribed       bool
	MailboxID        string  // RFC 8474; "" = not told
	Selectable       bool    // neither \Noselect nor \NonExistent
	Status           *Status // nil: not told
}

// Status are the numbers of a folder that is not selected. A number whose Has is
// false did not come.
type Status struct {
	Messages    uint32
	UIDNext     uint32
	UIDValidity uint32
	ModSeq      uint64 // HIGHESTMODSEQ
	MailboxID   string // RFC 8474; "" = not told

	HasMessages    bool
	HasUIDNext     bool
	HasUIDValidity bool
	HasModSeq      bool // only where Info.CondStore
}

// Selected is what opening a folder told. 0 = did not come (or NOMODSEQ).
type Selected struct {
	UIDValidity uint32
	UIDNext     uint32
	Exists      uint32
	ModSeq      uint64 // HIGHESTMODSEQ before anything that is asked next
	MailboxID   string // RFC 8474; "" = not told
}

// Changes are hints about the selected folder and the connection.
type Changes struct {
	Exists   bool        // an EXISTS came with another number than was known
	Expunged int         // EXPUNGE responses, and UIDs named by VANISHED
	Vanished imap.UIDSet // those UIDs, as far as they were readable
	Doubt    bool        // Session.Exists is not to be trusted until the folder is opened again
	Flags    []uint32    // sequence numbers of FETCH responses nobody asked for, as sent; at most 1,000
	Bye      string      // text of a BYE
	Alert    string      // text of the last [ALERT]

	Folders  []FolderHint // STATUS nobody asked for
	Listed   bool         // the names of folders changed
	Overflow bool         // there was more than was told, or kept; NOTIFY is off
	Throttle string       // text of an OK [THROTTLED]
}

// FolderHint is what was said of another folder than the selected one.
type FolderHint struct {
	Raw    string  // as Listed.Raw
	Status *Status // nil: only that something changed
}

// Any says whether there is a hint to look at the selected folder.
func (c Changes) Any() bool { return c.Exists || c.Expunged > 0 || len(c.Flags) > 0 }

// Else says whether there is a hint to look elsewhere.
func (c Changes) Else() bool { return len(c.Folders) > 0 || c.Listed || c.Overflow }

// Message is what the server says of one message without its content.
type Message struct {
	UID          uint32
	Flags        []string  // sorted, without \Recent, system flags as in RFC 3501
	FlagsKnown   bool      // false: FLAGS did not come, which is not "no flags"
	InternalDate time.Time // zero = did not come or not readable
	Size         int64     // RFC822.SIZE
	ObjectIDs

	Date       time.Time // Date header; zero = absent or not readable
	Subject    string    // decoded
	MessageID  string    // with angle brackets, "" = none
	InReplyTo  string    // with angle brackets
	References []string  // with angle brackets, the last 50

	From, Sender, ReplyTo, To, Cc, Bcc []events.Address // groups flattened, names decoded

	// Structure is the MIME tree, without bodies; nil = did not come.
	Structure *message.Part

	// Header holds the fetched fields (see headerFields) by lower-case name, unfolded.
	Header message.Header

	// Damaged names what was asked for and did not come, or came unreadable:
	// "flags", "internalDate", "size", "envelope", "bodyStructure", "headers".
	Damaged []string

	// Warnings name charsets that were not understood.
	Warnings message.Warnings
}

// IsList says whether the message came by a mailing list: it has List-Id or
// List-Unsubscribe.
func (m *Message) IsList() bool {
	return len(m.Header["list-id"]) > 0 || len(m.Header["list-unsubscribe"]) > 0
}

// core is what of a message recognises it elsewhere.
func (m *Message) core() *IdentityOf {
	return &IdentityOf{
		UID: m.UID, Flags: m.Flags, FlagsKnown: m.FlagsKnown, InternalDate: m.InternalDate, Size: m.Size,
		MessageID: m.MessageID, ObjectIDs: m.ObjectIDs,
	}
}

// FlagsOf are the flags of one message.
type FlagsOf struct {
	UID   uint32
	Flags []string // sorted, without \Recent, system flags as in RFC 3501
	Known bool     // false: FLAGS did not come, which is not "no flags"
	ObjectIDs
}

// ObjectIDs is what a server itself says that a message is.
type ObjectIDs struct {
	EmailID   string   // EMAILID, or X-GM-MSGID in decimal; "" = not told
	ThreadID  string   // THREADID, or X-GM-THRID
	Labels    []string // of Gmail, sorted
	HasLabels bool     // false: labels did not come, which is not "no labels"
}

// Delta is the answer to "which flags", and to "what changed below the cursor".
type Delta struct {
	Flags []FlagsOf // sorted by UID, each once
	// Vanished are UIDs the server says are no more, static and ascending: a claim that
	// may name what never was.
	Vanished imap.UIDSet
	// Complete: tagged OK without a code that limits the answer, and every response
	// readable. Otherwise something may have changed, or vanished, that is not named.
	Complete bool
}

// IdentityOf is what recognises a message after UIDVALIDITY changed.
type IdentityOf struct {
	UID          uint32
	Flags        []string
	FlagsKnown   bool
	InternalDate time.Time
	Size         int64
	MessageID    string // with angle brackets, "" = none
	ObjectIDs
}

// Enumeration is the answer to "which UIDs are there".
type Enumeration struct {
	UIDs []uint32 // ascending, each once, within what was asked for
	// Complete: tagged OK without a code that limits the answer, and no number that
	// was not readable. Whether their number equals Exists is for the caller to see.
	Complete bool
}

// IdleEnd says why Idle returned.
type IdleEnd string

// The ends of Idle.
const (
	IdleChanged IdleEnd = "changed" // EXISTS, EXPUNGE or FETCH came
	IdleKicked  IdleEnd = "kicked"
	IdleTimeout IdleEnd = "time"   // max has passed
	IdleServer  IdleEnd = "server" // the server ended it by its tagged OK
)
