package imaptest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// driver is a second mail program on one mailbox: go-imap's own client, one connection
// that is opened when needed and opened again after an error.
type driver struct {
	dial       func(ctx context.Context) (net.Conn, error)
	user, pass string
	native     func(folder string) string // nil: folders have the names that tests use

	mu       sync.Mutex
	conn     net.Conn
	imap     *imapclient.Client
	selected string
}

// do runs f with a connection on which folder ("" = none) is selected.
func (d *driver) do(ctx context.Context, folder string, f func(*imapclient.Client) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.imap == nil {
		if err := d.open(ctx); err != nil {
			return fmt.Errorf("second client: %w", err)
		}
	}
	conn := d.conn
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	err := d.selectFolder(folder)
	if err == nil {
		err = f(d.imap)
	}
	if reply := (*imap.Error)(nil); err != nil && !errors.As(err, &reply) {
		d.drop()
	}
	return err
}

func (d *driver) open(ctx context.Context) error {
	conn, err := d.dial(ctx)
	if err != nil {
		return err
	}
	c := imapclient.New(conn, nil)
	if err := c.Login(d.user, d.pass).Wait(); err != nil {
		_ = conn.Close()
		return err
	}
	d.conn, d.imap, d.selected = conn, c, ""
	return nil
}

func (d *driver) selectFolder(folder string) error {
	switch {
	case folder == d.selected:
		return nil
	case folder == "":
		// A folder stays selected through commands that name their own; one that is
		// about to be deleted or renamed must not be.
		d.selected = ""
		if !d.imap.Caps().Has(imap.CapUnselect) {
			_, err := d.imap.Select("INBOX", nil).Wait()
			return err
		}
		return d.imap.Unselect().Wait()
	}
	d.selected = ""
	if _, err := d.imap.Select(d.name(folder), nil).Wait(); err != nil {
		return err
	}
	d.selected = folder
	return nil
}

// name is what the server calls a folder.
func (d *driver) name(folder string) string {
	if d.native == nil {
		return folder
	}
	return d.native(folder)
}

func (d *driver) drop() {
	if d.conn != nil {
		_ = d.conn.Close()
	}
	d.conn, d.imap, d.selected = nil, nil, ""
}

// Disconnect ends the second client's connection, which the next action opens anew.
func (d *driver) Disconnect() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drop()
}

// Append implements Mailbox.
func (d *driver) Append(ctx context.Context, folder string, raw []byte, flags []string, date time.Time) (uint32, error) {
	var uid uint32
	err := d.do(ctx, "", func(c *imapclient.Client) error {
		cmd := c.Append(d.name(folder), int64(len(raw)), &imap.AppendOptions{Flags: imapFlags(flags), Time: date})
		_, werr := cmd.Write(raw)
		if err := errors.Join(werr, cmd.Close()); err != nil {
			return err
		}
		data, err := cmd.Wait()
		if err == nil {
			uid = uint32(data.UID)
		}
		return err
	})
	return uid, wrap("append to", folder, err)
}

// AddFlags implements Mailbox.
func (d *driver) AddFlags(ctx context.Context, folder string, uids []uint32, flags ...string) error {
	return d.store(ctx, folder, uids, imap.StoreFlagsAdd, flags)
}

// RemoveFlags implements Mailbox.
func (d *driver) RemoveFlags(ctx context.Context, folder string, uids []uint32, flags ...string) error {
	return d.store(ctx, folder, uids, imap.StoreFlagsDel, flags)
}

func (d *driver) store(ctx context.Context, folder string, uids []uint32, op imap.StoreFlagsOp, flags []string) error {
	err := d.do(ctx, folder, func(c *imapclient.Client) error {
		return c.Store(uidSet(uids), &imap.StoreFlags{Op: op, Silent: true, Flags: imapFlags(flags)}, nil).Close()
	})
	return wrap("store in", folder, err)
}

// Expunge implements Mailbox.
func (d *driver) Expunge(ctx context.Context, folder string, uids ...uint32) error {
	err := d.do(ctx, folder, func(c *imapclient.Client) error {
		flags := &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.FlagDeleted}}
		if err := c.Store(uidSet(uids), flags, nil).Close(); err != nil {
			return err
		}
		return c.UIDExpunge(uidSet(uids)).Close()
	})
	return wrap("expunge in", folder, err)
}

