package dispatch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/postrider/postrider/internal/egress"
)

// Class is what became of an attempt. The names are stored and shown.
type Class string

// The classes there are.
const (
	ClassOK          Class = "ok"
	ClassRedirect    Class = "redirect"
	ClassAuth        Class = "auth"
	ClassGone        Class = "gone"
	ClassRateLimited Class = "rate_limited"
	ClassUnavailable Class = "unavailable"
	ClassTimeout     Class = "timeout"
	ClassDNS         Class = "dns"
	ClassConnect     Class = "connect"
	ClassTLS         Class = "tls"
	ClassReset       Class = "reset"
	ClassProtocol    Class = "protocol"
	Class5xx         Class = "http_5xx"
	Class4xx         Class = "http_4xx"
	ClassDropped     Class = "dropped"
	ClassBlocked     Class = "blocked"
	ClassRender      Class = "render"
	ClassInterrupted Class = "interrupted"
)

// Scope says whose fault a class looks like.
type Scope string

// The scopes.
const (
	ScopeEndpoint Scope = "E"
	ScopeEvent    Scope = "V"
	ScopeEither   Scope = "?"
	ScopeOurs     Scope = "O"
	ScopeNone     Scope = ""
)

// Verdict is the judgement on one attempt.
type Verdict struct {
	Class      Class
	Scope      Scope
	RetryAfter time.Duration // rate_limited: how long the whole route waits
}

// Counts says whether streak and breaker hear of it.
func (v Verdict) Counts() bool {
	switch v.Class {
	case ClassOK, ClassRateLimited, ClassDropped, ClassBlocked:
		return false
	}
	return v.Scope != ScopeOurs
}

// Halves says whether the route's slots are halved for it.
func (v Verdict) Halves() bool {
	return v.Class == ClassRateLimited || v.Class == ClassUnavailable || v.Class == ClassTimeout
}

// Bounds of the wait that an answer may impose on a route.
const (
	minRetryAfter = 30 * time.Second
	maxRetryAfter = 24 * time.Hour
)

// errInterrupted is the cause of a request that we cut ourselves.
var errInterrupted = errors.New("cut by shutdown")

// Classify judges an attempt: by its error where there is one, else by the status line.
// What the body says or does changes nothing. now is for dates in Retry-After.
//
// 413 is an http_4xx until events have content that a thin form could leave out.
func Classify(status int, h http.Header, err error, dropOn []int, now time.Time) Verdict {
	if err != nil {
		return classifyError(err)
	}
	wait, hasWait := retryAfter(h, now)
	switch {
	case status >= 200 && status <= 299:
		return Verdict{Class: ClassOK}
	case slices.Contains(dropOn, status):
		return Verdict{Class: ClassDropped}
	case status >= 300 && status <= 399:
		return Verdict{Class: ClassRedirect, Scope: ScopeEndpoint}
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return Verdict{Class: ClassAuth, Scope: ScopeEndpoint}
	case status == http.StatusGone:
		return Verdict{Class: ClassGone, Scope: ScopeEndpoint}
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable && hasWait:
		return Verdict{ClassRateLimited, ScopeEndpoint, min(max(wait, minRetryAfter), maxRetryAfter)}
	case status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout:
		return Verdict{Class: ClassUnavailable, Scope: ScopeEndpoint}
	case status >= 500 && status <= 599:
		return Verdict{Class: Class5xx, Scope: ScopeEither}
	case status >= 400 && status <= 499:
		return Verdict{Class: Class4xx, Scope: ScopeEvent}
	}
	return Verdict{Class: ClassProtocol, Scope: ScopeEndpoint}
}

// classifyError looks for the most telling cause first: a refusal of ours and a cut of
// ours come as dial errors and timeouts too.
func classifyError(err error) Verdict {
	endpoint := func(c Class) Verdict { return Verdict{Class: c, Scope: ScopeEndpoint} }
	if errors.Is(err, errInterrupted) {
		return Verdict{Class: ClassInterrupted, Scope: ScopeOurs}
	}
	if errors.Is(err, egress.ErrRefused) {
		return Verdict{Class: ClassBlocked}
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return endpoint(ClassDNS)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return endpoint(ClassConnect)
	}
	if isTLS(err) {
		return endpoint(ClassTLS)
	}
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return endpoint(ClassTimeout)
	}
	if errors.Is(err, context.Canceled) {
		return Verdict{Class: ClassInterrupted, Scope: ScopeOurs}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed) || strings.Contains(err.Error(), "server closed idle connection") {
		return endpoint(ClassReset)
	}
	return endpoint(ClassProtocol)
}

func isTLS(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.AlertError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return true
	}
	// crypto/tls has no type for the alerts of a peer within a handshake.
	return strings.Contains(err.Error(), "tls: ")
}

// retryAfter reads Retry-After (RFC 9110 section 10.2.3): the first valid of several,
// whole seconds or an HTTP date. Negative, past, fractional or senseless is absent.
func retryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	for _, v := range h.Values("Retry-After") {
		v = strings.TrimSpace(v)
		if n, err := strconv.ParseUint(v, 10, 63); err == nil {
			if n == 0 {
				continue
			}
			return time.Duration(min(n, uint64(maxRetryAfter/time.Second))) * time.Second, true
		}
		if t, err := http.ParseTime(v); err == nil && t.After(now) {
			return min(t.Sub(now), maxRetryAfter), true
		}
	}
	return 0, false
}
