package wire

import "time"

// Limits are the deadlines and bounds of a connection. They are the same for every
// server; tests shorten them.
type Limits struct {
	Dial     time.Duration // TCP
	TLS      time.Duration // handshake, implicit or behind STARTTLS
	Greeting time.Duration
	Login    time.Duration // from the greeting to the end of login with ID, ENABLE and NAMESPACE

	First     time.Duration // until an answer begins
	FirstSlow time.Duration // the same for EXAMINE, SELECT, SEARCH and LIST, which servers think about
	Gap       time.Duration // between two reads of an answer
	Command   time.Duration // a whole command
	Write     time.Duration
	IdleStart time.Duration // until the `+` to IDLE
	Done      time.Duration // until the tagged reply to DONE
	Logout    time.Duration
	Drain     time.Duration // reading to the end of a command whose caller gave up

	RateSpan time.Duration // a literal brings Rate bytes a second over any such span
	Rate     int64

	Line      int   // bytes of a line; the rest is skipped
	Frame     int   // bytes of a response in memory
	Literal   int   // bytes kept of a literal that is not streamed
	String    int   // bytes kept of a string in ENVELOPE
	Skip      int64 // bytes skipped at a stretch before the connection is given up
	Damage    int   // responses skipped at a stretch before the connection is given up
	DrainSize int64 // bytes read to the end of a command whose caller gave up

	Greeted int64 // bytes before the end of login

	GlueLines, GlueBytes int // of a quoted string that goes over lines

	Depth     int // nesting of parentheses
	List      int // elements of a list
	Addresses int // of one ENVELOPE field
	Flags     int // of one message
	Keywords  int // different ones of a folder
	Hints     int // statuses, folders and flagged messages kept between two Changes

	Folders int    // of one LIST
	Listing int    // bytes of the responses to one LIST
	Members uint64 // of a list of numbers, however many messages the server says there are
}

// DefaultLimits are those of sync.md §2.3 and §2.4.
func DefaultLimits() Limits {
	return Limits{
		Dial: 10 * time.Second, TLS: 10 * time.Second, Greeting: 30 * time.Second, Login: 60 * time.Second,
		First: 60 * time.Second, FirstSlow: 120 * time.Second, Gap: 60 * time.Second, Command: 10 * time.Minute,
		Write: 30 * time.Second, IdleStart: 20 * time.Second, Done: 20 * time.Second, Logout: 2 * time.Second,
		Drain: 2 * time.Second, RateSpan: 60 * time.Second, Rate: 1 << 10,
		Line: 1 << 20, Frame: 4 << 20, Literal: 1 << 20, String: 64 << 10,
		Skip: 64 << 20, Damage: 200, DrainSize: 1 << 20, Greeted: 1 << 20,
		GlueLines: 64, GlueBytes: 256 << 10,
		Depth: 64, List: 100_000, Addresses: 1000, Flags: 256, Keywords: 2000, Hints: 1000,
		Folders: 20_000, Listing: 16 << 20, Members: 10_000_000,
	}
}

// defaultLimits are shared by all connections that name none, and not changed.
var defaultLimits = DefaultLimits()

// members is how many messages a list of numbers may name where n exist. EXISTS is but
// another number that the server says.
func (l *Limits) members(n uint32) uint64 { return min(uint64(n)+uint64(n)/10+1000, l.Members) }

// speakGrace is added to the present deadline to give SpeakBy: the connection ends
// itself at the deadline, a watchdog acts only when it did not.
const speakGrace = 10 * time.Second
