package imapsync

import "context"

// compressAbove is the number of messages from which on a first look is worth compressing:
// a list of flags shrinks nine times, and inflating costs 40 KB while it lasts.
const compressAbove = 50_000

// compress compresses the connection for a first look at many messages. Such a connection
// does not idle: a plain one takes its place when all folders were looked at.
func (w *worker) compress(ctx context.Context, messages int) error {
	if messages <= compressAbove || w.compressed || w.uncompressed || !w.info.Compress || w.profile.NoCompress || w.cfg.NoCompress {
		return nil
	}
	err := w.sess.Compress(ctx)
	if err != nil && goesOn(err) {
		w.uncompressed = true
		w.log.InfoContext(ctx, "connection not compressed", "account", w.id, "err", err)
		return nil
	}
	w.compressed = err == nil
	return err
}
