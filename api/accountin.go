package api

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"slices"
	"strconv"
	"strings"

	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/secret"
)

// accountIn is an account in a request. Absent fields are left alone.
type accountIn struct {
	Account    Opt[string]     `json:"account,omitempty" doc:"id, 1 to 256 bytes; absent or null when creating: made up" example:"jo"`
	Name       Opt[string]     `json:"name,omitempty" maxLength:"256" example:"Jo"`
	Email      Opt[string]     `json:"email,omitempty" maxLength:"320" example:"jo@example.com"`
	Path       Opt[List]       `json:"path,omitempty" doc:"folders to watch: a path or a list of them; * or null means all"`
	Live       Opt[List]       `json:"subconnections,omitempty" doc:"further folders that are watched live, each on a connection of its own, as far as the provider's limit goes; plan says which"`
	Indexer    Opt[string]     `json:"imapIndexer,omitempty" enum:"full,fast" doc:"fast: new mail alone is told, no changes and no deletions, and nothing is kept of messages; folders that were looked at already change with a flush; default full"`
	Logs       Opt[bool]       `json:"logs,omitempty" doc:"true: what is said on its connections is logged, with secrets, addresses and contents masked; needs log.trace"`
	Webhooks   Opt[string]     `json:"webhooks,omitempty" maxLength:"2048" doc:"the account's own webhook URL; null or empty removes it"`
	Headers    Opt[[]headerIn] `json:"webhooksCustomHeaders,omitempty" maxItems:"50"`
	NotifyFrom Opt[When]       `json:"notifyFrom,omitempty" doc:"the first look announces messages that arrived at or after it; default now"`
	SyncFrom   Opt[When]       `json:"syncFrom,omitempty" deprecated:"true" doc:"old name of notifyFrom"`
	Metadata   Opt[Object]     `json:"metadata,omitempty" doc:"yours, given back; at most 4 KiB"`
	IMAP       Block[imapIn]   `json:"imap,omitempty" doc:"the server to watch; replaced whole unless partial; false or null removes it: the account then only sends"`
	SMTP       Block[smtpIn]   `json:"smtp,omitempty" doc:"the server to send through; replaced whole unless partial; false or null removes it: the account is then only watched"`
	SendingIn
	WatchingIn
	ContentIn
}

type headerIn struct {
	Key   string `json:"key" minLength:"1" maxLength:"256" example:"X-Team"`
	Value string `json:"value" maxLength:"8192" example:"blue"`
}

type imapIn struct {
	ServerIn
	Host        Opt[string] `json:"host,omitempty" minLength:"1" maxLength:"253" example:"imap.example.com"`
	Port        Opt[int]    `json:"port,omitempty" minimum:"1" maximum:"65535" doc:"default 993, or 143 without secure" example:"993"`
	Secure      Opt[bool]   `json:"secure,omitempty" doc:"true: TLS from the first byte. false: STARTTLS, and no login without it. Default true unless the port is 143"`
	Disabled    Opt[bool]   `json:"disabled,omitempty" doc:"true: keep the settings, watch nothing"`
	SentPath    Opt[string] `json:"sentMailPath,omitempty" maxLength:"1024"`
	DraftsPath  Opt[string] `json:"draftsMailPath,omitempty" maxLength:"1024"`
	JunkPath    Opt[string] `json:"junkMailPath,omitempty" maxLength:"1024"`
	TrashPath   Opt[string] `json:"trashMailPath,omitempty" maxLength:"1024"`
	ArchivePath Opt[string] `json:"archiveMailPath,omitempty" maxLength:"1024"`
}

// ServerIn is what the servers of a request have in common.
type ServerIn struct {
	Partial   bool        `json:"partial,omitempty" doc:"keep what is not given, instead of replacing the block"`
	Plaintext Opt[bool]   `json:"plaintext,omitempty" doc:"true: no TLS at all, everything readable on the way; needs mail.allowPlaintext"`
	Auth      Opt[authIn] `json:"auth,omitempty"`
	TLS       Opt[tlsIn]  `json:"tls,omitempty"`
}

type authIn struct {
	User        Opt[string] `json:"user,omitempty" minLength:"1" maxLength:"320" example:"jo@example.com"`
	Pass        Opt[string] `json:"pass,omitempty" minLength:"1" maxLength:"4096" writeOnly:"true" example:"correct horse"`
	AccessToken Opt[string] `json:"accessToken,omitempty" minLength:"1" maxLength:"16384" writeOnly:"true" doc:"OAuth 2.0 access token instead of pass; you renew it by PUT"`
}

