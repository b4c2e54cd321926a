package store

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/postrider/postrider/store/secret"
)

// record is an account as the registry keeps it: secrets sealed, bound to the account
// and the field they stand in.
type record struct {
	Name     string          `json:"name,omitempty"`
	Email    string          `json:"email,omitempty"`
	Paths    []string        `json:"paths,omitempty"`
	Live     []string        `json:"live,omitempty"`
	Indexer  string          `json:"imapIndexer,omitempty"`
	Logs     bool            `json:"logs,omitempty"`
	IMAP     *serverRecord   `json:"imap,omitempty"`
	Webhooks string          `json:"webhooks,omitempty"` // sealed
	Headers  []headerRecord  `json:"headers,omitempty"`
	Metadata json.RawMessage `json:"metadata,omitempty"`
	Override Override        `json:"override,omitzero"`

	SMTP         *serverRecord `json:"smtp,omitempty"`
	SMTPEHLOName string        `json:"smtpEhloName,omitempty"`
	Copy         *bool         `json:"copy,omitempty"`
	SendLimits   SendLimits    `json:"sendLimits,omitzero"`
	Aliases      []string      `json:"aliases,omitempty"`
	Locale       string        `json:"locale,omitempty"`
	Timezone     string        `json:"tz,omitempty"`

	NotifyFrom time.Time `json:"notifyFrom,omitzero"`
	Paused     *Pause    `json:"paused,omitempty"`

	Version uint64    `json:"version"`
	Epoch   int64     `json:"epoch"`
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
	Deleted time.Time `json:"deleted,omitzero"`
}

type serverRecord struct {
	Server
	Pass        string `json:"pass,omitempty"`        // sealed
	AccessToken string `json:"accessToken,omitempty"` // sealed
}

type headerRecord struct {
	Key   string `json:"key"`
	Value string `json:"value"` // sealed
}

// seal makes the stored form of an account.
func (s *Store) seal(a Account) ([]byte, error) {
	put := func(field string, t secret.Text) string { return s.ring.Seal(t, string(a.ID), field) }
	r := record{
		Name: a.Name, Email: a.Email, Paths: a.Paths, Live: a.Live, Indexer: a.Indexer, Logs: a.Logs, Metadata: a.Metadata, Override: a.Override,
		Webhooks: put("webhooks", a.Webhooks), NotifyFrom: a.NotifyFrom, Paused: a.Paused,
		Version: a.Version, Epoch: a.Epoch, Created: a.Created, Updated: a.Updated, Deleted: a.Deleted,
		IMAP: s.sealServer(string(a.ID), "imap", a.IMAP),
		SMTP: s.sealServer(string(a.ID), "smtp", a.SMTP), SMTPEHLOName: a.SMTPEHLOName, Copy: a.Copy, SendLimits: a.SendLimits,
		Aliases: a.Aliases, Locale: a.Locale, Timezone: a.Timezone,
	}
	for _, h := range a.Headers {
		r.Headers = append(r.Headers, headerRecord{h.Key, put("headers."+h.Key, h.Value)})
	}
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("account %q: %w", a.ID, err)
	}
	return b, nil
}

// unseal reads the stored form of an account.
func (s *Store) unseal(id AccountID, b []byte) (Account, error) {
	fail := func(err error) (Account, error) { return Account{}, fmt.Errorf("account %q: %w", id, err) }
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return fail(err)
	}
	a := Account{
		ID: id, Name: r.Name, Email: r.Email, Paths: r.Paths, Live: r.Live, Indexer: r.Indexer, Logs: r.Logs, Metadata: r.Metadata, Override: r.Override,
		NotifyFrom: r.NotifyFrom, Paused: r.Paused,
		SMTPEHLOName: r.SMTPEHLOName, Copy: r.Copy, SendLimits: r.SendLimits, Aliases: r.Aliases, Locale: r.Locale, Timezone: r.Timezone,
		Version: r.Version, Epoch: r.Epoch, Created: r.Created, Updated: r.Updated, Deleted: r.Deleted,
	}
	var err error
	if a.Webhooks, err = s.ring.Open(r.Webhooks, string(id), "webhooks"); err != nil {
		return fail(err)
	}
	if a.IMAP, err = s.openServer(string(id), "imap", r.IMAP); err != nil {
		return fail(err)
	}
	if a.SMTP, err = s.openServer(string(id), "smtp", r.SMTP); err != nil {
		return fail(err)
	}
	for _, h := range r.Headers {
		v, err := s.ring.Open(h.Value, string(id), "headers."+h.Key)
		if err != nil {
			return fail(err)
		}
		a.Headers = append(a.Headers, Header{h.Key, v})
	}
	return a, nil
}

// sealServer is the stored form of a server, or nil; owner and field are what its secrets
// are bound to.
func (s *Store) sealServer(owner, field string, srv *Server) *serverRecord {
	if srv == nil {
		return nil
	}
	return &serverRecord{
		Server: *srv,
		Pass:   s.ring.Seal(srv.Pass, owner, field+".pass"), AccessToken: s.ring.Seal(srv.AccessToken, owner, field+".accessToken"),
	}
}

// openServer reads it.
func (s *Store) openServer(owner, field string, r *serverRecord) (*Server, error) {
	if r == nil {
		return nil, nil
	}
	srv := r.Server
	srv.share()
	var err error
	if srv.Pass, err = s.ring.Open(r.Pass, owner, field+".pass"); err != nil {
		return nil, err
	}
	if srv.AccessToken, err = s.ring.Open(r.AccessToken, owner, field+".accessToken"); err != nil {
		return nil, err
	}
	return &srv, nil
}
