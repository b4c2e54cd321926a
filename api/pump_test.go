package api_test

import (
	"bytes"
	"io"
	"net"
	"sync"
	"time"
)

// pump gives one end of a net.Pipe a buffer for reading: without it, a client that
// pipelines and a server that answers wait for each other.
type pump struct {
	net.Conn
	mu    sync.Mutex
	ready *sync.Cond
	b     bytes.Buffer
	err   error
}

func newPump(c net.Conn) *pump {
	p := &pump{Conn: c}
	p.ready = sync.NewCond(&p.mu)
	go func() { // ends with the connection, which the client closes
		buf := make([]byte, 4096)
		for {
			n, err := c.Read(buf)
			p.mu.Lock()
			p.b.Write(buf[:n])
			if err != nil {
				p.err = err
			}
			p.ready.Broadcast()
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return p
}

// Read takes from the buffer.
func (p *pump) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.b.Len() == 0 {
		if p.err != nil {
			return 0, io.EOF
		}
		p.ready.Wait()
	}
	return p.b.Read(b)
}

// SetDeadline is for writing alone: reading is done ahead.
func (p *pump) SetDeadline(t time.Time) error { return p.Conn.SetWriteDeadline(t) }

// SetReadDeadline does nothing.
func (p *pump) SetReadDeadline(time.Time) error { return nil }
