package wire

import (
	"context"
	"errors"
	"unique"

	"github.com/emersion/go-imap/v2"
)

// Noop is a round trip. Read buffers go back to their pool behind it.
func (c *Conn) Noop(ctx context.Context) error {
	_, err := c.command("NOOP").run(ctx)
	c.rd.release()
	return err
}

// Logout says goodbye, waits at most Limits.Logout, and closes.
func (c *Conn) Logout(ctx context.Context) error {
	defer c.Close()
	k := c.command("LOGOUT")
	k.first, k.total = c.lim.Logout, c.lim.Logout
	k.on = func(r *response) bool { return r.kind == rStatus && r.status.typ == imap.StatusResponseTypeBye }
	_, err := k.run(ctx)
	if e, ok := errors.AsType[*Error](err); ok && e.Kind == Closed {
		return nil // hung up behind its BYE
	}
	return err
}

// identify sends ID and keeps the answer.
func (c *Conn) identify(ctx context.Context, name, version string) error {
	k := c.command("ID")
	k.buf = appendQuoted(append(k.buf, ` ("name" `...), printable(name))
	if version != "" {
		k.buf = appendQuoted(append(k.buf, ` "version" `...), printable(version))
	}
	k.buf = append(k.buf, ')')
	k.on = func(r *response) bool {
		if !r.is("ID") {
			return false
		}
		c.id = unique.Make(parseID(r))
		return true
	}
	_, err := k.run(ctx)
	return err
}

// printable keeps what a quoted string may hold.
func printable(s string) string {
	b := []byte(s[:min(len(s), 200)])
	for i, ch := range b {
		if ch < ' ' || ch > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}

// parseID reads `("name" "x" "version" NIL)`; what it cannot read is left out.
func parseID(r *response) imap.IDData {
	var id imap.IDData
	s := r.scan()
	if !s.open() {
		return id
	}
	for range 60 {
		t, key := s.next()
		if t != tString && t != tAtom {
			return id
		}
		at := s.i
		t, v := s.next()
		if t != tString && t != tAtom {
			if s.seek(at); t == tClose || !s.skip() {
				return id
			}
			continue
		}
		text := cleanText(v)
		switch {
		case foldEqual(key, "NAME"):
			id.Name = text
		case foldEqual(key, "VERSION"):
			id.Version = text
		case foldEqual(key, "OS"):
			id.OS = text
		case foldEqual(key, "VENDOR"):
			id.Vendor = text
		case foldEqual(key, "SUPPORT-URL"):
			id.SupportURL = text
		case foldEqual(key, "DATE"):
			id.Date = text
		}
	}
	return id
}

// namespace asks for the namespaces and keeps them.
func (c *Conn) namespace(ctx context.Context) error {
	k := c.command("NAMESPACE")
	k.on = func(r *response) bool {
		if !r.is("NAMESPACE") {
			return false
		}
		s := r.scan()
		c.namespaces = imap.NamespaceData{Personal: descriptors(&s), Other: descriptors(&s), Shared: descriptors(&s)}
		return true
	}
	_, err := k.run(ctx)
	return err
}

// descriptors reads `(("prefix" "delim" …) …)` or NIL.
func descriptors(s *scanner) []imap.NamespaceDescriptor {
	if t, _ := s.next(); t != tOpen {
		return nil
	}
	var out []imap.NamespaceDescriptor
	for s.open() {
		t, prefix := s.next()
		d, delim := s.next()
		if t != tString && t != tAtom && t != tNil || d == tOpen || d == tClose || d == tEnd || d == tBad {
			return out
		}
		desc := imap.NamespaceDescriptor{Prefix: string(prefix)}
		for _, r := range string(delim) {
			desc.Delim = r
			break
		}
		if d == tNil {
			desc.Delim = 0
		}
		if !s.rest() || len(out) == 100 {
			return out
		}
		out = append(out, desc)
	}
	if s.peek() == ')' {
		s.i++
	}
	return out
}
