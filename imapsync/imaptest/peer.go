package imaptest

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/postrider/postrider/internal/peertest"
)

// peers is where .ci/peers.sh lays Cyrus and Courier, whose packages exclude Dovecot's.
func peers(t TB) string {
	t.Helper()
	dir := "/var/cache/postrider-peers"
	if os.Getuid() != 0 {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatalf("peers: %v", err)
		}
		dir = filepath.Join(cache, "postrider-peers")
	}
	dir = filepath.Join(dir, "1") // as there
	if _, err := os.Stat(dir); err != nil {
		peertest.Need(t, "Cyrus and Courier", "make test, or .ci/peers.sh")
	}
	return dir
}

// peerCommand runs a program with their libraries, those in libs first.
func peerCommand(root, libs, program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	dirs := []string{libs, filepath.Join(root, "usr/lib")}
	for _, pattern := range []string{"usr/lib/*-linux-gnu*", "lib/*-linux-gnu*"} {
		found, _ := filepath.Glob(filepath.Join(root, pattern)) // fails only for a bad pattern
		dirs = append(dirs, found...)
	}
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join(dirs, ":"))
	return cmd
}

// keeper knows passwords and answers a server's questions about them on a unix socket,
// where the server's own daemon would.
type keeper struct {
	ln net.Listener
	wg sync.WaitGroup

	mu   sync.Mutex
	pass map[string]string
}

// keep listens; answer reads one question from c and answers it.
func keep(path string, answer func(k *keeper, c net.Conn)) (*keeper, error) {
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	k := &keeper{ln: ln, pass: map[string]string{}}
	k.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			answer(k, c)
			_ = c.Close()
		}
	})
	return k, os.Chmod(path, 0o777)
}

// SetPassword changes a user's password, or adds the user.
func (k *keeper) SetPassword(user, pass string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pass[user] = pass
}

func (k *keeper) knows(user, pass string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	want, ok := k.pass[user]
	return ok && want == pass
}

func (k *keeper) close() {
	_ = k.ln.Close()
	k.wg.Wait()
}
