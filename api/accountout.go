package api

import (
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
)

// stamp is a time in an answer: UTC with milliseconds, or null.
func stamp(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	s := events.TimeOf(t).String()
	return &s
}

// AccountRow is an account in a list.
type AccountRow struct {
	Account         string        `json:"account"`
	Name            string        `json:"name"`
	Email           string        `json:"email"`
	Type            string        `json:"type" enum:"imap,sending,unset" doc:"what it is for: sending is an account with no server to watch"`
	State           string        `json:"state" enum:"init,connecting,syncing,connected,disconnected,authenticationError,connectError,paused,unset"`
	Health          Health        `json:"health" enum:"ok,starting,degraded,down,action-needed,paused"`
	LastError       *lastErrorOut `json:"lastError,omitempty"`
	SyncTime        *string       `json:"syncTime" format:"date-time" doc:"end of the last whole pass"`
	LastProvenAlive *string       `json:"lastProvenAlive" format:"date-time" doc:"last finished round trip on the watching connection"`
}

// accountOut is everything that is shown of an account.
type accountOut struct {
	AccountRow
	Version    uint64      `json:"version"`
	Epoch      int64       `json:"epoch"`
	Path       []string    `json:"path" nullable:"false"`
	Live       []string    `json:"subconnections,omitempty" nullable:"false"`
	Indexer    string      `json:"imapIndexer,omitempty" enum:"fast"`
	Logs       bool        `json:"logs,omitempty"`
	Webhooks   string      `json:"webhooks,omitempty"`
	Headers    []headerOut `json:"webhooksCustomHeaders,omitempty" nullable:"false"`
	NotifyFrom *string     `json:"notifyFrom" format:"date-time"`
	Metadata   *Object     `json:"metadata,omitempty"`
	IMAP       *imapOut    `json:"imap,omitempty"`
	SMTP       *smtpOut    `json:"smtp,omitempty"`
	SendingOut
	WatchingOut // what the account has for itself
	ContentOut  // likewise

	SMTPStatus   *smtpStatusOut `json:"smtpStatus,omitempty" doc:"how its submission server was found last"`
	SendOnly     bool           `json:"sendOnly,omitempty" doc:"it has no server to watch"`
	Insecure     bool           `json:"insecure,omitempty" doc:"certificates of its servers are not checked"`
	Connections  int            `json:"connections"`
	Owner        *string        `json:"owner" doc:"process that watches it"`
	Sync         *syncOut       `json:"sync,omitempty"`
	SyncError    *syncErrorOut  `json:"syncError,omitempty"`
	Capabilities []string       `json:"capabilities,omitempty" nullable:"false"`
	Plan         []string       `json:"plan,omitempty" nullable:"false" doc:"what is watched how, in words"`
	Paused       *pauseOut      `json:"paused,omitempty"`
	Created      *string        `json:"created" format:"date-time"`
	Updated      *string        `json:"updated" format:"date-time"`
}

type headerOut struct {
	Key   string `json:"key"`
	Value string `json:"value" doc:"masked"`
}

type pauseOut struct {
	Reason string  `json:"reason"`
	Since  *string `json:"since" format:"date-time"`
}

type lastErrorOut struct {
	Kind        string  `json:"kind" doc:"what is broken: authDead, serverDown, silent, throttled, tls, config, folder, internal"`
	Class       string  `json:"class"`
	Service     string  `json:"service"`
	Response    string  `json:"response,omitempty"`
	Code        string  `json:"serverResponseCode,omitempty"`
	Description string  `json:"description,omitempty"`
	At          *string `json:"at" format:"date-time"`
	Since       *string `json:"since" format:"date-time"`
	Count       int     `json:"count"`
	NextTry     *string `json:"nextTry" format:"date-time"`
	Until       *string `json:"until" format:"date-time"`
	Action      string  `json:"action,omitempty" doc:"a sentence to show a user"`
	Docs        string  `json:"docs,omitempty"`
}

type syncOut struct {
	Phase        string  `json:"phase"`
	FoldersTotal int     `json:"foldersTotal"`
	FoldersDone  int     `json:"foldersDone"`
	Messages     int     `json:"messages"`
	StartedAt    *string `json:"startedAt" format:"date-time"`
}

