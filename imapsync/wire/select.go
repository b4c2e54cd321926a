package wire

import (
	"context"

	"github.com/emersion/go-imap/v2"
)

// SelectOptions say how a folder is opened.
type SelectOptions struct {
	CondStore bool // (CONDSTORE) behind the name: where it is advertised and ENABLE is not
	ReadWrite bool // SELECT instead of EXAMINE
}

// Examine opens a folder, by the bytes LIST gave, and forgets the hints of the one before.
// After No and Bad no folder is selected. Opening the selected folder again asks again.
func (c *Conn) Examine(ctx context.Context, raw string, o SelectOptions) (Folder, error) {
	verb := "EXAMINE"
	if o.ReadWrite {
		verb = "SELECT"
	}
	k := c.command(verb).name(raw)
	if o.CondStore {
		k.arg("(CONDSTORE)")
	}
	if k.err != nil {
		return Folder{}, k.err
	}
	k.first = c.lim.FirstSlow
	c.open, c.selecting = false, true
	c.folder = Folder{Raw: raw, ReadOnly: !o.ReadWrite}
	c.changes = Changes{Status: c.changes.Status, Listed: c.changes.Listed, Overflow: c.changes.Overflow, Alert: c.changes.Alert, Throttle: c.changes.Throttle}
	c.words.reset()
	k.on = func(r *response) bool {
		switch {
		case r.kind == rStatus && r.status.code == "CLOSED":
			// RFC 7162 section 3.2.11: what came before was about the folder before.
			c.folder = Folder{Raw: raw, ReadOnly: !o.ReadWrite}
			return true
		case r.kind == rStatus && r.status.typ != imap.StatusResponseTypeBye:
			c.code(r)
			return true
		case r.is("EXISTS") && r.hasNum:
			_ = c.exists(r)
			return true
		case r.is("FLAGS"):
			c.folder.Flags = c.flagList(r.b[r.at:])
			return true
		}
		return r.is("RECENT")
	}
	_, err := k.run(ctx)
	c.selecting = false
	if err != nil {
		c.folder = Folder{}
		return Folder{}, err
	}
	c.open = true
	return c.folder, nil
}

// Unselect closes the folder without touching it; where the server has no UNSELECT it
// refuses.
func (c *Conn) Unselect(ctx context.Context) error {
	if !c.caps.Has(imap.CapUnselect) {
		return refuse("UNSELECT", "server has no UNSELECT")
	}
	_, err := c.command("UNSELECT").run(ctx)
	if err == nil {
		c.open, c.folder = false, Folder{}
	}
	return err
}
