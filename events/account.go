package events

// AccountAdded is the payload of accountAdded: an unknown id was registered. It is
// appended before any connection and proves nothing about the credentials.
type AccountAdded struct {
	Account string `json:"account"`
	Epoch   int64  `json:"epoch"` // Unix milliseconds
}

// AccountInitialized is the payload of accountInitialized: the first complete look
// at all watched folders has ended.
type AccountInitialized struct {
	Initialized bool   `json:"initialized"` // always true
	Reason      string `json:"reason"`      // "added", "flush" or "stateLost"
	Folders     int    `json:"folders"`
	Messages    int    `json:"messages"`
	Announced   int    `json:"announced"`
	DurationMS  int64  `json:"durationMs"`
}

// AccountDeleted is the payload of accountDeleted: the last event of an account.
type AccountDeleted struct {
	Account       string `json:"account"`
	OutboxDropped int    `json:"outboxDropped"`
}

// AccountPaused is the payload of accountPaused: while paused expect no message
// event of the account.
type AccountPaused struct {
	Reason string `json:"reason"` // "api" or "authenticationFailing"
	Since  *Time  `json:"since,omitempty"`
}

// AccountResumed is the payload of accountResumed.
type AccountResumed struct {
	Reason string `json:"reason"`
	Since  *Time  `json:"since,omitempty"`
}

// Gap bounds a time in which events may have been missed.
type Gap struct {
	From *Time `json:"from,omitempty"`
	To   Time  `json:"to"`
}

// AccountStateLost is the payload of accountStateLost: what we knew of the account's
// folders is gone. It is baselined again silently; mail that came within Gap is not
// announced.
type AccountStateLost struct {
	Epoch        int64  `json:"epoch"`
	PrevEpoch    int64  `json:"prevEpoch,omitempty"`
	Reason       string `json:"reason"` // "missing", "corrupt" or "version"
	Gap          Gap    `json:"gap"`
	SeqRestarted bool   `json:"seqRestarted"`
	LastSeq      uint64 `json:"lastSeq,omitempty"`
}

// AccountStalled is the payload of accountStalled: no command was completed on the
// account for the time of the setting stallAfter, or no process holds it. It does
// not say whose fault that is.
type AccountStalled struct {
	LastProvenAlive *Time  `json:"lastProvenAlive,omitempty"`
	Reason          string `json:"reason"` // "noAnswer", "notConnected", "noOwner" or "throttled"
	State           string `json:"state"`
}

// AccountRecovered is the payload of accountRecovered: the end of an accountStalled.
type AccountRecovered struct {
	LastProvenAlive Time  `json:"lastProvenAlive"`
	StalledFor      int64 `json:"stalledFor"` // seconds
}

// AuthenticationSuccess is the payload of authenticationSuccess: the first login, or
// the first after an error state; not every login.
type AuthenticationSuccess struct {
	User    string `json:"user"`
	Service string `json:"service"`           // "imap" or "smtp"
	DownFor int64  `json:"downFor,omitempty"` // seconds
}

// AuthenticationError is the payload of authenticationError: the server refused the
// credentials. It does not prove that they are wrong elsewhere.
type AuthenticationError struct {
	Response           string `json:"response,omitempty"`
	ServerResponseCode string `json:"serverResponseCode,omitempty"`
	Service            string `json:"service"`
	Class              string `json:"class"` // "credentials", "grant", "consent", "blocked" or "authServer"
}

// ConnectError is the payload of connectError: no session came about, and nothing
// was learnt about the credentials.
type ConnectError struct {
	Response           string `json:"response"`
	ServerResponseCode string `json:"serverResponseCode,omitempty"`
	Service            string `json:"service"` // "imap", "smtp" or "oauth"
	Host               string `json:"host"`
	Port               int    `json:"port"`
	Class              string `json:"class"` // "dns", "refused", "timeout", "tls", "greeting", "throttled", "proxy" or "network"
	NextAttempt        *Time  `json:"nextAttempt,omitempty"`
}

// EventType implements Payload.
func (AccountAdded) EventType() Type { return AccountAddedType }

// EventType implements Payload.
func (AccountInitialized) EventType() Type { return AccountInitializedType }

// EventType implements Payload.
func (AccountDeleted) EventType() Type { return AccountDeletedType }

// EventType implements Payload.
func (AccountPaused) EventType() Type { return AccountPausedType }

// EventType implements Payload.
func (AccountResumed) EventType() Type { return AccountResumedType }

// EventType implements Payload.
func (AccountStateLost) EventType() Type { return AccountStateLostType }

// EventType implements Payload.
func (AccountStalled) EventType() Type { return AccountStalledType }

// EventType implements Payload.
func (AccountRecovered) EventType() Type { return AccountRecoveredType }

// EventType implements Payload.
func (AuthenticationSuccess) EventType() Type { return AuthenticationSuccessType }

// EventType implements Payload.
func (AuthenticationError) EventType() Type { return AuthenticationErrorType }

// EventType implements Payload.
func (ConnectError) EventType() Type { return ConnectErrorType }

func (AccountAdded) sealed()          {}
func (AccountInitialized) sealed()    {}
func (AccountDeleted) sealed()        {}
func (AccountPaused) sealed()         {}
func (AccountResumed) sealed()        {}
func (AccountStateLost) sealed()      {}
func (AccountStalled) sealed()        {}
func (AccountRecovered) sealed()      {}
func (AuthenticationSuccess) sealed() {}
func (AuthenticationError) sealed()   {}
func (ConnectError) sealed()          {}
