package store

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// position is an entry's id in a Redis stream: milliseconds and a number within them.
// The zero position is before all entries.
type position struct{ ms, n uint64 }

func (p position) String() string {
	return strconv.FormatUint(p.ms, 10) + "-" + strconv.FormatUint(p.n, 10)
}

func (p position) less(q position) bool { return p.ms < q.ms || p.ms == q.ms && p.n < q.n }

func parsePosition(id string) (position, error) {
	ms, n, ok := strings.Cut(id, "-")
	var p position
	var err, err2 error
	p.ms, err = strconv.ParseUint(ms, 10, 64)
	if ok {
		p.n, err2 = strconv.ParseUint(n, 10, 64)
	}
	if err != nil || err2 != nil {
		return p, fmt.Errorf("stream id %q: not two numbers", id)
	}
	return p, nil
}

// A cursor is a safe watermark: every event before it was in an answer already given.
// Its form is base64url over
//
//	version byte (1) · kind byte · body · CRC-32 of all before, little endian
//
// Kind 'a' reads one account: the account's shard, a hash of its id, and a seq. Kind
// 'f' reads all feeds: the largest ms, then per shard the distance to it and the number
// within the ms, each an unsigned varint; distance+1, and 0 for a shard not read yet.
const (
	cursorVersion = 1
	cursorAccount = 'a'
	cursorFeeds   = 'f'
	maxCursor     = 768 // characters: 64 shards that were last read a month apart
)

func sealCursor(b []byte) string {
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	return base64.RawURLEncoding.EncodeToString(b)
}

func openCursor(s string, kind byte) ([]byte, error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(s) > maxCursor || len(b) < 6 || b[0] != cursorVersion || b[1] != kind {
		return nil, ErrInvalidCursor
	}
	body := b[:len(b)-4]
	if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(b[len(b)-4:]) {
		return nil, ErrInvalidCursor
	}
	return body[2:], nil
}

func accountCursor(id AccountID, seq uint64) string {
	b := []byte{cursorVersion, cursorAccount}
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE([]byte(id)))
	return sealCursor(binary.AppendUvarint(b, seq))
}

func parseAccountCursor(id AccountID, s string) (uint64, error) {
	b, err := openCursor(s, cursorAccount)
	if err != nil {
		return 0, err
	}
	if len(b) < 5 || binary.LittleEndian.Uint32(b) != crc32.ChecksumIEEE([]byte(id)) {
		return 0, ErrInvalidCursor
	}
	seq, n := binary.Uvarint(b[4:])
	if n != len(b)-4 {
		return 0, ErrInvalidCursor
	}
	return seq, nil
}

// positions is how far each shard's feed was read.
type positions [Shards]position

func (p positions) cursor() string {
	var top uint64
	for _, q := range p {
		top = max(top, q.ms)
	}
	b := binary.AppendUvarint([]byte{cursorVersion, cursorFeeds}, top)
	for _, q := range p {
		if q == (position{}) {
			b = append(b, 0)
			continue
		}
		b = binary.AppendUvarint(b, top-q.ms+1)
		b = binary.AppendUvarint(b, q.n)
	}
	return sealCursor(b)
}

func parseFeedsCursor(s string) (p positions, err error) {
	b, err := openCursor(s, cursorFeeds)
	if err != nil {
		return p, err
	}
	next := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			err = ErrInvalidCursor
			return 0
		}
		b = b[n:]
		return v
	}
	top := next()
	for i := range p {
		d := next()
		if d == 0 {
			continue
		}
		if d-1 > top {
			return p, ErrInvalidCursor
		}
		p[i] = position{top - (d - 1), next()}
	}
	if len(b) != 0 {
		err = ErrInvalidCursor
	}
	return p, err
}
