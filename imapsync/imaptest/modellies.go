package imaptest

import "time"

// Lies are what a server of a dialect gets wrong; the zero value tells the truth. Row
// numbers are those of the table of odd servers in the engine's specification. Folders
// are named in UTF-8. A test changes them at any time by ModelUser.Lie.
type Lies struct {
	// Told of changes.
	ChangedSinceIgnored bool // row 69: FETCH … CHANGEDSINCE gives every message of the set
	ChangedSinceNoFlags bool // row 69: FETCH … CHANGEDSINCE leaves FLAGS out
	ChangedSinceDeaf    bool // FETCH … CHANGEDSINCE gives nothing
	VanishedTooMuch     bool // row 61: VANISHED (EARLIER) names all UIDs asked about, the last only if it is gone
	VanishedUnseen      bool // row 61: VANISHED (EARLIER) names UIDs that never were, too
	VanishedOthers      bool // VANISHED, pushed or (EARLIER), names others that are there in place of as many that are gone
	VanishedDeaf        bool // VANISHED (EARLIER) is never told
	EnableEmpty         bool // row 70: ENABLE answers an empty ENABLED, and does what was asked
	EnableNothing       bool // row 70: ENABLE answers just OK, and does nothing
	QResyncDead         bool // QRESYNC is named by ENABLED, and the VANISHED modifier is BAD
	NoModSeq            bool // row 22: EXAMINE says NOMODSEQ, though CONDSTORE is advertised
	// HighestModSeq is told instead of the true one (row 22: frozen, 0, going back).
	HighestModSeq func(folder string, truth uint64) uint64

	// Told of folders.
	ListEmpty          bool     // row 56: LIST answers OK and no folder
	ListWithout        []string // folders LIST leaves out
	NoStatus           []string // row 55: folders LIST-STATUS leaves out
	StatusRefused      []string // folders whose STATUS is NO
	ExamineRefused     []string // row 57: folders that are listed and cannot be opened
	AlternatingUIDs    []string // row 68: folders whose UIDVALIDITY is another at every second opening
	NoUIDValidity      bool     // row 20: EXAMINE does not tell UIDVALIDITY
	NoUIDNext          bool     // row 21: EXAMINE does not tell UIDNEXT
	ExistsOff          int      // every EXISTS of an opening is off by this
	ExistsBeforeItIs   bool     // row 67: messages that come from now on are in EXISTS, and cannot be fetched or found
	StatusMessagesOnly bool     // STATUS tells MESSAGES and no other number

	// Told of messages.
	SearchAtMost  int                 // row 60: SEARCH gives at most so many UIDs, and says MESSAGELIMIT
	SearchSilent  bool                // with SearchAtMost: does not say so
	ESearchEmpty  bool                // row 59: SEARCH RETURN (ALL) finds nothing
	Poison        map[string][]uint32 // row 33: by folder, UIDs whose FETCH of more than UID, FLAGS, INTERNALDATE, RFC822.SIZE is NO
	Unfetchable   map[string][]uint32 // by folder, UIDs whose FETCH of anything is NO
	NotReturned   map[string][]uint32 // by folder, UIDs that FETCH leaves out with OK
	NoFlags       bool                // row 29: FETCH leaves FLAGS out
	NoObjectID    bool                // EMAILID and THREADID are NIL though OBJECTID is advertised
	PartsShort    bool                // BODY[…] of a part is empty
	NoPush        bool                // IDLE and NOTIFY tell nothing
	Overflow      bool                // the next thing NOTIFY would tell is NOTIFICATIONOVERFLOW instead, and NOTIFY ends
	MergedExpunge bool                // EXPUNGE is told as one EXISTS with the new number

	// Answered to commands, by name ("UID FETCH"); "" is every command.
	Refuse map[string]string        // tagged answer instead of doing it, as "NO [THROTTLED] slow down" (row 19)
	Bye    map[string]string        // `* BYE text` instead, and the connection is closed (row 14)
	Delay  map[string]time.Duration // before it is done
}

// byCommand finds what is said of a command, or of every.
func byCommand[T any](m map[string]T, name string) (T, bool) {
	v, ok := m[name]
	if !ok {
		v, ok = m[""]
	}
	return v, ok
}

// ModelCommand is a command a Model received.
type ModelCommand struct {
	User    string // "" before login
	Session int    // number of the connection, from 1
	Nth     int    // number of the command on its connection, from 1
	Tag     string
	Name    string // in capitals, as "UID FETCH"
	Args    string // as it came, literals in it; "" for LOGIN and AUTHENTICATE
	Folder  string // that is selected, in UTF-8
}

// Act is what a hook makes of a command; the zero value lets it be done as ever.
type Act struct {
	Delay   time.Duration // before all else
	Send    string        // sent before the command is done; {tag} in it is its tag
	Instead bool          // the command is not done: Send was the answer
	Swallow bool          // done, and neither its data nor its tagged answer is sent
	Untag   bool          // done and its data sent, but not its tagged answer
	Drop    bool          // the connection ends behind it
}
