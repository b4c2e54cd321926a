package imapsync

import "time"

// limits are the deadlines and bounds of one connection (sync.md §2.4, §2.7). They
// are the same for every server; tests shorten them.
type limits struct {
	dial     time.Duration // TCP
	tls      time.Duration // handshake, implicit or behind STARTTLS
	greeting time.Duration
	login    time.Duration // from the greeting to the end of login with ID

	first     time.Duration // until the answer begins
	firstSlow time.Duration // the same for EXAMINE, SEARCH and LIST, which servers think about
	gap       time.Duration // between two reads of an answer
	command   time.Duration // a whole command
	write     time.Duration
	idleStart time.Duration // until the `+` to IDLE
	done      time.Duration // until the tagged reply to DONE
	logout    time.Duration
	polite    time.Duration // what a cancelled Idle gets for its DONE
	rateSpan  time.Duration // a literal brings rate bytes a second over any such span

	line    int   // bytes of one response outside literals
	depth   int   // nesting of parentheses outside quotes and literals
	literal int64 // bytes of one literal
	rate    int64 // bytes per second of a literal
	header  int64 // bytes kept of a fetched header block
	login1  int   // bytes of one line before the hand-over to the client
}

func defaultLimits() limits {
	return limits{
		dial: 10 * time.Second, tls: 10 * time.Second, greeting: 30 * time.Second, login: 60 * time.Second,
		first: 60 * time.Second, firstSlow: 120 * time.Second, gap: 60 * time.Second, command: 10 * time.Minute,
		write: 30 * time.Second, idleStart: 20 * time.Second, done: 20 * time.Second, logout: 2 * time.Second,
		polite: 2 * time.Second, rateSpan: 60 * time.Second,
		// A line of 16 MiB holds a SEARCH answer of 2 million UIDs; go-imap's decoder
		// recurses once per parenthesis and overflows the stack at some millions.
		line: 16 << 20, depth: 64,
		// The largest literal asked for is a header block; 32 MiB lets a name or an
		// address as odd as it likes pass and stops {9999999999}.
		literal: 32 << 20, rate: 1 << 10, header: 64 << 10, login1: 64 << 10,
	}
}

// speakGrace is added to the present deadline to give SpeakBy: the connection ends
// itself at the deadline, the watchdog acts only when it did not.
const speakGrace = 10 * time.Second

// wedgeGrace is how long a command of the client may take to notice that its
// connection is closed before its goroutine is left behind.
const wedgeGrace = 2 * time.Second
