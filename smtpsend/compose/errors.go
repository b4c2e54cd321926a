package compose

import (
	"fmt"
	"strings"
)

// Code says what is wrong with a field. The API shows it.
type Code string

// The codes of problems.
const (
	AddressInvalid     Code = "AddressInvalid"
	NoRecipients       Code = "NoRecipients"
	TooManyRecipients  Code = "TooManyRecipients"
	HeaderInjection    Code = "HeaderInjection"    // CR, LF or NUL in what reaches a header or a command
	HeaderNotAllowed   Code = "HeaderNotAllowed"   // a field that we write ourselves, or no field's name
	LineTooLong        Code = "LineTooLong"        // a line, or what cannot be folded, is over its bound
	BareCR             Code = "BareCR"             // of a raw message
	NULByte            Code = "NULByte"            // of a raw message
	ContentIDDuplicate Code = "ContentIdDuplicate" // two attachments have one content id
	ConflictingFields  Code = "ConflictingFields"  // both cannot be given
	ValueInvalid       Code = "ValueInvalid"       // not of the form that the field has
	MessageTooLarge    Code = "MessageTooLarge"
	ReferenceMismatch  Code = "ReferenceMismatch" // the original is another message than the caller means
)

// Problem is one thing that is wrong with a request.
type Problem struct {
	Location string // the JSON field: "to[2].address", "headers.X-Foo"; "" = the whole message
	Code     Code
	Message  string
}

// Error is why a message cannot be composed: all of its problems.
type Error struct{ Problems []Problem }

// Error implements error. It holds locations and codes, no addresses and no texts.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("message refused")
	for i, p := range e.Problems {
		b.WriteString([]string{": ", ", "}[min(i, 1)])
		b.WriteString(strings.TrimSpace(p.Location + " " + string(p.Code)))
	}
	return b.String()
}

// Has says whether one of the problems has this code.
func (e *Error) Has(c Code) bool {
	for _, p := range e.Problems {
		if p.Code == c {
			return true
		}
	}
	return false
}

func tooLarge(most int64) Problem {
	return Problem{Code: MessageTooLarge, Message: fmt.Sprintf("the message has more than %d octets", most)}
}
