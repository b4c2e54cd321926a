package imapsync

import (
	"context"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"
)

// idleSlack is what Idle allows beyond max before its own deadline.
const idleSlack = 5 * time.Second

// Idle implements Session.
func (s *client) Idle(ctx context.Context, limit time.Duration) (IdleEnd, error) {
	select {
	case <-ctx.Done():
		return "", context.Cause(ctx)
	case <-s.kick:
		return IdleKicked, nil
	case <-s.c.folder.hint: // maybe of long ago: Changes may have been taken since
	default:
	}
	if s.c.folder.pending() {
		return IdleChanged, nil
	}
	soft, cancel := lingering(ctx, s.c.lim.polite)
	defer cancel()

	s.c.setIdle(idleSent)
	defer s.c.setIdle(idleOff)
	w := waits{s.c.lim.idleStart, 0, s.c.lim.idleStart}
	cmd, err := do(soft, s, "IDLE", w, s.imap.Idle)
	if err != nil {
		return "", err
	}
	end := s.idling(ctx, limit)
	if err := s.endIdle(soft, cmd); err != nil {
		return "", err
	}
	if end == "" {
		return "", context.Cause(ctx)
	}
	return end, nil
}

// idling waits until IDLE should end; "" when ctx or the connection did.
func (s *client) idling(ctx context.Context, limit time.Duration) IdleEnd {
	s.c.begin("IDLE", limit+idleSlack, 0, limit+idleSlack)
	defer s.c.end()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case <-s.c.folder.hint:
			switch {
			case s.c.folder.pending():
				return IdleChanged
			case s.c.idleEndedByServer():
				return IdleServer
			}
		case <-s.kick:
			return IdleKicked
		case <-timer.C:
			return IdleTimeout
		case <-s.c.down:
			return ""
		case <-ctx.Done():
			return ""
		}
	}
}

// endIdle says DONE and waits for the tagged reply, which is the proof of life.
func (s *client) endIdle(ctx context.Context, cmd *imapclient.IdleCommand) error {
	w := waits{s.c.lim.done, 0, s.c.lim.done}
	_, err := do(ctx, s, "IDLE", w, func() (struct{}, error) {
		if err := cmd.Close(); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, cmd.Wait()
	})
	return err
}

// lingering is ctx living d longer, with the same cause.
func lingering(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		wait, done := context.WithTimeout(out, d)
		defer done()
		<-wait.Done()
		cancel(context.Cause(ctx))
	})
	return out, func() {
		stop()
		cancel(context.Canceled)
	}
}
