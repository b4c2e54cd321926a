package imaptest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// ModelUser is a user of a Model: his mailbox, acted on straight in memory, the lies told
// to him, and what his sessions said. All methods MAY be called by many goroutines;
// sessions hear of what is done as soon as they may.
type ModelUser struct {
	m    *Model
	name string

	mu           sync.Mutex
	pass         string
	lies         Lies
	folders      []*mFolder // in the order they were made, which is that of LIST
	flagSets     [][]string
	flagIndex    map[string]uint32
	sessions     map[*mSession]struct{}
	logins, most int
	heard        []ModelCommand
	changes      uint64
	alternate    int
	lastFolder   uint32
	lastValidity uint32
	lastContent  uint64
	holdFrom     map[*mFolder]uint32 // UIDs from which messages are announced and not there
}

var _ Mailbox = (*ModelUser)(nil)

// maxHeard bounds the transcript; the older half is dropped.
const maxHeard = 4000

func newModelUser(m *Model, name string) *ModelUser {
	u := &ModelUser{m: m, name: name, flagIndex: map[string]uint32{}, sessions: map[*mSession]struct{}{}, lastValidity: 1000}
	u.flagSet(nil)
	for _, f := range m.d.Folders {
		u.create(f.Name, f.Use)
	}
	return u
}

// hear keeps a command for the transcript.
func (u *ModelUser) hear(c ModelCommand) {
	if len(c.Args) > 200 {
		c.Args = c.Args[:200]
	}
	if len(u.heard) >= maxHeard {
		u.heard = append(u.heard[:0], u.heard[len(u.heard)/2:]...)
	}
	u.heard = append(u.heard, c)
}

// Heard are the last commands of the user's sessions, in order, from the login on; their
// arguments are cut to 200 bytes.
func (u *ModelUser) Heard() []ModelCommand {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.heard)
}

// Sessions are how many connections are logged in, how many were at most at once, and how
// many logins there were.
func (u *ModelUser) Sessions() (now, most, logins int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.sessions), u.most, u.logins
}

// Lie changes what is told wrong from now on; f MUST not call methods of the user.
func (u *ModelUser) Lie(f func(*Lies)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	f(&u.lies)
	if !u.lies.ExistsBeforeItIs {
		u.holdFrom = nil
	} else if u.holdFrom == nil {
		u.holdFrom = map[*mFolder]uint32{}
		for _, x := range u.folders {
			u.holdFrom[x] = x.uidNext
		}
	}
	for s := range u.sessions {
		s.wake()
	}
}

// held says whether a message is announced and cannot be had yet (Lies.ExistsBeforeItIs).
func (u *ModelUser) held(f *mFolder, uid uint32) bool {
	from, ok := u.holdFrom[f]
	return ok && uid >= from
}

// Cut closes the user's connections without a word.
func (u *ModelUser) Cut() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for s := range u.sessions {
		_ = s.c.Close()
	}
}

// Bye ends the user's connections with a text, those in a command behind it.
func (u *ModelUser) Bye(text string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for s := range u.sessions {
		s.off = text
		s.wake()
	}
}

// Server implements Mailbox: the port without TLS where there is one; in a bubble, by
// Dial, any will do.
func (u *ModelUser) Server() Server {
	u.m.mu.Lock()
	defer u.m.mu.Unlock()
	u.mu.Lock()
	defer u.mu.Unlock()
	s := Server{Host: "127.0.0.1", Port: 1143, User: u.name, Pass: u.pass}
	switch {
	case u.m.plain != nil:
		s.Port = u.m.plain.Port
	case u.m.secure != nil:
		s.Port, s.CA, s.ImplicitTLS = u.m.secure.Port, u.m.ca, true
	}
	return s
}

// SecureServer is how to reach the port with TLS, or by Dial in a bubble.
func (u *ModelUser) SecureServer() (Server, error) {
	if err := u.m.certify(); err != nil {
		return Server{}, err
	}
	u.m.mu.Lock()
	defer u.m.mu.Unlock()
	u.mu.Lock()
	defer u.mu.Unlock()
	s := Server{Host: "127.0.0.1", Port: 993, User: u.name, Pass: u.pass, CA: u.m.ca, ImplicitTLS: true}
	if u.m.secure != nil {
		s.Port = u.m.secure.Port
	}
	return s, nil
}

