package store

import (
	"encoding/json"
	"time"

	"github.com/postrider/postrider/store/secret"
)

// AccountID names an account: 1–256 bytes without control characters, chosen by
// the caller or generated.
type AccountID string

// Account is what was registered: servers, credentials and wishes. What became of
// it is State.
type Account struct {
	ID       AccountID
	Name     string
	Email    string
	Paths    []string        // folders to watch; empty = all
	Live     []string        // folders beside the main one with a connection of their own (subconnections)
	Indexer  string          // how its folders are watched from their first look on: "" = in full, or IndexerFast
	Logs     bool            // its protocol trace is written, where the operator lets it
	IMAP     *Server         // nil: nothing to watch
	Webhooks secret.Text     // the account's own webhook URL (it may hold credentials); empty = none
	Headers  []Header        // its own webhook headers
	Metadata json.RawMessage // the caller's object, given back; nil = none
	Override Override        // settings of this account alone

	SMTP             *Server    // submission server; nil: sends through gateways alone
	SMTPEHLOName     string     // what to greet it with; "" = the installation's
	Copy             *bool      // whether sent mail is copied into the Sent folder; nil = as the provider needs it
	SendLimits       SendLimits // override the provider's
	Aliases          []string   // its own addresses beside Email
	Locale, Timezone string     // of texts made for it, like the line above a quoted message; "" = the installation's

	NotifyFrom time.Time // first look: announce what arrived at or after it
	Paused     *Pause    // nil: watched

	Version uint64    // +1 with every change of the above
	Epoch   int64     // registration time in Unix ms; taken anew by state loss
	Created time.Time // by Redis time
	Updated time.Time
	Deleted time.Time // zero, or when it was deleted: then only ID, Webhooks, Headers, Epoch are there
}

// IndexerFast is the Account.Indexer that has new mail told alone.
const IndexerFast = "fast"

// Server is a mail server and how to log in. A submission server may have no User: it trusts
// the network that we come from.
type Server struct {
	Host     string `json:"host"`
	Port     int    `json:"port"`
	Secure   bool   `json:"secure"` // TLS from the first byte; else STARTTLS
	User     string `json:"user"`
	Disabled bool   `json:"disabled,omitempty"`

	Plaintext bool       `json:"plaintext,omitempty"` // no STARTTLS either; only where the operator allows it
	TLS       ServerTLS  `json:"tls,omitzero"`
	Roles     RoleFolder `json:"roles,omitzero"`

	Pass        secret.Text `json:"-"`
	AccessToken secret.Text `json:"-"` // OAuth 2.0 access token, instead of Pass
}

// ServerTLS is how a server's certificate is judged.
type ServerTLS struct {
	CA                 string   `json:"ca,omitempty"`         // PEM
	Pin                []string `json:"pin,omitempty"`        // SHA-256 of SubjectPublicKeyInfo, base64
	MinVersion         string   `json:"minVersion,omitempty"` // "1.2" (default) or "1.3"
	ServerName         string   `json:"serverName,omitempty"`
	InsecureSkipVerify bool     `json:"insecure,omitempty"` // only where the operator allows it
}

// RoleFolder names folders of special use, by path; "" leaves it to the server.
type RoleFolder struct {
	Sent    string `json:"sent,omitempty"`
	Drafts  string `json:"drafts,omitempty"`
	Junk    string `json:"junk,omitempty"`
	Trash   string `json:"trash,omitempty"`
	Archive string `json:"archive,omitempty"`
}

// Header is one header of a webhook request. Its value is a secret.
type Header struct {
	Key   string      `json:"key"`
	Value secret.Text `json:"value"`
}

// Pause says that and why an account is not watched.
type Pause struct {
	Reason string    `json:"reason"` // "api" or "authenticationFailing"
	Since  time.Time `json:"since"`
}

// Override are the settings an account may have for itself; nil = the instance's.
type Override struct {
	StallAfter     *int `json:"stallAfter,omitempty"`     // seconds
	NewFolderLimit *int `json:"newFolderLimit,omitempty"` // messages

	NotifyMoves   *bool   `json:"notifyMoves,omitempty"`
	StoreIdentity *string `json:"storeIdentity,omitempty"` // one of the Identity…

	GmailCategories *bool `json:"resolveGmailCategories,omitempty"`

	ContentOverride
}

// SendLimits bound what an account sends. nil = as the provider's profile says, 0 = none.
type SendLimits struct {
	PerMinute        *int `json:"perMinute,omitempty"` // messages
	PerHour          *int `json:"perHour,omitempty"`
	PerDay           *int `json:"perDay,omitempty"`
	RecipientsPerDay *int `json:"recipientsPerDay,omitempty"`
	MaxConnections   *int `json:"maxConnections,omitempty"` // transactions at once, in all processes; 1 at least
	MinInterval      *int `json:"minInterval,omitempty"`    // ms from one transaction to the next
}

// Watchable says whether a worker should hold the account.
func (a Account) Watchable() bool {
	return a.Deleted.IsZero() && a.IMAP != nil && !a.IMAP.Disabled && a.Paused == nil
}

// firstState is the state of an account of which nothing else is known: watched, if a
// worker should hold it.
func (a Account) firstState(watched string) string {
	switch {
	case a.Paused != nil:
		return StatePaused
	case a.IMAP == nil || a.IMAP.Disabled:
		return StateUnset
	}
	return watched
}
