package api

import "context"

type flushIn struct {
	AccountPath
	Body flushBody
}

type flushBody struct {
	Flush      bool      `json:"flush" enum:"true"`
	NotifyFrom Opt[When] `json:"notifyFrom,omitempty" doc:"what arrived at or after it is announced; default now"`
}

type flushed struct {
	Body flushedBody
}

type flushedBody struct {
	Flush bool `json:"flush" enum:"true"`
}

func (s *Server) flush(ctx context.Context, in *flushIn) (*flushed, error) {
	a, err := s.o.Store.Account(ctx, in.id())
	switch {
	case err != nil:
		return nil, ofAccount(in.id(), err)
	case a.IMAP == nil:
		return nil, problem(IMAPUnavailable, "account %q has no IMAP server to look at", a.ID)
	}
	if _, err := s.o.Store.FlushAccount(ctx, in.id(), in.Body.NotifyFrom.Value.Time); err != nil {
		return nil, ofAccount(in.id(), err)
	}
	if err := s.o.Kicker.Kick(ctx, in.id()); err != nil {
		return nil, err
	}
	return &flushed{flushedBody{true}}, nil
}
