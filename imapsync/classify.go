package imapsync

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/postrider/postrider/internal/egress"
	"github.com/postrider/postrider/internal/tlsconf"
	"github.com/postrider/postrider/store/secret"
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
	Text    string // the server's text, valid UTF-8, ≤ 1 KiB, credentials hidden
	Err     error  // cause; nil for a server's reply

	// Said is Text as the server said it, where something of it is hidden: to decide by.
	Said secret.Text
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
		var parts []string
		if kind := string(e.Kind); e.Command != "" || kind != e.Stage || e.Text == "" && e.Err == nil {
			parts = append(parts, kind) // not "tls: tls"
		}
		if e.Text != "" {
			parts = append(parts, e.Text)
		}
		if e.Err != nil {
			parts = append(parts, e.Err.Error())
		}
		b.WriteString(strings.Join(parts, ": "))
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

// Classify says what an error of a Session or a Dialer means: by code, then by text,
// then by stage (sync.md §1.5). It is pure. What it does not know of a server is
// serverDown; what is no *Error is our own fault.
func Classify(err error) Fault {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return Fault{Kind: FaultInternal, Service: "imap", Response: err.Error()}
	}
	f := Fault{Service: "imap", Response: e.Text, Code: e.Code}
	switch e.Kind {
	case ErrNo, ErrBad, ErrBye:
		classifyReply(e, &f)
	case ErrConfig:
		f.Kind, f.Class = FaultConfig, "blocked"
		if e.Stage == StageCommand {
			f.Kind = FaultFolder
		}
		f.Action, f.Docs = configActions[e.Code], "configuration"
	case ErrTLS:
		classifyTLS(e, &f)
	case ErrDial:
		classifyDial(e.Err, &f)
	case ErrTimeout:
		f.Response = orText(f.Response, "server does not answer")
		switch e.Stage {
		case StageDial:
			f.Kind, f.Class, f.Response = FaultServerDown, "timeout", "connection timed out"
			f.Action, f.Docs = actionReach, "network"
		case StageGreeting:
			f.Kind, f.Class, f.Response = FaultServerDown, "greeting", "server does not greet"
			f.Action, f.Docs = actionPort, "network"
		case StageTLS:
			f.Kind, f.Class = FaultTLS, "tls"
		default:
			f.Kind, f.Class = FaultSilent, "timeout"
		}
	default: // ErrClosed, ErrProtocol, ErrLimit
		f.Kind, f.Class = FaultServerDown, "network"
		f.Response = orText(f.Response, causeText(e))
		switch e.Stage {
		case StageGreeting:
			f.Class, f.Action, f.Docs = "greeting", actionPort, "network"
		case StageTLS:
			f.Kind, f.Class = FaultTLS, "tls"
		}
	}
	return f
}

// classifyReply is for what the server said.
func classifyReply(e *Error, f *Fault) {
	atLogin := e.Stage == StageLogin
	read := e.Stage == StageCommand && e.Kind != ErrBye
	said := cmp.Or(e.Said.Reveal(), e.Text)
	text := strings.ToLower(said)
	if m := backoffTime.FindStringSubmatch(said); m != nil {
		f.throttled(m)
		return
	}
	for _, r := range replyRules {
		if r.code != "" && r.code != e.Code || r.login && !atLogin || r.bye && (e.Kind != ErrBye || e.Stage != StageCommand) {
			continue
		}
		if r.text != "" && !strings.Contains(text, r.text) {
			continue
		}
		f.Kind, f.Class, f.Action, f.Docs, f.Planned = r.kind, r.class, r.action, r.docs, r.bye
		if f.Kind == FaultThrottled {
			f.throttled(nil)
		}
		return
	}
	switch {
	case read && slices.Contains(folderVerbs, e.Command):
		f.Kind, f.Class = FaultFolder, "network"
	case e.Stage == StageGreeting:
		f.Kind, f.Class = FaultServerDown, "greeting"
	default:
		f.Kind, f.Class = FaultServerDown, "network"
	}
}

// folderVerbs are the commands about one folder.
var folderVerbs = []string{"EXAMINE", "SELECT", "STATUS", "UID FETCH", "UID SEARCH"}

// backoffTime is how Exchange names its wait, and how others do.
var backoffTime = regexp.MustCompile(`(?i)(?:backoff time:|try again (?:in|after)|retry after)\s*(\d{1,9})\s*(ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hours?)\b`)

const maxRetryAfter = 24 * time.Hour

// throttled fills in what every throttling has; m is a match of backoffTime or nil.
func (f *Fault) throttled(m []string) {
	f.Kind, f.Class, f.Action, f.Docs = FaultThrottled, "throttled", actionThrottled, "throttled"
	if m == nil {
		return
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		return
	}
	unit := time.Second
	switch u := strings.ToLower(m[2]); {
	case strings.HasPrefix(u, "ms"), strings.HasPrefix(u, "milli"):
		unit = time.Millisecond
	case strings.HasPrefix(u, "m"):
		unit = time.Minute
	case strings.HasPrefix(u, "h"):
		unit = time.Hour
	}
	f.RetryAfter = min(time.Duration(n), maxRetryAfter/unit) * unit
}

