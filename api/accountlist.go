package api

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/store"
)

// PageIn is in the input of lists.
type PageIn struct {
	Page     int `query:"page" minimum:"0" maximum:"1000000" default:"0" doc:"from 0"`
	PageSize int `query:"pageSize" minimum:"1" maximum:"1000" default:"20"`
}

// PageOut is in the output of lists.
type PageOut struct {
	Total int `json:"total"`
	Page  int `json:"page"`
	Pages int `json:"pages"`
}

// cut is one page of a list.
func cut[T any](list []T, in PageIn) ([]T, PageOut) {
	from := min(in.Page*in.PageSize, len(list))
	to := min(from+in.PageSize, len(list))
	return list[from:to], PageOut{Total: len(list), Page: in.Page, Pages: (len(list) + in.PageSize - 1) / in.PageSize}
}

type listIn struct {
	PageIn
	State string `query:"state" enum:"init,connecting,syncing,connected,disconnected,authenticationError,connectError,paused,unset" doc:"only accounts in this state"`
	Query string `query:"query" maxLength:"256" doc:"part of id, name or email, letter case aside"`
}

type listOut struct {
	Body listBody
}

type listBody struct {
	PageOut
	Accounts []AccountRow `json:"accounts" nullable:"false"`
}

func (s *Server) listAccounts(ctx context.Context, in *listIn) (*listOut, error) {
	ids, err := s.o.Store.AccountIDs(ctx)
	if err != nil {
		return nil, err
	}
	if in.State == "" && in.Query == "" {
		part, of := cut(ids, in.PageIn)
		accounts, err := s.accounts(ctx, part)
		if err != nil {
			return nil, err
		}
		rows, err := s.rows(ctx, accounts)
		return &listOut{listBody{of, rows}}, err
	}
	var accounts []store.Account
	for shard := range store.Shards {
		part, err := s.o.Store.ShardAccounts(ctx, shard)
		if err != nil {
			return nil, err
		}
		for _, a := range part {
			if a.Deleted.IsZero() && found(a, strings.ToLower(in.Query)) {
				accounts = append(accounts, a)
			}
		}
	}
	slices.SortFunc(accounts, func(a, b store.Account) int { return strings.Compare(string(a.ID), string(b.ID)) })
	if in.State == "" {
		part, of := cut(accounts, in.PageIn)
		rows, err := s.rows(ctx, part)
		return &listOut{listBody{of, rows}}, err
	}
	rows, err := s.rows(ctx, accounts)
	if err != nil {
		return nil, err
	}
	rows = slices.DeleteFunc(rows, func(r AccountRow) bool { return r.State != in.State })
	rows, of := cut(rows, in.PageIn)
	return &listOut{listBody{of, rows}}, nil
}

// accounts reads some accounts, several at a time; those deleted meanwhile are left out.
func (s *Server) accounts(ctx context.Context, ids []store.AccountID) ([]store.Account, error) {
	list := make([]store.Account, len(ids))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for i, id := range ids {
		group.Go(func() error {
			a, err := s.o.Store.Account(ctx, id)
			if errors.Is(err, store.ErrNotFound) {
				return nil
			}
			list[i] = a
			return err
		})
	}
	err := group.Wait()
	return slices.DeleteFunc(list, func(a store.Account) bool { return a.ID == "" }), err
}

func found(a store.Account, query string) bool {
	return query == "" || slices.ContainsFunc([]string{string(a.ID), a.Name, a.Email}, func(s string) bool {
		return strings.Contains(strings.ToLower(s), query)
	})
}

// rows joins accounts with what their workers said.
func (s *Server) rows(ctx context.Context, accounts []store.Account) ([]AccountRow, error) {
	ids := make([]store.AccountID, len(accounts))
	for i, a := range accounts {
		ids[i] = a.ID
	}
	states, err := s.o.Store.States(ctx, ids)
	if err != nil {
		return nil, err
	}
	set, err := s.o.Store.Settings(ctx)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	rows := make([]AccountRow, len(accounts))
	for i, a := range accounts {
		rows[i] = rowOf(a, states[a.ID], stallAfter(a, set), now)
	}
	return rows, nil
}
