package imapsync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/postrider/postrider/imapsync/wire"
	"github.com/postrider/postrider/internal/message"
	"github.com/postrider/postrider/store"
)

// Place is where a message is on the server.
type Place struct {
	Folder      uint32 // our number of it
	UIDValidity uint32
	UID         uint32
}

// ID is the message's id in events.
func (p Place) ID() string { return messageID(p.Folder, p.UID) }

// Appended is a message to be added to a folder.
type Appended struct {
	Raw       io.Reader
	Size      int64     // of Raw, bytes
	MessageID string    // as its header has it, <…>; recognises it where the server tells no UID
	Flags     []string  // which it has from the beginning
	Date      time.Time // INTERNALDATE; zero = the server's clock
}

// Find finds the messages of a folder that have this Message-ID, exactly. A folder is
// named by its path, or by its special use ("\Sent").
//
// Errors of this and the other methods: ErrBusy, ErrNoFolder, ErrNoMessage, *Error of the
// server, store.ErrNotFound (no such account, or it is not watched),
// store.ErrUnavailable.
func (a *Actor) Find(ctx context.Context, id store.AccountID, folder, messageID string) (found []Place, err error) {
	if messageID == "" || strings.ContainsAny(messageID, "\r\n\x00") {
		return nil, fmt.Errorf("find by Message-ID %q: %w", messageID, ErrNoMessage)
	}
	err = a.do(ctx, id, func(ctx context.Context, l *live) error {
		f, err := l.folder(ctx, folder)
		if err != nil {
			return err
		}
		v, err := l.open(ctx, f, false)
		if err != nil {
			return err
		}
		uids, err := havingID(ctx, l.c, messageID)
		for _, uid := range uids {
			found = append(found, Place{Folder: f.Num, UIDValidity: v, UID: uid})
		}
		return err
	})
	return found, err
}

// havingID finds the messages of the open folder that have this Message-ID. It is an error not
// to know: who hears that there is none may add a second one.
func havingID(ctx context.Context, c *wire.Conn, messageID string) (uids []uint32, err error) {
	criteria := &imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: "Message-ID", Value: messageID}}}
	hits, err := c.Search(ctx, criteria, false)
	if err != nil {
		return nil, failure(err)
	}
	// SEARCH HEADER finds parts of a value too (RFC 3501 section 6.4.4), and a server that
	// searches no headers finds all: what is looked for came lately.
	const most = 100
	among, unread := wire.Highest(hits.UIDs, most), !hits.Complete
	if len(among) > 0 {
		// Not ENVELOPE: one with quotes that are not escaped (row 39) cannot be read.
		field := wire.Headers("MESSAGE-ID")
		res, err := c.Fetch(ctx, uidSet(among), []wire.Item{wire.ItemUID, field}, wire.FetchOptions{}, func(m *wire.Message) error {
			switch sec := m.Section(field); {
			case sec == nil || sec.Data == nil:
				unread = true
			case firstID(message.ParseHeader(sec.Data)["message-id"]) == messageID:
				uids = append(uids, uint32(m.UID))
			}
			return nil
		})
		if err != nil {
			return nil, failure(err)
		}
		unread = unread || res.Partial()
	}
	if len(uids) == 0 && unread {
		return nil, errPartial
	}
	return uids, nil
}

// Append adds a message to a folder. Where the server does not tell where it came, the
// place has no UID. After an error that is not the server's refusal nobody knows whether
// it was added: Find it before it is added again.
func (a *Actor) Append(ctx context.Context, id store.AccountID, folder string, m Appended) (at Place, err error) {
	err = a.do(ctx, id, func(ctx context.Context, l *live) error {
		f, err := l.folder(ctx, folder)
		if err != nil {
			return err
		}
		at.Folder = f.Num
		return l.act(ctx, store.Intent{Kind: store.IntentAppend, Folder: f.Num, MessageID: m.MessageID, Size: m.Size}, func(i *store.Intent) error {
			data, err := l.c.Append(ctx, f.Raw, m.Raw, m.Size, wire.AppendOptions{Flags: imapFlags(m.Flags), Date: m.Date})
			if err == nil && data.UID != 0 && data.UIDValidity != 0 {
				i.NewUIDValidity, i.NewUID = data.UIDValidity, uint32(data.UID)
				at.UIDValidity, at.UID = i.NewUIDValidity, i.NewUID
			}
			return err
		})
	})
	return at, err
}

