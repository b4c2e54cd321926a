package api

import (
	"encoding/base64"
	"io"
	"strings"
)

// preview is where a message is written that is only shown: in base64, within the memory
// that there is for large bodies. It says ServerBusy where that is full.
type preview struct {
	s    *Server
	c    *call
	text strings.Builder
	enc  io.WriteCloser
	n    int64 // octets of the message
	room int64 // octets of it that there is memory for
}

const (
	// smallPreview is what a preview may have without reserving: it needs no more memory
	// than the body of any request.
	smallPreview = maxBody / previewCost
	// previewStep is how much of a preview is reserved at a time: how long a message is that
	// is partly in the mailbox is known when it was read.
	previewStep = 1 << 20
	// previewCost is how many bytes of memory an octet of a message costs that is answered:
	// three times 4/3, as its base64, in JSON, and in the answer's buffer.
	previewCost = 4
)

func (s *Server) preview(c *call) *preview {
	p := &preview{s: s, c: c, room: smallPreview}
	p.enc = base64.NewEncoder(base64.StdEncoding, &p.text)
	return p
}

// Write implements io.Writer. Its error is a *Problem.
func (p *preview) Write(b []byte) (int, error) {
	for p.n += int64(len(b)); p.n > p.room; p.room += previewStep {
		const more = previewCost * previewStep
		if p.c.reserved+more > p.s.o.Config.MaxBodyMemory {
			return 0, problem(MessageTooLarge, "its preview does not fit into the memory that there is for messages")
		}
		if busy := p.s.more(p.c, more); busy != nil {
			return 0, busy
		}
	}
	return p.enc.Write(b)
}

// String is the message in base64; nothing can be written any more.
func (p *preview) String() string {
	_ = p.enc.Close() // a strings.Builder takes everything
	return p.text.String()
}
