package events

import "slices"

// Address is one mailbox of a message header. Name may be ""; text that is no
// address stands in Name, with "" in Address.
type Address struct {
	Name    string `json:"name"`
	Address string `json:"address"`
}

// Origin says why a message is announced. Receivers treat an unknown value as
// OriginExisting.
type Origin string

// The origins, in the order in which they are decided: the first that fits.
const (
	OriginOwnAppend  Origin = "ownAppend"  // our own APPEND, or our submission's copy
	OriginMoved      Origin = "moved"      // it left another watched folder; Related says which
	OriginCopied     Origin = "copied"     // the same EMAILID is still in another watched folder
	OriginReappeared Origin = "reappeared" // its UID is below the folder's cursor
	OriginBackfill   Origin = "backfill"   // first look at the folder, not before notifyFrom
	OriginExisting   Origin = "existing"   // older than a day before the last look, or a recent identity
	OriginNew        Origin = "new"        // everything else: it arrived
)

// Evidence says how two events were recognised as halves of one move or rename.
type Evidence string

// The kinds of evidence.
const (
	EvidenceCopyUID     Evidence = "copyuid"
	EvidenceEmailID     Evidence = "emailId"
	EvidenceGmailID     Evidence = "gmailMessageId"
	EvidenceFingerprint Evidence = "fingerprint" // Message-ID, size and INTERNALDATE
	EvidenceRename      Evidence = "rename"      // our own RENAME
	EvidenceMailboxID   Evidence = "mailboxId"   // RFC 8474 MAILBOXID
	EvidenceContent     Evidence = "content"     // equal UIDVALIDITY, UIDNEXT and UIDs
)

// Related names the other half of a move.
type Related struct {
	Event      Type     `json:"event"`
	EventID    ID       `json:"eventId"`
	ID         string   `json:"id"`
	UID        uint32   `json:"uid"`
	Path       string   `json:"path"`
	Evidence   Evidence `json:"evidence"`
	Confidence string   `json:"confidence"` // "certain" or "likely"
}

// Attachment is one attachment as the message's structure describes it.
type Attachment struct {
	ID          string `json:"id"`
	ContentType string `json:"contentType"`
	EncodedSize int64  `json:"encodedSize"` // octets, as transferred
	Filename    string `json:"filename,omitempty"`
	Embedded    bool   `json:"embedded"` // inside multipart/related
	Inline      bool   `json:"inline"`
	ContentID   string `json:"contentId,omitempty"`
	Method      string `json:"method,omitempty"`  // of a calendar part
	Content     string `json:"content,omitempty"` // base64; with notifyAttachments
}

// Text says which text parts the message has, and, with notifyText, what is in them.
type Text struct {
	ID          string   `json:"id"`
	EncodedSize TextSize `json:"encodedSize"`
	Plain       string   `json:"plain,omitempty"`
	HTML        string   `json:"html,omitempty"`
	WebSafe     bool     `json:"webSafe,omitempty"` // HTML is sanitised
	HasMore     bool     `json:"hasMore,omitempty"` // one of the two was cut
}

// CalendarEvent is an event that a calendar part tells of.
type CalendarEvent struct {
	EventID     string `json:"eventId,omitempty"` // its UID
	Attachment  string `json:"attachment"`        // id of the part
	Method      string `json:"method,omitempty"`
	Summary     string `json:"summary,omitempty"`
	Description string `json:"description,omitempty"`
	Timezone    string `json:"timezone,omitempty"` // as the calendar names it
	StartDate   *Time  `json:"startDate,omitempty"`
	EndDate     *Time  `json:"endDate,omitempty"`
	Organizer   string `json:"organizer,omitempty"`
	Filename    string `json:"filename"`
	ContentType string `json:"contentType"`
	Encoding    string `json:"encoding"` // "base64"
	Content     string `json:"content"`  // the calendar; "" where an event before it has the same
}

// TextSize is the size of the text parts in octets, as transferred.
type TextSize struct {
	Plain int64 `json:"plain,omitempty"`
	HTML  int64 `json:"html,omitempty"`
}

