package egress

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func get(t *testing.T, tr *http.Transport, url string) (*http.Response, error) {
	t.Helper()
	t.Cleanup(tr.CloseIdleConnections)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	return resp, err
}

func TestTransport(t *testing.T) {
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-Proto", r.Proto) })
	plain := httptest.NewServer(echo)
	defer plain.Close()
	secure := httptest.NewUnstartedServer(echo)
	secure.EnableHTTP2 = true
	secure.StartTLS()
	defer secure.Close()
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	ca := Options{TLS: &tls.Config{RootCAs: roots}}
	_, securePort, _ := net.SplitHostPort(secure.Listener.Addr().String())
	_, plainPort, _ := net.SplitHostPort(plain.Listener.Addr().String())

	t.Run("loopback is refused by default", func(t *testing.T) {
		for _, url := range []string{plain.URL, secure.URL} {
			if _, err := get(t, guard(t, Policy{Name: Any, AllowHTTP: true}).Transport(ca), url); !errors.Is(err, ErrRefused) {
				t.Errorf("%s: %v", url, err)
			}
		}
	})
	t.Run("listed loopback works, with HTTP/2 over TLS", func(t *testing.T) {
		g := guard(t, Policy{Allow: []string{"127.0.0.0/8"}})
		resp, err := get(t, g.Transport(ca), secure.URL)
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.Header.Get("X-Proto"); got != "HTTP/2.0" {
			t.Errorf("spoke %s", got)
		}
		if _, err := get(t, g.Transport(Options{}), plain.URL); err != nil {
			t.Error(err)
		}
	})
	t.Run("the name is what the certificate is checked against", func(t *testing.T) {
		g := guard(t, Policy{Allow: []string{"127.0.0.0/8"}, Resolver: resolver("example.com", "127.0.0.1")})
		if _, err := get(t, g.Transport(ca), "https://example.com:"+securePort); err != nil { // httptest's certificate is for it
			t.Error(err)
		}
		g = guard(t, Policy{Allow: []string{"127.0.0.0/8"}, Resolver: resolver("other.test", "127.0.0.1")})
		_, err := get(t, g.Transport(ca), "https://other.test:"+securePort)
		if _, ok := errors.AsType[x509.HostnameError](err); !ok {
			t.Errorf("wrong name: %v", err)
		}
		_, err = get(t, g.Transport(Options{}), "https://other.test:"+securePort)
		if err == nil || !strings.Contains(err.Error(), "tls:") {
			t.Errorf("unknown CA: %v", err)
		}
	})
	t.Run("plain http to a name is judged by its address", func(t *testing.T) {
		dns := resolver("hooks.lan", "127.0.0.1", "127.0.0.2")
		tr := guard(t, Policy{Allow: []string{"127.0.0.1"}, Resolver: dns}).Transport(Options{DisableKeepLive: true})
		if _, err := get(t, tr, "http://hooks.lan:"+plainPort); err != nil {
			t.Error(err)
		}
		if _, err := get(t, tr, "http://hooks.lan:"+plainPort); !errors.Is(err, ErrRefused) {
			t.Errorf("second answer: %v", err)
		}
	})
	t.Run("TLS 1.1 is not spoken", func(t *testing.T) {
		old := httptest.NewUnstartedServer(echo)
		old.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
		old.StartTLS()
		defer old.Close()
		o := Options{TLS: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10}}
		if _, err := get(t, guard(t, Policy{Allow: []string{"127.0.0.1"}}).Transport(o), old.URL); err == nil {
			t.Error("connected")
		}
	})
	t.Run("the environment's proxy is not asked", func(t *testing.T) {
		if guard(t, Policy{}).Transport(Options{}).Proxy != nil {
			t.Error("there is a proxy function")
		}
	})
}

func TestDialFailures(t *testing.T) {
	l := listen(t)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	g := guard(t, Policy{Allow: []string{"127.0.0.0/8"}, Resolver: resolver("two.example", "127.0.0.2,127.0.0.3")})
	if _, err := g.DialContext(t.Context(), "tcp", "two.example:"+port); err == nil || errors.Is(err, ErrRefused) {
		t.Errorf("closed port: %v", err)
	}
	if _, err := g.DialContext(t.Context(), "tcp", "gone.example:443"); err == nil {
		t.Error("unknown name connected")
	} else if e, ok := errors.AsType[*net.DNSError](err); !ok || !e.IsNotFound {
		t.Errorf("unknown name: %v", err)
	}
	for _, to := range []string{"example.com", "example.com:x", "example.com:0", "example.com:70000"} {
		if _, err := g.DialContext(t.Context(), "tcp", to); err == nil {
			t.Errorf("%s: connected", to)
		}
	}
	if _, err := g.DialContext(t.Context(), "udp", "1.1.1.1:53"); err == nil {
		t.Error("udp: connected")
	}
}
