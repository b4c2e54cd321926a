package imapsync

import (
	"context"
	"errors"
	"mime"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-message/charset"

	"github.com/postrider/postrider/store"
)

// client is Session over go-imap's client. The client gets a connection that is
// already logged in (greet.go), reads only what frames let through, and is asked for
// one command at a time, each in a goroutine of its own that may be left behind: the
// caller never depends on the client noticing anything.
type client struct {
	c     *conn
	imap  *imapclient.Client
	info  Info
	roles store.RoleFolder
	kick  chan struct{} // cap 1

	plainList   bool // extended LIST was refused
	plainSelect bool // EXAMINE (CONDSTORE) was refused
	plainSearch bool // SEARCH RETURN was refused
}

var _ Session = (*client)(nil)

func newClient(c *conn, info Info, roles store.RoleFolder) *client {
	s := &client{c: c, info: info, roles: roles, kick: make(chan struct{}, 1)}
	s.imap = imapclient.New(c, &imapclient.Options{
		WordDecoder: &mime.WordDecoder{CharsetReader: charset.Reader},
		UnilateralDataHandler: &imapclient.UnilateralDataHandler{
			// EXISTS and EXPUNGE come from conn, in the order of the wire; this handler
			// runs out of order, and says what no command of ours asked for.
			Fetch: func(msg *imapclient.FetchMessageData) {
				for msg.Next() != nil {
					// drained: the client reads nothing else before
				}
				c.folder.flags(msg.SeqNum)
			},
		},
	})
	return s
}

// waits are the deadlines of a command.
type waits struct{ first, gap, total time.Duration }

func (s *client) normal() waits {
	return waits{s.c.lim.first, s.c.lim.gap, s.c.lim.command}
}

func (s *client) slow() waits {
	return waits{s.c.lim.firstSlow, s.c.lim.gap, s.c.lim.command}
}

// do runs one command of the client and waits for it, its deadlines, or the end of ctx,
// which closes the connection. What f returns beside an error is returned too.
func do[T any](ctx context.Context, s *client, verb string, w waits, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var zero T
	if s.c.isDead() {
		return zero, s.failure(verb, nil)
	}
	stop := context.AfterFunc(ctx, func() {
		s.c.fail(&Error{Kind: ErrClosed, Stage: StageCommand, Command: verb, Err: context.Cause(ctx)})
	})
	defer stop()
	s.c.begin(verb, w.first, w.gap, w.total)
	defer s.c.end()
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	var r result
	select {
	case r = <-done:
	case <-s.c.down:
		grace := time.NewTimer(wedgeGrace)
		defer grace.Stop()
		select {
		case r = <-done:
		case <-grace.C:
			return zero, s.failure(verb, nil) // left behind
		}
	}
	if r.err != nil {
		return r.value, s.failure(verb, r.err)
	}
	return r.value, nil
}

// failure makes an *Error of what the client returned and what the connection knows.
func (s *client) failure(verb string, err error) error {
	if e, ok := errors.AsType[*imap.Error](err); ok {
		kind := ErrNo
		if e.Type == imap.StatusResponseTypeBad {
			kind = ErrBad
		}
		return &Error{Kind: kind, Stage: StageCommand, Command: verb, Code: strings.ToUpper(string(e.Code)), Text: cleanText(e.Text)}
	}
	if e := s.c.why(); e != nil {
		named := *e
		named.Command = verb
		return &named
	}
	if err == nil {
		err = s.unreadable()
	}
	// The client closes after whatever it cannot read.
	s.c.fail(&Error{Kind: ErrProtocol, Stage: StageCommand, Command: verb, Err: err})
	return &Error{Kind: ErrProtocol, Stage: StageCommand, Command: verb, Err: err}
}

// unreadable is what the client's reader ended with, if it did.
func (s *client) unreadable() error {
	select {
	case <-s.imap.Closed():
		if err := s.imap.Close(); err != nil { // does not block: the reader has ended
			return err
		}
	default:
	}
	return errors.New("connection is closed")
}

// checkName refuses a folder name that must not be put on the wire.
func checkName(verb, raw string) error {
	if raw == "" || strings.ContainsAny(raw, "\r\n\x00") {
		return &Error{Kind: ErrConfig, Stage: StageCommand, Command: verb, Text: "folder name cannot be sent"}
	}
	return nil
}

