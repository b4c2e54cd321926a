package imapsync

import (
	"context"
	"errors"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/postrider/postrider/imapsync/wire"
	"github.com/postrider/postrider/store"
)

// client is Session over a wire.Conn: it chooses commands, remembers which options
// a server refused, and turns what the wire says into what a worker thinks in.
type client struct {
	c     *wire.Conn
	info  Info
	roles store.RoleFolder
	// profile is the provider's; its latches are the worker's matter.
	profile *Profile

	plainList   bool // extended LIST was refused
	plainSelect bool // EXAMINE (CONDSTORE) was refused
	plainSearch bool // SEARCH RETURN was refused
	noXList     bool // XLIST was refused
	plainFetch  bool // FETCH of ids was refused
}

var _ Session = (*client)(nil)

func newClient(c *wire.Conn, s store.Server, ps *Profiles) *client {
	info := infoOf(c)
	profile := ps.Match(s.Host, info.ServerName, info.Capabilities)
	return &client{c: c, info: profile.allowed(info), roles: s.Roles, profile: profile}
}

// infoOf is what the capabilities and ID say. An advertised IMAP4rev2 is taken as absent.
func infoOf(c *wire.Conn) Info {
	caps := c.Caps()
	info := Info{
		ServerName: c.ServerID().Name,
		Version:    c.ServerID().Version,
		CondStore:  caps.Has(imap.CapCondStore) || caps.Has(imap.CapQResync),
		QResync:    c.Enabled(imap.CapQResync),
		ESearch:    caps.Has(imap.CapESearch),
		Idle:       caps.Has(imap.CapIdle),
		ListStatus: caps.Has(imap.CapListStatus),
		Notify:     caps.Has(imap.CapNotify),
		Compress:   caps.Has("COMPRESS=DEFLATE"),
		SpecialUse: caps.Has(imap.CapSpecialUse),
		UIDPlus:    caps.Has(imap.CapUIDPlus),
		ObjectID:   caps.Has("OBJECTID"),
		Gmail:      caps.Has("X-GM-EXT-1"),
	}
	for _, name := range c.Capabilities() {
		if name != "IMAP4rev2" {
			info.Capabilities = append(info.Capabilities, name)
		}
	}
	return info
}

// kinds are the wire's in the words of classify.go.
var kinds = map[wire.Kind]ErrorKind{
	wire.No: ErrNo, wire.Bad: ErrBad, wire.Bye: ErrBye, wire.Timeout: ErrTimeout, wire.Closed: ErrClosed, wire.NoDial: ErrDial,
	wire.TLS: ErrTLS, wire.Protocol: ErrProtocol, wire.Limit: ErrLimit, wire.Refused: ErrConfig,
}

// failure makes an *Error of the wire's; other errors (the end of a context in Idle)
// stay what they are.
func failure(err error) error {
	e, ok := errors.AsType[*wire.Error](err)
	if !ok {
		return err
	}
	kind := kinds[e.Kind]
	switch {
	case e.Kind == wire.Auth && e.Status == imap.StatusResponseTypeBad:
		kind = ErrBad
	case e.Kind == wire.Auth:
		kind = ErrNo
	}
	return &Error{Kind: kind, Stage: e.Stage, Command: e.Command, Code: string(e.Code), Text: e.Text, Said: e.Said, Err: e.Err}
}

// is says whether err is of a kind.
func is(err error, kind ErrorKind) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Kind == kind
}

// usable says whether the connection goes on after err.
func usable(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Usable()
}

// Info implements Session.
func (s *client) Info() Info { return s.info }

// Select implements Session.
func (s *client) Select(ctx context.Context, raw string) (Selected, error) {
	// ENABLE says nothing sure: asking here again costs nothing.
	cond := s.info.CondStore && !s.plainSelect
	sel, err := s.examine(ctx, raw, cond)
	if cond && is(err, ErrBad) {
		s.plainSelect = true
		sel, err = s.examine(ctx, raw, false)
	}
	return sel, err
}

