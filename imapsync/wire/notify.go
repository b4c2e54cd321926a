package wire

import (
	"context"

	"github.com/emersion/go-imap/v2"
)

// Notify asks for hints about all folders (RFC 5465): MessageNew, MessageExpunge,
// FlagChange in every personal one and in the selected one, and names that change. The
// server first sends the STATUS of all where status is set; these are hints too. They
// come in Idle and beside any command.
func (c *Conn) Notify(ctx context.Context, status bool) error {
	if !c.caps.Has(imap.CapNotify) {
		return refuse("NOTIFY", "server has no NOTIFY")
	}
	k := c.command("NOTIFY").arg("SET")
	if status {
		k.arg("STATUS")
	}
	k.arg("(selected (MessageNew MessageExpunge FlagChange)) (personal (MessageNew MessageExpunge FlagChange MailboxName))")
	k.first = c.lim.FirstSlow
	_, err := k.run(ctx)
	return err
}

// NotifyNone ends it.
func (c *Conn) NotifyNone(ctx context.Context) error {
	_, err := c.command("NOTIFY").arg("NONE").run(ctx)
	return err
}
