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
	Logs     bool            `json:"logs,omitempty"`
	IMAP     *serverRecord   `json:"imap,omitempty"`
	Webhooks string          `json:"webhooks,omitempty"` // sealed
	Headers  []headerRecord  `json:"headers,omitempty"`
	Metadata json.RawMessage `json:"metadata,omitempty"`
	Override Override        `json:"override,omitzero"`

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
		Name: a.Name, Email: a.Email, Paths: a.Paths, Live: a.Live, Logs: a.Logs, Metadata: a.Metadata, Override: a.Override,
		Webhooks: put("webhooks", a.Webhooks), NotifyFrom: a.NotifyFrom, Paused: a.Paused,
		Version: a.Version, Epoch: a.Epoch, Created: a.Created, Updated: a.Updated, Deleted: a.Deleted,
	}
	if a.IMAP != nil {
		r.IMAP = &serverRecord{
			Server: *a.IMAP,
			Pass:   put("imap.pass", a.IMAP.Pass), AccessToken: put("imap.accessToken", a.IMAP.AccessToken),
		}
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
		ID: id, Name: r.Name, Email: r.Email, Paths: r.Paths, Live: r.Live, Logs: r.Logs, Metadata: r.Metadata, Override: r.Override,
		NotifyFrom: r.NotifyFrom, Paused: r.Paused,
		Version: r.Version, Epoch: r.Epoch, Created: r.Created, Updated: r.Updated, Deleted: r.Deleted,
	}
	var err error
	if a.Webhooks, err = s.ring.Open(r.Webhooks, string(id), "webhooks"); err != nil {
		return fail(err)
	}
	if r.IMAP != nil {
		srv := r.IMAP.Server
		if srv.Pass, err = s.ring.Open(r.IMAP.Pass, string(id), "imap.pass"); err != nil {
			return fail(err)
		}
		if srv.AccessToken, err = s.ring.Open(r.IMAP.AccessToken, string(id), "imap.accessToken"); err != nil {
			return fail(err)
		}
		a.IMAP = &srv
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
