package smtpsend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/postrider/postrider/smtpsend/compose"
	"github.com/postrider/postrider/store"
)

// noReader is the Reader of a process that has none.
type noReader struct{}

var errNoReader = errors.New("this process reads no mailboxes")

func (noReader) Original(context.Context, store.AccountID, string) (compose.Original, error) {
	return compose.Original{}, errNoReader
}

func (noReader) Attachment(context.Context, store.AccountID, string) (compose.Attachment, error) {
	return compose.Attachment{}, errNoReader
}

// maxReference is how many octets the id of a message may have: it is kept in the row.
const maxReference = 1024

// refer reads the message that is answered or forwarded, and makes the answer to it.
func (q *Queue) refer(ctx context.Context, r Request, a store.Account, set store.Settings, msg *compose.Message, row *store.Submission) (*ReferenceResult, error) {
	ref := *r.Reference
	if len(ref.Message) > maxReference {
		return nil, fmt.Errorf("an id of %d octets: %w", len(ref.Message), ErrNoReference)
	}
	out := &ReferenceResult{Message: ref.Message}
	row.Reference = &store.Reference{Message: ref.Message, Action: string(ref.Action)}
	orig, err := q.reader.Original(ctx, r.Account, ref.Message)
	if errors.Is(err, ErrNoMessage) {
		if !ref.IgnoreMissing {
			return nil, fmt.Errorf("message %q: %w", ref.Message, ErrNoReference)
		}
		out.Error, row.Reference.Error = err.Error(), err.Error()
		return out, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMailbox, err)
	}
	next, err := compose.Derive(orig, compose.Reference{
		Action: ref.Action, MessageID: ref.MessageID, Own: append([]string{a.Email}, a.Aliases...), Inline: ref.Inline,
		ForwardAttachments: ref.ForwardAttachments, Locale: cmp.Or(r.Locale, a.Locale, set.Locale), Zone: zone(r.TZ, a.Timezone, set.Timezone),
	}, *msg)
	if err != nil {
		return nil, err
	}
	*msg, out.Success, row.Reference.MessageID = next, true, next.InReplyTo
	return out, nil
}

// attached are the attachments of a request, with those of the mailbox found there. They are
// read when the message is written.
func (q *Queue) attached(ctx context.Context, r Request) ([]compose.Attachment, error) {
	list := slices.Clone(r.Message.Attachments)
	for _, a := range r.Attached {
		found, err := q.reader.Attachment(ctx, r.Account, a.ID)
		switch {
		case errors.Is(err, ErrNoMessage), errors.Is(err, store.ErrNotFound):
			return nil, &AttachedError{a.At, errors.Join(ErrNoMessage, err)}
		case err != nil:
			return nil, &AttachedError{a.At, errors.Join(ErrMailbox, err)}
		}
		to := &list[a.At]
		to.Filename, to.ContentType = cmp.Or(to.Filename, found.Filename), cmp.Or(to.ContentType, found.ContentType)
		to.Size, to.Open = found.Size, found.Open
	}
	return list, nil
}
