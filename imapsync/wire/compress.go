package wire

import (
	"context"
	"encoding/binary"
	"io"

	"github.com/klauspost/compress/flate"
)

// Compress asks for COMPRESS=DEFLATE (RFC 4978). What we send goes in stored blocks,
// which cost no memory; inflating costs some 40 KB for as long as the connection lives,
// and Idle refuses on it: it is for reading bulk.
func (c *Conn) Compress(ctx context.Context) error {
	if !c.caps.Has("COMPRESS=DEFLATE") || c.zipped {
		return refuse("COMPRESS", "server has no COMPRESS=DEFLATE, or it is on")
	}
	if _, err := c.command("COMPRESS").arg("DEFLATE").run(ctx); err != nil {
		return err
	}
	// What is buffered behind the OK is compressed already.
	early := append([]byte(nil), c.rd.buf[c.rd.r:c.rd.w]...)
	c.rd.r = c.rd.w
	c.src = flate.NewReader(&rawSource{early: early, r: c.src})
	c.dst = &storedWriter{w: c.dst}
	c.zipped = true
	return nil
}

// Compressed says whether the connection is.
func (c *Conn) Compressed() bool { return c.zipped }

// rawSource gives early bytes, then the connection's.
type rawSource struct {
	early []byte
	r     io.Reader
}

// Read implements io.Reader.
func (s *rawSource) Read(p []byte) (int, error) {
	if len(s.early) > 0 {
		n := copy(p, s.early)
		if s.early = s.early[n:]; len(s.early) == 0 {
			s.early = nil
		}
		return n, nil
	}
	return s.r.Read(p)
}

// storedWriter writes each piece as a stored block (RFC 1951 section 3.2.4), which
// begins and ends on a byte. Behind the last stands an empty one, as every flush of a
// compressor ends: some inflate a block only when they see the next one begin.
type storedWriter struct{ w io.Writer }

// Write implements io.Writer.
func (s *storedWriter) Write(p []byte) (int, error) {
	done := 0
	for len(p) > 0 {
		n := min(len(p), 0xffff)
		b := make([]byte, 5, 5+n+5)
		binary.LittleEndian.PutUint16(b[1:], uint16(n))
		binary.LittleEndian.PutUint16(b[3:], ^uint16(n))
		b = append(b, p[:n]...)
		if p = p[n:]; len(p) == 0 {
			b = append(b, 0, 0, 0, 0xff, 0xff)
		}
		if _, err := s.w.Write(b); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}