type syncErrorOut struct {
	Path  string  `json:"path"`
	Time  *string `json:"time" format:"date-time"`
	Error string  `json:"error"`
}

type imapOut struct {
	Host        string   `json:"host"`
	Port        int      `json:"port"`
	Secure      bool     `json:"secure"`
	Plaintext   bool     `json:"plaintext,omitempty"`
	Auth        *authOut `json:"auth"`
	TLS         *tlsOut  `json:"tls,omitempty"`
	Disabled    bool     `json:"disabled,omitempty"`
	SentPath    string   `json:"sentMailPath,omitempty"`
	DraftsPath  string   `json:"draftsMailPath,omitempty"`
	JunkPath    string   `json:"junkMailPath,omitempty"`
	TrashPath   string   `json:"trashMailPath,omitempty"`
	ArchivePath string   `json:"archiveMailPath,omitempty"`
}

type smtpOut struct {
	Host      string   `json:"host"`
	Port      int      `json:"port"`
	Secure    bool     `json:"secure"`
	Plaintext bool     `json:"plaintext,omitempty"`
	Auth      *authOut `json:"auth,omitempty"`
	TLS       *tlsOut  `json:"tls,omitempty"`
}

// SendingOut is how an account sends, as far as it was said.
type SendingOut struct {
	EHLOName   string      `json:"smtpEhloName,omitempty"`
	Copy       *bool       `json:"copy,omitempty"`
	SendLimits *sendLimits `json:"sendLimits,omitempty"`
	Aliases    []string    `json:"aliases,omitempty" nullable:"false"`
	Locale     string      `json:"locale,omitempty"`
	Timezone   string      `json:"tz,omitempty"`
}

type smtpStatusOut struct {
	Created      *string `json:"created" format:"date-time" doc:"since when it is so"`
	Status       string  `json:"status" enum:"ok,error"`
	Response     string  `json:"response,omitempty"`
	ResponseCode int     `json:"responseCode,omitempty"`
	Code         string  `json:"code,omitempty" doc:"as in messageDeliveryError"`
	Command      string  `json:"command,omitempty"`
	Description  string  `json:"description,omitempty"`
	Class        string  `json:"class,omitempty" doc:"as in authenticationError and connectError"`
}

type authOut struct {
	User        string `json:"user"`
	Pass        string `json:"pass,omitempty" doc:"masked"`
	AccessToken string `json:"accessToken,omitempty" doc:"masked"`
}

type tlsOut struct {
	CA                 string   `json:"ca,omitempty"`
	Pin                []string `json:"pin,omitempty" nullable:"false"`
	MinVersion         string   `json:"minVersion,omitempty"`
	RejectUnauthorized bool     `json:"rejectUnauthorized"`
	ServerName         string   `json:"serverName,omitempty"`
}

// rowOf joins an account with its state.
func rowOf(a store.Account, st store.State, silent time.Duration, now time.Time) AccountRow {
	row := AccountRow{
		Account: string(a.ID), Name: a.Name, Email: a.Email, Type: "imap", State: st.Status.State,
		SyncTime: stamp(st.Status.SyncTime), LastProvenAlive: stamp(st.LastAlive),
		Health: HealthOf(a, st.Status, st.LastAlive, silent, now),
	}
	if row.Health == HealthOK && a.IMAP == nil {
		row.Health = sendingHealth(st.SMTP)
	}
	switch {
	case a.IMAP == nil && a.SMTP != nil:
		row.Type = "sending"
	case a.IMAP == nil:
		row.Type = "unset"
	}
	switch {
	case a.Paused != nil:
		row.State = store.StatePaused
	case a.IMAP == nil || a.IMAP.Disabled:
		row.State = store.StateUnset
	case row.State == "":
		row.State = store.StateInit
	}
	if e := st.Status.LastError; e != nil {
		row.LastError = &lastErrorOut{
			Kind: e.Kind, Class: e.Class, Service: e.Service, Response: e.Response, Code: e.Code, Description: e.Description,
			At: stamp(e.At), Since: stamp(e.Since), Count: e.Count, NextTry: stamp(e.NextTry), Until: stamp(e.Until),
			Action: e.Action, Docs: errorDocs(e.Docs),
		}
	}
	return row
}

