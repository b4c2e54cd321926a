package compose

import (
	"time"

	"github.com/postrider/postrider/internal/message"
)

// Action is what is done with an original.
type Action string

// The actions.
const (
	Reply    Action = "reply"
	ReplyAll Action = "reply-all"
	Forward  Action = "forward"
)

// Original is the message that a reply or a forward is about, as it was read from the
// mailbox.
type Original struct {
	Header      message.Header // not decoded
	Text, HTML  string         // UTF-8 with LF line ends; "" = it has none
	Attachments []Attachment   // all of its parts that are no text
}

// Reference is what is wanted of the original.
type Reference struct {
	Action             Action
	MessageID          string   // that the original must have; "" = any
	Own                []string // addresses of the account
	Inline             bool     // its text is quoted
	ForwardAttachments bool     // of Forward: its attachments go along
	Locale             string   // of the line before the quote: "de", "fr-CA"; English where we have none
	Zone               *time.Location
}
