package imapsync

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/egress"
	"github.com/postrider/postrider/internal/tlsconf"
	"github.com/postrider/postrider/store"
)

// TestClassify is the table of sync.md §1.5 and api.md §5: what servers say, and what
// it means for the account.
func TestClassify(t *testing.T) {
	login := func(code, text string) error {
		return &Error{Kind: ErrNo, Stage: StageLogin, Command: "LOGIN", Code: code, Text: text}
	}
	reply := func(kind ErrorKind, verb, code, text string) error {
		return &Error{Kind: kind, Stage: StageCommand, Command: verb, Code: code, Text: text}
	}
	bye := func(text string) error { return reply(ErrBye, "IDLE", "", text) }
	dial := func(err error) error { return &Error{Kind: ErrDial, Stage: StageDial, Err: err} }
	handshake := func(err error) error { return &Error{Kind: ErrTLS, Stage: StageTLS, Err: err} }
	broken := func(kind ErrorKind, stage string, err error) error {
		return &Error{Kind: kind, Stage: stage, Err: err}
	}
	sys := func(n syscall.Errno) error { return &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", n)} }

	for _, c := range []struct {
		name  string
		err   error
		kind  string
		class string
		code  string
		docs  string
		wait  time.Duration
	}{
		// Gmail
		{"gmail wrong password", login("AUTHENTICATIONFAILED", "Invalid credentials (Failure)"), FaultAuthDead, "credentials", "AUTHENTICATIONFAILED", "credentials", 0},
		{"gmail app password", login("ALERT", "Application-specific password required: https://support.google.com/accounts/answer/185833 (Failure)"), FaultAuthDead, "credentials", "ALERT", "app-password", 0},
		{"gmail web login", login("WEBALERT", "Web login required."), FaultAuthDead, "blocked", "WEBALERT", "browser-login", 0},
		{"gmail browser", login("ALERT", "Please log in via your web browser: https://support.google.com/mail/accounts/answer/78754 (Failure)"), FaultAuthDead, "blocked", "ALERT", "browser-login", 0},
		{"gmail imap off", login("ALERT", "Your account is not enabled for IMAP use. Please visit your Gmail settings page and enable your account for IMAP access. (Failure)"), FaultConfig, "blocked", "ALERT", "imap-off", 0},
		{"gmail domain off", login("ALERT", "IMAP access is disabled for your domain. Please contact your domain administrator for questions about this feature. (Failure)"), FaultConfig, "blocked", "ALERT", "imap-off", 0},
		{"gmail simultaneous", login("ALERT", "Too many simultaneous connections. (Failure)"), FaultThrottled, "throttled", "ALERT", "throttled", 0},
		{"gmail bandwidth", reply(ErrNo, "UID FETCH", "OVERQUOTA", "Account exceeded command or bandwidth limits."), FaultThrottled, "throttled", "OVERQUOTA", "throttled", 0},
		{"gmail throttled", reply(ErrNo, "EXAMINE", "THROTTLED", ""), FaultThrottled, "throttled", "THROTTLED", "throttled", 0},
		{"gmail temporary", login("UNAVAILABLE", "Temporary System Error (Failure)"), FaultServerDown, "network", "UNAVAILABLE", "", 0},
		// Microsoft 365
		{"m365 login failed", login("", "LOGIN failed."), FaultAuthDead, "credentials", "", "credentials", 0},
		{"m365 authenticate failed", login("", "AUTHENTICATE failed."), FaultAuthDead, "credentials", "", "credentials", 0},
		{"m365 basic auth off", login("", "Server Unavailable. 15"), FaultConfig, "blocked", "", "oauth-required", 0},
		{"m365 not connected", reply(ErrBad, "EXAMINE", "", "User is authenticated but not connected."), FaultConfig, "blocked", "", "not-connected", 0},
		{"m365 throttled", reply(ErrBad, "UID FETCH", "", "Request is throttled. Suggested Backoff Time: 92415 milliseconds"), FaultThrottled, "throttled", "", "throttled", 92415 * time.Millisecond},
		{"m365 throttled for days", reply(ErrBad, "UID FETCH", "", "Request is throttled. Suggested Backoff Time: 999999999 milliseconds"), FaultThrottled, "throttled", "", "throttled", 24 * time.Hour},
		{"m365 server unavailable", login("", "Server Unavailable."), FaultServerDown, "network", "", "", 0},
		// Yahoo, AOL
		{"yahoo credentials", login("AUTHENTICATIONFAILED", "(#MBR1212) Incorrect username or password."), FaultAuthDead, "credentials", "AUTHENTICATIONFAILED", "credentials", 0},
		{"yahoo limit", login("LIMIT", "Rate limit hit."), FaultThrottled, "throttled", "LIMIT", "throttled", 0},
		{"yahoo in use", login("INUSE", "LOGIN mailbox in use"), FaultServerDown, "network", "INUSE", "", 0},
		{"yahoo message", reply(ErrNo, "UID FETCH", "UNAVAILABLE", "UID FETCH Server error - Please try again later"), FaultFolder, "network", "UNAVAILABLE", "", 0},
		// Dovecot
		{"dovecot credentials", login("AUTHENTICATIONFAILED", "Authentication failed."), FaultAuthDead, "credentials", "AUTHENTICATIONFAILED", "credentials", 0},
		{"dovecot temporary", login("UNAVAILABLE", "Temporary authentication failure. [mail:2026-11-22]"), FaultServerDown, "network", "UNAVAILABLE", "", 0},
		{"dovecot connections", login("LIMIT", "Maximum number of connections from user+IP exceeded (mail_max_userip_connections=10)"), FaultThrottled, "throttled", "LIMIT", "throttled", 0},
		{"dovecot plaintext", login("PRIVACYREQUIRED", "Plaintext authentication disallowed on non-secure (SSL/TLS) connections."), FaultConfig, "blocked", "PRIVACYREQUIRED", "plaintext", 0},
		{"dovecot expired", login("EXPIRED", "Password expired"), FaultAuthDead, "credentials", "EXPIRED", "credentials", 0},
		{"dovecot disabled user", login("AUTHORIZATIONFAILED", "User is disabled"), FaultAuthDead, "credentials", "AUTHORIZATIONFAILED", "credentials", 0},
		{"dovecot no folder", reply(ErrNo, "EXAMINE", "NONEXISTENT", "Mailbox doesn't exist: x"), FaultFolder, "network", "NONEXISTENT", "", 0},
		{"dovecot internal error in a folder", reply(ErrNo, "STATUS", "SERVERBUG", "Internal error occurred."), FaultFolder, "network", "SERVERBUG", "", 0},
		// Others
		{"contact admin", login("CONTACTADMIN", "Your account has a problem"), FaultConfig, "blocked", "CONTACTADMIN", "blocked", 0},
		{"courier", login("", "Login failed."), FaultAuthDead, "credentials", "", "credentials", 0},
		{"cyrus", login("", "Login failed: authentication failure"), FaultAuthDead, "credentials", "", "credentials", 0},
		{"exchange on premises", login("", "Logon failure: unknown user name or bad password."), FaultAuthDead, "credentials", "", "credentials", 0},
		{"163 unsafe", reply(ErrNo, "EXAMINE", "", "EXAMINE Unsafe Login. Please contact kefu@188.com for help"), FaultConfig, "blocked", "", "blocked", 0},
		{"zoho unusual", login("ALERT", "Your account is blocked for unusual activity"), FaultThrottled, "throttled", "ALERT", "throttled", 0},
		{"icloud app password", login("AUTHENTICATIONFAILED", "Authentication failed; use an app-specific password"), FaultAuthDead, "credentials", "AUTHENTICATIONFAILED", "app-password", 0},
		{"yandex", login("AUTHENTICATIONFAILED", "LOGIN invalid credentials or IMAP is disabled"), FaultAuthDead, "credentials", "AUTHENTICATIONFAILED", "credentials", 0},
		{"gmx imap off", login("AUTHENTICATIONFAILED", "IMAP access not activated"), FaultConfig, "blocked", "AUTHENTICATIONFAILED", "imap-off", 0},
		{"proton bridge", login("", "no such user"), FaultAuthDead, "credentials", "", "credentials", 0},
		{"token refused", login("", "SASL authentication failed: invalid token"), FaultAuthDead, "grant", "", "oauth", 0},
		{"seconds named", login("", "Too many logins, try again in 30 seconds"), FaultThrottled, "throttled", "", "throttled", 30 * time.Second},
		{"minutes named", login("", "Login limit. Please try again after 5 minutes."), FaultThrottled, "throttled", "", "throttled", 5 * time.Minute},
		{"login says something odd", login("", "ouch"), FaultServerDown, "network", "", "", 0},
		{"list refused", reply(ErrNo, "LIST", "UNAVAILABLE", "later"), FaultServerDown, "network", "UNAVAILABLE", "", 0},
		// Greeting
		{"greeting bye", &Error{Kind: ErrBye, Stage: StageGreeting, Code: "UNAVAILABLE", Text: "down"}, FaultServerDown, "greeting", "UNAVAILABLE", "", 0},
		{"greeting too many", &Error{Kind: ErrBye, Stage: StageGreeting, Text: "Too many connections from 192.0.2.1"}, FaultThrottled, "throttled", "", "throttled", 0},
		{"greeting shutting down", &Error{Kind: ErrBye, Stage: StageGreeting, Text: "Server shutting down"}, FaultServerDown, "greeting", "", "", 0},
		{"no greeting", broken(ErrTimeout, StageGreeting, os.ErrDeadlineExceeded), FaultServerDown, "greeting", "", "network", 0},
		{"closed before greeting", broken(ErrClosed, StageGreeting, io.EOF), FaultServerDown, "greeting", "", "network", 0},
		{"not imap", broken(ErrProtocol, StageGreeting, nil), FaultServerDown, "greeting", "", "network", 0},
		// Dial
		{"no such host", dial(&net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "imap.example.invalid", IsNotFound: true}}), FaultServerDown, "dns", "ENOTFOUND", "network", 0},
		{"dns timeout", dial(&net.DNSError{Err: "i/o timeout", IsTimeout: true}), FaultServerDown, "dns", "EDNS", "network", 0},
		{"refused", dial(sys(syscall.ECONNREFUSED)), FaultServerDown, "refused", "ECONNREFUSED", "network", 0},
		{"unreachable", dial(sys(syscall.EHOSTUNREACH)), FaultServerDown, "network", "EUNREACH", "network", 0},
		{"connect timeout", dial(sys(syscall.ETIMEDOUT)), FaultServerDown, "timeout", "ETIMEDOUT", "network", 0},
		{"our dial timeout", broken(ErrTimeout, StageDial, context.DeadlineExceeded), FaultServerDown, "timeout", "", "network", 0},
		{"egress policy", dial(fmt.Errorf("dial: %w", egress.ErrRefused)), FaultConfig, "refused", "EGRESS", "egress", 0},
		// TLS
		{"expired", handshake(&tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired}}), FaultTLS, "tls", "CERT_HAS_EXPIRED", "tls", 0},
		{"not valid", handshake(x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign}), FaultTLS, "tls", "CERT_INVALID", "tls", 0},
		{"other name", handshake(&tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &x509.Certificate{}, Host: "h"}}), FaultTLS, "tls", "CERT_NAME_MISMATCH", "tls", 0},
		{"unknown authority", handshake(&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}), FaultTLS, "tls", "CERT_UNKNOWN_AUTHORITY", "tls", 0},
		{"pin", handshake(tlsconf.ErrPin), FaultTLS, "tls", "CERT_NOT_PINNED", "tls", 0},
		{"no tls there", handshake(tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}), FaultTLS, "tls", "TLS_NOT_SPOKEN", "tls", 0},
		{"silent in the handshake", handshake(context.DeadlineExceeded), FaultTLS, "tls", "TLS_HANDSHAKE", "tls", 0},
		{"old protocol", handshake(errors.New("tls: protocol version not supported")), FaultTLS, "tls", "TLS_HANDSHAKE", "tls", 0},
		{"starttls refused", &Error{Kind: ErrTLS, Stage: StageTLS, Command: "STARTTLS", Text: "TLS not available"}, FaultTLS, "tls", "", "tls", 0},
		// A session that worked
		{"no answer", broken(ErrTimeout, StageCommand, nil), FaultSilent, "timeout", "", "", 0},
		{"no answer at login", broken(ErrTimeout, StageLogin, nil), FaultSilent, "timeout", "", "", 0},
		{"eof", broken(ErrClosed, StageCommand, io.EOF), FaultServerDown, "network", "", "", 0},
		{"reset", broken(ErrClosed, StageCommand, sys(syscall.ECONNRESET)), FaultServerDown, "network", "", "", 0},
		{"unreadable", broken(ErrProtocol, StageCommand, errors.New("in response")), FaultServerDown, "network", "", "", 0},
		{"limit", broken(ErrLimit, StageCommand, errors.New("too much")), FaultServerDown, "network", "", "", 0},
		{"bye of somebody", bye("Internal error"), FaultServerDown, "network", "", "", 0},
		{"folder name", &Error{Kind: ErrConfig, Stage: StageCommand, Command: "EXAMINE"}, FaultFolder, "blocked", "", "configuration", 0},
		// Ours
		{"no credentials", &Error{Kind: ErrConfig, Stage: StageLogin, Code: codeCredentials}, FaultConfig, "blocked", codeCredentials, "configuration", 0},
		{"store", fmt.Errorf("commit: %w", store.ErrUnavailable), FaultInternal, "", "", "", 0},
		{"wrapped", fmt.Errorf("pass: %w", login("AUTHENTICATIONFAILED", "no")), FaultAuthDead, "credentials", "AUTHENTICATIONFAILED", "credentials", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := Classify(c.err)
			if f.Kind != c.kind || f.Class != c.class || f.Code != c.code || f.Docs != c.docs || f.RetryAfter != c.wait || f.Planned {
				t.Errorf("%v:\n got %+v\nwant %s/%s code %q docs %q wait %v", c.err, f, c.kind, c.class, c.code, c.docs, c.wait)
			}
			if f.Service != "imap" || f.Kind == FaultAuthDead && f.Action == "" || f.Kind == FaultConfig && f.Action == "" {
				t.Errorf("%+v: service or action is missing", f)
			}
			if f.Kind != FaultFolder && f.Response == "" && errorText(c.err) != "" {
				t.Errorf("%+v: nothing to show", f)
			}
		})
	}
	for _, text := range []string{"Session expired, please login again.", "Connection closed. AccessTokenExpired", "Autologout; idle for too long", "Disconnected for inactivity.", "Server shutting down.", "Shutdown in progress"} {
		if f := Classify(bye(text)); !f.Planned || f.Kind != FaultServerDown {
			t.Errorf("BYE %s: %+v, want a planned end", text, f)
		}
	}
}