// Place is where the message of an id in events is, by what is stored: it asks no server.
func (a *Actor) Place(ctx context.Context, id store.AccountID, message string) (Place, error) {
	p, parts, ok := parseID(message)
	if !ok || parts != "" {
		return Place{}, fmt.Errorf("message %q: %w", message, ErrNoMessage)
	}
	meta, err := a.o.Store.FolderMeta(ctx, id, p.Folder)
	if errors.Is(err, store.ErrNotFound) {
		return Place{}, fmt.Errorf("message %q of account %q: %w", message, id, ErrNoMessage)
	}
	p.UIDValidity = meta.UIDValidity
	return p, err
}

// AddFlags adds flags to a message. Those that it has are not added again, those that its
// folder does not keep not at all.
func (a *Actor) AddFlags(ctx context.Context, id store.AccountID, p Place, flags ...string) error {
	return a.do(ctx, id, func(ctx context.Context, l *live) error {
		p, err := l.message(ctx, p)
		if err != nil {
			return err
		}
		return l.add(ctx, p, flags)
	})
}

// Move moves a message to another folder; the answer has no UID where the server does not
// tell it. A server without MOVE has it copied, flagged \Deleted, and expunged alone where
// it can (UIDPLUS): else it stays as \Deleted, since a bare EXPUNGE takes what is not ours.
func (a *Actor) Move(ctx context.Context, id store.AccountID, p Place, folder string) (at Place, err error) {
	err = a.do(ctx, id, func(ctx context.Context, l *live) error {
		to, err := l.folder(ctx, folder)
		if err != nil {
			return err
		}
		p, err := l.message(ctx, p)
		if err != nil {
			return err
		}
		at.Folder = to.Num
		if to.Num == p.Folder {
			at = p
			return nil
		}
		moves, alone := l.c.Caps().Has(imap.CapMove), l.c.Caps().Has(imap.CapUIDPlus)
		i := store.Intent{Kind: store.IntentMove, Folder: p.Folder, UIDValidity: p.UIDValidity, UID: p.UID, Target: to.Num}
		if !moves && !alone {
			i.Kind = store.IntentCopy
		}
		return l.act(ctx, i, func(i *store.Intent) error {
			carry := l.c.Move
			if !moves {
				carry = l.c.Copy
			}
			came, err := carry(ctx, uidSet([]uint32{p.UID}), to.Raw)
			if err == nil && came.UIDValidity != 0 && len(came.To) == 1 && slices.Equal(came.From, []uint32{p.UID}) {
				i.NewUIDValidity, i.NewUID = came.UIDValidity, came.To[0]
				at.UIDValidity, at.UID = i.NewUIDValidity, i.NewUID
			}
			if err != nil || moves {
				return err
			}
			// The result is written behind all three: a look in between would find the message
			// in both folders, and tell of a copy.
			if err := l.add(ctx, p, []string{`\Deleted`}); err != nil || !alone {
				return err
			}
			return l.c.Expunge(ctx, uidSet([]uint32{p.UID}))
		})
	})
	return at, err
}

// live is the connection as a request uses it.
type live struct {
	a  *Actor
	id store.AccountID
	c  *wire.Conn
}

