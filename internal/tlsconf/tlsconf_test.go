package tlsconf_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/internal/tlsconf"
	"github.com/postrider/postrider/smtpsend/smtptest"
)

func ExampleClient() {
	_, err := tlsconf.Client("imap.example.com", tlsconf.Settings{InsecureSkipVerify: true}, false)
	fmt.Println(err)
	cfg, err := tlsconf.Client("imap.example.com", tlsconf.Settings{MinVersion: "1.3"}, false)
	fmt.Println(cfg.ServerName, tls.VersionName(cfg.MinVersion), err)
	// Output:
	// unchecked certificates are not allowed here
	// imap.example.com TLS 1.3 <nil>
}

func TestSettings(t *testing.T) {
	for name, s := range map[string]tlsconf.Settings{"version": {MinVersion: "1.1"}, "CA": {CA: "x"}} {
		if _, err := tlsconf.Client("a.example", s, true); err == nil || errors.Is(err, tlsconf.ErrInsecure) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHandshake judges a certificate for a.example that signed itself.
func TestHandshake(t *testing.T) {
	cert, err := smtptest.NewCertificate("a.example")
	if err != nil {
		t.Fatal(err)
	}
	other, err := smtptest.NewCertificate("a.example")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		s    tlsconf.Settings
		ok   bool
		err  error
	}{
		{"system roots", tlsconf.Settings{}, false, nil},
		{"its root", tlsconf.Settings{CA: cert.CA}, true, nil},
		{"another root", tlsconf.Settings{CA: other.CA}, false, nil},
		{"another name", tlsconf.Settings{CA: cert.CA, ServerName: "b.example"}, false, nil},
		{"its pin", tlsconf.Settings{Pin: []string{other.Pin, cert.Pin}}, true, nil},
		{"its pin, another root", tlsconf.Settings{CA: other.CA, Pin: []string{cert.Pin}}, true, nil},
		{"another pin", tlsconf.Settings{CA: cert.CA, Pin: []string{other.Pin}}, false, tlsconf.ErrPin},
		{"another pin, unchecked", tlsconf.Settings{Pin: []string{other.Pin}, InsecureSkipVerify: true}, false, nil},
		{"unchecked", tlsconf.Settings{InsecureSkipVerify: true}, true, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg, err := tlsconf.Client("a.example", tt.s, true)
				if err != nil {
					t.Fatal(err)
				}
				ours, theirs := net.Pipe()
				// A pipe holds nothing: both may be writing when one gives up.
				_ = ours.SetDeadline(time.Now().Add(time.Second))
				_ = theirs.SetDeadline(time.Now().Add(time.Second))
				go func() {
					_ = tls.Server(theirs, cert.Config).Handshake()
					_ = theirs.Close()
				}()
				err = tls.Client(ours, cfg).Handshake()
				_ = ours.Close()
				if (err == nil) != tt.ok || tt.err != nil && !errors.Is(err, tt.err) {
					t.Error(err)
				}
			})
		})
	}
}
