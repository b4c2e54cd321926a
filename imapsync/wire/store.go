package wire

import (
	"context"

	"github.com/emersion/go-imap/v2"
)

// StoreOp is what Store does with flags.
type StoreOp string

// The operations.
const (
	StoreAdd     StoreOp = "+FLAGS.SILENT"
	StoreRemove  StoreOp = "-FLAGS.SILENT"
	StoreReplace StoreOp = "FLAGS.SILENT"

	StoreAddLabels    StoreOp = "+X-GM-LABELS.SILENT" // X-GM-EXT-1
	StoreRemoveLabels StoreOp = "-X-GM-LABELS.SILENT"
)

// Store changes flags by UID STORE. What it says of messages that were changed by
// others meanwhile are hints.
func (c *Conn) Store(ctx context.Context, set imap.UIDSet, op StoreOp, flags []imap.Flag) (Result, error) {
	var res Result
	if why := checkSet(set); why != "" {
		return res, refuse("UID STORE", why)
	}
	for _, part := range splitSet(set) {
		k := c.command("UID STORE").set(part).arg(string(op))
		if op == StoreAddLabels || op == StoreRemoveLabels {
			k.labels(flags)
		} else {
			k.flags(flags)
		}
		var err error
		if res, err = k.run(ctx); err != nil {
			return res, err
		}
	}
	return res, nil
}

// labels appends Gmail's labels, which may hold anything.
func (k *command) labels(labels []imap.Flag) {
	k.buf = append(k.buf, ' ', '(')
	for i, l := range labels {
		if len(l) > 1 && l[0] == '\\' && isFlag(string(l)) { // \Inbox and its like
			if i > 0 {
				k.buf = append(k.buf, ' ')
			}
			k.buf = append(k.buf, l...)
			continue
		}
		at := len(k.buf)
		k.str(EncodeName(string(l)))
		if i == 0 && len(k.buf) > at && k.buf[at] == ' ' && len(k.syncs) == 0 {
			k.buf = append(k.buf[:at], k.buf[at+1:]...)
		}
	}
	k.buf = append(k.buf, ')')
}
