package dispatch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/egress"
)

func TestClassify(t *testing.T) {
	now := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	ra := func(v ...string) http.Header { return http.Header{"Retry-After": v} }
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	timeout := &net.OpError{Op: "read", Err: context.DeadlineExceeded}
	for _, tt := range []struct {
		name   string
		status int
		header http.Header
		err    error
		want   Verdict
	}{
		{"200", 200, nil, nil, Verdict{Class: ClassOK}},
		{"201", 201, nil, nil, Verdict{Class: ClassOK}},
		{"204", 204, nil, nil, Verdict{Class: ClassOK}},
		{"299", 299, nil, nil, Verdict{Class: ClassOK}},
		{"301", 301, nil, nil, Verdict{Class: ClassRedirect, Scope: ScopeEndpoint}},
		{"308", 308, nil, nil, Verdict{Class: ClassRedirect, Scope: ScopeEndpoint}},
		{"400", 400, nil, nil, Verdict{Class: Class4xx, Scope: ScopeEvent}},
		{"401", 401, nil, nil, Verdict{Class: ClassAuth, Scope: ScopeEndpoint}},
		{"403", 403, nil, nil, Verdict{Class: ClassAuth, Scope: ScopeEndpoint}},
		{"404", 404, nil, nil, Verdict{Class: Class4xx, Scope: ScopeEvent}},
		{"410", 410, nil, nil, Verdict{Class: ClassGone, Scope: ScopeEndpoint}},
		{"413", 413, nil, nil, Verdict{Class: Class4xx, Scope: ScopeEvent}},
		{"422", 422, nil, nil, Verdict{Class: Class4xx, Scope: ScopeEvent}},
		{"418 dropped", 418, nil, nil, Verdict{Class: ClassDropped}},
		{"429 bare", 429, nil, nil, Verdict{ClassRateLimited, ScopeEndpoint, 30 * time.Second}},
		{"429 with 2 min", 429, ra("120"), nil, Verdict{ClassRateLimited, ScopeEndpoint, 2 * time.Minute}},
		{"429 for a year", 429, ra("31536000"), nil, Verdict{ClassRateLimited, ScopeEndpoint, 24 * time.Hour}},
		{"500", 500, nil, nil, Verdict{Class: Class5xx, Scope: ScopeEither}},
		{"501", 501, nil, nil, Verdict{Class: Class5xx, Scope: ScopeEither}},
		{"502", 502, nil, nil, Verdict{Class: ClassUnavailable, Scope: ScopeEndpoint}},
		{"503", 503, nil, nil, Verdict{Class: ClassUnavailable, Scope: ScopeEndpoint}},
		{"503 with seconds", 503, ra("60"), nil, Verdict{ClassRateLimited, ScopeEndpoint, time.Minute}},
		{"503 with nonsense", 503, ra("soon"), nil, Verdict{Class: ClassUnavailable, Scope: ScopeEndpoint}},
		{"504", 504, nil, nil, Verdict{Class: ClassUnavailable, Scope: ScopeEndpoint}},
		{"600", 600, nil, nil, Verdict{Class: ClassProtocol, Scope: ScopeEndpoint}},
		{"refused by policy", 0, nil, dial(fmt.Errorf("x: %w", egress.ErrRefused)), Verdict{Class: ClassBlocked}},
		{"no such host", 0, nil, dial(&net.DNSError{Err: "no such host", IsNotFound: true}), Verdict{Class: ClassDNS, Scope: ScopeEndpoint}},
		{"connection refused", 0, nil, dial(syscall.ECONNREFUSED), Verdict{Class: ClassConnect, Scope: ScopeEndpoint}},
		{"connect timeout", 0, nil, dial(context.DeadlineExceeded), Verdict{Class: ClassConnect, Scope: ScopeEndpoint}},
		{"expired certificate", 0, nil, &tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired}}, Verdict{Class: ClassTLS, Scope: ScopeEndpoint}},
		{"unknown authority", 0, nil, fmt.Errorf("tls: %w", x509.UnknownAuthorityError{}), Verdict{Class: ClassTLS, Scope: ScopeEndpoint}},
		{"no answer in time", 0, nil, timeout, Verdict{Class: ClassTimeout, Scope: ScopeEndpoint}},
		{"deadline", 0, nil, context.DeadlineExceeded, Verdict{Class: ClassTimeout, Scope: ScopeEndpoint}},
		{"reset", 0, nil, &net.OpError{Op: "read", Err: syscall.ECONNRESET}, Verdict{Class: ClassReset, Scope: ScopeEndpoint}},
		{"end of file", 0, nil, io.EOF, Verdict{Class: ClassReset, Scope: ScopeEndpoint}},
		{"not HTTP", 0, nil, errors.New("net/http: malformed HTTP response \"hello\""), Verdict{Class: ClassProtocol, Scope: ScopeEndpoint}},
		{"shutdown", 0, nil, fmt.Errorf("post: %w", errInterrupted), Verdict{Class: ClassInterrupted, Scope: ScopeOurs}},
		{"cancelled", 0, nil, context.Canceled, Verdict{Class: ClassInterrupted, Scope: ScopeOurs}},
	} {
		if got := Classify(tt.status, tt.header, tt.err, []int{418}, now); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestCounts(t *testing.T) {
	for class, want := range map[Class]bool{
		ClassTimeout: true, ClassConnect: true, Class5xx: true, Class4xx: true, ClassAuth: true, ClassGone: true,
		ClassOK: false, ClassRateLimited: false, ClassBlocked: false, ClassDropped: false,
	} {
		if got := (Verdict{Class: class, Scope: ScopeEndpoint}).Counts(); got != want {
			t.Errorf("%s: %v", class, got)
		}
	}
	if (Verdict{Class: ClassInterrupted, Scope: ScopeOurs}).Counts() || (Verdict{Class: ClassRender, Scope: ScopeOurs}).Counts() {
		t.Error("our own faults count against the route")
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		values []string
		want   time.Duration
		ok     bool
	}{
		{nil, 0, false},
		{[]string{"120"}, 2 * time.Minute, true},
		{[]string{" 7 "}, 7 * time.Second, true},
		{[]string{"0"}, 0, false},
		{[]string{"-5"}, 0, false},
		{[]string{"1.5"}, 0, false},
		{[]string{"soon"}, 0, false},
		{[]string{"Sun, 22 Nov 2026 08:01:00 GMT"}, time.Minute, true},
		{[]string{"Sun, 22 Nov 2026 07:59:00 GMT"}, 0, false},
		{[]string{"99999999999999999999"}, 0, false},
		{[]string{"9999999999"}, 24 * time.Hour, true},
		{[]string{"soon", "9"}, 9 * time.Second, true},
		{[]string{"9", "60"}, 9 * time.Second, true},
	} {
		if got, ok := retryAfter(http.Header{"Retry-After": tt.values}, now); got != tt.want || ok != tt.ok {
			t.Errorf("%q: got %v %v", tt.values, got, ok)
		}
	}
}
