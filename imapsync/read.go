package imapsync

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"time"

	"github.com/postrider/postrider/imapsync/wire"
	"github.com/postrider/postrider/internal/message"
	"github.com/postrider/postrider/store"
)

const (
	readTry     = 10 * time.Second // one try to read something, its wait for the connection included
	readTries   = 2
	readText    = 2 << 20   // of a text that is read for an answer, decoded
	readPiece   = 512 << 10 // of an attachment that is asked for at once
	readUnknown = 16 << 20  // of a message whose structure the server cannot tell
)

// Original is a message that somebody answers or forwards.
type Original struct {
	Place       Place
	Header      message.Header
	Text, HTML  string // UTF-8 with LF line ends, at most readText bytes; "" = there is none
	TextCut     bool   // there is more of them
	Attachments []Attached
}

// Attached is an attachment of a message on the server.
type Attached struct {
	ID          string // as events tell it
	Filename    string
	ContentType string // with its parameters
	Inline      bool
	ContentID   string // with angle brackets, as it came
	EncodedSize int64  // octets, as transferred; the server's word

	encoding string
	read     func(ctx context.Context, offset int64) ([]byte, error) // at most readPiece encoded bytes; none behind the end
}

// Original reads a message by its id in events, without setting \Seen. Errors:
// ErrNoMessage where there is none of this id (any more), store.ErrNotFound for no such
// account; any other says that it cannot be read now.
func (a *Actor) Original(ctx context.Context, id store.AccountID, message string) (*Original, error) {
	p, parts, ok := parseID(message)
	if !ok || parts != "" {
		return nil, fmt.Errorf("message %q: %w", message, ErrNoMessage)
	}
	return a.original(ctx, id, p, true)
}

// Attached finds an attachment by its id in events. Errors are those of Original.
func (a *Actor) Attached(ctx context.Context, id store.AccountID, attachment string) (*Attached, error) {
	p, number, ok := parseID(attachment)
	if !ok || number == "" {
		return nil, fmt.Errorf("attachment %q: %w", attachment, ErrNoMessage)
	}
	o, err := a.original(ctx, id, p, false)
	if err != nil {
		return nil, err
	}
	for i := range o.Attachments {
		if o.Attachments[i].ID == attachment {
			return &o.Attachments[i], nil
		}
	}
	return nil, fmt.Errorf("attachment %q: %w", attachment, ErrNoMessage)
}

// parseID takes apart what partID made.
func parseID(id string) (p Place, parts string, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(id)
	if err != nil || len(b) < 8 {
		return Place{}, "", false
	}
	p = Place{Folder: binary.BigEndian.Uint32(b), UID: binary.BigEndian.Uint32(b[4:])}
	return p, string(b[8:]), p.UID > 0
}