// in runs f with a folder of that name, under the lock.
func (u *ModelUser) in(ctx context.Context, doing, folder string, f func(*mFolder) error) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	x := u.folder(folder)
	err := errNoFolder
	if x != nil {
		err = f(x)
	}
	if err != nil {
		return fmt.Errorf("%s %q: %w", doing, folder, err)
	}
	return nil
}

var (
	errNoFolder = errors.New("no such folder")
	errFolder   = errors.New("there is one, or it cannot be")
)

// Append implements Mailbox.
func (u *ModelUser) Append(ctx context.Context, folder string, raw []byte, flags []string, date time.Time) (uint32, error) {
	var uid uint32
	err := u.in(ctx, "append to", folder, func(f *mFolder) error {
		uid = u.add(f, u.content(slices.Clone(raw)), flags, date.Unix())
		return nil
	})
	return uid, err
}

// AddFlags implements Mailbox.
func (u *ModelUser) AddFlags(ctx context.Context, folder string, uids []uint32, flags ...string) error {
	return u.in(ctx, "store in", folder, func(f *mFolder) error { u.setFlags(f, uids, flagsAdd, flags); return nil })
}

// RemoveFlags implements Mailbox.
func (u *ModelUser) RemoveFlags(ctx context.Context, folder string, uids []uint32, flags ...string) error {
	return u.in(ctx, "store in", folder, func(f *mFolder) error { u.setFlags(f, uids, flagsDel, flags); return nil })
}

// Expunge implements Mailbox.
func (u *ModelUser) Expunge(ctx context.Context, folder string, uids ...uint32) error {
	return u.in(ctx, "expunge in", folder, func(f *mFolder) error { u.expunge(f, uids); return nil })
}

// Move implements Mailbox.
func (u *ModelUser) Move(ctx context.Context, folder, to string, uids ...uint32) error {
	return u.in(ctx, "move from", folder, func(f *mFolder) error {
		t := u.folder(to)
		if t == nil {
			return errNoFolder
		}
		u.move(f, t, uids)
		return nil
	})
}

// Copy implements Mailbox.
func (u *ModelUser) Copy(ctx context.Context, folder, to string, uids ...uint32) error {
	return u.in(ctx, "copy from", folder, func(f *mFolder) error {
		t := u.folder(to)
		if t == nil {
			return errNoFolder
		}
		u.copy(f, t, uids)
		return nil
	})
}

// CreateFolder implements Mailbox.
func (u *ModelUser) CreateFolder(_ context.Context, folder string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.create(folder, "") == nil {
		return fmt.Errorf("create %q: %w", folder, errFolder)
	}
	return nil
}

// DeleteFolder implements Mailbox.
func (u *ModelUser) DeleteFolder(ctx context.Context, folder string) error {
	return u.in(ctx, "delete", folder, func(f *mFolder) error { u.drop(f); return nil })
}

// RenameFolder implements Mailbox.
func (u *ModelUser) RenameFolder(ctx context.Context, folder, to string) error {
	return u.in(ctx, "rename", folder, func(f *mFolder) error {
		if to == "" || u.folder(to) != nil {
			return errFolder
		}
		u.rename(f, to)
		return nil
	})
}

// ResetUIDValidity implements Mailbox: the messages keep their UIDs; MODSEQ begins anew,
// and sessions that have the folder open are told to go.
func (u *ModelUser) ResetUIDValidity(ctx context.Context, folder string) error {
	return u.in(ctx, "reset uidvalidity of", folder, func(f *mFolder) error {
		u.lastValidity++
		f.uidValidity = u.lastValidity
		f.gone, f.forgotten, f.modseq = nil, 0, 1
		for i := range f.msgs {
			f.msgs[i].modseq = 1
		}
		u.touch(f)
		return nil
	})
}

