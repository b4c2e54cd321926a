package store

import (
	"encoding/json"
	"time"
)

// State is everything an account's hash holds beside its folders.
type State struct {
	Epoch         int64  // part of every event id
	Seq           uint64 // of the last event
	Initialized   bool   // accountInitialized was said
	Reason        string // why the first look is taken: one of the Reason…
	ListVersion   uint64 // version of the folder list
	NextNum       uint32 // next folder number, never given twice
	StatusVersion uint64
	Status        Status
	SMTP          SMTPStatus
	Fence         uint64    // the current fencing number
	Owner         string    // process that holds the lease, "" when none
	LastAlive     time.Time // last proof of life that was recorded
	Flush         *Flush    // to be done; nil: none
	NotifyFrom    time.Time // of the last flush, instead of the account's own; zero: there was none
}

// The words of Status.State.
const (
	StateInit                = "init"
	StateConnecting          = "connecting"
	StateSyncing             = "syncing"
	StateConnected           = "connected"
	StateDisconnected        = "disconnected"
	StateAuthenticationError = "authenticationError"
	StateConnectError        = "connectError"
	StatePaused              = "paused"
	StateUnset               = "unset"
)

// Status is what a worker last said of its account. It is shown as it is.
type Status struct {
	State        string     `json:"state"` // one of the State words
	LastError    *LastError `json:"lastError,omitempty"`
	Sync         SyncPhase  `json:"sync,omitzero"`
	Capabilities []string   `json:"capabilities,omitempty"`
	Plan         []string   `json:"plan,omitempty"`       // what is watched how, in words
	SyncTime     time.Time  `json:"syncTime,omitzero"`    // end of the last whole pass
	LoggedIn     time.Time  `json:"loggedIn,omitzero"`    // last successful login
	DownSince    time.Time  `json:"downSince,omitzero"`   // since when it is in an error state
	AuthFailing  time.Time  `json:"authFailing,omitzero"` // since when the credentials are refused
	Stalled      time.Time  `json:"stalled,omitzero"`     // accountStalled was said then, and no accountRecovered yet
	Connections  int        `json:"connections,omitempty"`
	Failures     int        `json:"failures,omitempty"` // attempts in a row, for back-off
	Latches      []Latch    `json:"latches,omitempty"`  // what the server offers and does not do as it should
	SyncError    *SyncError `json:"syncError,omitempty"`
}

// Latch is something that an account's server offers and that is not used, because it
// did not behave.
type Latch struct {
	Name   string    `json:"name"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at,omitzero"`
	Server string    `json:"server,omitempty"` // name and version of the server that misbehaved
	Once   bool      `json:"once,omitempty"`   // misbehaved once: in use until the second time
}

// UnmarshalJSON also reads a bare name, as latches were kept at first.
func (l *Latch) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*l = Latch{}
		return json.Unmarshal(b, &l.Name)
	}
	type plain Latch
	return json.Unmarshal(b, (*plain)(l))
}

// SyncPhase is how far the present pass is.
type SyncPhase struct {
	Phase        string    `json:"phase"` // "list", "baseline", "catchup" or "idle"
	FoldersTotal int       `json:"foldersTotal"`
	FoldersDone  int       `json:"foldersDone"`
	Messages     int       `json:"messages"`
	StartedAt    time.Time `json:"startedAt,omitzero"`
}

// LastError is the error an account is in, or was last in.
type LastError struct {
	Kind        string    `json:"kind"`  // authDead, config, throttled, serverDown, silent, tls, folder, internal, …
	Class       string    `json:"class"` // as in the event
	Service     string    `json:"service"`
	Response    string    `json:"response,omitempty"`
	Code        string    `json:"serverResponseCode,omitempty"`
	Description string    `json:"description,omitempty"`
	At          time.Time `json:"at"`
	Since       time.Time `json:"since"`
	Count       int       `json:"count"`
	NextTry     time.Time `json:"nextTry,omitzero"`
	Until       time.Time `json:"until,omitzero"`
	Action      string    `json:"action,omitempty"` // a sentence to show a user
	Docs        string    `json:"docs,omitempty"`
}

// SyncError is the last error of a single folder.
type SyncError struct {
	Path  string    `json:"path"`
	Time  time.Time `json:"time"`
	Error string    `json:"error"`
}
