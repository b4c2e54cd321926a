package imapsync

import (
	"fmt"
	"strings"
	"time"
)

// ErrorKind says what became of a command or a connection.
type ErrorKind string

// The kinds of Error. After ErrNo and ErrBad the connection is usable.
const (
	ErrNo       ErrorKind = "no"       // tagged NO
	ErrBad      ErrorKind = "bad"      // tagged BAD
	ErrBye      ErrorKind = "bye"      // the server said BYE
	ErrTimeout  ErrorKind = "timeout"  // a deadline of the connection passed
	ErrClosed   ErrorKind = "closed"   // EOF, reset, Close, or the context ended
	ErrDial     ErrorKind = "dial"     // no connection came about
	ErrTLS      ErrorKind = "tls"      // certificate, name, protocol, plaintext behind STARTTLS
	ErrProtocol ErrorKind = "protocol" // what came is not IMAP, or not understood
	ErrLimit    ErrorKind = "limit"    // a bound of the connection was exceeded
	ErrConfig   ErrorKind = "config"   // refused by us before a byte was sent
)

// Stages of a session, for Error.Stage.
const (
	StageDial     = "dial"
	StageTLS      = "tls"
	StageGreeting = "greeting"
	StageLogin    = "login"
	StageCommand  = "command"
)

// Error is everything that goes wrong in a Session or its making.
type Error struct {
	Kind    ErrorKind
	Stage   string // one of the Stage words
	Command string // verb, never arguments; "" before the first command
	Code    string // response code without brackets and arguments, upper case; "" = none
	Text    string // the server's text, valid UTF-8, ≤ 1 KiB
	Err     error  // cause; nil for a server's reply
}

// Error implements error.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Command != "" {
		b.WriteString(e.Command)
	} else {
		b.WriteString(e.Stage)
	}
	b.WriteString(": ")
	switch e.Kind {
	case ErrNo, ErrBad, ErrBye:
		b.WriteString(strings.ToUpper(string(e.Kind)))
		if e.Code != "" {
			fmt.Fprintf(&b, " [%s]", e.Code)
		}
		if e.Text != "" {
			b.WriteString(" " + e.Text)
		}
	default:
		b.WriteString(string(e.Kind))
		if e.Text != "" {
			b.WriteString(": " + e.Text)
		}
		if e.Err != nil {
			b.WriteString(": " + e.Err.Error())
		}
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Usable says whether the connection goes on after the error.
func (e *Error) Usable() bool { return e.Kind == ErrNo || e.Kind == ErrBad }

// The kinds of Fault: what is broken (api.md §5).
const (
	FaultAuthDead   = "authDead"
	FaultConfig     = "config"
	FaultThrottled  = "throttled"
	FaultServerDown = "serverDown"
	FaultSilent     = "silent"
	FaultTLS        = "tls"
	FaultFolder     = "folder"
	FaultInternal   = "internal"
)

// Fault is what an error means for an account. Response, Code and Action can be
// shown to the account's owner.
type Fault struct {
	Kind     string // one of the Fault words
	Class    string // of the event: credentials, grant, consent, blocked, authServer; dns, refused, timeout, tls, greeting, throttled, network
	Service  string // "imap"
	Response string // what the server said, or what failed
	Code     string // serverResponseCode
	Action   string // a sentence to show a user; "" = nothing to do
	Docs     string // anchor under /docs/errors, "" = none

	RetryAfter time.Duration // the wait the server named, ≤ 24 h; 0 = none
	Planned    bool          // an announced end of the session: no error, reconnect after 0–2 s
}