// Renumber gives the messages of a folder new UIDs from 1 on, under a new UIDVALIDITY.
func (u *ModelUser) Renumber(ctx context.Context, folder string) error {
	if err := u.ResetUIDValidity(ctx, folder); err != nil {
		return err
	}
	return u.in(ctx, "renumber", folder, func(f *mFolder) error {
		for i := range f.msgs {
			c := u.share(f, &f.msgs[i]) // a synthetic message stays what it was
			f.msgs[i].uid = uint32(i + 1)
			if c.at != nil {
				c.at[f] = uint32(i + 1)
			}
		}
		f.uidNext = uint32(len(f.msgs) + 1)
		u.touch(f)
		return nil
	})
}

// Forget makes a server that does not know any more what was expunged in a folder:
// VANISHED (EARLIER) then names everything that is not there.
func (u *ModelUser) Forget(ctx context.Context, folder string) error {
	return u.in(ctx, "forget in", folder, func(f *mFolder) error { f.gone, f.forgotten = nil, f.modseq; return nil })
}

// Filling is what Fill makes.
type Filling struct {
	Messages int
	Flags    []string
	From     time.Time     // INTERNALDATE of the first; zero is Date
	Every    time.Duration // between one and the next
	Hole     int           // every so many UIDs, one is left out as if it had been expunged long ago; 0 = none
}

// Fill adds small messages that are made of their numbers when somebody reads them: a
// million take 32 MB and some milliseconds. It returns the first and the last UID. Where
// folders are labels, they are in that folder alone.
func (u *ModelUser) Fill(ctx context.Context, folder string, x Filling) (first, last uint32, err error) {
	if x.From.IsZero() {
		x.From = Date
	}
	err = u.in(ctx, "fill", folder, func(f *mFolder) error {
		flags := u.flagSet(x.Flags)
		f.modseq++
		f.msgs = slices.Grow(f.msgs, x.Messages)
		first = f.uidNext
		for i := range x.Messages {
			if x.Hole > 0 && int(f.uidNext-first)%x.Hole == x.Hole-1 {
				f.uidNext++
			}
			last = f.uidNext
			f.uidNext++
			f.msgs = append(f.msgs, mMessage{modseq: f.modseq, date: x.From.Add(time.Duration(i) * x.Every).Unix(), uid: last, flags: flags})
		}
		u.touch(f)
		return nil
	})
	return first, last, err
}

// Label changes the labels of messages, where folders are labels.
func (u *ModelUser) Label(ctx context.Context, folder string, uids []uint32, add, remove []string) error {
	return u.in(ctx, "label in", folder, func(f *mFolder) error {
		if !u.gmail() {
			return errors.New("no labels here")
		}
		u.setLabels(f, uids, flagsAdd, add)
		u.setLabels(f, uids, flagsDel, remove)
		return nil
	})
}

// Labels are the labels of the messages of a folder, by UID.
func (u *ModelUser) Labels(ctx context.Context, folder string) (map[uint32][]string, error) {
	out := map[uint32][]string{}
	err := u.in(ctx, "labels of", folder, func(f *mFolder) error {
		for i := range f.msgs {
			out[f.msgs[i].uid] = u.labels(f, &f.msgs[i])
		}
		return nil
	})
	return out, err
}

// Truth implements Mailbox, straight from memory.
func (u *ModelUser) Truth(ctx context.Context) (map[string]Folder, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	out := map[string]Folder{}
	for _, f := range u.folders {
		x := Folder{UIDValidity: f.uidValidity, UIDNext: f.uidNext, Messages: make(map[uint32][]string, len(f.msgs))}
		for i := range f.msgs {
			x.Messages[f.msgs[i].uid] = u.flagSets[f.msgs[i].flags]
		}
		out[f.name] = x
	}
	return out, nil
}

// Subjects are the subjects of all messages, by folder and UID.
func (u *ModelUser) Subjects(ctx context.Context) (map[string]map[uint32]string, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	out := map[string]map[uint32]string{}
	for _, f := range u.folders {
		out[f.name] = make(map[uint32]string, len(f.msgs))
		for i := range f.msgs {
			head, _ := splitMessage(f.raw(&f.msgs[i]))
			out[f.name][f.msgs[i].uid] = headerValue(head, "Subject")
		}
	}
	return out, nil
}
