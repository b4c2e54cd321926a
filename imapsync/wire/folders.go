package wire

import "context"

// Create makes a folder. raw is a name as LIST would give it: see EncodeName.
func (c *Conn) Create(ctx context.Context, raw string) error {
	_, err := c.command("CREATE").name(raw).run(ctx)
	return err
}

// Rename renames a folder, with what is in it.
func (c *Conn) Rename(ctx context.Context, raw, to string) error {
	_, err := c.command("RENAME").name(raw).name(to).run(ctx)
	return err
}

// Delete deletes a folder with its messages.
func (c *Conn) Delete(ctx context.Context, raw string) error {
	_, err := c.command("DELETE").name(raw).run(ctx)
	return err
}

// Subscribe adds a folder to the subscribed ones, or takes it from them.
func (c *Conn) Subscribe(ctx context.Context, raw string, on bool) error {
	verb := "SUBSCRIBE"
	if !on {
		verb = "UNSUBSCRIBE"
	}
	_, err := c.command(verb).name(raw).run(ctx)
	return err
}