// MessageNew is the payload of messageNew: a message is in the folder that was
// not known there. It does not prove delivery just now (Origin says what is
// known), nor that a person saw it.
type MessageNew struct {
	ID                string              `json:"id"`
	UID               uint32              `json:"uid"`
	Path              string              `json:"path"`
	EmailID           string              `json:"emailId,omitempty"`
	ThreadID          string              `json:"threadId,omitempty"`
	Date              Time                `json:"date"` // Date header, else INTERNALDATE, else the envelope's date
	InternalDate      *Time               `json:"internalDate,omitempty"`
	Flags             Flags               `json:"flags"` // without \Recent
	Unseen            bool                `json:"unseen,omitempty"`
	Flagged           bool                `json:"flagged,omitempty"`
	Answered          bool                `json:"answered,omitempty"`
	Draft             bool                `json:"draft,omitempty"`
	Labels            Labels              `json:"labels,omitzero"` // of Gmail, sorted; nil: the server has none to give
	Size              int64               `json:"size,omitempty"`  // RFC822.SIZE, octets
	Subject           string              `json:"subject,omitempty"`
	MessageID         string              `json:"messageId,omitempty"` // with angle brackets
	InReplyTo         string              `json:"inReplyTo,omitempty"`
	References        []string            `json:"references,omitempty"`
	From              *Address            `json:"from,omitempty"`
	FromList          []Address           `json:"fromList,omitempty"` // only when From has several
	Sender            *Address            `json:"sender,omitempty"`
	ReplyTo           *Address            `json:"replyTo,omitempty"`
	ReplyToList       []Address           `json:"replyToList,omitempty"`
	To                []Address           `json:"to,omitempty"`
	Cc                []Address           `json:"cc,omitempty"`
	Bcc               []Address           `json:"bcc,omitempty"`
	Attachments       []Attachment        `json:"attachments,omitempty"`
	Text              Text                `json:"text"`
	Headers           map[string][]string `json:"headers,omitempty"` // lower-case names; with notifyHeaders
	CalendarEvents    []CalendarEvent     `json:"calendarEvents,omitempty"`
	Source            string              `json:"source,omitempty"`   // the whole message, base64; with notifySource
	Category          string              `json:"category,omitempty"` // of Gmail's inbox; with resolveGmailCategories
	MessageSpecialUse string              `json:"messageSpecialUse,omitempty"`
	SeemsLikeNew      bool                `json:"seemsLikeNew"`
	Origin            Origin              `json:"origin"`
	Related           *Related            `json:"related,omitempty"`
	IsList            bool                `json:"isList,omitempty"` // has List-Id or List-Unsubscribe
	MissingRetries    int                 `json:"missingRetries,omitempty"`
	MissingDelay      int64               `json:"missingDelay,omitempty"`   // milliseconds
	Truncated         []string            `json:"truncated,omitempty"`      // names of fields that were cut
	Incomplete        []string            `json:"incomplete,omitempty"`     // parts the server failed to give
	DecodeWarnings    []string            `json:"decodeWarnings,omitempty"` // charsets and encodings not understood
}

// Meta is an event without the content of its message: text, header fields, calendars,
// source, and what is in attachments. It is what people are shown who look after queues.
func Meta(e Event) Event {
	if e.Type != MessageNewType {
		return e
	}
	p, err := Decode(e)
	m, ok := p.(MessageNew)
	if err != nil || !ok {
		e.Data = Raw("{}") // unreadable, so nobody knows what is in it
		return e
	}
	m.Headers, m.CalendarEvents, m.Source = nil, nil, ""
	m.Text.Plain, m.Text.HTML, m.Text.WebSafe, m.Text.HasMore = "", "", false, false
	m.Attachments = slices.Clone(m.Attachments)
	for i := range m.Attachments {
		m.Attachments[i].Content = ""
	}
	e.Data = m
	return e
}

// Flags is a set of flags that is always there, if only as an empty list.
type Flags []string