// show is an account as GET answers it.
func show(a store.Account, st store.State, silent time.Duration, now time.Time) accountOut {
	out := accountOut{
		AccountRow: rowOf(a, st, silent, now), Version: a.Version, Epoch: a.Epoch, Path: a.Paths, Live: a.Live, Indexer: a.Indexer, Logs: a.Logs,
		NotifyFrom: stamp(a.NotifyFrom), Connections: st.Status.Connections,
		WatchingOut:  watchingOf(a.Override),
		ContentOut:   ContentOut(a.Override.ContentOverride),
		SendingOut:   SendingOut{EHLOName: a.SMTPEHLOName, Copy: a.Copy, Aliases: a.Aliases, Locale: a.Locale, Timezone: a.Timezone},
		Capabilities: st.Status.Capabilities, Plan: st.Status.Plan, Created: stamp(a.Created), Updated: stamp(a.Updated),
	}
	if st.Epoch != 0 {
		out.Epoch = st.Epoch
	}
	if len(out.Path) == 0 {
		out.Path = []string{"*"}
	}
	if !a.Webhooks.Empty() {
		out.Webhooks = showURL(a.Webhooks)
	}
	for _, h := range a.Headers {
		out.Headers = append(out.Headers, headerOut{h.Key, h.Value.String()})
	}
	if len(a.Metadata) > 0 {
		m := Object(a.Metadata)
		out.Metadata = &m
	}
	if a.IMAP != nil {
		out.IMAP = showServer(*a.IMAP)
		out.Insecure = a.IMAP.TLS.InsecureSkipVerify
	}
	if a.SMTP != nil {
		out.SMTP = showSMTP(*a.SMTP)
		out.Insecure = out.Insecure || a.SMTP.TLS.InsecureSkipVerify
		out.SendOnly = a.IMAP == nil
	}
	if s := st.SMTP; s.Status != "" && a.SMTP != nil {
		out.SMTPStatus = &smtpStatusOut{stamp(s.Created), s.Status, s.Response, s.ResponseCode, s.Code, s.Command, s.Description, s.Class}
	}
	if a.SendLimits != (store.SendLimits{}) {
		limits := sendLimits(a.SendLimits)
		out.SendLimits = &limits
	}
	if st.Owner != "" {
		out.Owner = &st.Owner
	}
	if p := st.Status.Sync; p.Phase != "" {
		out.Sync = &syncOut{p.Phase, p.FoldersTotal, p.FoldersDone, p.Messages, stamp(p.StartedAt)}
	}
	if e := st.Status.SyncError; e != nil {
		out.SyncError = &syncErrorOut{e.Path, stamp(e.Time), e.Error}
	}
	if a.Paused != nil {
		out.Paused = &pauseOut{a.Paused.Reason, stamp(a.Paused.Since)}
		out.Connections = 0
	}
	return out
}

func showServer(s store.Server) *imapOut {
	return &imapOut{
		Host: s.Host, Port: s.Port, Secure: s.Secure, Plaintext: s.Plaintext, Disabled: s.Disabled, Auth: showAuth(s), TLS: showTLS(s.TLS),
		SentPath: s.Roles.Sent, DraftsPath: s.Roles.Drafts, JunkPath: s.Roles.Junk, TrashPath: s.Roles.Trash, ArchivePath: s.Roles.Archive,
	}
}

func showSMTP(s store.Server) *smtpOut {
	out := &smtpOut{Host: s.Host, Port: s.Port, Secure: s.Secure, Plaintext: s.Plaintext, TLS: showTLS(s.TLS)}
	if s.User != "" {
		out.Auth = showAuth(s)
	}
	return out
}

func showAuth(s store.Server) *authOut {
	return &authOut{s.User, s.Pass.String(), s.AccessToken.String()}
}

// showTLS is nil where nothing was said.
func showTLS(t store.ServerTLS) *tlsOut {
	if t.CA == "" && len(t.Pin) == 0 && t.MinVersion == "" && t.ServerName == "" && !t.InsecureSkipVerify {
		return nil
	}
	return &tlsOut{t.CA, t.Pin, t.MinVersion, !t.InsecureSkipVerify, t.ServerName}
}
