package smtpsend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hibiken/asynq"

	"github.com/postrider/postrider/internal/carrier"
	"github.com/postrider/postrider/smtpsend/transport"
	"github.com/postrider/postrider/store"
)

// sentFolder is the special use of the folder that copies go to.
const sentFolder = `\Sent`

// copies says whether what is sent this way is copied, or looked for to know.
func (r *run) copies(ctx context.Context, row store.Submission, w way) bool {
	if r.mailbox == nil || r.record.IMAP == nil || r.record.IMAP.Disabled {
		return false
	}
	if want := wantCopy(row, r.record); want != nil {
		return *want
	}
	return w.profile.SentCopy != CopyServer && (row.Gateway != "" || !learnt(r.sending(ctx).Copy, AfterFound, time.Now()))
}

const (
	habitFrom = 3                  // results in a row that make a habit
	habitFor  = 7 * 24 * time.Hour // after which it is looked at again
)

// learnt says whether a result is what always happens with an account.
func learnt(h store.CopyHabit, result string, now time.Time) bool {
	return h.Result == result && h.Count >= habitFrom && now.Sub(h.At) < habitFor
}

// learn notes what was seen with an account's own server. What is found under a Message-ID
// of the caller's may be another message.
func (h *handler) learn(ctx context.Context, row store.Submission, old store.CopyHabit, result string) {
	if row.Gateway != "" || result != AfterDone && (result != AfterFound || !row.OwnID) {
		return
	}
	now := time.Now().UTC()
	if learnt(old, result, now) && now.Sub(old.At) < time.Hour {
		return
	}
	next := store.CopyHabit{Result: result, Count: 1, At: now}
	if old.Result == result {
		next.Count = min(old.Count+1, habitFrom)
	}
	if err := h.store.SetCopyHabit(ctx, row.Account, next); err != nil {
		h.log.DebugContext(ctx, "who keeps copies not noted", "account", row.Account, "err", err)
	}
}

// wantCopy is what was asked for, of this message or of all of the account's; nil: nothing.
func wantCopy(row store.Submission, a store.Account) *bool {
	if row.Copy != nil {
		return row.Copy
	}
	return a.Copy
}

// probeCopy are the pauses before the looks at the Sent folder of a provider that may put
// the copy there itself.
func probeCopy() []time.Duration { return []time.Duration{5 * time.Second, 15 * time.Second} }

// sentBy answers the account of a submission and what the server that it left by does about
// copies; "" = that server is not there any more. Errors: store.ErrNotFound: nor is the account.
func (h *handler) sentBy(ctx context.Context, row store.Submission) (a store.Account, copies string, err error) {
	if a, err = h.store.Account(ctx, row.Account); err != nil {
		return a, "", err
	}
	w, err := h.way(ctx, a, store.Settings{}, row.Gateway)
	if errors.Is(err, ErrNoServer) || errors.Is(err, ErrNoGateway) {
		return a, "", nil
	}
	return a, w.profile.SentCopy, err
}

// copyTo puts a copy of what was sent into the Sent folder, unless it is there.
func (h *handler) copyTo(ctx context.Context, row store.Submission, tries int) error {
	if row.CopyState != AfterPending || row.State == store.SubmissionUnknown {
		return nil
	}
	a, copies, err := h.sentBy(ctx, row)
	if err != nil {
		return err
	}
	known, err := h.store.Sending(ctx, row.Account)
	if err != nil {
		return err
	}
	looks := 0
	if copies == CopyProbe && !learnt(known.Copy, AfterDone, time.Now()) {
		looks = len(probeCopy())
	}
	result := AfterFound
	n, err := h.find(ctx, row, a)
	if err == nil && n == 0 {
		if tries < looks {
			return &carrier.Later{Due: time.Now().Add(probeCopy()[tries]), Text: "not in the Sent folder yet"}
		}
		result, err = AfterDone, h.appendCopy(ctx, row, a)
	}
	if aerr := h.afterwards(ctx, row, max(0, tries-looks), result, err, func(row *store.Submission, state, why string) { row.CopyState, row.CopyError = state, why }); aerr != nil {
		return aerr
	}
	if err != nil {
		result = named(err)
	}
	h.m.copies.WithLabelValues(result).Inc()
	h.learn(ctx, row, known.Copy, result)
	return nil
}

