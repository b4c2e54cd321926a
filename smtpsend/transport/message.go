package transport

import "time"

// Envelope is whom a message is from and for, and what it needs of the server.
type Envelope struct {
	From string   // "" is the null sender
	To   []string // at least one; the order is that of the RCPT commands
	Size int64    // octets of the body, dots not doubled; 0 = not known

	UTF8       bool // SMTPUTF8: an address or a header field is not ASCII (RFC 6531)
	EightBit   bool // BODY=8BITMIME: the body is not 7 bit
	RequireTLS bool // REQUIRETLS (RFC 8689)
	DSN        DSN
}

// DSN is what is asked of delivery reports (RFC 3461). The zero value asks for nothing.
type DSN struct {
	ID        string   // ENVID, printable ASCII; sent wherever DSN is offered
	Return    string   // "headers" or "full"; "" = the server's choice
	Notify    []string // "never" alone, or of "success", "failure", "delay"; none = the server's choice
	Recipient string   // ORCPT of every recipient; "" = its own address
}

// wanted says whether more than an id was asked for.
func (d DSN) wanted() bool { return d.Return != "" || len(d.Notify) > 0 || d.Recipient != "" }

// Receipt is what the server said of a message it took.
type Receipt struct {
	Response string // the reply to the final dot, see Error.Line
	Code     int
	Accepted []string  // the recipients the message was taken for
	Refused  []Refusal // those refused by RCPT, for good (5xx) or for now (4xx)
	TooMany  []string  // those the server wants in another transaction (RFC 5321 section 4.5.3.1.10)

	Secure         bool          // TLS
	DSNUnsupported bool          // more than an id was asked for and DSN is not offered
	Reused         bool          // the connection had carried a message before
	MaxSize        int64         // the server's SIZE; 0 = none named
	Duration       time.Duration // from MAIL to the last reply
}

// Refusal is a recipient the server did not take.
type Refusal struct {
	Recipient string
	Response  string // see Error.Line
	Code      int
	Enhanced  string // "5.1.1"; "" = none
}
