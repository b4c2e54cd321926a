package transport

import (
	"bufio"
	"bytes"
	"errors"
)

// errBare: a CR or LF that is not half of a line end. A server may take either for one,
// and what follows for the end of the message (RFC 5321 section 2.3.8).
var errBare = errors.New("bare CR or LF in the body")

// dotWriter doubles the dots lines begin with (RFC 5321 section 4.5.2) and changes nothing
// else. It never writes the final dot.
type dotWriter struct {
	w   *bufio.Writer
	mid bool  // inside a line
	cr  bool  // the last octet was CR
	err error // of the connection or the body, not of who writes
}

// Write implements io.Writer. After an error every call fails.
func (d *dotWriter) Write(p []byte) (int, error) {
	for n := 0; n < len(p); {
		line := p[n:]
		if i := bytes.IndexByte(line, '\n'); i >= 0 {
			line = line[:i+1]
		}
		if d.err == nil {
			d.err = d.line(line)
		}
		if d.err != nil {
			return n, d.err
		}
		n += len(line)
	}
	return len(p), nil
}

// line writes a line, or a piece of one.
func (d *dotWriter) line(p []byte) error {
	ends := p[len(p)-1] == '\n'
	cr := bytes.IndexByte(p, '\r')
	switch {
	case d.cr && p[0] != '\n',
		ends && len(p) == 1 && !d.cr,
		ends && len(p) > 1 && cr != len(p)-2,
		!ends && cr >= 0 && cr != len(p)-1:
		return errBare
	}
	if !d.mid && p[0] == '.' {
		if err := d.w.WriteByte('.'); err != nil {
			return err
		}
	}
	d.mid, d.cr = !ends, p[len(p)-1] == '\r'
	_, err := d.w.Write(p)
	return err
}

// end gives the last line its end where it has none, and flushes.
func (d *dotWriter) end() error {
	if d.err == nil && d.cr {
		d.err = errBare
	}
	if d.err == nil && d.mid {
		_, d.err = d.w.WriteString("\r\n")
	}
	if d.err == nil {
		d.err = d.w.Flush()
	}
	return d.err
}