// folder finds a folder by special use or path, in the list that the watching side keeps.
func (l *live) folder(ctx context.Context, name string) (store.Folder, error) {
	return l.find(ctx, name, func(f *store.Folder) bool {
		return f.Path == name || strings.HasPrefix(name, `\`) && f.SpecialUse == name
	})
}

func (l *live) find(ctx context.Context, name string, is func(*store.Folder) bool) (store.Folder, error) {
	list, _, err := l.a.o.Store.Folders(ctx, l.id)
	if err != nil {
		return store.Folder{}, err
	}
	for i := range list {
		if is(&list[i]) {
			return list[i], nil
		}
	}
	return store.Folder{}, fmt.Errorf("folder %q of account %q: %w", name, l.id, ErrNoFolder)
}

// open opens a folder, and answers its UIDVALIDITY.
func (l *live) open(ctx context.Context, f store.Folder, write bool) (uint32, error) {
	sel, err := l.c.Examine(ctx, f.Raw, wire.SelectOptions{ReadWrite: write})
	return sel.UIDValidity, failure(err)
}

// message opens the folder of a message for writing.
func (l *live) message(ctx context.Context, p Place) (Place, error) {
	f, err := l.find(ctx, p.ID(), func(f *store.Folder) bool { return f.Num == p.Folder })
	if err != nil {
		return p, err
	}
	v, err := l.open(ctx, f, true)
	switch {
	case err != nil:
		return p, err
	case p.UID == 0, v != p.UIDValidity:
		return p, fmt.Errorf("message %s of account %q: %w", p.ID(), l.id, ErrNoMessage)
	}
	return p, nil
}

// add adds flags that a message of the open folder does not have.
func (l *live) add(ctx context.Context, p Place, flags []string) error {
	flags = slices.DeleteFunc(slices.Clone(flags), func(f string) bool { return !kept(l.c.Folder().PermanentFlags, f) })
	if len(flags) == 0 {
		return nil
	}
	var has []string
	there := false
	_, err := l.c.Fetch(ctx, uidSet([]uint32{p.UID}), []wire.Item{wire.ItemUID, wire.ItemFlags}, wire.FetchOptions{}, func(m *wire.Message) error {
		has, there = flagsOf(m.Flags), true
		return nil
	})
	switch {
	case err != nil:
		return failure(err)
	case !there:
		return fmt.Errorf("message %s of account %q: %w", p.ID(), l.id, ErrNoMessage)
	}
	// A change that is none would explain the same one by somebody else later.
	more := without(folded(flags), folded(has))
	flags = slices.DeleteFunc(slices.Clone(flags), func(f string) bool { return !slices.Contains(more, strings.ToLower(f)) })
	if len(flags) == 0 {
		return nil
	}
	i := store.Intent{Kind: store.IntentStore, Folder: p.Folder, UIDValidity: p.UIDValidity, UID: p.UID, Add: flags}
	return l.act(ctx, i, func(*store.Intent) error {
		_, err := l.c.Store(ctx, uidSet([]uint32{p.UID}), wire.StoreAdd, imapFlags(flags))
		return err
	})
}

// kept says whether a folder keeps a flag, by its PERMANENTFLAGS; one that tells none
// keeps all (RFC 3501 section 7.1), "\*" is all keywords.
func kept(permanent []imap.Flag, flag string) bool {
	return len(permanent) == 0 || slices.ContainsFunc(permanent, func(p imap.Flag) bool {
		return strings.EqualFold(string(p), flag) || p == imap.FlagWildcard && !strings.HasPrefix(flag, `\`)
	})
}

// act runs a command between its intent and its result, and has the account looked at.
func (l *live) act(ctx context.Context, i store.Intent, command func(*store.Intent) error) error {
	st := l.a.o.Store
	i, err := st.BeginIntent(ctx, l.id, i)
	if err != nil {
		return err
	}
	err = failure(command(&i))
	after, stop := context.WithTimeout(context.WithoutCancel(ctx), actorEnd)
	defer stop()
	var noted error
	switch {
	case err == nil:
		noted = st.EndIntent(after, l.id, i)
	case usable(err): // the server refused; without that it may have done it
		noted = st.DropIntent(after, l.id, i)
	}
	if noted != nil {
		// The change is made: at worst an event does not say that it was ours.
		l.a.o.Log.ErrorContext(after, "record own change", "account", l.id, "err", noted)
	}
	l.a.o.Kick(l.id)
	return err
}

func imapFlags(flags []string) []imap.Flag {
	out := make([]imap.Flag, len(flags))
	for i, f := range flags {
		out[i] = imap.Flag(f)
	}
	return out
}
