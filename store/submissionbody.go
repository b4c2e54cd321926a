package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// A body is a hash of pieces: its field n is the n-th piece of at most pieceSize bytes,
//
//	1 · zstd, sealed with secret for account, queueId and n    or    0 · zstd
const (
	pieceSize   = 512 << 10
	pieceSealed = 1
	pieceOpen   = 0

	uploadFor = time.Hour // how long pieces of a body that nobody accepted are kept
)

var pieceScript = script("submission_piece.lua")

// encodePiece is the stored form of a piece.
func (s *Store) encodePiece(m *Submission, n int, data []byte) []byte {
	packed := coder().enc.EncodeAll(data, nil)
	if s.openBodies {
		return append([]byte{pieceOpen}, packed...)
	}
	return append([]byte{pieceSealed}, s.ring.SealBytes(packed, string(m.Account), pieceField(m.ID, n))...)
}

func pieceField(id SubmissionID, n int) string { return "body." + string(id) + "." + strconv.Itoa(n) }

// decodePiece reads it. Errors: ErrCorrupt, those of secret.
func (s *Store) decodePiece(m *Submission, n int, b []byte) ([]byte, error) {
	if len(b) == 0 || b[0] != pieceOpen && b[0] != pieceSealed {
		return nil, fmt.Errorf("body of submission %s: %w: piece %d is of an unknown kind", m.ID, ErrCorrupt, n)
	}
	packed := b[1:]
	if b[0] == pieceSealed {
		var err error
		if packed, err = s.ring.OpenBytes(packed, string(m.Account), pieceField(m.ID, n)); err != nil {
			return nil, err
		}
	}
	data, err := coder().dec.DecodeAll(packed, nil)
	if err != nil || len(data) > pieceSize {
		return nil, fmt.Errorf("body of submission %s: %w: piece %d: %w", m.ID, ErrCorrupt, n, err)
	}
	return data, nil
}

// upload takes a body that is written, keeps the first piece to itself until it knows of a
// second, and stores pieces under uploadFor.
type upload struct {
	s      *Store
	ctx    context.Context // of the one call that the upload is made and used in
	m      *Submission
	buf    []byte
	pieces int // stored
	size   int64
	most   int64
}

func (u *upload) Write(p []byte) (int, error) {
	n := len(p)
	if u.size+int64(n) > u.most {
		return 0, fmt.Errorf("more than %d bytes: %w", u.most, ErrOutboxFull)
	}
	for len(p) > 0 {
		if len(u.buf) == pieceSize {
			if err := u.store(); err != nil {
				return 0, err
			}
		}
		if u.buf == nil {
			u.buf = make([]byte, 0, min(pieceSize, max(4<<10, len(p))))
		}
		k := min(len(p), pieceSize-len(u.buf))
		u.buf, p = append(u.buf, p[:k]...), p[k:]
	}
	u.size += int64(n)
	return n, nil
}

// store writes the piece that is full, or the last one.
func (u *upload) store() error {
	keys := []string{u.s.k.submission(u.m.ID), u.s.k.submissionBody(u.m.ID)}
	_, err := pieceScript.run(u.ctx, u.s.rdb, keys, u.pieces, u.s.encodePiece(u.m, u.pieces, u.buf), uploadFor.Milliseconds())
	u.pieces, u.buf = u.pieces+1, u.buf[:0]
	return err
}

// drop removes what was stored of a body that will not be accepted; what it leaves expires.
func (u *upload) drop() {
	if u.pieces == 0 {
		return
	}
	keys := []string{u.s.k.submission(u.m.ID), u.s.k.submissionBody(u.m.ID)}
	_, _ = pieceScript.run(u.ctx, u.s.rdb, keys)
}

// OpenBody reads the body of a submission, piece by piece as it is asked for; ctx holds for
// all of it. Errors, of OpenBody and of reading: ErrNotFound (it was removed), ErrCorrupt,
// those of secret.
func (s *Store) OpenBody(ctx context.Context, m Submission) (*Body, error) {
	b := &Body{s: s, ctx: ctx, m: m}
	if err := b.next(); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

// Body is the body of a submission that is being read.
type Body struct {
	s    *Store
	ctx  context.Context // of OpenBody
	m    Submission
	n    int // the next piece
	left []byte
}

// next fetches the next piece.
func (b *Body) next() error {
	if b.n >= b.m.Pieces {
		return io.EOF
	}
	raw, err := b.s.rdb.HGet(b.ctx, b.s.k.submissionBody(b.m.ID), strconv.Itoa(b.n)).Bytes()
	if errors.Is(err, redis.Nil) {
		return fmt.Errorf("body of submission %s: %w", b.m.ID, ErrNotFound)
	}
	if err != nil {
		return unavailable("read body", err)
	}
	if b.left, err = b.s.decodePiece(&b.m, b.n, raw); err == nil {
		b.n++
	}
	return err
}

// Read implements io.Reader.
func (b *Body) Read(p []byte) (int, error) {
	for len(b.left) == 0 {
		if err := b.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.left)
	b.left = b.left[n:]
	return n, nil
}

// WriteTo implements io.WriterTo.
func (b *Body) WriteTo(w io.Writer) (int64, error) {
	var sum int64
	for {
		n, err := w.Write(b.left)
		sum, b.left = sum+int64(n), b.left[n:]
		if err == nil {
			err = b.next()
		}
		if errors.Is(err, io.EOF) {
			return sum, nil
		}
		if err != nil {
			return sum, err
		}
	}
}

// DropBody removes the body of a submission that is sent and copied.
func (s *Store) DropBody(ctx context.Context, id SubmissionID) error {
	return unavailable("remove body", s.rdb.Unlink(ctx, s.k.submissionBody(id)).Err())
}
