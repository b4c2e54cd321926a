package wire

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/emersion/go-imap/v2"
)

// AppendOptions go with a message.
type AppendOptions struct {
	Flags []imap.Flag
	Date  time.Time // INTERNALDATE; zero = the server's clock
}

// Append adds a message of size bytes to a folder. Where the server did not tell the
// UID, the data's are 0. A message larger than the server's APPENDLIMIT is refused
// before a byte is sent; a server that refuses by NO instead of its `+` is not sent the
// message. After an error that is not Usable nobody knows whether it was added.
func (c *Conn) Append(ctx context.Context, raw string, r io.Reader, size int64, o AppendOptions) (imap.AppendData, error) {
	if limit := c.caps.AppendLimit(); limit > 0 && size > limit {
		return imap.AppendData{}, &Error{
			Kind: Refused, Stage: StageCommand, Command: "APPEND", Code: CodeTooBig,
			Text: fmt.Sprintf("message has %d bytes, the server takes %d", size, limit),
		}
	}
	k := c.command("APPEND").name(raw)
	if len(o.Flags) > 0 {
		k.flags(o.Flags)
	}
	if !o.Date.IsZero() {
		k.arg(`"` + o.Date.Format("_2-Jan-2006 15:04:05 -0700") + `"`)
	}
	if size < 0 {
		k.refuse("size is negative")
	}
	// Never without waiting: a server that says no wants no message.
	k.buf = append(strconv.AppendInt(append(k.buf, ' ', '{'), size, 10), "}\r\n"...)
	k.syncs = append(k.syncs, len(k.buf))
	k.body, k.size = r, size
	var data imap.AppendData
	k.tagged = func(r *response) {
		if r.status.code != "APPENDUID" {
			return
		}
		s := scanner{b: r.status.args}
		_, validity := s.next()
		_, uid := s.next()
		v, vok := number32(validity)
		u, uok := number32(uid)
		if vok && uok { // row 63: `0 0`, or without UID
			data = imap.AppendData{UIDValidity: v, UID: imap.UID(u)}
		}
	}
	_, err := k.run(ctx)
	return data, err
}
