package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/store/secret"
)

// startDaemon runs an ephemeral daemon in this process until the test ends.
func startDaemon(t *testing.T, change func(*loaded)) *daemon {
	t.Helper()
	cfg, err := demoConfig("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	change(cfg)
	d, err := newDaemon(t.Context(), cfg, nil, &program{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.stop(context.Background()) })
	return d
}

func TestDaemonListeners(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	roots := writeCertificate(t, certFile, keyFile)
	const token = "my-own-token-0123456789-0123456789"
	d := startDaemon(t, func(l *loaded) {
		l.API.TLS.Cert, l.API.TLS.Key = certFile, keyFile
		l.API.MetricsListen = "127.0.0.1:0"
		l.API.Token = secret.New(token)
		l.Roles = []string{roleAPI}
	})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}}
	t.Cleanup(client.CloseIdleConnections)

	t.Run("TLS with HTTP/2, and the imported token", func(t *testing.T) {
		if !strings.HasPrefix(d.url(), "https://") {
			t.Fatalf("it is reached at %s", d.url())
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.url()+"/v1/accounts", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
			t.Errorf("%s %s", resp.Proto, resp.Status)
		}
	})
	t.Run("no token is made beside it", func(t *testing.T) {
		if d.token != "" {
			t.Error("one was")
		}
	})
	t.Run("a changed certificate is served without a restart", func(t *testing.T) {
		renewed := writeCertificate(t, certFile, keyFile)
		later := time.Now().Add(time.Minute)
		if err := os.Chtimes(certFile, later, later); err != nil {
			t.Fatal(err)
		}
		eventually(t, 5*time.Second, "the new certificate is served", func() bool {
			conn, err := tls.Dial("tcp", d.webListen.Addr().String(), &tls.Config{RootCAs: renewed})
			if err == nil {
				_ = conn.Close()
			}
			return err == nil
		})
	})
	t.Run("metrics without a token on their own listener only", func(t *testing.T) {
		if status := get(t, "http://"+d.metListen.Addr().String()+"/metrics", ""); status != http.StatusOK {
			t.Errorf("metrics: %d", status)
		}
		if status := get(t, "http://"+d.metListen.Addr().String()+"/v1/accounts", token); status != http.StatusNotFound {
			t.Errorf("the API is there too: %d", status)
		}
	})
}

// A webhook URL that would reach what it must not is refused when it is stored.
func TestDaemonRefusesTargets(t *testing.T) {
	d := startDaemon(t, func(*loaded) {})
	c := &apiClient{url: d.url(), token: d.token, http: newHTTPClient()}
	t.Cleanup(c.http.CloseIdleConnections)
	for target, ok := range map[string]bool{
		"http://169.254.169.254/latest/meta-data/": false,
		"https://[fd00:ec2::254]/":                 false,
		"https://10.0.0.1/":                        false,
		"ftp://example.com/":                       false,
		d.url() + "/v1/settings":                   false, // ourselves
		"http://127.0.0.1:1/":                      true,  // an ephemeral one may call this host
		"https://example.com/hook":                 true,
	} {
		err := c.call(t.Context(), "POST", "/v1/settings", map[string]any{"webhooks": target}, nil)
		if (err == nil) != ok {
			t.Errorf("settings, %s: %v", target, err)
		}
		err = c.call(t.Context(), "POST", "/v1/account", map[string]any{"account": "a", "webhooks": target}, nil)
		if (err == nil) != ok {
			t.Errorf("account, %s: %v", target, err)
		}
	}
}

// A start that fails closes what it had opened.
func TestDaemonUnwinds(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = free.Close()
	cfg, err := demoConfig(free.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	cfg.API.MetricsListen = taken.Addr().String()
	if _, err := newDaemon(t.Context(), cfg, nil, &program{}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "api.metricsListen") {
		t.Fatalf("got %v", err)
	}
	again, err := net.Listen("tcp", free.Addr().String())
	if err != nil {
		t.Fatalf("the first listener is still open: %v", err)
	}
	_ = again.Close()
}

func writeCertificate(t *testing.T, certFile, keyFile string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		var b bytes.Buffer
		if err := pem.Encode(&b, block); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return pool
}
