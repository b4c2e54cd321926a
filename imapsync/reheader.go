package imapsync

import (
	"context"

	"github.com/emersion/go-imap/v2"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/imapsync/wire"
	"github.com/postrider/postrider/internal/message"
)

// wholeHeader is fetched where an ENVELOPE came that cannot be read.
var wholeHeader = wire.Body("HEADER", 0, maxHeader)

// reread makes the envelopes that came damaged (row 39: quotes that are not escaped) of
// the messages' headers. What cannot be had this way either stays named in Damaged; only
// an error that ends the connection is returned.
func (s *client) reread(ctx context.Context, msgs []Message, broken imap.UIDSet) error {
	if len(broken) == 0 {
		return nil
	}
	at := make(map[uint32]*Message, len(msgs))
	for i := range msgs {
		at[msgs[i].UID] = &msgs[i]
	}
	_, err := s.c.Fetch(ctx, broken, []wire.Item{wire.ItemUID, wholeHeader}, wire.FetchOptions{}, func(m *wire.Message) error {
		msg, sec := at[uint32(m.UID)], m.Section(wholeHeader)
		if msg != nil && sec != nil && len(sec.Data) > 0 {
			msg.readEnvelope(message.ParseHeader(sec.Data))
		}
		return nil
	})
	if err = failure(err); err != nil && !usable(err) {
		return err
	}
	return nil
}

// readEnvelope fills in what ENVELOPE would have said.
func (m *Message) readEnvelope(h message.Header) {
	list := func(name string) []events.Address { return headerAddresses(h[name], &m.Warnings) }
	if t, ok := message.Date(h.First("date")); ok {
		m.Date = t
	}
	m.Subject = message.Words(h.First("subject"), &m.Warnings)
	m.From, m.To, m.Cc, m.Bcc = list("from"), list("to"), list("cc"), list("bcc")
	// RFC 3501 section 7.4.2: without a Sender or Reply-To they are the From.
	if m.Sender = list("sender"); m.Sender == nil {
		m.Sender = m.From
	}
	if m.ReplyTo = list("reply-to"); m.ReplyTo == nil {
		m.ReplyTo = m.From
	}
	if m.MessageID == "" {
		m.MessageID = firstID(h["message-id"])
	}
	if m.InReplyTo == "" {
		m.InReplyTo = firstID(h["in-reply-to"])
	}
	for i, d := range m.Damaged {
		if d == "envelope" {
			m.Damaged = append(m.Damaged[:i:i], m.Damaged[i+1:]...)
			break
		}
	}
}

// headerAddresses reads address lists; text that is none is kept as a name.
func headerAddresses(values []string, w *message.Warnings) []events.Address {
	var out []events.Address
	for _, v := range values {
		for _, a := range message.Addresses(v, w) {
			out = append(out, events.Address(a))
		}
	}
	return out
}
