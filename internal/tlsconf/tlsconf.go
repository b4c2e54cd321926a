// Package tlsconf turns what an account says about a mail server's certificate into a
// tls.Config: own roots, pinned keys, another name, a higher version. IMAP and SMTP share
// it. Pure: values in, values out.
//
// TLS 1.2 is the least, and the server's name is always sent (SNI).
package tlsconf

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
)

// Settings are how a server's certificate is judged. The zero value trusts the system's
// roots for the host's name.
type Settings struct {
	CA                 string   // PEM of the roots trusted instead of the system's
	Pin                []string // SHA-256 of a SubjectPublicKeyInfo, base64
	MinVersion         string   // "1.2" (also "") or "1.3"
	ServerName         string   // expected instead of the host; "" = the host
	InsecureSkipVerify bool     // nothing is checked, unless there are pins
}

var (
	// ErrPin: no certificate that counts has a pinned key. A handshake ends with it.
	ErrPin = errors.New("certificate is not the pinned one")
	// ErrInsecure: the account leaves certificates unchecked and the operator allows none to.
	ErrInsecure = errors.New("unchecked certificates are not allowed here")
)

// Client is the configuration for a connection to host. Its error is ErrInsecure, or says
// which setting cannot be used.
func Client(host string, s Settings, allowInsecure bool) (*tls.Config, error) {
	cfg := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if s.ServerName != "" {
		cfg.ServerName = s.ServerName
	}
	switch s.MinVersion {
	case "", "1.2":
	case "1.3":
		cfg.MinVersion = tls.VersionTLS13
	default:
		return nil, fmt.Errorf("tls.minVersion %q is not known", s.MinVersion)
	}
	if s.CA != "" {
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM([]byte(s.CA)) {
			return nil, errors.New("tls.ca holds no certificate")
		}
	}
	if s.InsecureSkipVerify {
		if !allowInsecure {
			return nil, ErrInsecure
		}
		cfg.InsecureSkipVerify = true
	}
	if len(s.Pin) > 0 {
		verifyPins(cfg, s.Pin)
	}
	return cfg, nil
}

// verifyPins accepts a certificate whose own key is pinned, whoever signed it, else a
// valid chain with a pinned key in it.
func verifyPins(cfg *tls.Config, pins []string) {
	roots := cfg.RootCAs
	cfg.InsecureSkipVerify = true // the verification is below
	cfg.VerifyConnection = func(st tls.ConnectionState) error {
		pinned := func(c *x509.Certificate) bool {
			sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
			return slices.Contains(pins, base64.StdEncoding.EncodeToString(sum[:]))
		}
		leaf := st.PeerCertificates[0]
		if pinned(leaf) {
			return nil
		}
		opts := x509.VerifyOptions{Roots: roots, DNSName: st.ServerName, Intermediates: x509.NewCertPool()}
		for _, c := range st.PeerCertificates[1:] {
			opts.Intermediates.AddCert(c)
		}
		chains, err := leaf.Verify(opts)
		if err != nil {
			return err
		}
		for _, chain := range chains {
			if slices.ContainsFunc(chain, pinned) {
				return nil
			}
		}
		return ErrPin
	}
}
