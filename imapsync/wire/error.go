package wire

import (
	"cmp"
	"errors"
	"net"
	"strings"

	"github.com/emersion/go-imap/v2"

	"github.com/postrider/postrider/store/secret"
)

// Kind says what became of a command or a connection.
type Kind string

// The kinds of Error.
const (
	No       Kind = "no"       // tagged NO
	Bad      Kind = "bad"      // tagged BAD
	Auth     Kind = "auth"     // login refused: tagged NO or BAD, see Status
	Bye      Kind = "bye"      // the server said BYE
	Timeout  Kind = "timeout"  // a deadline of the connection passed
	Closed   Kind = "closed"   // EOF, reset, Close, or the context ended
	NoDial   Kind = "dial"     // no connection came about
	TLS      Kind = "tls"      // certificate, name, protocol, plaintext behind STARTTLS
	Protocol Kind = "protocol" // what came is not IMAP
	Limit    Kind = "limit"    // a bound of the connection was exceeded
	Refused  Kind = "refused"  // by us, before a byte was sent
)

// Stages of a session, for Error.Stage.
const (
	StageDial     = "dial"
	StageTLS      = "tls"
	StageGreeting = "greeting"
	StageLogin    = "login"
	StageCommand  = "command"
)

// Codes of our own in Error.Code, beside those of servers.
const (
	CodeHostMissing  imap.ResponseCode = "HostMissing"
	CodeNoMechanism  imap.ResponseCode = "NoAuthMechanism"
	CodeCredentials  imap.ResponseCode = "CredentialsMissing"
	CodeTLSSettings  imap.ResponseCode = "TLSSettings"
	CodeDisabled     imap.ResponseCode = "LOGINDISABLED"
	CodeNoSTARTTLS   imap.ResponseCode = "STARTTLSUnavailable"
	CodeInjection    imap.ResponseCode = "STARTTLSInjection"
	CodePreauthPlain imap.ResponseCode = "PreauthPlaintext"
	CodeTooBig       imap.ResponseCode = "TOOBIG" // RFC 4469; ours when APPENDLIMIT says so
)

// Error is everything that goes wrong with a connection or its making.
type Error struct {
	Kind     Kind
	Status   imap.StatusResponseType // of a server's reply; "" when it is not one
	Code     imap.ResponseCode       // upper case, without brackets and arguments; "" = none
	CodeText string                  // the code's arguments
	Text     string                  // the server's text or ours, valid UTF-8, ≤ 1 KiB, credentials hidden
	Said     secret.Text             // Text as the server said it, where something of it is hidden: to decide by
	Command  string                  // verb, never arguments; "" before the first command
	Stage    string
	Err      error // cause; nil for a server's reply
}

// Error implements error.
func (e *Error) Error() string {
	var b strings.Builder
	if b.WriteString(e.Command); e.Command == "" {
		b.WriteString(e.Stage)
	}
	b.WriteString(": ")
	if e.Status != "" {
		b.WriteString(string(e.Status))
	} else {
		b.WriteString(string(e.Kind))
	}
	if e.Code != "" {
		b.WriteString(" [" + string(e.Code) + "]")
	}
	if e.Text != "" {
		b.WriteString(" " + e.Text)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// said is what to decide by.
func (e *Error) said() string { return cmp.Or(e.Said.Reveal(), e.Text) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Usable says whether the connection goes on after the error.
func (e *Error) Usable() bool { return e.Kind == No || e.Kind == Bad || e.Kind == Refused }

// Usable says whether err leaves its connection usable; nil does.
func Usable(err error) bool {
	if err == nil {
		return true
	}
	e, ok := errors.AsType[*Error](err)
	return ok && e.Usable()
}

// ErrClosed is the cause of errors behind Close.
var ErrClosed = errors.New("closed by us")

var (
	errNoAnswer = errors.New("no answer in time")
	errTooSlow  = errors.New("literal comes too slowly")
	errSkipped  = errors.New("too much was skipped at a stretch")
)

func isTimeout(err error) bool {
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout()
}

// refuse is an error of ours before a byte was sent.
func refuse(verb, text string) error {
	return &Error{Kind: Refused, Stage: StageCommand, Command: verb, Text: text}
}

const maxText = 1 << 10

// cleanText makes a server's text fit to be shown: UTF-8, no control characters, ≤ 1 KiB.
func cleanText(b []byte) string {
	s := strings.ToValidUTF8(string(b[:min(len(b), maxText)]), "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	return strings.TrimSpace(s)
}
