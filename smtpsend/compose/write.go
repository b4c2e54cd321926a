package compose

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime/quotedprintable"
)

// errChanged ends writing where an attachment is not as long as it said.
var errChanged = errors.New("the attachment has another size than was told")

// piece is a part of what is written: bytes as they are, or a body to be encoded.
type piece struct {
	data     string
	encoding string                        // of data or open; "" = as it is
	open     func() (io.ReadCloser, error) // nil = data
	size     int64                         // octets that open gives; -1 = unknown
	written  int64                         // octets that they are when written; -1 = unknown
	ends     bool                          // a line end is added where there is none,
	tail     int64                         // and of what open gives that is as many octets
	location string                        // of the attachment, for errors
}

// Transfer encodings.
const (
	sevenBit  = "7bit"
	eightBit  = "8bit"
	quoted    = "quoted-printable"
	base64ed  = "base64"
	lineBytes = 57 // that make a base64 line of 76
)

// WriteTo implements [io.WriterTo]: it writes the whole message. It reads attachments
// while it writes, and blocks for as long as they and w do. An *Error says that the
// message is larger than it may be; any other error is an attachment's or w's.
func (c *Composed) WriteTo(w io.Writer) (int64, error) {
	count := &counter{w: w, max: c.maxSize}
	out := bufio.NewWriterSize(count, 32<<10)
	for i := range c.pieces {
		if err := c.pieces[i].write(out); err != nil {
			if c.pieces[i].location != "" && !errors.As(err, new(*Error)) {
				err = fmt.Errorf("%s: %w", c.pieces[i].location, err)
			}
			return count.n, err
		}
	}
	err := out.Flush()
	return count.n, err
}

func (p *piece) write(w io.Writer) error {
	var last *ender
	if p.ends {
		last = &ender{w: w}
		w = last
	}
	err := encode(w, p.encoding, func(w io.Writer) error {
		if p.open == nil {
			_, err := io.WriteString(w, p.data)
			return err
		}
		r, err := p.open()
		if err != nil {
			return err
		}
		defer r.Close() // nothing was written there
		n, err := io.Copy(w, r)
		if err == nil && p.size >= 0 && n != p.size {
			return errChanged
		}
		return err
	})
	if err == nil && last != nil && last.last != 0 && last.last != '\n' {
		_, err = io.WriteString(w, "\r\n")
	}
	return err
}

// ender knows what was written last.
type ender struct {
	w    io.Writer
	last byte
}

func (e *ender) Write(p []byte) (int, error) {
	if len(p) > 0 {
		e.last = p[len(p)-1]
	}
	return e.w.Write(p)
}

// octets is how many octets write writes; -1 = that is not known before.
func (p *piece) octets() int64 {
	var n counter
	switch {
	case p.open == nil:
		if p.write(&n) != nil {
			return -1
		}
		return n.n
	case p.written >= 0 && p.ends:
		return p.written + p.tail
	}
	return p.written
}

// base64Size is how many octets size of them are in base64; -1 of -1.
func base64Size(size int64) int64 {
	if size <= 0 {
		return size
	}
	return (size+2)/3*4 + (size-1)/lineBytes*2
}

// encode has f write what is encoded to w.
func encode(w io.Writer, encoding string, f func(io.Writer) error) error {
	var enc io.WriteCloser
	switch encoding {
	case quoted:
		enc = quotedprintable.NewWriter(w)
	case base64ed:
		enc = &base64Writer{w: w}
	case sevenBit, eightBit:
		return f(&lineWriter{w: w})
	default:
		return f(w)
	}
	if err := f(enc); err != nil {
		return err
	}
	return enc.Close()
}

// base64Writer writes base64 in lines of 76 (RFC 2045 section 6.8), the last without its
// end.
type base64Writer struct {
	w     io.Writer
	left  [lineBytes]byte // a line that is not full
	n     int
	line  [78]byte
	begun bool
}

func (b *base64Writer) Write(p []byte) (int, error) {
	whole := len(p)
	for len(p) > 0 {
		k := copy(b.left[b.n:], p)
		b.n, p = b.n+k, p[k:]
		if b.n == lineBytes {
			if err := b.flush(); err != nil {
				return whole - len(p), err
			}
		}
	}
	return whole, nil
}

func (b *base64Writer) flush() error {
	line := b.line[:0]
	if b.begun {
		line = append(line, "\r\n"...)
	}
	line = base64.StdEncoding.AppendEncode(line, b.left[:b.n])
	b.n, b.begun = 0, true
	_, err := b.w.Write(line)
	return err
}

func (b *base64Writer) Close() error {
	if b.n == 0 {
		return nil
	}
	return b.flush()
}

// lineWriter ends lines with CRLF, however they ended: LF, CR, CRLF.
type lineWriter struct {
	w    io.Writer
	last byte
}

func (l *lineWriter) Write(p []byte) (int, error) {
	from := 0
	for i, c := range p {
		if l.last == '\r' && c == '\n' { // written with the CR
			from = i + 1
		} else if c == '\r' || c == '\n' {
			if _, err := l.w.Write(p[from:i]); err != nil {
				return from, err
			}
			if _, err := io.WriteString(l.w, "\r\n"); err != nil {
				return from, err
			}
			from = i + 1
		}
		l.last = c
	}
	_, err := l.w.Write(p[from:])
	return len(p), err
}

// counter counts what it is written, to an end.
type counter struct {
	w   io.Writer // nil = nothing is kept
	n   int64
	max int64 // 0 = any
}

func (c *counter) Write(p []byte) (int, error) {
	if c.max > 0 && c.n+int64(len(p)) > c.max {
		return 0, &Error{[]Problem{tooLarge(c.max)}}
	}
	n := len(p)
	var err error
	if c.w != nil {
		n, err = c.w.Write(p)
	}
	c.n += int64(n)
	return n, err
}
