package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// child is a redis-server of our own: on a unix socket, append-only, evicting nothing.
// One goroutine starts it, waits for its end, and starts it again. It ends with this
// process, however that ends: the kernel tells it (Pdeathsig), and the lock that it
// inherits keeps a successor from opening the files before it has let go of them.
type child struct {
	name   string // "redis-server 7.0.15"
	socket string
	log    *slog.Logger

	cancel context.CancelFunc
	done   chan struct{} // closed when the goroutine has ended
}

type childOptions struct {
	program string // "" = from PATH
	data    string
	runtime string // $XDG_RUNTIME_DIR
	log     *slog.Logger
}

const (
	childStop     = 4 * time.Second        // from SIGTERM to SIGKILL
	childHandover = 15 * time.Second       // how long a predecessor's server may take to end
	childBackoff  = 100 * time.Millisecond // first pause before it is started again, doubling
	childMaxPause = 5 * time.Second
	socketMax     = 100 // a socket's path has 108 bytes on Linux, 104 elsewhere
)

// errNoRedis is what a machine without redis-server gets told.
func errNoRedis() error {
	return unsafeError{
		what: "no Redis is configured, and there is no redis-server or valkey-server in PATH",
		mend: "install one (apt-get install redis-server), or set redis.url, or try it out with --ephemeral, which keeps nothing",
	}
}

// findRedisServer names the program to run.
func findRedisServer(configured string) (string, error) {
	if configured != "" {
		path, err := exec.LookPath(configured)
		if err != nil {
			return "", fmt.Errorf("redis.server: %w", err)
		}
		return path, nil
	}
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errNoRedis()
}

// socketPath is where the server listens: in the data directory, or, where that path
// is too long for a socket, in a directory of the user's own.
func socketPath(data, runtimeDir string) (string, error) {
	if p := filepath.Join(data, "redis.sock"); len(p) <= socketMax {
		return p, nil
	}
	sum := sha256.Sum256([]byte(data))
	base := runtimeDir
	if base == "" {
		base = os.TempDir()
	}
	dir := filepath.Join(base, fmt.Sprintf("postrider-%d-%s", os.Getuid(), hex.EncodeToString(sum[:6])))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("socket directory: %w", err)
	}
	if err := checkPrivate(dir, "the Redis socket"); err != nil {
		return "", err
	}
	p := filepath.Join(dir, "redis.sock")
	if len(p) > socketMax {
		return "", fmt.Errorf("the socket path %s is too long: use a shorter data directory", p)
	}
	return p, nil
}

// startChild starts the server and waits until it has read its data.
func startChild(ctx context.Context, o childOptions) (*child, error) {
	program, err := findRedisServer(o.program)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(o.data, "redis")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("redis directory: %w", err)
	}
	socket, err := socketPath(o.data, o.runtime)
	if err != nil {
		return nil, err
	}
	lock, err := awaitLock(ctx, filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	c := &child{name: filepath.Base(program), socket: socket, log: o.log, done: make(chan struct{})}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx)) // it ends by stop, after everything else
	c.cancel = cancel
	first := make(chan error, 1)
	go c.supervise(run, program, dir, lock, first)

	err = c.awaitReady(ctx, first)
	if err != nil {
		cancel()
		<-c.done
		return nil, err
	}
	return c, nil
}

// awaitLock takes the lock that a predecessor's server may still hold for a moment.
func awaitLock(ctx context.Context, path string) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, childHandover)
	defer cancel()
	for {
		lock, err := lockFile(path)
		if !errors.Is(err, errLocked) {
			return lock, err
		}
		if wait(ctx, 20*time.Millisecond) != nil {
			return nil, fmt.Errorf("the redis-server of a postrider that ended still holds %s: stop it", filepath.Dir(path))
		}
	}
}

// awaitReady waits until the server has loaded its data, which takes about a second
// for each 100 MB.
func (c *child) awaitReady(ctx context.Context, first <-chan error) error {
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: c.socket, MaxRetries: -1})
	defer client.Close()
	said := time.Now()
	for {
		err := client.Ping(ctx).Err()
		if err == nil {
			if info, err := client.Info(ctx, "server").Result(); err == nil {
				for line := range strings.Lines(info) {
					if v, ok := strings.CutPrefix(strings.TrimSpace(line), "redis_version:"); ok {
						c.name += " " + v
					}
				}
			}
			return nil
		}
		if redis.HasErrorPrefix(err, "LOADING") && time.Since(said) > 5*time.Second {
			c.log.Info("redis-server is loading its data")
			said = time.Now()
		}
		select {
		case err := <-first:
			return fmt.Errorf("own redis-server: %w", err)
		default:
		}
		if err := wait(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

// supervise runs the server until ctx ends. The first end before that is also sent to
// first. The thread that starts a child must live as long as the child: Pdeathsig is
// about the thread.
func (c *child) supervise(ctx context.Context, program, dir string, lock *os.File, first chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(c.done)
	defer discardClose(lock)
	pause := childBackoff
	for {
		started := time.Now()
		err := c.once(ctx, program, dir, lock)
		if ctx.Err() != nil {
			return
		}
		select {
		case first <- err:
		default:
		}
		if time.Since(started) > time.Minute {
			pause = childBackoff
		}
		c.log.Error("our redis-server ended; starting it again", "err", err, "dur", pause)
		if wait(ctx, pause) != nil {
			return
		}
		pause = min(2*pause, childMaxPause)
	}
}

// once runs the server until it ends, or until ctx does.
func (c *child) once(ctx context.Context, program, dir string, lock *os.File) error {
	cmd := exec.CommandContext(ctx, program,
		"--port", "0", "--unixsocket", c.socket, "--unixsocketperm", "700", "--dir", dir, "--daemonize", "no",
		"--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction", "--logfile", "")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = childStop
	cmd.ExtraFiles = []*os.File{lock}
	cmd.SysProcAttr = childAttr()
	out := &tailWriter{}
	pr, pw := io.Pipe()
	cmd.Stdout, cmd.Stderr = pw, pw
	var wg sync.WaitGroup
	wg.Go(func() {
		for sc := bufio.NewScanner(pr); sc.Scan(); {
			out.add(sc.Text())
			c.log.Debug("redis-server", "line", sc.Text())
		}
		_, _ = io.Copy(io.Discard, pr) // a line too long for the scanner must not block the server
	})
	err := cmd.Run()
	_ = pw.Close()
	wg.Wait()
	if err == nil {
		err = errors.New("it ended by itself")
	}
	return fmt.Errorf("%w: %s", err, out)
}

// tailWriter keeps the last lines that a server said.
type tailWriter struct{ lines []string }

func (t *tailWriter) add(line string) {
	if t.lines = append(t.lines, line); len(t.lines) > 5 {
		t.lines = t.lines[1:]
	}
}

func (t *tailWriter) String() string { return strings.Join(t.lines, " | ") }

// stop ends the server: SIGTERM, which makes it write everything, and SIGKILL for one
// that does not end.
func (c *child) stop(ctx context.Context) error {
	c.cancel()
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return errors.New("redis-server still runs")
	}
}
