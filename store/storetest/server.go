package storetest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/internal/peertest"
)

// Server is a private redis-server on a unix socket, with an append-only file that is
// synced every second and nothing evicted, as the product demands. It ends with the test.
type Server struct {
	t      testing.TB
	dir    string
	args   []string
	cmd    *exec.Cmd
	out    bytes.Buffer
	exited chan error
}

// NewServer starts a redis-server; args are added to its command line.
func NewServer(t testing.TB, args ...string) *Server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		peertest.Need(t, "redis-server", "make test, or apt-get install redis-server")
	}
	dir, err := os.MkdirTemp("", "pr-redis-") // a socket's path has 108 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, dir: dir, args: args}
	t.Cleanup(func() {
		s.Kill()
		_ = os.RemoveAll(dir)
	})
	s.Start()
	return s
}

// Socket is the path of the server's socket.
func (s *Server) Socket() string { return filepath.Join(s.dir, "redis.sock") }

// URL is the server's address as configuration has it.
func (s *Server) URL() string { return "unix://" + s.Socket() }

// Client makes a client that ends with the test.
func (s *Server) Client() redis.UniversalClient {
	rdb := redis.NewClient(&redis.Options{Network: "unix", Addr: s.Socket(), PoolSize: 20})
	s.t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// Start starts the server on the data it has and waits until it answers.
func (s *Server) Start() {
	s.t.Helper()
	args := append([]string{
		"--port", "0", "--unixsocket", s.Socket(), "--dir", s.dir, "--daemonize", "no",
		"--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction",
	}, s.args...)
	s.cmd = exec.Command("redis-server", args...)
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	cmd, exited := s.cmd, make(chan error, 1)
	s.exited = exited
	go func() { exited <- cmd.Wait() }()

	rdb := redis.NewClient(&redis.Options{Network: "unix", Addr: s.Socket(), MaxRetries: -1})
	defer rdb.Close()
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := rdb.Ping(context.Background()).Err()
		if err == nil {
			return
		}
		select {
		case <-exited:
			s.cmd = nil
			s.t.Fatalf("redis-server ended: %s", s.out.String())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("redis-server does not answer: %v\n%s", err, s.out.String())
		}
	}
}

// Kill ends the server as kill -9 does.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	<-s.exited
	s.cmd = nil
}

// Process is the running server's.
func (s *Server) Process() *os.Process { return s.cmd.Process }

// Dir is where the server keeps its data.
func (s *Server) Dir() string { return s.dir }
