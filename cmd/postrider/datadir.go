package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/postrider/postrider/store/secret"
)

// dataDirectory is the directory that one serve works in at a time.
type dataDirectory struct {
	path string
	made bool // by us, just now
	lock *os.File
}

// openDataDir makes the directory where it is missing and takes its lock. A lock that
// another process holds is an unsafeError.
func openDataDir(path string) (*dataDirectory, error) {
	d := &dataDirectory{path: path}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		d.made = true
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	lock, err := lockFile(filepath.Join(path, "lock"))
	if errors.Is(err, errLocked) {
		return nil, unsafeError{
			what: "the data directory " + path + " is in use by another postrider",
			mend: "stop that one, or give this one its own directory with --data",
		}
	}
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	d.lock = lock
	return d, nil
}

func (d *dataDirectory) file(name string) string { return filepath.Join(d.path, name) }

// instance names whoever works in this directory, over restarts: a process that takes
// the directory over takes what its predecessor held as its own, at once. The lock says
// that the predecessor is gone.
func (d *dataDirectory) instance() (string, error) {
	path := d.file("instance")
	b, err := os.ReadFile(path)
	if name := strings.TrimSpace(string(b)); err == nil && name != "" {
		return name, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("data directory: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	name := host + ":" + strings.ToLower(rand.Text()[:12])
	if err := os.WriteFile(path, []byte(name+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("data directory: %w", err)
	}
	return name, nil
}

func (d *dataDirectory) close() error { return d.lock.Close() }

var errLocked = errors.New("locked by another process")

// lockFile opens a file and locks it for as long as it is open: here, and in every
// child that inherits it. The kernel releases it whatever way those processes end.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errLocked
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

func accessible(dir string) bool { return syscall.Access(dir, 2 /* W_OK */) == nil }

// checkPrivate refuses a file that others than us and root can read.
func checkPrivate(path, holds string) error {
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if fi.Mode().Perm()&0o077 != 0 {
		return unsafeError{what: fmt.Sprintf("%s holds %s and is readable by others (mode %04o)", path, holds, fi.Mode().Perm()), mend: "chmod 600 " + path}
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Getuid() {
		return unsafeError{what: fmt.Sprintf("%s holds %s and belongs to another user", path, holds), mend: "chown it to the user that postrider runs as"}
	}
	return nil
}

// checkFiles judges the modes of everything that holds secrets. What is only odd is a
// warning: files that a container runtime hands in have the mode it gives them.
func (l *loaded) checkFiles(d *dataDirectory) (warnings []string, err error) {
	errs := []error{
		checkPrivate(l.keyFile(d), "the key that seals stored credentials"),
		checkPrivate(d.file(cliFile), "an API token"),
	}
	if l.secretsInFile {
		errs = append(errs, checkPrivate(l.file, "secrets"))
	}
	for i, err := range errs {
		if err != nil && i < 2 && strings.HasPrefix(l.keyFile(d), "/run/secrets/") && i == 0 {
			warnings = append(warnings, err.Error())
			errs[i] = nil
		}
	}
	for _, f := range l.secretFiles {
		if err := checkPrivate(f, "a secret"); err != nil {
			warnings = append(warnings, strings.ReplaceAll(err.Error(), "\n ", ";"))
		}
	}
	if fi, err := os.Stat(d.path); err == nil && fi.Mode().Perm()&0o077 != 0 {
		warnings = append(warnings, fmt.Sprintf("the data directory %s is open to others (mode %04o): chmod 700 it", d.path, fi.Mode().Perm()))
	}
	return warnings, errors.Join(errs...)
}

func (l *loaded) keyFile(d *dataDirectory) string {
	if l.Secrets.KeyFile != "" {
		return l.Secrets.KeyFile
	}
	return d.file("secrets.key")
}

// keyring reads the keys that seal credentials, and makes the first one where none was
// configured and none exists. Whether it is the right one is store.CheckKeys' question.
func (l *loaded) keyring(d *dataDirectory) (ring *secret.Keyring, made bool, err error) {
	var keys [][]byte
	for _, t := range l.Secrets.Keys {
		k, err := secret.ParseKey(t.Reveal())
		if err != nil {
			return nil, false, fmt.Errorf("secrets.keys: %w", err)
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		path := l.keyFile(d)
		keys, err = secret.LoadKeyFile(path)
		if secret.IsMissing(err) {
			made = true
			keys, err = secret.CreateKeyFile(path)
		}
		if err != nil {
			return nil, false, err
		}
	}
	ring, err = secret.NewKeyring(keys...)
	return ring, made, err
}

const cliFile = "cli.json"

// cliAccess is what the commands read to reach the server of this data directory.
type cliAccess struct {
	URL           string `json:"url"`
	Token         string `json:"token,omitempty"`
	WebhookSecret string `json:"webhookSecret,omitempty"` // for the person who writes a receiver
}

func readCLI(path string) (cliAccess, error) {
	var c cliAccess
	b, err := readBounded(path)
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// writePrivate replaces a file in one step, readable by us alone.
func writePrivate(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

func writeCLI(path string, c cliAccess) error {
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return writePrivate(path, append(b, '\n'))
}

// discardClose closes what is closed again only for politeness.
func discardClose(c io.Closer) { _ = c.Close() }
