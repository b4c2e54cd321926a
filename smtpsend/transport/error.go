package transport

import (
	"errors"
	"strings"
)

// Phase is the step of a transaction.
type Phase string

// The steps, in order.
const (
	PhaseConnect  Phase = "connect"  // DNS and TCP; waiting for the pool's limits too
	PhaseTLS      Phase = "tls"      // the handshake, and settings that forbid it
	PhaseGreeting Phase = "greeting" // the 220
	PhaseHello    Phase = "hello"    // EHLO or HELO
	PhaseSTARTTLS Phase = "starttls"
	PhaseAuth     Phase = "auth"
	PhaseMail     Phase = "mail" // MAIL, RSET before it, and what we refuse to ask a server for
	PhaseRcpt     Phase = "rcpt"
	PhaseData     Phase = "data" // the DATA command
	PhaseBody     Phase = "body"
	PhaseMark     Phase = "mark" // beforeDot
	PhaseDot      Phase = "dot"  // the final dot and its reply
)

// ErrorKind is what sort of thing went wrong.
type ErrorKind string

// The kinds.
const (
	KindDNS      ErrorKind = "dns"
	KindConnect  ErrorKind = "connect"  // refused, unreachable, not allowed by the egress policy
	KindTimeout  ErrorKind = "timeout"  // a deadline of ours passed
	KindSocket   ErrorKind = "socket"   // EOF, reset
	KindTLS      ErrorKind = "tls"      // certificate, handshake, STARTTLS not offered or attacked, plain text not allowed
	KindProtocol ErrorKind = "protocol" // not SMTP, too long, a reply to greeting or EHLO, or any 503: the dialogue lost step
	KindAuth     ErrorKind = "auth"     // the credentials were refused
	KindNoAuth   ErrorKind = "noauth"   // no way to log in is offered that we have credentials for
	KindEnvelope ErrorKind = "envelope" // MAIL or RCPT
	KindMessage  ErrorKind = "message"  // DATA, the body, the dot, or what the message needs
	KindLocal    ErrorKind = "local"    // ours: the context ended, the body could not be read, beforeDot refused, the pool is closed
)

// Error is why a message was not taken, or may not have been. Nothing was handed over
// unless Unknown says so.
type Error struct {
	Phase Phase
	// Code is the reply's, 0 = there was none. KindEnvelope and KindMessage without a
	// code are our own refusals, before the dot: a bad address,
	// SIZE, SMTPUTF8, 8BITMIME, REQUIRETLS, a bare CR or LF. Those are for good.
	Code     int
	Enhanced [3]int // zero = none
	// Line is the reply as one line: code, enhanced code, and the texts of all its lines,
	// at most 1,000 octets of valid UTF-8 without control characters.
	Line        string
	Command     string // the verb, like "MAIL"; "" outside commands
	Kind        ErrorKind
	Description string // of AUTH: what the server said of a token (JSON)

	// Unknown says that the dot may have been seen: beforeDot had succeeded, the dot may
	// have left, and no reply can be read. It concerns Accepted only. It is false where
	// beforeDot had succeeded and the dot certainly has not left.
	Unknown bool

	// The recipients, where MAIL had succeeded; those not named were not answered.
	Accepted []string
	Refused  []Refusal
	TooMany  []string

	Err error // the cause, where it is not the reply
}

// Error implements error.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("smtp " + string(e.Phase))
	if e.Unknown {
		b.WriteString(": outcome unknown")
	}
	if e.Line != "" {
		b.WriteString(": " + e.Line)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

var (
	// ErrClosed: the pool was closed.
	ErrClosed = errors.New("pool is closed")
	// ErrBusy: for a while there was no connection to be had within the limits. Nothing was
	// asked of the server.
	ErrBusy = errors.New("all connections are in use")
)
