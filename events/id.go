package events

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"strconv"
)

// ID is an event's identifier: "evt_" and 26 characters a–z2–7. It is derived
// from what happened, never from when it was seen, so the same fact has the same
// ID whoever finds it and however often.
type ID string

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewID derives the identifier of an event: SHA-256 over the version tag, the
// account ("" for the instance), the account's epoch (its registration time in
// Unix milliseconds, 0 for the instance), the event's name and the key parts of
// that event, each behind its length as an unsigned varint. The first 16 bytes
// are kept.
func NewID(account string, epoch int64, t Type, key ...string) ID {
	parts := append([]string{"postrider/1", account, strconv.FormatInt(epoch, 10), string(t)}, key...)
	return ID("evt_" + Digest(parts...))
}

// Digest is the construction under every derived identifier of the product: each
// part behind its length as an unsigned varint, SHA-256, the first 16 bytes in
// lower-case base32 without padding (26 characters).
func Digest(parts ...string) string {
	h := sha256.New()
	var n [binary.MaxVarintLen64]byte
	for _, p := range parts {
		h.Write(n[:binary.PutUvarint(n[:], uint64(len(p)))])
		h.Write([]byte(p))
	}
	return idEncoding.EncodeToString(h.Sum(nil)[:16])
}

// Uint writes an integer key part in decimal.
func Uint[T ~uint32 | ~uint64 | ~int64 | ~int](n T) string {
	return strconv.FormatUint(uint64(n), 10)
}
