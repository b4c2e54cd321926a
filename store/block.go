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
// possible UID), 2 flags (a table of keywords, a table of flag sets over system bits
// and keywords, one set number a message). Bits 4 and up are for columns to come; a
// block with one that we do not know is ErrCorrupt, never misread.
const (
	blockVersion = 1
	columnUID    = 1 << 0
	columnFlags  = 1 << 1

	maxKeywords = 2000     // flags of all messages of a block that are no system flags
	maxBlock    = 16 << 20 // decompressed; a full block with odd keywords stays far below
)

// systemFlags are the flags of RFC 9051 section 2.3.2 in bit order. The order is part
// of the stored format.
var systemFlags = [...]string{`\Answered`, `\Flagged`, `\Deleted`, `\Seen`, `\Draft`}

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
	b = append(b, blockVersion, columnUID|columnFlags)
	b = binary.AppendUvarint(b, uint64(len(recs)))
	last := uint64(idx) * blockSize
	for i, r := range recs {
		if BlockOf(r.UID) != idx || i > 0 && uint64(r.UID) <= last {
			return nil, fmt.Errorf("block %d: UID %d is out of place", idx, r.UID)
		}
		b = binary.AppendUvarint(b, uint64(r.UID)-last)
		last = uint64(r.UID)
	}
	b, err := appendFlags(b, recs)
	if err != nil {
		return nil, fmt.Errorf("block %d: %w", idx, err)
	}
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return coder().enc.EncodeAll(b, nil), nil
}

// appendFlags writes the flags column.
func appendFlags(b []byte, recs []Record) ([]byte, error) {
	var (
		keywords  []string
		keywordNo = map[string]int{}
		sets      []byte
		setNo     = map[string]int{}
		column    = make([]int, len(recs))
	)
	var prev []string
	for i, r := range recs {
		if i > 0 && slices.Equal(prev, r.Flags) {
			column[i] = column[i-1]
			continue
		}
		prev = r.Flags
		var bits byte
		var words []int
		for _, f := range r.Flags {
			if n := slices.Index(systemFlags[:], f); n >= 0 {
				bits |= 1 << n
				continue
			}
			n, ok := keywordNo[f]
			if !ok {
				n = len(keywords)
				keywordNo[f] = n
				keywords = append(keywords, f)
			}
			words = append(words, n)
		}
		slices.Sort(words)
		words = slices.Compact(words)
		set := binary.AppendUvarint([]byte{bits}, uint64(len(words)))
		for _, w := range words {
			set = binary.AppendUvarint(set, uint64(w))
		}
		n, ok := setNo[string(set)]
		if !ok {
			n = len(setNo)
			setNo[string(set)] = n
			sets = append(sets, set...)
		}
		column[i] = n
	}
	if len(keywords) > maxKeywords {
		return nil, fmt.Errorf("%d keywords, at most %d", len(keywords), maxKeywords)
	}
	b = binary.AppendUvarint(b, uint64(len(keywords)))
	for _, k := range keywords {
		b = binary.AppendUvarint(b, uint64(len(k)))
		b = append(b, k...)
	}
	b = binary.AppendUvarint(b, uint64(len(setNo)))
	b = append(b, sets...)
	for _, n := range column {
		b = append(b, byte(n))
		if len(setNo) > math.MaxUint8 {
			b = append(b, byte(n>>8))
		}
	}
	return b, nil
}

// decodeBlock reads what encodeBlock wrote. Anything else is ErrCorrupt.
func decodeBlock(idx uint32, data []byte) ([]Record, error) {
	recs, err := parseBlock(idx, data)
	if err != nil {
		return nil, fmt.Errorf("block %d: %w: %w", idx, ErrCorrupt, err)
	}
	return recs, nil
}

func parseBlock(idx uint32, data []byte) ([]Record, error) {
	raw, err := coder().dec.DecodeAll(data, nil)
	if err != nil {
		return nil, err
	}
	if len(raw) < 7 {
		return nil, errors.New("too short")
	}
	body, sum := raw[:len(raw)-4], binary.LittleEndian.Uint32(raw[len(raw)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, errors.New("checksum differs")
	}
	if body[0] != blockVersion || body[1] != columnUID|columnFlags {
		return nil, fmt.Errorf("version %d, columns %#x are not known here", body[0], body[1])
	}
	r := blockReader{b: body[2:]}
	count := r.uint(blockSize)
	recs := make([]Record, count)
	uid := uint64(idx) * blockSize
	for i := range recs {
		d := r.uint(blockSize)
		if i > 0 && d == 0 {
			return nil, errors.New("UIDs do not ascend")
		}
		uid += uint64(d)
		if uid > math.MaxUint32 || BlockOf(uint32(uid)) != idx {
			return nil, errors.New("UID outside of the block")
		}
		recs[i].UID = uint32(uid)
	}
	sets := r.flagSets()
	for i := range recs {
		n := int(r.byte())
		if len(sets) > math.MaxUint8 {
			n |= int(r.byte()) << 8
		}
		if r.err == nil && n >= len(sets) {
			return nil, errors.New("flag set out of range")
		}
		if r.err == nil {
			recs[i].Flags = sets[n]
		}
	}
	if r.err == nil && len(r.b) != 0 {
		return nil, errors.New("bytes left over")
	}
	return recs, r.err
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
	n := r.uint(1 << 16)
	if n > len(r.b) {
		r.fail()
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

// flagSets reads the table of keywords and of flag sets.
func (r *blockReader) flagSets() [][]string {
	keywords := make([]string, r.uint(maxKeywords))
	for i := range keywords {
		keywords[i] = r.string()
	}
	sets := make([][]string, r.uint(blockSize))
	for i := range sets {
		bits, words := r.byte(), r.uint(len(keywords))
		var set []string
		for n, f := range systemFlags {
			if bits&(1<<n) != 0 {
				set = append(set, f)
			}
		}
		for range words {
			n := r.uint(len(keywords))
			if n >= len(keywords) {
				r.fail()
				return nil
			}
			set = append(set, keywords[n])
		}
		slices.Sort(set)
		sets[i] = slices.Clip(set)
	}
	return sets
}
