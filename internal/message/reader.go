package message

import (
	"bytes"
	"io"
	"math"
	"strings"
)

// NewReader decodes a body as it is read, as [Decode] does of one that is there. It keeps
// some 100 KB of it.
func NewReader(encoding string, r io.Reader) io.Reader {
	d := &bodyReader{r: r, in: make([]byte, 32<<10)}
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "base64":
		var s base64State
		d.decode = func(out, in []byte, end bool) []byte {
			if out = s.decode(out, in, math.MaxInt); end {
				out = s.end(out)
			}
			return out
		}
	case "quoted-printable":
		var left []byte
		d.decode = func(out, in []byte, end bool) []byte {
			left = append(left, in...)
			n := len(left)
			if !end {
				n = wholeQuoted(left)
			}
			out = append(out, decodeQuoted(left[:n], math.MaxInt-2)...)
			left = append(left[:0], left[n:]...)
			return out
		}
	default:
		return r
	}
	return d
}

// bodyReader reads pieces, and hands out what they decode to.
type bodyReader struct {
	r      io.Reader
	in     []byte
	decode func(out, in []byte, end bool) []byte
	out    []byte // decoded
	given  int    // of out
	err    error  // behind out
}

// Read implements [io.Reader].
func (d *bodyReader) Read(p []byte) (int, error) {
	for d.given == len(d.out) {
		if d.err != nil {
			return 0, d.err
		}
		var n int
		if n, d.err = io.ReadFull(d.r, d.in); d.err == io.ErrUnexpectedEOF {
			d.err = io.EOF
		}
		d.out, d.given = d.decode(d.out[:0], d.in[:n], d.err == io.EOF), 0
	}
	n := copy(p, d.out[d.given:])
	d.given += n
	return n, nil
}

// wholeQuoted is how much of quoted-printable can be decoded before the rest is there:
// whole lines, since spaces at an end of line do not count, or of a line that is too long
// to be one what is before its last escape.
func wholeQuoted(b []byte) int {
	if n := bytes.LastIndexByte(b, '\n') + 1; n > 0 || len(b) < 32<<10 {
		return n
	}
	n := len(bytes.TrimRight(b, " \t\r"))
	if i := bytes.LastIndexByte(b[:n], '='); i >= 0 && n-i <= 2 {
		n = len(bytes.TrimRight(b[:i], " \t"))
	}
	if n == 0 {
		return len(b)
	}
	return n
}