func (s *client) examine(ctx context.Context, raw string, cond bool) (Selected, error) {
	f, err := s.c.Examine(ctx, raw, wire.SelectOptions{CondStore: cond, ReadWrite: s.profile.NeedSelect})
	if err != nil {
		return Selected{}, failure(err)
	}
	if !s.info.CondStore {
		f.HighestModSeq = 0 // QUIRK(yahoo): told by a server that has no CONDSTORE
	}
	return Selected{UIDValidity: f.UIDValidity, UIDNext: f.UIDNext, Exists: f.Exists, ModSeq: f.HighestModSeq, MailboxID: f.MailboxID}, nil
}

// Status implements Session.
func (s *client) Status(ctx context.Context, raw string) (Status, error) {
	st, err := s.c.Status(ctx, raw, s.statusItems()...)
	if err != nil {
		return Status{}, failure(err)
	}
	return statusOf(&st), nil
}

// statusItems are the numbers asked for.
func (s *client) statusItems() []wire.StatusItem {
	items := []wire.StatusItem{wire.StatusMessages, wire.StatusUIDNext, wire.StatusUIDValidity}
	if s.info.CondStore {
		items = append(items, wire.StatusHighestModSeq)
	}
	if s.info.ObjectID && !s.profile.NoStatusMailboxID {
		// QUIRK(cyrus): 3.6 answers from memory that it has freed, and what it finds there
		// may break off the answer; EXAMINE tells the true one.
		//	S: * STATUS Sent (UIDNEXT 1 MAILBOXID (\x8d\xc0)\x1b\xbbU))
		items = append(items, wire.StatusMailboxID)
	}
	return items
}

func statusOf(d *wire.Status) Status {
	return Status{
		Messages: d.Messages, UIDNext: d.UIDNext, UIDValidity: d.UIDValidity, ModSeq: d.HighestModSeq, MailboxID: d.MailboxID,
		HasMessages: d.HasMessages, HasUIDNext: d.UIDNext != 0, HasUIDValidity: d.UIDValidity != 0, HasModSeq: d.HighestModSeq != 0,
	}
}

// Exists implements Session.
func (s *client) Exists() uint32 { return s.c.Exists() }

// Changes implements Session.
func (s *client) Changes() Changes {
	w := s.c.Changes()
	c := Changes{
		Exists: w.Exists, Expunged: w.Expunged + int(min(wire.Count(w.Vanished), 1<<31-1)), Vanished: w.Vanished,
		Doubt: s.c.Folder().Doubt, Bye: w.Bye, Alert: w.Alert,
	}
	for _, f := range w.Flagged {
		c.Flags = append(c.Flags, f.Seq)
	}
	for i := range w.Status {
		st := statusOf(&w.Status[i])
		c.Folders = append(c.Folders, FolderHint{Raw: inboxed(w.Status[i].Raw), Status: &st})
	}
	c.Listed, c.Overflow, c.Throttle = len(w.Listed) > 0, w.Overflow, w.Throttle
	return c
}

// Notify implements Session.
func (s *client) Notify(ctx context.Context) error { return failure(s.c.Notify(ctx, true)) }

// Compress implements Session.
func (s *client) Compress(ctx context.Context) error { return failure(s.c.Compress(ctx)) }

// Noop implements Session.
func (s *client) Noop(ctx context.Context) error { return failure(s.c.Noop(ctx)) }

// Idle implements Session.
func (s *client) Idle(ctx context.Context, limit time.Duration) (IdleEnd, error) {
	end, err := s.c.Idle(ctx, limit)
	return IdleEnd(end), failure(err)
}

// Kick implements Session.
func (s *client) Kick() { s.c.Kick() }

// LastProof implements Session.
func (s *client) LastProof() time.Time { return s.c.LastProof() }

// SpeakBy implements Session.
func (s *client) SpeakBy() time.Time { return s.c.SpeakBy() }

// Logout implements Session.
func (s *client) Logout(ctx context.Context) error { return failure(s.c.Logout(ctx)) }

// Close implements Session.
func (s *client) Close() { s.c.Close() }
