package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/events"
)

// SentLog says what was sent to whom, so that reports and replies can be told to be about it.
type SentLog struct {
	MessageIDs []string  // as the recipients see it, and ours where that is another
	Recipients []string  // at most 100 are kept
	At         time.Time // by Redis' clock, about
}

const (
	sentLogMost = 100 // recipients of one message
	sentLogSame = 10  // submissions of one Message-ID in a week
	week        = 7 * 24 * time.Hour
)

// sentLogFor is how long what was sent is known.
func (s Settings) sentLogFor() time.Duration { return time.Duration(s.SendLogDays) * 24 * time.Hour }

// sentRecord is what the sent log has of a submission as it is stored: a line of the field
// of its Message-ID. ID comes first, so that a script finds the line.
type sentRecord struct {
	ID         SubmissionID `json:"q"`
	At         int64        `json:"t"` // Unix ms
	Recipients []string     `json:"r,omitempty"`
}

// sentWeek is the hash of the sent log that holds what was sent in a week; it goes as a whole.
func (k keys) sentWeek(id AccountID, at time.Time) string {
	return k.outboxOf(id, "log:"+strconv.FormatInt(at.Unix()/int64(week/time.Second), 10))
}

// sentWeeks are those of all weeks that are kept, the newest first: clocks of processes may
// be ahead.
func (k keys) sentWeeks(id AccountID, now time.Time, kept time.Duration) (out []string) {
	for at := now.Add(week); at.After(now.Add(-kept - week)); at = at.Add(-week) {
		out = append(out, k.sentWeek(id, at))
	}
	return out
}

// sentLog adds what a transaction of a submission sent. What the ones before it sent is
// read and kept: the guard of the submission's version sees to it that none comes between.
func (t *tx) sentLog(ctx context.Context, l SentLog, m Submission, kept time.Duration) error {
	var marks []string
	for _, addr := range l.Recipients[:min(len(l.Recipients), sentLogMost)] {
		marks = append(marks, t.s.recipientMarks(t.id, addr)[0])
	}
	key := t.key(t.s.k.sentWeek(t.id, l.At))
	for _, mid := range l.MessageIDs {
		if mid == "" {
			continue
		}
		r := sentRecord{ID: m.ID, At: l.At.UnixMilli(), Recipients: marks}
		if m.Attempt > 1 {
			known, err := t.s.SentMessage(ctx, t.id, mid)
			if err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
			if i := slices.IndexFunc(known, func(e SentEntry) bool { return e.ID == m.ID }); i >= 0 {
				e := known[i]
				added := slices.DeleteFunc(slices.Clone(marks), func(mark string) bool { return slices.Contains(e.recipients, mark) })
				r.Recipients = slices.Concat(e.recipients, added)
				r.Recipients = r.Recipients[:min(len(r.Recipients), sentLogMost)]
			}
		}
		t.op("SENTLOG", key, events.Digest(mid), `{"q":"`+string(m.ID)+`"`, t.json(r), sentLogSame)
	}
	t.op("PEXPIRE", key, (kept + week).Milliseconds())
	return nil
}

func (s *Store) recipientMarks(account AccountID, address string) []string {
	return s.ring.Marks(strings.ToLower(address), string(account), "sentLog")
}

// SentEntry is what the sent log has of a submission.
type SentEntry struct {
	ID         SubmissionID
	At         time.Time
	account    AccountID
	recipients []string
}

// SentMessage looks a Message-ID up in an account's sent log: the submissions that had it,
// the latest first. They are several where their caller gave it several times; of those of a
// week the latest ten are known. Errors: ErrNotFound.
func (s *Store) SentMessage(ctx context.Context, account AccountID, messageID string) (out []SentEntry, err error) {
	set, err := s.Settings(ctx)
	if err != nil {
		return nil, err
	}
	now, err := s.Now(ctx)
	if err != nil {
		return nil, err
	}
	var found []*redis.StringCmd
	_, err = s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, key := range s.k.sentWeeks(account, now, set.sentLogFor()) {
			found = append(found, p.HGet(ctx, key, events.Digest(messageID)))
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, unavailable("read sent log", err)
	}
	for _, f := range found {
		for line := range strings.Lines(f.Val()) {
			var r sentRecord
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				return nil, fmt.Errorf("sent log of account %q: %w", account, err)
			}
			at := time.UnixMilli(r.At).UTC()
			if now.Sub(at) >= set.sentLogFor() || slices.ContainsFunc(out, func(e SentEntry) bool { return e.ID == r.ID }) {
				continue // too old; or its later line has all of them
			}
			out = append(out, SentEntry{r.ID, at, account, r.Recipients})
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("sent log of account %q: %w", account, ErrNotFound)
	}
	return out, nil
}

// WasSentTo says whether the message of a log entry was addressed to a recipient. Of more
// than 100 recipients only the first are known.
func (s *Store) WasSentTo(e SentEntry, address string) bool {
	return slices.ContainsFunc(s.recipientMarks(e.account, address), func(mark string) bool { return slices.Contains(e.recipients, mark) })
}
