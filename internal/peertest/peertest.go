// Package peertest is what tests with other people's programs share: saying that one is
// missing, a port for it, and a second opinion from Python.
package peertest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
)

// TB is what is needed of a *testing.T; helpers that a demo uses do without package testing.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// Need skips a test for want of a program, and fails it where none may be missing
// (POSTRIDER_TEST_REQUIRE=all).
func Need(t TB, what, how string) {
	t.Helper()
	if os.Getenv("POSTRIDER_TEST_REQUIRE") == "all" {
		t.Fatalf("needs %s: %s", what, how)
	}
	t.Skipf("needs %s: %s", what, how)
}

// FreePort asks the kernel for one of the loopback. Somebody else may take it before it is
// used, which would show as a server that does not start.
func FreePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().(*net.TCPAddr).Port, nil
}

// Python runs a script that reads JSON and writes JSON: in goes to its standard input, and
// what it writes into out. Python's own library reads mail, and shares nothing with us.
func Python(t interface {
	TB
	Context() context.Context
	Output() io.Writer
}, script string, in, out any,
) {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		Need(t, "python3 for a second opinion", "apt-get install python3")
	}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatalf("python: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), "python3", "-c", script)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(b), t.Output()
	if b, err = cmd.Output(); err != nil {
		t.Fatalf("python: %v", err)
	}
	if err := json.Unmarshal(b, out); err != nil {
		t.Fatalf("python: %v", err)
	}
}
