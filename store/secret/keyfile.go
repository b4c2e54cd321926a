package secret

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ParseKey reads a key as it stands in files and environment: 32 bytes in standard
// or URL-safe base64, with or without padding.
func ParseKey(s string) ([]byte, error) {
	s = strings.TrimRight(strings.TrimSpace(s), "=")
	s = strings.NewReplacer("-", "+", "_", "/").Replace(s)
	b, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil || len(b) != KeySize {
		return nil, fmt.Errorf("a key is %d bytes in base64", KeySize)
	}
	return b, nil
}

// LoadKeyFile reads the keys of a file, one a line, the sealing one first. The file
// must not be readable by group or others. Errors: fs.ErrNotExist when there is none.
func LoadKeyFile(path string) ([][]byte, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if fi.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("key file %s: readable by others (mode %04o): chmod 600 %s", path, fi.Mode().Perm(), path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	var keys [][]byte
	for i, line := range strings.Split(string(b), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		k, err := ParseKey(line)
		if err != nil {
			return nil, fmt.Errorf("key file %s:%d: %w", path, i+1, err)
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("key file %s: holds no key", path)
	}
	return keys, nil
}

// CreateKeyFile writes a file with one new key, mode 0600, and fails when it exists.
func CreateKeyFile(path string) ([][]byte, error) {
	key := make([]byte, KeySize)
	rand.Read(key)
	text := "# Postrider seals stored credentials with this key. Without it they are worthless: back it up.\n" +
		base64.StdEncoding.EncodeToString(key) + "\n"
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if dir, err := os.Open(filepath.Dir(path)); err == nil { // the new name must survive a power failure
		_ = dir.Sync()
		_ = dir.Close()
	}
	return [][]byte{key}, nil
}

// IsMissing says whether err means that there is no key file.
func IsMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