func folderOf(row store.Submission, a store.Account) string {
	if a.IMAP != nil && a.IMAP.Roles.Sent != "" {
		return cmp.Or(row.SentMailPath, a.IMAP.Roles.Sent)
	}
	return cmp.Or(row.SentMailPath, sentFolder)
}

// find counts the message in the Sent folder, under our name of it and the provider's.
func (h *handler) find(ctx context.Context, row store.Submission, a store.Account) (int, error) {
	for _, id := range ids(row) {
		if n, err := h.mailbox.Find(ctx, row.Account, folderOf(row, a), id); err != nil || n > 0 {
			return n, err
		}
	}
	return 0, nil
}

func (h *handler) appendCopy(ctx context.Context, row store.Submission, a store.Account) error {
	body, err := h.store.OpenBody(ctx, row)
	if err != nil {
		return err
	}
	date := row.Created
	if row.SendAt.After(date) {
		date = row.SendAt
	}
	return h.mailbox.Append(ctx, row.Account, folderOf(row, a), SentCopy{
		Raw: body, Size: row.Size, MessageID: cmp.Or(row.OriginalMessageID, row.MessageID), Date: date,
	})
}

// probeUnknown are when the Sent folder is looked at for a message whose outcome is
// unknown, counted from when it became so.
func probeUnknown() []time.Duration {
	return []time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour}
}

// probeAt is when the n-th look is, from 0.
func probeAt(row store.Submission, n int) time.Time {
	from := row.Created
	if row.Last != nil {
		from = row.Last.At
	}
	return from.Add(probeUnknown()[n])
}

// probe looks for a message whose outcome is unknown in the Sent folder. That it is there
// proves that the server took it, where the server is who puts it there; that it is not
// proves nothing.
func (h *handler) probe(ctx context.Context, row store.Submission) error {
	if row.State != store.SubmissionUnknown {
		return nil
	}
	a, copies, err := h.sentBy(ctx, row)
	if err != nil {
		return err
	}
	if copies == "" || copies == CopyAppend {
		return fmt.Errorf("outcome unknown, and its server keeps no copies: %w", asynq.SkipRetry)
	}
	if !proves(row) {
		return fmt.Errorf("outcome unknown, and what is in the Sent folder may be another one: %w", asynq.SkipRetry)
	}
	n, err := h.find(ctx, row, a)
	switch {
	case n > 0:
		return h.confirm(ctx, row)
	case err != nil && !errors.Is(err, ErrNoFolder):
		h.log.InfoContext(ctx, "Sent folder not looked at", "account", row.Account, "submission", row.ID, "err", err)
	}
	for i := range probeUnknown() {
		if at := probeAt(row, i); at.After(time.Now()) {
			return &carrier.Later{Due: at, Text: "outcome unknown, not in the Sent folder yet"}
		}
	}
	return fmt.Errorf("outcome unknown, not in the Sent folder: %w", asynq.SkipRetry)
}

// proves says whether a copy in the Sent folder can only be of the transaction whose outcome
// is unknown. Where another one was taken, or may have been, for others, it proves nothing,
// nor where the caller chose the Message-ID: another message may have it.
func proves(row store.Submission) bool {
	if !row.OwnID || row.CopyState == AfterDone || row.CopyState == AfterFound || row.PossibleDuplicate && len(row.To) > 1 {
		return false
	}
	open := func(to string) bool {
		is := func(r store.Refusal) bool { return r.Recipient == to }
		return slices.Contains(row.Pending, to) || slices.ContainsFunc(row.Rejected, is) || slices.ContainsFunc(row.Deferred, is)
	}
	return !slices.ContainsFunc(row.To, func(to string) bool { return !open(to) })
}

// confirm ends an unknown outcome: the server had the message.
func (h *handler) confirm(ctx context.Context, row store.Submission) error {
	now, err := h.store.Now(ctx)
	if err != nil {
		return err
	}
	next, err := h.move(ctx, row, h.moment(now, 0).confirm(row, BySentFolder), store.MoveOps{})
	if errors.Is(err, store.ErrStale) || errors.Is(err, store.ErrNotFound) {
		return nil // somebody resolved it
	}
	if err == nil {
		h.m.unknown.WithLabelValues(BySentFolder).Inc()
		h.follow(ctx, next)
	}
	return err
}

var _ Transport = (*transport.Pool)(nil)
