package compose

import (
	"io"
	"time"
)

// Address is one mailbox: a display name, or "", and an address without angle brackets.
type Address struct{ Name, Address string }

// Header is a field that the caller adds.
type Header struct{ Name, Value string }

// Attachment is a file that goes along.
type Attachment struct {
	Filename    string
	ContentType string // "" = by the filename's extension, else application/octet-stream
	Inline      bool   // shown where the HTML names its CID; without one, or without HTML, an attachment shown in place
	CID         string // its Content-ID, with or without angle brackets; "" = none
	Size        int64  // decoded octets; -1 = not known before it is read

	// Open begins to read the decoded octets. It MAY be called again, also before the
	// reader of an earlier call is closed, and MUST then give the same octets.
	Open func() (io.ReadCloser, error)
}

// Message is what somebody asks to send, not validated. [Compose] does that.
type Message struct {
	From                 Address
	To, Cc, Bcc, ReplyTo []Address
	Subject              string
	Text, HTML           *string // HTML alone gets a text made of it, unless Text is ""
	Attachments          []Attachment
	Headers              []Header

	// Raw is a whole message; nil = there is none. It excludes Subject, Text, HTML and
	// Attachments. To, Cc and Bcc beside it are recipients and no fields; the others are
	// added where Raw has no such field.
	Raw []byte

	MessageID  string    // <left@right>; "" = one is made
	InReplyTo  string    // <left@right>, or ""
	References []string  // each <left@right>
	Date       time.Time // of the Date field, with its zone
	Envelope   *Envelope // nil = From, and To, Cc and Bcc
}

// Envelope is where the message really goes.
type Envelope struct {
	From string // "" = the null sender
	To   []string
}

// Options are what Compose needs beside the message.
type Options struct {
	QueueID       string    // the value of the field IDHeader
	IDHeader      string    // name of the field that tells the submission; "" = none is written
	MaxRecipients int       // 0 = 500
	MaxSize       int64     // octets of the whole message; 0 = any
	Rand          io.Reader // of ids and boundaries; nil = crypto/rand
}

// Composed is a message as it is sent. It may be written several times, one after
// another or at once.
type Composed struct {
	MessageID string // <left@right>
	OwnID     bool   // MessageID was made here, so that no other message has it
	Subject   string // decoded, on one line, at most 998 characters of it
	Date      time.Time
	Envelope  Envelope // addresses checked, domains as A-labels, without duplicates
	Size      int64    // octets that WriteTo writes; -1 = an attachment does not tell
	NeedsUTF8 bool     // an address needs SMTPUTF8 (RFC 6531)
	Needs8Bit bool     // a body, or a raw header, is not ASCII: 8BITMIME (RFC 6152)

	pieces  []piece
	maxSize int64
}
