package store

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// The columns of a block behind the UIDs:
//
//	flags, labels  a table of words, a table of sets over system bits and words, one set
//	               number a message
//	EMAILID        ids: see appendIDs
//	THREADID       a table of ids, one number a message
//	print          8 bytes a message, little endian; 0 = none
//	Message-ID     strings: length, bytes
//
// Numbers of a table have one byte, two where it has more than 255 entries.

// systemFlags are the flags of RFC 9051 section 2.3.2, systemLabels those of Gmail, in
// bit order. The order is part of the stored format.
var (
	systemFlags  = []string{`\Answered`, `\Flagged`, `\Deleted`, `\Seen`, `\Draft`}
	systemLabels = []string{`\Inbox`, `\Sent`, `\Important`, `\Starred`, `\Draft`, `\Trash`, `\Junk`, `\Muted`}
)

// columnsOf says which columns messages need.
func columnsOf(recs []Record) byte {
	mask := byte(columnUID | columnFlags)
	has := func(yes bool, bit byte) {
		if yes {
			mask |= bit
		}
	}
	for i := range recs {
		r := &recs[i]
		has(r.EmailID != "", columnEmailID)
		has(r.ThreadID != "", columnThreadID)
		has(len(r.Labels) > 0, columnLabels)
		has(r.Print != 0, columnPrint)
		has(r.MessageID != "", columnMessageID)
	}
	return mask
}

// appendColumns writes the columns of mask but the UIDs.
func appendColumns(b []byte, mask byte, recs []Record) ([]byte, error) {
	b, err := appendSets(b, systemFlags, recs, func(r *Record) []string { return r.Flags })
	if err != nil {
		return nil, err
	}
	if mask&columnEmailID != 0 {
		ids := make([]string, len(recs))
		for i := range recs {
			ids[i] = recs[i].EmailID
		}
		b = appendIDs(b, ids)
	}
	if mask&columnThreadID != 0 {
		var table []string
		number := map[string]int{}
		column := make([]int, len(recs))
		for i := range recs {
			n, ok := number[recs[i].ThreadID]
			if !ok {
				n = len(table)
				number[recs[i].ThreadID] = n
				table = append(table, recs[i].ThreadID)
			}
			column[i] = n
		}
		b = appendIDs(binary.AppendUvarint(b, uint64(len(table))), table)
		b = appendNumbers(b, len(table), column)
	}
	if mask&columnLabels != 0 {
		if b, err = appendSets(b, systemLabels, recs, func(r *Record) []string { return r.Labels }); err != nil {
			return nil, err
		}
	}
	if mask&columnPrint != 0 {
		for i := range recs {
			b = binary.LittleEndian.AppendUint64(b, recs[i].Print)
		}
	}
	if mask&columnMessageID != 0 {
		for i := range recs {
			b = appendString(b, recs[i].MessageID)
		}
	}
	return b, nil
}

// maxString bounds a stored string: what is longer is no id, and nobody is told by it.
const maxString = 1 << 16

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendNumbers writes entries of a table, one a message.
func appendNumbers(b []byte, table int, column []int) []byte {
	for _, n := range column {
		b = append(b, byte(n))
		if table > math.MaxUint8 {
			b = append(b, byte(n>>8))
		}
	}
	return b
}