// Info implements Session.
func (s *client) Info() Info { return s.info }

// Select implements Session.
func (s *client) Select(ctx context.Context, raw string) (Selected, error) {
	if err := checkName("EXAMINE", raw); err != nil {
		return Selected{}, err
	}
	cond := s.info.CondStore && !s.plainSelect
	sel, err := s.examine(ctx, raw, cond)
	if e, ok := errors.AsType[*Error](err); ok && e.Kind == ErrBad && cond {
		s.plainSelect = true
		sel, err = s.examine(ctx, raw, false)
	}
	return sel, err
}

func (s *client) examine(ctx context.Context, raw string, cond bool) (Selected, error) {
	s.c.folder.selectBegins()
	data, err := do(ctx, s, "EXAMINE", s.slow(), func() (*imap.SelectData, error) {
		return s.imap.Select(raw, &imap.SelectOptions{ReadOnly: true, CondStore: cond}).Wait()
	})
	if err != nil {
		s.c.folder.selectFailed()
		return Selected{}, err
	}
	return Selected{
		UIDValidity: data.UIDValidity,
		UIDNext:     uint32(data.UIDNext),
		Exists:      data.NumMessages,
		ModSeq:      modSeq(data.HighestModSeq),
	}, nil
}

// modSeq drops what RFC 7162 does not allow: MODSEQ has 63 bits.
func modSeq(n uint64) uint64 {
	if n >= 1<<63 {
		return 0
	}
	return n
}

// Status implements Session.
func (s *client) Status(ctx context.Context, raw string) (Status, error) {
	if err := checkName("STATUS", raw); err != nil {
		return Status{}, err
	}
	data, err := do(ctx, s, "STATUS", s.normal(), func() (*imap.StatusData, error) {
		return s.imap.Status(raw, s.statusItems()).Wait()
	})
	if err != nil {
		return Status{}, err
	}
	return statusOf(data), nil
}

// statusItems are the numbers asked for.
func (s *client) statusItems() *imap.StatusOptions {
	return &imap.StatusOptions{NumMessages: true, UIDNext: true, UIDValidity: true, HighestModSeq: s.info.CondStore}
}

func statusOf(d *imap.StatusData) Status {
	st := Status{UIDNext: uint32(d.UIDNext), UIDValidity: d.UIDValidity, ModSeq: modSeq(d.HighestModSeq)}
	if d.NumMessages != nil {
		st.Messages, st.HasMessages = *d.NumMessages, true
	}
	st.HasUIDNext, st.HasUIDValidity, st.HasModSeq = st.UIDNext != 0, st.UIDValidity != 0, st.ModSeq != 0
	return st
}

// Exists implements Session.
func (s *client) Exists() uint32 { return s.c.folder.number() }

// Changes implements Session.
func (s *client) Changes() Changes { return s.c.folder.take() }

// Noop implements Session.
func (s *client) Noop(ctx context.Context) error {
	_, err := do(ctx, s, "NOOP", s.normal(), func() (struct{}, error) {
		return struct{}{}, s.imap.Noop().Wait()
	})
	return err
}

// Kick implements Session.
func (s *client) Kick() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// LastProof implements Session.
func (s *client) LastProof() time.Time { return time.Unix(0, s.c.proof.Load()) }

// SpeakBy implements Session.
func (s *client) SpeakBy() time.Time { return s.c.speakBy() }

// Logout implements Session.
func (s *client) Logout(ctx context.Context) error {
	defer s.Close()
	lim := s.c.lim.logout
	ctx, cancel := context.WithTimeout(ctx, lim)
	defer cancel()
	_, err := do(ctx, s, "LOGOUT", waits{lim, 0, lim}, func() (struct{}, error) {
		return struct{}{}, s.imap.Logout().Wait()
	})
	if e, ok := errors.AsType[*Error](err); ok && e.Kind == ErrBye {
		return nil // the answer to LOGOUT
	}
	return err
}

// Close implements Session.
func (s *client) Close() {
	s.c.fail(&Error{Kind: ErrClosed, Stage: StageCommand, Err: errClosedByUs})
}

var errClosedByUs = errors.New("closed by us")
