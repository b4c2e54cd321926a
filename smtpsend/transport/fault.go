package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
)

var (
	errTransaction = errors.New("transaction took too long")
	errInjection   = errors.New("server sent more behind its reply to STARTTLS")
	errNoSTARTTLS  = errors.New("server does not offer STARTTLS")
	errPlaintext   = errors.New("plain text connections are not allowed here")
)

// fault makes the Error of something that is not a reply.
func fault(ctx context.Context, phase Phase, command string, err error) *Error {
	e := &Error{Phase: phase, Command: command, Err: err}
	if ctx.Err() != nil {
		// The socket was closed for it; what that looked like is no news.
		if e.Err = context.Cause(ctx); !errors.Is(e.Err, errTransaction) {
			e.Kind = KindLocal
			return e
		}
		e.Kind = KindTimeout
		return e
	}
	_, isDNS := errors.AsType[*net.DNSError](err)
	_, isDial := dialing(err)
	switch {
	case errors.Is(err, errTooLong), errors.Is(err, errNotReply):
		e.Kind = KindProtocol
	case isDNS:
		e.Kind = KindDNS
	case timedOut(err):
		e.Kind = KindTimeout
	case isDial, phase == PhaseConnect:
		e.Kind = KindConnect
	case lost(err):
		e.Kind = KindSocket
	case phase == PhaseTLS:
		e.Kind = KindTLS
	default:
		e.Kind = KindSocket
	}
	return e
}

func dialing(err error) (*net.OpError, bool) {
	op, ok := errors.AsType[*net.OpError](err)
	return op, ok && op.Op == "dial"
}

func timedOut(err error) bool {
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout() || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

// lost says whether the connection ended, as opposed to a peer that answers nonsense.
func lost(err error) bool {
	if _, alert := errors.AsType[tls.AlertError](err); alert {
		return false
	}
	for _, e := range []error{io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// refused makes the Error of a reply.
func refused(phase Phase, command string, r reply) *Error {
	e := &Error{Phase: phase, Command: command, Code: r.code, Enhanced: r.enhanced, Line: r.line(), Kind: KindProtocol}
	switch {
	case r.code == 503, r.code/100 < 4:
		e.Err = fmt.Errorf("server lost step with %s", command)
	case phase == PhaseSTARTTLS:
		e.Kind = KindTLS
	case phase == PhaseAuth:
		e.Kind = KindAuth
	case phase == PhaseMail, phase == PhaseRcpt:
		e.Kind = KindEnvelope
	case phase == PhaseData, phase == PhaseBody, phase == PhaseDot:
		e.Kind = KindMessage
	}
	return e
}

// ours makes the Error of what we refuse to send, with the enhanced code a server would
// have answered.
func ours(phase Phase, kind ErrorKind, enhanced [3]int, format string, args ...any) *Error {
	return &Error{Phase: phase, Kind: kind, Enhanced: enhanced, Err: fmt.Errorf(format, args...)}
}