// MarshalJSON writes [] for nil.
func (f Flags) MarshalJSON() ([]byte, error) {
	if f == nil {
		return []byte("[]"), nil
	}
	return marshal([]string(f))
}

// Labels are Gmail's, which is there, if only as an empty list, wherever the server has
// labels; nil is absent.
type Labels []string

// Difference is what changed in a set of flags, or of labels.
type Difference struct {
	Added   []string `json:"added,omitempty"`
	Deleted []string `json:"deleted,omitempty"`
	Value   Flags    `json:"value"` // the whole set now, sorted
}

// Changes is what differs in a message.
type Changes struct {
	Flags  *Difference `json:"flags,omitempty"`
	Labels *Difference `json:"labels,omitempty"`
}

// MessageUpdated is the payload of messageUpdated: flags or labels differ between
// two looks. It does not say who changed them, nor how often in between.
type MessageUpdated struct {
	ID        string  `json:"id"`
	UID       uint32  `json:"uid"`
	EmailID   string  `json:"emailId,omitempty"`
	ThreadID  string  `json:"threadId,omitempty"`
	MessageID string  `json:"messageId,omitempty"`
	Changes   Changes `json:"changes"`
	Cause     string  `json:"cause,omitempty"`
}

// MessageDeleted is the payload of messageDeleted: a UID left the folder under one
// UIDVALIDITY, expunged or moved out. It does not prove that the message is gone
// from the account.
type MessageDeleted struct {
	ID        string   `json:"id"`
	UID       uint32   `json:"uid"`
	EmailID   string   `json:"emailId,omitempty"`
	ThreadID  string   `json:"threadId,omitempty"`
	MessageID string   `json:"messageId,omitempty"`
	Flags     []string `json:"flags,omitempty"`
	Labels    []string `json:"labels,omitempty"`
	Related   *Related `json:"related,omitempty"`
	Cause     string   `json:"cause,omitempty"`
}

// Previous is where a moved message was.
type Previous struct {
	ID         string `json:"id"`
	UID        uint32 `json:"uid"`
	Path       string `json:"path"`
	SpecialUse string `json:"specialUse,omitempty"`
}

// MessageMoved is the payload of messageMoved: a message left one watched folder and is
// in another, for certain; it stands for a messageDeleted there and a messageNew here.
// It does not say who moved it.
type MessageMoved struct {
	ID        string   `json:"id"`
	UID       uint32   `json:"uid"`
	Previous  Previous `json:"previous"`
	EmailID   string   `json:"emailId,omitempty"`
	ThreadID  string   `json:"threadId,omitempty"`
	MessageID string   `json:"messageId,omitempty"`
	Flags     Flags    `json:"flags"`
	Labels    Labels   `json:"labels,omitzero"`
	Evidence  Evidence `json:"evidence"`
	Cause     string   `json:"cause,omitempty"`
}

// MessageMissing is the payload of messageMissing: the server announced a UID and
// did not hand it out. It is no proof of loss.
type MessageMissing struct {
	ID             string `json:"id"`
	UID            uint32 `json:"uid"`
	MissingRetries int    `json:"missingRetries"`
	MissingDelay   int64  `json:"missingDelay"` // milliseconds
	Reason         string `json:"reason"`       // "notReturned" or "serverError"
	Response       string `json:"response,omitempty"`
}

// EventType implements Payload.
func (MessageNew) EventType() Type { return MessageNewType }

// EventType implements Payload.
func (MessageUpdated) EventType() Type { return MessageUpdatedType }

// EventType implements Payload.
func (MessageDeleted) EventType() Type { return MessageDeletedType }

// EventType implements Payload.
func (MessageMoved) EventType() Type { return MessageMovedType }

// EventType implements Payload.
func (MessageMissing) EventType() Type { return MessageMissingType }

func (MessageNew) sealed()     {}
func (MessageUpdated) sealed() {}
func (MessageDeleted) sealed() {}
func (MessageMoved) sealed()   {}
func (MessageMissing) sealed() {}
