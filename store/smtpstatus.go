package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/postrider/postrider/events"
)

// SMTPStatus is how an account's last contact with its own submission server ended. What
// became of single messages is not in it.
type SMTPStatus struct {
	Status       string    `json:"status"`  // "ok", "error", or "" before the first contact
	Created      time.Time `json:"created"` // since when it is so
	Response     string    `json:"response,omitempty"`
	ResponseCode int       `json:"responseCode,omitempty"`
	Code         string    `json:"code,omitempty"` // as in messageDeliveryError
	Command      string    `json:"command,omitempty"`
	Description  string    `json:"description,omitempty"` // the error, where there was no reply
	Class        string    `json:"class,omitempty"`       // as in authenticationError or connectError

	MaxSize int64     `json:"maxSize,omitempty"` // the largest message that the server said it takes, in bytes; 0 = it did not
	SizeAt  time.Time `json:"sizeAt,omitzero"`   // when it last said so

	Version uint64 `json:"-"` // +1 with every change
}

// The words of SMTPStatus.Status.
const (
	SMTPOK    = "ok"
	SMTPError = "error"
)

// CopyHabit is what was seen of who keeps copies of an account's sent mail.
type CopyHabit struct {
	Result string    `json:"result"` // what was seen last
	Count  int       `json:"count"`  // how often in a row
	At     time.Time `json:"at"`     // the last time
}

// Sending is what an account's sending is known for.
type Sending struct {
	SMTP SMTPStatus
	Copy CopyHabit
}

// Sending reads an account's. Of one that is not there it is empty. Errors: ErrUnavailable.
func (s *Store) Sending(ctx context.Context, id AccountID) (out Sending, err error) {
	v, err := s.rdb.HMGet(ctx, s.k.state(id), "smtp", "smtpV", "sentCopy").Result()
	if err != nil {
		return out, unavailable("read how an account sends", err)
	}
	text := func(i int) string { t, _ := v[i].(string); return t }
	out.SMTP = readSMTPStatus(text(0), text(1))
	if json.Unmarshal([]byte(text(2)), &out.Copy) != nil {
		out.Copy = CopyHabit{} // nothing was seen
	}
	return out, nil
}

// SetCopyHabit writes what was seen of an account's copies. Errors: ErrStateLost.
func (s *Store) SetCopyHabit(ctx context.Context, id AccountID, h CopyHabit) error {
	tx := s.begin(id)
	tx.op("HSET", 1, "sentCopy", tx.json(h))
	_, err := tx.run(ctx, nil)
	return err
}

// readSMTPStatus reads the stored form; what cannot be read is no status.
func readSMTPStatus(raw, version string) (st SMTPStatus) {
	if raw == "" || json.Unmarshal([]byte(raw), &st) != nil {
		st = SMTPStatus{}
	}
	st.Version = uint64(atoi(version))
	return st
}

// SetSMTPStatus writes an account's next status with the events of the change. Errors:
// ErrStale when somebody else said something since was was read, ErrStateLost.
func (s *Store) SetSMTPStatus(ctx context.Context, id AccountID, was, next SMTPStatus, evs ...events.Event) error {
	tx := s.begin(id)
	tx.guard(s.k.state(id), "smtpV", version(was.Version))
	tx.op("HSET", 1, "smtpV", version(was.Version+1), "smtp", tx.json(next))
	_, err := tx.run(ctx, evs)
	return err
}