// appendSets writes a column of sets of words, of which system ones have a bit.
func appendSets(b []byte, system []string, recs []Record, of func(*Record) []string) ([]byte, error) {
	var (
		words  []string
		wordNo = map[string]int{}
		sets   []byte
		setNo  = map[string]int{}
		column = make([]int, len(recs))
		prev   []string
	)
	for i := range recs {
		list := of(&recs[i])
		if i > 0 && slices.Equal(prev, list) {
			column[i] = column[i-1]
			continue
		}
		prev = list
		var bits byte
		var own []int
		for _, f := range list {
			if n := slices.Index(system, f); n >= 0 {
				bits |= 1 << n
				continue
			}
			n, ok := wordNo[f]
			if !ok {
				n = len(words)
				wordNo[f] = n
				words = append(words, f)
			}
			own = append(own, n)
		}
		slices.Sort(own)
		own = slices.Compact(own)
		set := binary.AppendUvarint([]byte{bits}, uint64(len(own)))
		for _, w := range own {
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
	if len(words) > maxKeywords {
		return nil, fmt.Errorf("%d keywords, at most %d", len(words), maxKeywords)
	}
	b = binary.AppendUvarint(b, uint64(len(words)))
	for _, k := range words {
		b = appendString(b, k)
	}
	b = binary.AppendUvarint(b, uint64(len(setNo)))
	b = append(b, sets...)
	return appendNumbers(b, len(setNo), column), nil
}

// The forms of a list of ids, its first byte.
const (
	idsText    = 0 // strings
	idsDecimal = 1 // 8 bytes each, little endian, 0 = none: Gmail's
	idsHex     = 2 // a common beginning, a number of digits, the digits two a byte: RFC 8474 as most servers do it
)

// appendIDs writes ids the server gave, packed where all of them have one of the usual
// shapes. "" is none.
func appendIDs(b []byte, ids []string) []byte {
	if nums, ok := decimals(ids); ok {
		b = append(b, idsDecimal)
		for _, n := range nums {
			b = binary.LittleEndian.AppendUint64(b, n)
		}
		return b
	}
	if prefix, digits, ok := hexShape(ids); ok {
		b = append(appendString(append(b, idsHex), prefix), byte(digits))
		for _, id := range ids {
			raw, _ := hex.DecodeString(id[len(prefix):]) // hexShape looked at every digit
			b = append(b, raw...)
		}
		return b
	}
	b = append(b, idsText)
	for _, id := range ids {
		b = appendString(b, id)
	}
	return b
}

// decimals reads ids that are plain numbers, written as we would write them.
func decimals(ids []string) ([]uint64, bool) {
	out := make([]uint64, len(ids))
	for i, id := range ids {
		if id == "" {
			continue
		}
		n, err := strconv.ParseUint(id, 10, 64)
		if err != nil || n == 0 || strconv.FormatUint(n, 10) != id {
			return nil, false
		}
		out[i] = n
	}
	return out, true
}

// hexShape finds what ids have in common that are a letter or so and an even number of
// lower-case hexadecimal digits.
func hexShape(ids []string) (prefix string, digits int, ok bool) {
	if len(ids) == 0 || ids[0] == "" {
		return "", 0, false
	}
	first := ids[0]
	n := len(first)
	for n > 0 && strings.IndexByte("0123456789abcdef", first[n-1]) >= 0 {
		n--
	}
	n += (len(first) - n) % 2
	prefix, digits = first[:n], len(first)-n
	if digits == 0 || digits > 64 {
		return "", 0, false
	}
	for _, id := range ids {
		if len(id) != len(first) || id[:n] != prefix || strings.Trim(id[n:], "0123456789abcdef") != "" {
			return "", 0, false
		}
	}
	return prefix, digits, true
}

// columns reads the columns of mask but the UIDs.
func (r *blockReader) columns(mask byte, recs []Record) {
	r.setColumn(systemFlags, recs, func(m *Record, set []string) { m.Flags = set })
	if mask&columnEmailID != 0 {
		for i, id := range r.ids(len(recs)) {
			recs[i].EmailID = id
		}
	}
	if mask&columnThreadID != 0 {
		table := r.ids(r.uint(blockSize))
		for i := range recs {
			if n := r.number(len(table)); r.err == nil {
				recs[i].ThreadID = table[n]
			}
		}
	}
	if mask&columnLabels != 0 {
		r.setColumn(systemLabels, recs, func(m *Record, set []string) { m.Labels = set })
	}
	if mask&columnPrint != 0 {
		for i := range recs {
			if raw := r.take(8); raw != nil {
				recs[i].Print = binary.LittleEndian.Uint64(raw)
			}
		}
	}
	if mask&columnMessageID != 0 {
		for i := range recs {
			recs[i].MessageID = r.string()
		}
	}
}

// take reads n bytes; nil when there are not as many.
func (r *blockReader) take(n int) []byte {
	if n > len(r.b) {
		r.fail()
		return nil
	}
	raw := r.b[:n]
	r.b = r.b[n:]
	return raw
}

// number reads an entry of a table; 0 after a mistake.
func (r *blockReader) number(table int) int {
	n := int(r.byte())
	if table > math.MaxUint8 {
		n |= int(r.byte()) << 8
	}
	if r.err == nil && n >= table {
		r.b, r.err = nil, errors.New("entry of a table out of range")
	}
	return n
}

// ids reads n ids; nil after a mistake.
func (r *blockReader) ids(n int) []string {
	out := make([]string, n)
	switch form := r.byte(); form {
	case idsText:
		for i := range out {
			out[i] = r.string()
		}
	case idsDecimal:
		for i := range out {
			if raw := r.take(8); raw != nil {
				if v := binary.LittleEndian.Uint64(raw); v != 0 {
					out[i] = strconv.FormatUint(v, 10)
				}
			}
		}
	case idsHex:
		prefix := r.string()
		size := int(r.byte()) / 2
		for i := range out {
			if raw := r.take(size); raw != nil {
				out[i] = prefix + hex.EncodeToString(raw)
			}
		}
	default:
		r.b, r.err = nil, fmt.Errorf("ids of form %d", form)
	}
	if r.err != nil {
		return nil
	}
	return out
}

// setColumn reads a column of sets of words.
func (r *blockReader) setColumn(system []string, recs []Record, put func(*Record, []string)) {
	words := make([]string, r.uint(maxKeywords))
	for i := range words {
		words[i] = r.string()
	}
	sets := make([][]string, r.uint(blockSize))
	for i := range sets {
		bits, n := r.byte(), r.uint(len(words))
		var set []string
		for b, f := range system {
			if bits&(1<<b) != 0 {
				set = append(set, f)
			}
		}
		for range n {
			w := r.uint(len(words))
			if w >= len(words) {
				r.fail()
				return
			}
			set = append(set, words[w])
		}
		slices.Sort(set)
		sets[i] = slices.Clip(set)
	}
	for i := range recs {
		if n := r.number(len(sets)); r.err == nil {
			put(&recs[i], sets[n])
		}
	}
}
