package wire

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/benchtest"
)

// idleServer is a TLS server that logs anybody in and idles.
func idleServer(tb testing.TB) (addr *net.TCPAddr, roots *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(cert)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		tb.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { idleServe(c) })
		}
	})
	tb.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	return ln.Addr().(*net.TCPAddr), roots
}

func idleServe(c net.Conn) {
	defer func() { _ = c.Close() }()
	br := bufio.NewReaderSize(c, 512)
	_, _ = io.WriteString(c, "* OK hi\r\n")
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			return
		}
		tag, cmd, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch cmd, _, _ = strings.Cut(cmd, " "); cmd {
		case "CAPABILITY":
			_, _ = io.WriteString(c, "* CAPABILITY IMAP4rev1 IDLE UIDPLUS MOVE\r\n")
		case "EXAMINE":
			_, _ = io.WriteString(c, "* 10 EXISTS\r\n* FLAGS (\\Seen \\Answered)\r\n* OK [UIDVALIDITY 1] x\r\n")
		case "IDLE":
			_, _ = io.WriteString(c, "+ idling\r\n")
			continue
		}
		_, _ = io.WriteString(c, tag+" OK done\r\n")
	}
}

// inUse is heap and stacks in use.
func inUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// BenchmarkIdleTLS: what a connection in IDLE costs beside a bare TLS connection with a
// goroutine that reads; both ends live in this process, the server's is the same in both.
func BenchmarkIdleTLS(b *testing.B) {
	const n = 500
	addr, roots := idleServer(b)
	cfg := &tls.Config{RootCAs: roots, ServerName: "localhost"}
	run := func(open func() (func(), error)) int64 {
		before := inUse()
		var closers []func()
		for range n {
			c, err := open()
			if err != nil {
				b.Fatal(err)
			}
			closers = append(closers, c)
		}
		time.Sleep(300 * time.Millisecond) // not in a bubble: real sockets settle
		per := (inUse() - before) / n
		for _, c := range closers {
			c()
		}
		return per
	}
	var bare, ours int64
	for b.Loop() {
		bare += run(func() (func(), error) {
			c, err := tls.Dial("tcp", addr.String(), cfg)
			if err != nil {
				return nil, err
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				var p [512]byte
				for {
					if _, err := c.Read(p[:]); err != nil {
						return
					}
				}
			}()
			return func() { _ = c.Close(); <-done }, nil
		})
		ours += run(func() (func(), error) {
			c, err := Dial(context.Background(), Options{Host: "127.0.0.1", Port: addr.Port, TLS: cfg, Auth: Credentials{User: "a", Pass: "b"}})
			if err != nil {
				return nil, err
			}
			if _, err := c.Examine(context.Background(), "INBOX", SelectOptions{}); err != nil {
				return nil, err
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = c.Idle(context.Background(), time.Hour)
			}()
			return func() { c.Close(); <-done }, nil
		})
	}
	benchtest.Figure{
		Name: "an idle connection, both ends", Value: float64(ours) / float64(b.N) / 1000, Unit: "KB",
		Baseline: "a bare TLS connection and its goroutine, both ends", Ratio: float64(ours) / float64(bare),
	}.Report(b)
	benchtest.Figure{Name: "an idle connection beside a bare TLS one", Value: float64(ours-bare) / float64(b.N) / 1000, Unit: "KB", Most: 16}.Report(b)
}