// classifyDial is for a connection that did not come about.
func classifyDial(err error, f *Fault) {
	f.Kind, f.Class, f.Action, f.Docs = FaultServerDown, "network", actionReach, "network"
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		f.Class, f.Response, f.Code = "dns", "host name cannot be resolved", "EDNS"
		if dns.IsNotFound {
			f.Response, f.Code, f.Action = "host name does not exist", "ENOTFOUND", "The name of the mail server does not exist: check it."
		}
		return
	}
	switch ne, isNet := errors.AsType[net.Error](err); {
	case errors.Is(err, egress.ErrRefused):
		f.Kind, f.Class, f.Code = FaultConfig, "refused", "EGRESS" // no attempt heals it, and it is no login
		f.Response, f.Action, f.Docs = "address is not allowed by this service", "This service may not connect to that address; its operator can allow it.", "egress"
	case errors.Is(err, syscall.ECONNREFUSED):
		f.Class, f.Response, f.Code, f.Action = "refused", "connection refused", "ECONNREFUSED", actionPort
	case isNet && ne.Timeout(), errors.Is(err, syscall.ETIMEDOUT):
		f.Class, f.Response, f.Code = "timeout", "connection timed out", "ETIMEDOUT"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		f.Response, f.Code = "server cannot be reached", "EUNREACH"
	default:
		f.Response = "no connection"
	}
}

// classifyTLS is for the handshake and STARTTLS.
func classifyTLS(e *Error, f *Fault) {
	f.Kind, f.Class, f.Docs = FaultTLS, "tls", "tls"
	var (
		invalid x509.CertificateInvalidError
		name    x509.HostnameError
		unknown x509.UnknownAuthorityError
		record  tls.RecordHeaderError
	)
	switch err := e.Err; {
	case errors.Is(err, tlsconf.ErrPin):
		f.Code, f.Response = "CERT_NOT_PINNED", "certificate is not the pinned one"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		f.Code, f.Response, f.Action = "CERT_HAS_EXPIRED", "certificate has expired", "The mail server's certificate has expired; its operator has to renew it."
	case errors.As(err, &invalid):
		f.Code, f.Response = "CERT_INVALID", "certificate is not valid"
	case errors.As(err, &name):
		f.Code, f.Response, f.Action = "CERT_NAME_MISMATCH", "certificate is for another name", "The certificate is for another host name: use the name the server gives, or set tls.serverName."
	case errors.As(err, &unknown):
		f.Code, f.Response, f.Action = "CERT_UNKNOWN_AUTHORITY", "certificate is signed by an unknown authority", "Give the authority's certificate in tls.ca, or the server's key in tls.pin."
	case errors.As(err, &record):
		f.Code, f.Response, f.Action = "TLS_NOT_SPOKEN", "server does not speak TLS on this port", "Use port 993 with secure, or secure: false for STARTTLS."
	case errors.Is(err, context.DeadlineExceeded):
		f.Code, f.Response, f.Action = "TLS_HANDSHAKE", "server does not answer the TLS handshake", "Use port 993 with secure, or secure: false for STARTTLS."
	case e.Code == codeNoSTARTTLS:
		f.Action = "The server offers no STARTTLS on this port: use port 993 with secure."
	case err != nil:
		f.Code, f.Response = "TLS_HANDSHAKE", orText(f.Response, handshakeText(err))
	}
}

func causeText(e *Error) string {
	switch {
	case e.Kind == ErrProtocol:
		return "server sent what is not IMAP"
	case e.Kind == ErrLimit:
		return "server sent more than is taken"
	case e.Err == nil:
		return "connection lost"
	case errors.Is(e.Err, io.EOF), errors.Is(e.Err, net.ErrClosed), errors.Is(e.Err, io.ErrClosedPipe):
		return "connection closed by the server"
	case errors.Is(e.Err, syscall.ECONNRESET), errors.Is(e.Err, syscall.EPIPE):
		return "connection reset"
	}
	return "connection lost"
}

// handshakeText says why a handshake failed, without Go's words around it.
func handshakeText(err error) string {
	const failed = "TLS handshake failed"
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		return failed + ": connection closed by the server"
	}
	if _, why, ok := strings.Cut(err.Error(), "tls: "); ok {
		return failed + ": " + cleanText(why)
	}
	return failed
}

// login says whether a fault is one of the login, which its owner has to mend, or else
// one of the way to the server.
func (f Fault) login() bool {
	return f.Kind == FaultAuthDead || f.Kind == FaultConfig && f.Class != "refused"
}

// Words say what an error of a Session or a Dialer is, for people: what the server
// replied as it stands, else what failed, without addresses and the words of libraries.
func Words(err error) string {
	if e, ok := errors.AsType[*Error](err); ok && (e.Kind == ErrNo || e.Kind == ErrBad || e.Kind == ErrBye) {
		return e.Error()
	}
	return Classify(err).Response
}

func orText(s, otherwise string) string {
	if s != "" {
		return s
	}
	return otherwise
}

// cleanText makes a text fit to be shown: UTF-8, no control characters, ≤ 1 KiB.
func cleanText(s string) string {
	const maxText = 1 << 10
	s = strings.ToValidUTF8(s[:min(len(s), maxText)], "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	return strings.TrimSpace(s)
}