type tlsIn struct {
	CA                 Opt[string] `json:"ca,omitempty" maxLength:"262144" doc:"PEM certificates to trust instead of the system's"`
	Pin                Opt[List]   `json:"pin,omitempty" doc:"SHA-256 of the server's SubjectPublicKeyInfo, base64; one or several"`
	MinVersion         Opt[string] `json:"minVersion,omitempty" enum:"1.2,1.3,TLSv1.2,TLSv1.3"`
	RejectUnauthorized Opt[bool]   `json:"rejectUnauthorized,omitempty" doc:"false: believe any certificate; needs mail.allowInsecureTLS"`
	ServerName         Opt[string] `json:"serverName,omitempty" maxLength:"253" doc:"name to expect in the certificate, if not host"`
}

// maxMetadata is the most that metadata may take.
const maxMetadata = 4 << 10

// apply makes the changes that a request asks for. It may be called several times, each
// time with the account as it is stored.
func (in accountIn) apply(a *store.Account, c Config) error {
	in.Name.into(&a.Name)
	in.Email.into(&a.Email)
	if in.Path.Set {
		a.Paths = nil
		if list := in.Path.Value; !slices.Contains(list, "*") {
			a.Paths = list
		}
	}
	if in.Live.Set {
		a.Live = in.Live.Value
	}
	if in.Indexer.Set {
		a.Indexer = strings.TrimPrefix(in.Indexer.Value, "full")
	}
	in.Logs.into(&a.Logs)
	if in.Webhooks.Set {
		a.Webhooks = secret.New(in.Webhooks.Value)
	}
	if in.Headers.Set {
		a.Headers = headersOf(in.Headers.Value)
	}
	if in.NotifyFrom.Set && in.SyncFrom.Set {
		return invalid("body.syncFrom", "Conflict", "is the old name of notifyFrom; give one of them")
	}
	for _, from := range []Opt[When]{in.NotifyFrom, in.SyncFrom} {
		if from.Set {
			a.NotifyFrom = from.Value.Time
		}
	}
	if in.Metadata.Set {
		a.Metadata = nil
		if !in.Metadata.Null {
			var small bytes.Buffer
			if err := json.Compact(&small, in.Metadata.Value); err != nil {
				return invalid("body.metadata", "Invalid", "cannot be read")
			}
			if small.Len() > maxMetadata {
				return invalid("body.metadata", "OutOfRange", "must be at most %d bytes", maxMetadata)
			}
			a.Metadata = small.Bytes()
		}
	}
	in.WatchingIn.apply(&a.Override)
	if err := in.ContentIn.apply(&a.Override.ContentOverride); err != nil {
		return err
	}
	if err := in.SendingIn.apply(a); err != nil {
		return err
	}
	if err := in.IMAP.server(&a.IMAP, c, imapIn.server); err != nil {
		return err
	}
	return in.SMTP.server(&a.SMTP, c, smtpIn.server)
}

// server puts a server that was said in its place; what is removed leaves nil there.
func (o Block[T]) server(dst **store.Server, c Config, make func(T, *store.Server, Config) (*store.Server, error)) error {
	if !o.Set || o.Null {
		if o.Null {
			*dst = nil
		}
		return nil
	}
	next, err := make(o.Value, *dst, c)
	if err != nil {
		return err
	}
	*dst = next
	return nil
}

// server is the server that a request asks for; old is the stored one, or nil.
func (in imapIn) server(old *store.Server, c Config) (*store.Server, error) {
	at := serverPlace{"body.imap", "body.imap.auth"}
	next, err := in.base(at, old)
	if err != nil {
		return nil, err
	}
	in.Host.into(&next.Host)
	in.Port.into(&next.Port)
	in.Disabled.into(&next.Disabled)
	switch {
	case in.Secure.Set && !in.Secure.Null:
		next.Secure = in.Secure.Value
	case in.Secure.Null || !in.Partial || old == nil:
		next.Secure = next.Port != 143 && !next.Plaintext
	}
	if next.Port == 0 {
		next.Port = 143
		if next.Secure {
			next.Port = 993
		}
	}
	in.SentPath.into(&next.Roles.Sent)
	in.DraftsPath.into(&next.Roles.Drafts)
	in.JunkPath.into(&next.Roles.Junk)
	in.TrashPath.into(&next.Roles.Trash)
	in.ArchivePath.into(&next.Roles.Archive)
	if next.User == "" {
		return nil, invalid("body.imap.auth.user", "Required", "is required")
	}
	return &next, in.judge(at, old, next, c)
}

// serverPlace is where a server and its login stand in a request.
type serverPlace struct{ server, auth string }

// base is the stored server, or an empty one, with what was given of the common fields.
func (in ServerIn) base(at serverPlace, old *store.Server) (store.Server, error) {
	var next store.Server
	if in.Partial && old != nil {
		next = *old
	}
	in.Plaintext.into(&next.Plaintext)
	if in.TLS.Null {
		next.TLS = store.ServerTLS{}
	}
	if err := in.TLS.Value.into(at.server+".tls", &next.TLS); err != nil {
		return next, err
	}
	if in.Auth.Null {
		next.User, next.Pass, next.AccessToken = "", secret.Text{}, secret.Text{}
	}
	return next, in.Auth.Value.into(at.auth, &next)
}

