// Package secret seals small secrets at rest and keeps them out of sight.
//
// A [Keyring] holds 256-bit keys, each with an id; the first seals, all open, so a
// key is rotated by putting a new one in front. A sealed secret is bound to the
// place it belongs to (account and field): copied elsewhere it does not open.
// Sealing is XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha) with a random nonce.
//
// A [Text] is a secret in memory: it prints, logs and marshals as "******" and is
// given up by Reveal alone.
//
// Nothing here writes to disk but [CreateKeyFile].
package secret

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
)

// Mask is what a secret looks like to everybody but Reveal's callers.
const Mask = "******"

// Text is a secret. Its zero value is no secret at all.
type Text struct{ s string }

// New wraps s.
func New(s string) Text { return Text{s} }

// Reveal gives the secret up. Call it at the edge that needs it, nowhere else.
func (t Text) Reveal() string { return t.s }

// Empty says whether there is no secret.
func (t Text) Empty() bool { return t.s == "" }

// String is Mask, or "" when there is nothing to hide.
func (t Text) String() string {
	if t.s == "" {
		return ""
	}
	return Mask
}

// GoString is String, for %#v.
func (t Text) GoString() string { return t.String() }

// LogValue is String, for slog.
func (t Text) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalText is String, for JSON and YAML.
func (t Text) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText takes a secret from a request or a file.
func (t *Text) UnmarshalText(b []byte) error { t.s = string(b); return nil }

// ErrNoKey: the secret was sealed with a key that this ring does not hold.
var ErrNoKey = errors.New("sealed with a key that is not here")

// ErrBroken: the sealed text was changed, or belongs elsewhere.
var ErrBroken = errors.New("sealed text does not open")

// Keyring seals and opens. It is immutable and safe for concurrent use.
type Keyring struct {
	first string
	aeads map[string]cipher.AEAD
	marks []hash // by key; the first key's first
}

// hash makes keyed digests.
type hash func(data ...[]byte) []byte

// KeySize is the length of a key in bytes.
const KeySize = chacha20poly1305.KeySize

// NewKeyring makes a ring of 32-byte keys; the first seals.
func NewKeyring(keys ...[]byte) (*Keyring, error) {
	if len(keys) == 0 {
		return nil, errors.New("no key given")
	}
	r := &Keyring{aeads: make(map[string]cipher.AEAD, len(keys))}
	for i, k := range keys {
		aead, err := chacha20poly1305.NewX(k)
		if err != nil {
			return nil, fmt.Errorf("key %d: must have %d bytes, has %d", i+1, KeySize, len(k))
		}
		id := keyID(k)
		r.aeads[id] = aead
		r.marks = append(r.marks, marker(k))
		if i == 0 {
			r.first = id
		}
	}
	return r, nil
}

// keyID names a key without telling anything of it.
func keyID(key []byte) string {
	sum := sha256.Sum256(append([]byte("postrider/key/1\x00"), key...))
	return hex.EncodeToString(sum[:4])
}

// ID is the id of the key that seals.
func (r *Keyring) ID() string { return r.first }

// marker derives a key for digests from a key that seals.
func marker(key []byte) hash {
	mac := func(key []byte, data ...[]byte) []byte {
		m := hmac.New(sha256.New, key)
		for _, d := range data {
			m.Write(d)
		}
		return m.Sum(nil)
	}
	derived := mac(key, []byte("postrider/mark/1"))
	return func(data ...[]byte) []byte { return mac(derived, data...) }
}

// Marks are keyed digests of a text, of 8 bytes each, for one place: whoever has no key
// cannot tell which text one was made of. The first is to be stored; the others are what an
// older key would have made of it, to compare.
func (r *Keyring) Marks(text, account, field string) []string {
	out := make([]string, len(r.marks))
	for i, mark := range r.marks {
		out[i] = base64.RawURLEncoding.EncodeToString(mark(place(account, field), []byte{0}, []byte(text))[:8])
	}
	return out
}

// SealBytes is Seal for data that is larger: without the cost of text.
//
//	version byte (1) · key id, 4 bytes · nonce · sealed data
func (r *Keyring) SealBytes(data []byte, account, field string) []byte {
	id, _ := hex.DecodeString(r.first) // made by keyID
	out := make([]byte, 5+chacha20poly1305.NonceSizeX, 5+chacha20poly1305.NonceSizeX+len(data)+chacha20poly1305.Overhead)
	out[0] = 1
	copy(out[1:], id)
	nonce := out[5:]
	rand.Read(nonce) // never fails: crypto/rand ends the program instead
	return r.aeads[r.first].Seal(out, nonce, data, place(account, field))
}

// OpenBytes decrypts what SealBytes made for the same place. Errors: ErrNoKey, ErrBroken.
func (r *Keyring) OpenBytes(sealed []byte, account, field string) ([]byte, error) {
	const head = 5 + chacha20poly1305.NonceSizeX
	if len(sealed) < head || sealed[0] != 1 {
		return nil, fmt.Errorf("%s: %w", field, ErrBroken)
	}
	id := hex.EncodeToString(sealed[1:5])
	aead, ok := r.aeads[id]
	if !ok {
		return nil, fmt.Errorf("%s: key %s: %w", field, id, ErrNoKey)
	}
	data, err := aead.Open(nil, sealed[5:head], sealed[head:], place(account, field))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, ErrBroken)
	}
	return data, nil
}

// Seal encrypts t for one place, named by account and field. An empty secret stays
// empty.
func (r *Keyring) Seal(t Text, account, field string) string {
	if t.Empty() {
		return ""
	}
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	rand.Read(nonce) // never fails: crypto/rand ends the program instead
	box := r.aeads[r.first].Seal(nonce, nonce, []byte(t.s), place(account, field))
	return "v1." + r.first + "." + base64.RawURLEncoding.EncodeToString(box)
}

// Open decrypts what Seal made for the same place. Errors: ErrNoKey, ErrBroken.
func (r *Keyring) Open(sealed, account, field string) (Text, error) {
	if sealed == "" {
		return Text{}, nil
	}
	parts := strings.Split(sealed, ".")
	if len(parts) != 3 || parts[0] != "v1" {
		return Text{}, fmt.Errorf("%s: %w", field, ErrBroken)
	}
	aead, ok := r.aeads[parts[1]]
	if !ok {
		return Text{}, fmt.Errorf("%s: key %s: %w", field, parts[1], ErrNoKey)
	}
	box, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || len(box) < chacha20poly1305.NonceSizeX {
		return Text{}, fmt.Errorf("%s: %w", field, ErrBroken)
	}
	plain, err := aead.Open(nil, box[:chacha20poly1305.NonceSizeX], box[chacha20poly1305.NonceSizeX:], place(account, field))
	if err != nil {
		return Text{}, fmt.Errorf("%s: %w", field, ErrBroken)
	}
	return Text{string(plain)}, nil
}

// place is the additional data that binds a sealed secret.
func place(account, field string) []byte { return []byte(account + "\x00" + field) }