// original reads what a message says of itself, and its texts where they are wanted.
func (a *Actor) original(ctx context.Context, id store.AccountID, p Place, texts bool) (o *Original, err error) {
	err = a.try(ctx, id, func(ctx context.Context, l *live) error {
		f, err := l.readable(ctx, &p)
		if err != nil {
			return err
		}
		o = &Original{Place: p}
		root, whole, err := l.structure(ctx, p, o)
		if err != nil {
			return err
		}
		chosen := message.Choose(root, maxAttachments)
		for i := range chosen.Attachments {
			o.Attachments = append(o.Attachments, a.attached(id, f, p, chosen.Attachments[i], whole))
		}
		for _, t := range []struct {
			q  *message.Part
			to *string
		}{{chosen.Plain, &o.Text}, {chosen.HTML, &o.HTML}} {
			if t.q == nil || !texts {
				continue
			}
			data, cut := t.q.Body, false
			if whole == nil {
				if data, cut, err = l.section(ctx, p.UID, t.q.Number, encodedRoom(t.q.Encoding, readText)); err != nil {
					return err
				}
			}
			text, more := message.Text(t.q, data, cut, readText, nil)
			*t.to, o.TextCut = text, o.TextCut || more
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return o, nil
}

// try does a reading up to readTries times; what the server positively does not have is
// not asked for again.
func (a *Actor) try(ctx context.Context, id store.AccountID, f func(context.Context, *live) error) error {
	var err error
	for range readTries {
		one, stop := context.WithTimeoutCause(ctx, readTry, errSilent)
		err = a.do(one, id, f)
		stop()
		if err == nil || errors.Is(err, ErrNoMessage) || errors.Is(err, store.ErrNotFound) || ctx.Err() != nil {
			break
		}
	}
	return err
}

// readable opens the folder of a message that is read, where it is not open, and
// completes its place. Ids do not tell UIDVALIDITY: the folder's own must be the one
// that the events were made under.
func (l *live) readable(ctx context.Context, p *Place) (store.Folder, error) {
	none := func(why string) error {
		return fmt.Errorf("message %s of account %q, %s: %w", p.ID(), l.id, why, ErrNoMessage)
	}
	f, err := l.find(ctx, p.ID(), func(f *store.Folder) bool { return f.Num == p.Folder })
	if errors.Is(err, ErrNoFolder) {
		return f, none("its folder is gone")
	}
	if err != nil {
		return f, err
	}
	meta, err := l.a.o.Store.FolderMeta(ctx, l.id, f.Num)
	if errors.Is(err, store.ErrNotFound) {
		return f, none("its folder is gone")
	}
	if err != nil {
		return f, err
	}
	v, err := l.open(ctx, f, false)
	switch {
	case err != nil:
		return f, err
	case v != 0 && meta.UIDValidity != 0 && v != meta.UIDValidity, p.UIDValidity != 0 && v != p.UIDValidity:
		return f, none("its folder was reset")
	}
	p.UIDValidity = v
	return f, nil
}

// structure reads the header and what the server says of the parts. Where it cannot say
// that, the message is read whole and taken apart by us: then the parts have their
// bodies, and whole is not nil.
func (l *live) structure(ctx context.Context, p Place, o *Original) (root *message.Part, whole []byte, err error) {
	var header []byte
	there := false
	head := wire.Body("HEADER", 0, message.MaxHeader)
	_, err = l.c.Fetch(ctx, uidSet([]uint32{p.UID}), []wire.Item{wire.ItemUID, wire.ItemBodyStructure, head}, wire.FetchOptions{}, func(m *wire.Message) error {
		there = true
		if m.Structure != nil {
			root = partTree(m.Structure, nil)
		}
		if s := m.Section(head); s != nil && s.Data != nil {
			header = bytes.Clone(s.Data)
		}
		return nil
	})
	if err = failure(err); err != nil && !usable(err) {
		return nil, nil, err
	}
	if err == nil && !there {
		return nil, nil, fmt.Errorf("message %s of account %q: %w", p.ID(), l.id, ErrNoMessage)
	}
	tooLarge := func(what string) error {
		return &Error{Kind: ErrLimit, Stage: StageCommand, Command: "UID FETCH", Text: what + " is too large"}
	}
	if len(header) == message.MaxHeader { // an address that is cut is somebody else's
		return nil, nil, tooLarge("the header")
	}
	if root == nil || header == nil {
		var cut bool
		if whole, cut, err = l.section(ctx, p.UID, "", readUnknown); err != nil {
			return nil, nil, err
		}
		if cut {
			return nil, nil, tooLarge("a message whose structure the server cannot tell")
		}
		m := message.Parse(whole, nil)
		o.Header = m.Header
		return m.Root, whole, nil
	}
	o.Header = message.ParseHeader(header)
	return root, nil, nil
}

// section reads a section of a message of the open folder, up to most bytes; cut says
// that there may be more.
func (l *live) section(ctx context.Context, uid uint32, name string, most int64) (data []byte, cut bool, err error) {
	for {
		n := min(readPiece, most-int64(len(data)))
		if n == 0 {
			return data, true, nil
		}
		b, err := l.piece(ctx, uid, name, int64(len(data)), n)
		if err != nil {
			return nil, false, err
		}
		if len(b) == 0 {
			return data, false, nil
		}
		data = append(data, b...)
	}
}

// piece reads one piece; none of it is behind the end. A server that gives nothing at all
// has not said that it ends there.
func (l *live) piece(ctx context.Context, uid uint32, name string, offset, size int64) ([]byte, error) {
	got, err := parts(ctx, l.c, uid, []PartWanted{{Section: name, Offset: offset, Size: size}})
	if err != nil {
		return nil, err
	}
	if got[0] == nil {
		return nil, &Error{Kind: ErrNo, Stage: StageCommand, Command: "UID FETCH", Text: "the server does not give the part " + name}
	}
	return got[0], nil
}

// attached describes an attachment and how it is read: each piece by a request of its
// own, so that who reads slowly keeps the connection from nobody.
func (a *Actor) attached(id store.AccountID, f store.Folder, p Place, q message.Attachment, whole []byte) Attached {
	params := maps.Clone(q.Params)
	delete(params, "name")
	kind := mime.FormatMediaType(q.Type, params)
	if kind == "" {
		kind = q.Type
	}
	out := Attached{
		ID: partID(p.Folder, p.UID, q.Number), Filename: q.Filename, ContentType: kind, Inline: q.Inline() || q.Embedded && q.ContentID != "",
		ContentID: q.ContentID, EncodedSize: q.Size, encoding: q.Encoding,
	}
	if whole != nil {
		out.read = func(_ context.Context, offset int64) ([]byte, error) {
			b := q.Body[min(offset, int64(len(q.Body))):]
			return b[:min(len(b), readPiece)], nil
		}
		return out
	}
	out.read = func(ctx context.Context, offset int64) (b []byte, err error) {
		p := p
		err = a.try(ctx, id, func(ctx context.Context, l *live) error {
			if at := l.c.Folder(); at.Raw != f.Raw || at.UIDValidity != p.UIDValidity {
				if _, err := l.readable(ctx, &p); err != nil {
					return err
				}
			}
			b, err = l.piece(ctx, p.UID, q.Number, offset, readPiece)
			return err
		})
		return b, err
	}
	return out
}

// Open reads the attachment's octets, decoded, in pieces as they are wanted. It asks the
// server at each Read that needs to, under ctx, twice with 10 s each. It may be called
// again. Errors are those of Original.
func (t *Attached) Open(ctx context.Context) io.ReadCloser {
	return io.NopCloser(message.NewReader(t.encoding, &pieces{ctx: ctx, read: t.read}))
}

// pieces reads piece by piece.
type pieces struct {
	ctx  context.Context
	read func(context.Context, int64) ([]byte, error)
	next int64
	left []byte
	err  error
}

func (r *pieces) Read(p []byte) (int, error) {
	if len(r.left) == 0 && r.err == nil {
		if r.left, r.err = r.read(r.ctx, r.next); r.err == nil && len(r.left) == 0 {
			r.err = io.EOF
		}
		r.next += int64(len(r.left))
	}
	if len(r.left) == 0 {
		return 0, r.err
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}
