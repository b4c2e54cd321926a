package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// A block holds the messages of 1,024 consecutive UIDs, columnar, behind zstd:
//
//	version byte (1) · column mask byte · uvarint count · columns · CRC32C, little endian
//
// Columns in the order of their bits: 1 UIDs (delta uvarints from the block's first
// possible UID), 2 flags, and those of columns.go, each there only where a message has
// something to put into it. A block with a bit that we do not know is ErrCorrupt, never
// misread.
const (
	blockVersion = 1

	columnUID       = 1 << 0
	columnFlags     = 1 << 1
	columnEmailID   = 1 << 2
	columnThreadID  = 1 << 3
	columnLabels    = 1 << 4
	columnPrint     = 1 << 5
	columnMessageID = 1 << 6
	columnsKnown    = 1<<7 - 1

	maxKeywords = 2000     // words of a column of sets that are no system flags
	maxBlock    = 16 << 20 // decompressed; a full block with odd keywords stays far below
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// coder is one shared zstd encoder and decoder; both are safe for concurrent use of
// EncodeAll and DecodeAll. They are made at first use, because they are large.
var coder = sync.OnceValue(func() (c struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
},
) {
	var err, err2 error
	c.enc, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false), zstd.WithWindowSize(64<<10), zstd.WithLowerEncoderMem(true))
	c.dec, err2 = zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(maxBlock), zstd.WithDecoderLowmem(true))
	if err = errors.Join(err, err2); err != nil {
		panic(err) // only wrong options can cause it
	}
	return c
})

// encodeBlock writes the messages of block idx: ascending UIDs, all of this block.
func encodeBlock(idx uint32, recs []Record) ([]byte, error) {
	b := make([]byte, 0, 2*len(recs)+64)
	mask := columnsOf(recs)
	b = append(b, blockVersion, mask)
	b = binary.AppendUvarint(b, uint64(len(recs)))
	last := uint64(idx) * blockSize
	for i, r := range recs {
		if BlockOf(r.UID) != idx || i > 0 && uint64(r.UID) <= last {
			return nil, fmt.Errorf("block %d: UID %d is out of place", idx, r.UID)
		}
		b = binary.AppendUvarint(b, uint64(r.UID)-last)
		last = uint64(r.UID)
	}
	b, err := appendColumns(b, mask, recs)
	if err != nil {
		return nil, fmt.Errorf("block %d: %w", idx, err)
	}
	return sealBlock(b), nil
}

// sealBlock puts the checksum behind a block's bytes and compresses them.
func sealBlock(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return coder().enc.EncodeAll(b, nil)
}

// decodeBlock reads what encodeBlock wrote. Anything else is ErrCorrupt.
func decodeBlock(idx uint32, data []byte) ([]Record, error) {
	var recs []Record
	err := openBlock(idx, data, func(mask byte, uids []uint32, r *blockReader) error {
		recs = make([]Record, len(uids))
		for i, uid := range uids {
			recs[i].UID = uid
		}
		r.columns(mask, recs)
		if r.err == nil && len(r.b) != 0 {
			return errors.New("bytes left over")
		}
		return r.err
	})
	if err != nil {
		return nil, err
	}
	return recs, nil
}

// decodeUIDs reads the UIDs of a block alone. Of the columns behind them it says no more
// than that they are what was written.
func decodeUIDs(idx uint32, data []byte) ([]uint32, error) {
	var own []uint32
	err := openBlock(idx, data, func(_ byte, uids []uint32, _ *blockReader) error {
		own = slices.Clone(uids)
		return nil
	})
	return own, err
}

// opened is what reading a block needs for a moment.
type opened struct {
	raw  []byte
	uids [blockSize]uint32
}

var openedPool = sync.Pool{New: func() any { return new(opened) }}

// openBlock checks a block and hands out its UIDs and a reader of the columns behind them,
// for the time of the call. Its error is ErrCorrupt.
func openBlock(idx uint32, data []byte, read func(mask byte, uids []uint32, r *blockReader) error) error {
	o := openedPool.Get().(*opened)
	if err := o.parse(idx, data, read); err != nil {
		return fmt.Errorf("block %d: %w: %w", idx, ErrCorrupt, err)
	}
	if cap(o.raw) <= 64*blockSize {
		openedPool.Put(o)
	}
	return nil
}

func (o *opened) parse(idx uint32, data []byte, read func(byte, []uint32, *blockReader) error) error {
	raw, err := coder().dec.DecodeAll(data, o.raw[:0])
	if err != nil {
		return err
	}
	o.raw = raw
	if len(raw) < 7 {
		return errors.New("too short")
	}
	body, sum := raw[:len(raw)-4], binary.LittleEndian.Uint32(raw[len(raw)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return errors.New("checksum differs")
	}
	mask := body[1]
	if body[0] != blockVersion || mask&^columnsKnown != 0 || mask&(columnUID|columnFlags) != columnUID|columnFlags {
		return fmt.Errorf("version %d, columns %#x are not known here", body[0], mask)
	}
	r := blockReader{b: body[2:]}
	uids := o.uids[:r.uint(blockSize)]
	uid := uint64(idx) * blockSize
	for i := range uids {
		d := r.uint(blockSize)
		if i > 0 && d == 0 {
			return errors.New("UIDs do not ascend")
		}
		uid += uint64(d)
		if uid > math.MaxUint32 || BlockOf(uint32(uid)) != idx {
			return errors.New("UID outside of the block")
		}
		uids[i] = uint32(uid)
	}
	if r.err != nil {
		return r.err
	}
	return read(mask, uids, &r)
}

// blockReader reads a block's columns; after the first mistake it only gives zeros.
type blockReader struct {
	b   []byte
	err error
}

func (r *blockReader) fail() { r.b, r.err = nil, errors.New("cut or out of range") }

// uint reads a number that may not be above max.
func (r *blockReader) uint(most int) int {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > uint64(most) {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return int(v)
}

func (r *blockReader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *blockReader) string() string {
	return string(r.take(r.uint(maxString)))
}