// into sets what was given.
func (in tlsIn) into(at string, t *store.ServerTLS) error {
	in.CA.into(&t.CA)
	if in.CA.Value != "" {
		block, _ := pem.Decode([]byte(in.CA.Value))
		if block == nil || !x509.NewCertPool().AppendCertsFromPEM([]byte(in.CA.Value)) {
			return invalid(at+".ca", "Invalid", "must be certificates in PEM")
		}
	}
	if in.Pin.Set {
		t.Pin = in.Pin.Value
		for i, pin := range in.Pin.Value {
			if b, err := base64.StdEncoding.DecodeString(pin); err != nil || len(b) != 32 {
				return invalid(at+".pin["+strconv.Itoa(i)+"]", "Invalid", "must be a SHA-256 in base64")
			}
		}
	}
	if in.MinVersion.Set {
		t.MinVersion = strings.TrimPrefix(in.MinVersion.Value, "TLSv")
	}
	if in.RejectUnauthorized.Set {
		t.InsecureSkipVerify = !in.RejectUnauthorized.Value && !in.RejectUnauthorized.Null
	}
	in.ServerName.into(&t.ServerName)
	return nil
}

// into sets what was given; a password and an access token replace each other.
func (in authIn) into(at string, s *store.Server) error {
	in.User.into(&s.User)
	pass, token := secret.New(in.Pass.Value), secret.New(in.AccessToken.Value)
	switch {
	case masked(pass):
		return maskedAt(at + ".pass")
	case masked(token):
		return maskedAt(at + ".accessToken")
	case !pass.Empty() && !token.Empty():
		return invalid(at+".accessToken", "Conflict", "cannot be given together with pass")
	case !pass.Empty():
		s.Pass, s.AccessToken = pass, secret.Text{}
	case !token.Empty():
		s.Pass, s.AccessToken = secret.Text{}, token
	}
	if in.Pass.Null {
		s.Pass = secret.Text{}
	}
	if in.AccessToken.Null {
		s.AccessToken = secret.Text{}
	}
	return nil
}

// judge refuses a server that cannot work, that the operator does not allow, or that
// would show a stored secret to somebody new.
func (in ServerIn) judge(at serverPlace, old *store.Server, next store.Server, c Config) error {
	none := next.Pass.Empty() && next.AccessToken.Empty()
	switch {
	case next.Host == "":
		return invalid(at.server+".host", "Required", "is required")
	case strings.ContainsAny(next.Host, "/@ \t\r\n"):
		return invalid(at.server+".host", "Invalid", "must be a host name or an address")
	case next.User == "" && !none:
		return invalid(at.auth+".user", "Required", "is required")
	case strings.ContainsAny(next.User, "\r\n\x00"):
		return invalid(at.auth+".user", "Invalid", "must be a single line")
	case next.User != "" && none:
		return invalid(at.auth+".pass", "Required", "is required, or accessToken; to change single fields of the block add partial: true")
	case next.Plaintext && next.Secure:
		return invalid(at.server+".plaintext", "Conflict", "contradicts secure: true")
	case next.Plaintext && !c.AllowPlaintext:
		return invalid(at.server+".plaintext", "NotAllowed", "is not allowed here; the operator can allow it by mail.allowPlaintext")
	case next.TLS.InsecureSkipVerify && !c.AllowInsecureTLS:
		return invalid(at.server+".tls.rejectUnauthorized", "NotAllowed", "false is not allowed here; the operator can allow it by mail.allowInsecureTLS")
	}
	given := in.Auth.Value.Pass.Value != "" || in.Auth.Value.AccessToken.Value != ""
	if old != nil && !none && !given && !sameServer(*old, next) {
		return invalid(at.auth+".pass", "Required", "must be given again when the server or its TLS changes: a stored secret goes nowhere new")
	}
	return nil
}

// sameServer says whether a secret given for a may be sent to b.
func sameServer(a, b store.Server) bool {
	return strings.EqualFold(a.Host, b.Host) && a.Port == b.Port && a.Secure == b.Secure && a.Plaintext == b.Plaintext &&
		a.TLS.CA == b.TLS.CA && a.TLS.ServerName == b.TLS.ServerName && a.TLS.InsecureSkipVerify == b.TLS.InsecureSkipVerify
}

func headersOf(in []headerIn) []store.Header {
	var out []store.Header
	for _, h := range in {
		out = append(out, store.Header{Key: h.Key, Value: secret.New(h.Value)})
	}
	return out
}
