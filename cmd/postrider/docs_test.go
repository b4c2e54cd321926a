package main

import (
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/store"
)

// What an operator can see is explained in docs/operations.md, and nothing else is.
func TestOperationsManual(t *testing.T) {
	b, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	manual := string(b)

	cfg, err := demoConfig("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d, err := newDaemon(t.Context(), cfg, nil, &program{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.unwind(t.Context()) })

	there := map[string]bool{}
	descs := make(chan *prometheus.Desc)
	go func() {
		d.registry.Describe(descs)
		close(descs)
	}()
	for desc := range descs {
		if m := regexp.MustCompile(`fqName: "(postrider_[a-z_]+)"`).FindStringSubmatch(desc.String()); m != nil {
			there[m[1]] = true
		}
	}
	if len(there) < 20 {
		t.Errorf("only %d metrics were found", len(there))
	}
	said := map[string]bool{}
	for _, m := range regexp.MustCompile("`(postrider_[a-z_]+)").FindAllStringSubmatch(manual, -1) {
		said[m[1]] = true
	}
	for name := range there {
		if !said[name] {
			t.Errorf("metric %s is not explained", name)
		}
	}
	for name := range said {
		if !there[name] {
			t.Errorf("metric %s is explained, and there is none", name)
		}
	}
	for _, state := range []string{
		store.StateInit, store.StateConnecting, store.StateSyncing, store.StateConnected, store.StateDisconnected,
		store.StateAuthenticationError, store.StateConnectError, store.StatePaused, store.StateUnset,
	} {
		if !strings.Contains(manual, "| `"+state+"` |") {
			t.Errorf("state %s is not explained", state)
		}
	}
}

// The floors that the architecture draws are those that the test enforces.
func TestArchitectureNamesEveryPackage(t *testing.T) {
	b, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range floors {
		if _, err := os.Stat("../../" + pkg); err != nil {
			continue // planned
		}
		if !strings.Contains(string(b), pkg) {
			t.Errorf("docs/architecture.md does not name %s", pkg)
		}
	}
}