// Move implements Mailbox.
func (d *driver) Move(ctx context.Context, folder, to string, uids ...uint32) error {
	err := d.do(ctx, folder, func(c *imapclient.Client) error {
		_, err := c.Move(uidSet(uids), d.name(to)).Wait()
		return err
	})
	return wrap("move from", folder, err)
}

// Copy implements Mailbox.
func (d *driver) Copy(ctx context.Context, folder, to string, uids ...uint32) error {
	err := d.do(ctx, folder, func(c *imapclient.Client) error {
		_, err := c.Copy(uidSet(uids), d.name(to)).Wait()
		return err
	})
	return wrap("copy from", folder, err)
}

// CreateFolder implements Mailbox.
func (d *driver) CreateFolder(ctx context.Context, folder string) error {
	return wrap("create", folder, d.do(ctx, "", func(c *imapclient.Client) error { return c.Create(d.name(folder), nil).Wait() }))
}

// DeleteFolder implements Mailbox.
func (d *driver) DeleteFolder(ctx context.Context, folder string) error {
	return wrap("delete", folder, d.do(ctx, "", func(c *imapclient.Client) error { return c.Delete(d.name(folder)).Wait() }))
}

// RenameFolder implements Mailbox.
func (d *driver) RenameFolder(ctx context.Context, folder, to string) error {
	return wrap("rename", folder, d.do(ctx, "", func(c *imapclient.Client) error { return c.Rename(d.name(folder), d.name(to), nil).Wait() }))
}

// recreate deletes and creates a folder and puts its messages back.
func (d *driver) recreate(ctx context.Context, folder string) error {
	type kept struct {
		raw   []byte
		flags []string
		date  time.Time
	}
	var all []kept
	err := d.do(ctx, folder, func(c *imapclient.Client) error {
		whole := &imap.FetchItemBodySection{Peek: true}
		var every imap.UIDSet
		every.AddRange(1, 0)
		msgs, err := c.Fetch(every, &imap.FetchOptions{UID: true, Flags: true, InternalDate: true, BodySection: []*imap.FetchItemBodySection{whole}}).Collect()
		for _, m := range msgs {
			k := kept{raw: m.FindBodySection(whole), date: m.InternalDate}
			for _, f := range m.Flags {
				k.flags = append(k.flags, string(f))
			}
			all = append(all, k)
		}
		return err
	})
	if err != nil {
		return wrap("read", folder, err)
	}
	if err := d.DeleteFolder(ctx, folder); err != nil {
		return err
	}
	if err := d.CreateFolder(ctx, folder); err != nil {
		return err
	}
	for _, k := range all {
		if _, err := d.Append(ctx, folder, k.raw, k.flags, k.date); err != nil {
			return err
		}
	}
	return nil
}

// Subjects are those of a folder's messages, by UID.
func (d *driver) Subjects(ctx context.Context, folder string) (map[uint32]string, error) {
	out := map[uint32]string{}
	err := d.do(ctx, folder, func(c *imapclient.Client) error {
		var every imap.UIDSet
		every.AddRange(1, 0)
		msgs, err := c.Fetch(every, &imap.FetchOptions{UID: true, Envelope: true}).Collect()
		for _, m := range msgs {
			out[uint32(m.UID)] = m.Envelope.Subject
		}
		return err
	})
	return out, wrap("subjects of", folder, err)
}

// Truth implements Mailbox.
func (d *driver) Truth(ctx context.Context) (map[string]Folder, error) {
	conn, err := d.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("truth: %w", err)
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	return readTruth(conn, d.user, d.pass)
}

func uidSet(uids []uint32) imap.UIDSet {
	var set imap.UIDSet
	for _, u := range uids {
		set.AddNum(imap.UID(u))
	}
	return set
}

func imapFlags(flags []string) []imap.Flag {
	out := make([]imap.Flag, 0, len(flags))
	for _, f := range flags {
		out = append(out, imap.Flag(f))
	}
	return out
}

func wrap(doing, folder string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%s %q: %w", doing, folder, err)
}
