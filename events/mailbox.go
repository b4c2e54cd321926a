package events

import "encoding/json"

// Role is a folder's special use in a mailbox event, where none is written false
// (the envelope leaves it out instead).
type Role string

// MarshalJSON writes the role, or false.
func (r Role) MarshalJSON() ([]byte, error) { return falseWhenEmpty(string(r)) }

// UIDValidity is a folder's UIDVALIDITY as a decimal string; "" is written false.
type UIDValidity string

// MarshalJSON writes the number as a string, or false.
func (v UIDValidity) MarshalJSON() ([]byte, error) { return falseWhenEmpty(string(v)) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (r *Role) UnmarshalJSON(b []byte) error { return emptyWhenFalse((*string)(r), b) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (v *UIDValidity) UnmarshalJSON(b []byte) error { return emptyWhenFalse((*string)(v), b) }

func emptyWhenFalse(s *string, b []byte) error {
	*s = ""
	if string(b) == "false" {
		return nil
	}
	return json.Unmarshal(b, s)
}

func falseWhenEmpty(s string) ([]byte, error) {
	if s == "" {
		return []byte("false"), nil
	}
	return json.Marshal(s)
}

// Folder is what every mailbox event begins with.
type Folder struct {
	Path       string `json:"path"`
	Name       string `json:"name"` // the last part of Path
	SpecialUse Role   `json:"specialUse"`
}

// RelatedFolder names the other half of a folder's rename.
type RelatedFolder struct {
	Event   Type   `json:"event"`
	EventID ID     `json:"eventId"`
	Path    string `json:"path"`
	IDsKept bool   `json:"idsKept"` // message ids stay what they were
}

// MailboxNew is the payload of mailboxNew: a folder was found and looked at once.
// It does not prove that it was just made.
type MailboxNew struct {
	Folder
	UIDValidity UIDValidity    `json:"uidValidity"`
	Messages    int            `json:"messages"`
	Announced   int            `json:"announced"` // how many get a messageNew
	Related     *RelatedFolder `json:"related,omitempty"`
	Cause       string         `json:"cause,omitempty"`
}

// MailboxDeleted is the payload of mailboxDeleted: a folder is gone from a complete,
// successful LIST: removed, hidden, or no longer allowed. It stands for all its
// messages.
type MailboxDeleted struct {
	Folder
	Messages int            `json:"messages"`
	Related  *RelatedFolder `json:"related,omitempty"`
	Cause    string         `json:"cause,omitempty"`
}

// MailboxRenamed is the payload of mailboxRenamed: a folder has another name. The ids of
// its messages stay, and there are no events of them.
type MailboxRenamed struct {
	Folder
	PreviousPath string      `json:"previousPath"`
	UIDValidity  UIDValidity `json:"uidValidity"`
	Evidence     Evidence    `json:"evidence"` // "rename", "mailboxId" or "content"
	Cause        string      `json:"cause,omitempty"`
}

// MailboxReset is the payload of mailboxReset: UIDVALIDITY changed, or the state of
// this one folder was lost. The folder's message ids end; nothing is said about
// single deletions.
type MailboxReset struct {
	Folder
	UIDValidity     UIDValidity  `json:"uidValidity"`
	PrevUIDValidity *UIDValidity `json:"prevUidValidity,omitempty"`
	Reason          string       `json:"reason"` // "uidValidityChange" or "syncStateLost"
	Messages        int          `json:"messages"`
	Matched         int          `json:"matched"`
	Announced       int          `json:"announced"`
}

// MailboxStalled is the payload of mailboxStalled: the folder cannot be looked at
// while the account can. Its events may be late.
type MailboxStalled struct {
	Folder
	Since    Time   `json:"since"`
	Reason   string `json:"reason"` // "refused", "noAnswer" or "throttled"
	Response string `json:"response,omitempty"`
	Failures int    `json:"failures"`
}

// MailboxRecovered is the payload of mailboxRecovered: the end of a mailboxStalled.
type MailboxRecovered struct {
	Folder
	Since      Time  `json:"since"`
	StalledFor int64 `json:"stalledFor"` // seconds
}

// EventType implements Payload.
func (MailboxNew) EventType() Type { return MailboxNewType }

// EventType implements Payload.
func (MailboxDeleted) EventType() Type { return MailboxDeletedType }

// EventType implements Payload.
func (MailboxRenamed) EventType() Type { return MailboxRenamedType }

// EventType implements Payload.
func (MailboxReset) EventType() Type { return MailboxResetType }

// EventType implements Payload.
func (MailboxStalled) EventType() Type { return MailboxStalledType }

// EventType implements Payload.
func (MailboxRecovered) EventType() Type { return MailboxRecoveredType }

func (MailboxNew) sealed()       {}
func (MailboxDeleted) sealed()   {}
func (MailboxRenamed) sealed()   {}
func (MailboxReset) sealed()     {}
func (MailboxStalled) sealed()   {}
func (MailboxRecovered) sealed() {}
