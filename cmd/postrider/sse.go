package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// sseMessage is one block of a stream of server-sent events.
type sseMessage struct {
	id, event string
	data      []byte // nil: the block had none
}

// maxSSELine bounds one line of a stream.
const maxSSELine = 16 << 20

// readSSE reads blocks until the stream ends, which is an error too: it has no end.
// alive is called for every line, comments included.
func readSSE(r io.Reader, alive func(), block func(sseMessage) error) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 64<<10), maxSSELine)
	var m sseMessage
	for sc.Scan() {
		alive()
		line := sc.Bytes()
		if len(line) == 0 {
			if m.id != "" || m.data != nil {
				if err := block(m); err != nil {
					return err
				}
			}
			m = sseMessage{}
			continue
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) {
		case "id":
			m.id = string(value)
		case "event":
			m.event = string(value)
		case "data":
			if m.data != nil {
				m.data = append(m.data, '\n')
			}
			m.data = append(m.data, value...)
			if m.data == nil {
				m.data = []byte{}
			}
		}
	}
	if err := sc.Err(); err != nil {
		return err
	}
	return errors.New("the server ended the stream")
}
