package secret

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func ring(t *testing.T, first byte, more ...byte) *Keyring {
	t.Helper()
	var keys [][]byte
	for _, b := range append([]byte{first}, more...) {
		keys = append(keys, bytes.Repeat([]byte{b}, KeySize))
	}
	r, err := NewKeyring(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestKeyring_opens_what_it_sealed_in_its_place_only(t *testing.T) {
	r := ring(t, 1)
	sealed := r.Seal(New("hunter2"), "jo", "imap.pass")
	if strings.Contains(sealed, "hunter2") || sealed == r.Seal(New("hunter2"), "jo", "imap.pass") {
		t.Errorf("sealed as %s", sealed)
	}
	if got, err := r.Open(sealed, "jo", "imap.pass"); err != nil || got.Reveal() != "hunter2" {
		t.Errorf("%q, %v", got.Reveal(), err)
	}
	for _, place := range [][2]string{{"al", "imap.pass"}, {"jo", "smtp.pass"}, {"", ""}} {
		if _, err := r.Open(sealed, place[0], place[1]); !errors.Is(err, ErrBroken) {
			t.Errorf("opened at %v: %v", place, err)
		}
	}
	for i := range sealed {
		if _, err := r.Open(sealed[:i], "jo", "imap.pass"); err == nil && i > 0 {
			t.Errorf("opened when cut at %d", i)
		}
	}
}

func TestKeyring_rotates(t *testing.T) {
	old, both, next := ring(t, 1), ring(t, 2, 1), ring(t, 2)
	sealed := old.Seal(New("x"), "a", "f")
	if got, err := both.Open(sealed, "a", "f"); err != nil || got.Reveal() != "x" {
		t.Error(err)
	}
	if _, err := next.Open(sealed, "a", "f"); !errors.Is(err, ErrNoKey) {
		t.Errorf("without its key: %v", err)
	}
	if got, err := next.Open(both.Seal(New("y"), "a", "f"), "a", "f"); err != nil || got.Reveal() != "y" {
		t.Errorf("the first key does not seal: %v", err)
	}
	if _, err := NewKeyring(); err == nil {
		t.Error("a ring without keys")
	}
	if _, err := NewKeyring([]byte("short")); err == nil {
		t.Error("a short key")
	}
}

func TestText_is_never_printed(t *testing.T) {
	s := struct{ T Text }{New("planted")}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "t", s.T, "s", s)
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{fmt.Sprint(s), fmt.Sprintf("%+v %#v %s %q", s, s, s.T, s.T), string(b), log.String()} {
		if strings.Contains(out, "planted") || !strings.Contains(out, Mask) {
			t.Errorf("printed %s", out)
		}
	}
	if fmt.Sprint(Text{}) != "" || !(Text{}).Empty() {
		t.Error("no secret looks like one")
	}
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secrets.key")
	if _, err := LoadKeyFile(path); !IsMissing(err) {
		t.Errorf("no file: %v", err)
	}
	made, err := CreateKeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	if got, err := LoadKeyFile(path); err != nil || !bytes.Equal(got[0], made[0]) {
		t.Errorf("read back: %v", err)
	}
	if _, err := CreateKeyFile(path); err == nil {
		t.Error("a key file was written over")
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKeyFile(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("readable by others: %v", err)
	}
	for name, text := range map[string]string{"empty": "", "comment only": "# x\n", "short": "aGVsbG8=\n", "no base64": "!\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadKeyFile(path); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
