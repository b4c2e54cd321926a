package main

import (
	"context"
	"errors"
	"io"

	"github.com/postrider/postrider/imapsync"
	"github.com/postrider/postrider/smtpsend"
	"github.com/postrider/postrider/smtpsend/compose"
	"github.com/postrider/postrider/store"
)

// mailbox is an account's mailbox as the sending engine sees it: the two engines do not
// know each other.
type mailbox struct{ actor *imapsync.Actor }

// Original implements smtpsend.Reader.
func (m mailbox) Original(ctx context.Context, account store.AccountID, message string) (compose.Original, error) {
	o, err := m.actor.Original(ctx, account, message)
	if err != nil {
		return compose.Original{}, mailboxError(err)
	}
	out := compose.Original{Header: o.Header, Text: o.Text, HTML: o.HTML}
	for i := range o.Attachments {
		out.Attachments = append(out.Attachments, attachment(ctx, &o.Attachments[i]))
	}
	return out, nil
}

// attachment is one that is read from the server while the message is written, under ctx.
func attachment(ctx context.Context, a *imapsync.Attached) compose.Attachment {
	return compose.Attachment{
		Filename: a.Filename, ContentType: a.ContentType, Inline: a.Inline, CID: a.ContentID, Size: -1,
		Open: func() (io.ReadCloser, error) { return a.Open(ctx), nil },
	}
}

// Attachment implements smtpsend.Reader.
func (m mailbox) Attachment(ctx context.Context, account store.AccountID, id string) (compose.Attachment, error) {
	a, err := m.actor.Attached(ctx, account, id)
	if err != nil {
		return compose.Attachment{}, mailboxError(err)
	}
	return attachment(ctx, a), nil
}

// Find implements smtpsend.Mailbox.
func (m mailbox) Find(ctx context.Context, account store.AccountID, folder, messageID string) (int, error) {
	found, err := m.actor.Find(ctx, account, folder, messageID)
	return len(found), mailboxError(err)
}

// Append implements smtpsend.Mailbox.
func (m mailbox) Append(ctx context.Context, account store.AccountID, folder string, c smtpsend.SentCopy) error {
	_, err := m.actor.Append(ctx, account, folder, imapsync.Appended{
		Raw: c.Raw, Size: c.Size, MessageID: c.MessageID, Flags: []string{`\Seen`}, Date: c.Date,
	})
	return mailboxError(err)
}

// AddFlags implements smtpsend.Mailbox.
func (m mailbox) AddFlags(ctx context.Context, account store.AccountID, message string, flags ...string) error {
	p, err := m.actor.Place(ctx, account, message)
	if err == nil {
		err = m.actor.AddFlags(ctx, account, p, flags...)
	}
	return mailboxError(err)
}

// mailboxError says in the sending engine's words what it branches on.
func mailboxError(err error) error {
	switch {
	case errors.Is(err, imapsync.ErrNoMessage):
		return errors.Join(smtpsend.ErrNoMessage, err)
	case errors.Is(err, imapsync.ErrNoFolder):
		return errors.Join(smtpsend.ErrNoFolder, err)
	}
	return err
}