// What people read names no address of ours, and no library's words.
func TestWords(t *testing.T) {
	inner := &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: 993}, Err: errors.New("odd")}
	for want, err := range map[string]error{
		"host name does not exist":                              &Error{Kind: ErrDial, Stage: StageDial, Err: &net.DNSError{Err: "no such host", Name: "x", Server: "10.0.0.1:53", IsNotFound: true}},
		"address is not allowed by this service":                &Error{Kind: ErrDial, Stage: StageDial, Err: egress.ErrRefused},
		"no connection":                                         &Error{Kind: ErrDial, Stage: StageDial, Err: inner},
		"connection lost":                                       &Error{Kind: ErrClosed, Stage: StageCommand, Err: inner},
		"server sent what is not IMAP":                          &Error{Kind: ErrProtocol, Stage: StageCommand, Err: errors.New("in response")},
		"TLS handshake failed: handshake failure":               &Error{Kind: ErrTLS, Stage: StageTLS, Err: &net.OpError{Op: "remote error", Err: errors.New("tls: handshake failure")}},
		"TLS handshake failed: connection closed by the server": &Error{Kind: ErrTLS, Stage: StageTLS, Err: io.EOF},
		"LOGIN: NO [AUTHENTICATIONFAILED] wrong":                &Error{Kind: ErrNo, Stage: StageLogin, Command: "LOGIN", Code: "AUTHENTICATIONFAILED", Text: "wrong"},
	} {
		if got := Words(err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
	if Classify(&Error{Kind: ErrDial, Stage: StageDial, Err: egress.ErrRefused}).login() || !Classify(&Error{Kind: ErrConfig, Stage: StageLogin, Code: codeCredentials}).login() {
		t.Error("a refused address is no refused login, missing credentials are")
	}
}

func errorText(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Text
	}
	return err.Error()
}
