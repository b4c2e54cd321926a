package api

import (
	"context"

	"github.com/postrider/postrider/store"
)

type reconnectIn struct {
	AccountPath
	Body reconnectBody
}

type reconnectBody struct {
	Reconnect bool `json:"reconnect" enum:"true"`
}

type reconnected struct {
	Body reconnectBody
}

func (s *Server) reconnect(ctx context.Context, in *reconnectIn) (*reconnected, error) {
	if err := s.watched(ctx, in.id()); err != nil {
		return nil, err
	}
	// A new version is what makes a worker connect anew, wherever it runs.
	if _, err := s.o.Store.UpdateAccount(ctx, in.id(), 0, func(*store.Account) error { return nil }); err != nil {
		return nil, ofAccount(in.id(), err)
	}
	if err := s.o.Kicker.Kick(ctx, in.id()); err != nil {
		return nil, err
	}
	return &reconnected{reconnectBody{true}}, nil
}

// watched says why an account is not one whose mailbox is watched, nil if it is.
func (s *Server) watched(ctx context.Context, id store.AccountID) error {
	a, err := s.o.Store.Account(ctx, id)
	switch {
	case err != nil:
		return ofAccount(id, err)
	case a.Paused != nil:
		return problem(AccountPaused, "account %q is paused", a.ID)
	case !a.Watchable():
		return problem(IMAPUnavailable, "account %q has no IMAP server to connect to", a.ID)
	}
	return nil
}

type syncIn struct {
	AccountPath
	Body syncBody
}

type syncBody struct {
	Sync bool `json:"sync" enum:"true"`
}

type synced struct {
	Body syncBody
}

func (s *Server) sync(ctx context.Context, in *syncIn) (*synced, error) {
	if err := s.watched(ctx, in.id()); err != nil {
		return nil, err
	}
	if err := s.o.Kicker.Kick(ctx, in.id()); err != nil {
		return nil, err
	}
	return &synced{syncBody{true}}, nil
}
