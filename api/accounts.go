package api

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/postrider/postrider/store"
)

// AccountPath is in the input of every route below /v1/account/{account}.
type AccountPath struct {
	Account string `path:"account" doc:"id of the account, percent-encoded"`
}

func (p AccountPath) id() store.AccountID { return store.AccountID(p.Account) }

type created struct {
	ETag string `header:"ETag"`
	Body createdBody
}

type createdBody struct {
	Account string `json:"account"`
	State   string `json:"state,omitempty" enum:"new,existing" doc:"new, or existing: it was there and was updated"`
}

type deleted struct {
	Body deletedBody
}

type deletedBody struct {
	Account string `json:"account"`
	Deleted bool   `json:"deleted"`
}

func (s *Server) accountRoutes() {
	scopes := []string{scopeAccounts}
	tags := []string{"accounts"}
	register(s, huma.Operation{
		OperationID: "createAccount", Method: http.MethodPost, Path: "/v1/account", Tags: tags,
		Summary:     "Register an account",
		Description: "Stores the account and begins to watch it; does not wait for the connection. An id that exists is updated like PUT does, unless If-None-Match: * is sent. verify=true tries its servers first and refuses with what it found.",
		Metadata:    map[string]any{"time": verifyTime},
	}, scopes, s.createAccount)
	register(s, huma.Operation{
		OperationID: "getAccount", Method: http.MethodGet, Path: "/v1/account/{account}", Tags: tags,
		Summary: "What is known of an account", Description: "Settings with secrets masked, and the truth about its state.",
	}, []string{scopeAccounts, scopeRead}, s.getAccount)
	register(s, huma.Operation{
		OperationID: "updateAccount", Method: http.MethodPut, Path: "/v1/account/{account}", Tags: tags,
		Summary:     "Change an account",
		Description: "Fields that are given change; null removes. The imap and smtp blocks are replaced whole unless they say partial; false removes them. A change reconnects.",
	}, scopes, s.updateAccount)
	register(s, huma.Operation{
		OperationID: "deleteAccount", Method: http.MethodDelete, Path: "/v1/account/{account}", Tags: tags,
		Summary:     "Delete an account",
		Description: "Its last event is accountDeleted; the journal stays until its retention. Tokens bound to it are revoked. Deleting again within a day answers the same.",
		Metadata:    map[string]any{"time": deleteTime},
	}, scopes, s.deleteAccount)
	register(s, huma.Operation{
		OperationID: "reconnectAccount", Method: http.MethodPut, Path: "/v1/account/{account}/reconnect", Tags: tags,
		Summary: "Connect anew now",
	}, scopes, s.reconnect)
	register(s, huma.Operation{
		OperationID: "syncAccount", Method: http.MethodPut, Path: "/v1/account/{account}/sync", Tags: tags,
		Summary:     "Look at all folders now",
		Description: "Answers at once; each folder is probed now instead of when its turn comes, and those that changed are looked at. It does not end the wait after a failed connection: that is reconnect.",
	}, scopes, s.sync)
	register(s, huma.Operation{
		OperationID: "flushAccount", Method: http.MethodPut, Path: "/v1/account/{account}/flush", Tags: tags,
		Summary:     "Forget what is known of an account's folders and look at them anew",
		Description: "Answers at once; accountInitialized with reason flush says that it was done. mailboxNew comes for every folder, messageNew for what arrived at or after notifyFrom, whether it was announced before or not; what arrived before it and was not announced yet is not. Ids of messages stay, ids of events are new. A paused account is flushed when it is watched again.",
	}, scopes, s.flush)
	register(s, huma.Operation{
		OperationID: "pauseAccount", Method: http.MethodPut, Path: "/v1/account/{account}/pause", Tags: tags,
		Summary: "Pause an account", Description: "The connection is closed and no event of its mail follows until resume, which catches up. Messages to send are accepted and held.",
	}, scopes, s.pause)
	register(s, huma.Operation{
		OperationID: "resumeAccount", Method: http.MethodPut, Path: "/v1/account/{account}/resume", Tags: tags,
		Summary: "Watch a paused account again, and send what it holds",
	}, scopes, s.resume)
	register(s, huma.Operation{
		OperationID: "listAccounts", Method: http.MethodGet, Path: "/v1/accounts", Tags: tags,
		Summary: "List accounts",
	}, []string{scopeAccounts, scopeRead}, s.listAccounts)
	register(s, huma.Operation{
		OperationID: "verifyAccount", Method: http.MethodPost, Path: "/v1/verifyAccount", Tags: tags,
		Summary: "Try mail servers without storing anything", Description: "At most 30 a minute per token.",
		Metadata: map[string]any{"time": verifyTime},
	}, scopes, s.verifyAccount)
}

type createIn struct {
	IfNoneMatch string `header:"If-None-Match" doc:"* refuses an id that exists"`
	Verify      bool   `query:"verify" doc:"try its servers first"`
	Body        accountIn
}

func (s *Server) createAccount(ctx context.Context, in *createIn) (*created, error) {
	if in.IfNoneMatch != "" && in.IfNoneMatch != "*" {
		return nil, invalid("header.If-None-Match", "Invalid", "must be *")
	}
	id := store.AccountID(in.Body.Account.Value)
	switch {
	case !in.Body.Account.Set || in.Body.Account.Null:
		id = store.AccountID(strings.ToLower(rand.Text()))
	default:
		if problem := badID(string(id)); problem != "" {
			return nil, invalid("body.account", "Invalid", "%s", problem)
		}
	}
	if err := s.checkAccount(in.Body); err != nil {
		return nil, err
	}
	if in.Verify {
		if err := s.verifyFirst(ctx, id, in.Body); err != nil {
			return nil, err
		}
	}
	fresh := store.Account{ID: id}
	newErr := in.Body.apply(&fresh, s.o.Config)
	ctx, stop := context.WithTimeout(ctx, storeTime)
	defer stop()
	if newErr == nil {
		a, err := s.o.Store.CreateAccount(ctx, fresh)
		if err == nil {
			return &created{etag(a.Version), createdBody{string(id), "new"}}, nil
		}
		if !errors.Is(err, store.ErrExists) {
			return nil, err
		}
	}
	if in.IfNoneMatch == "*" {
		if newErr != nil {
			return nil, newErr
		}
		return nil, problem(AccountAlreadyExists, "account %q exists", id)
	}
	a, err := s.o.Store.UpdateAccount(ctx, id, 0, func(a *store.Account) error { return in.Body.apply(a, s.o.Config) })
	if errors.Is(err, store.ErrNotFound) && newErr != nil { // what a new account lacked, not that it is new
		return nil, newErr
	}
	if err != nil {
		return nil, err
	}
	if err := s.wakeFor(ctx, id, in.Body); err != nil {
		return nil, err
	}
	return &created{etag(a.Version), createdBody{string(id), "existing"}}, nil
}

// wakeFor has a changed account send at once what waited for the change. An error comes
// after the change, which may be repeated.
func (s *Server) wakeFor(ctx context.Context, id store.AccountID, in accountIn) error {
	if s.o.Submitter == nil || !in.SMTP.Set && !in.SendLimits.Set && !in.EHLOName.Set {
		return nil
	}
	return ofAccount(id, s.o.Submitter.Wake(ctx, id))
}

type updateIn struct {
	AccountPath
	IfMatch string `header:"If-Match" doc:"version in quotes, as ETag gave it"`
	Body    accountIn
}

func (s *Server) updateAccount(ctx context.Context, in *updateIn) (*created, error) {
	match, err := version(in.IfMatch)
	if err != nil {
		return nil, err
	}
	if in.Body.Account.Set && in.Body.Account.Value != in.Account {
		return nil, invalid("body.account", "Invalid", "is not the account in the path; ids do not change")
	}
	if err := s.checkAccount(in.Body); err != nil {
		return nil, err
	}
	a, err := s.o.Store.UpdateAccount(ctx, in.id(), match, func(a *store.Account) error { return in.Body.apply(a, s.o.Config) })
	if err != nil {
		return nil, ofAccount(in.id(), err)
	}
	if err := s.wakeFor(ctx, in.id(), in.Body); err != nil {
		return nil, err
	}
	return &created{etag(a.Version), createdBody{Account: in.Account}}, nil
}

// checkAccount asks the operator's rules about what would be called.
func (s *Server) checkAccount(in accountIn) error {
	if in.Webhooks.Value != "" {
		if err := s.checkTarget("body.webhooks", in.Webhooks.Value); err != nil {
			return err
		}
	}
	return s.checkHeaders("body.webhooksCustomHeaders", in.Headers.Value)
}

type deleteIn struct {
	AccountPath
	IfMatch string `header:"If-Match"`
}

func (s *Server) deleteAccount(ctx context.Context, in *deleteIn) (*deleted, error) {
	match, err := version(in.IfMatch)
	if err != nil {
		return nil, err
	}
	if match > 0 {
		a, err := s.o.Store.Account(ctx, in.id())
		if err != nil {
			return nil, ofAccount(in.id(), err)
		}
		if a.Version != match {
			return nil, store.ErrStale
		}
	}
	if err := s.o.Store.DeleteAccount(ctx, in.id()); err != nil {
		return nil, ofAccount(in.id(), err)
	}
	if err := s.o.Store.DeleteAccountTokens(ctx, in.id()); err != nil {
		return nil, err // deleting again is no error, and comes here again
	}
	return &deleted{deletedBody{in.Account, true}}, nil
}

type pauseIn struct {
	AccountPath
	Body *pauseBody `required:"false"`
}

type pauseBody struct {
	Sync bool `json:"sync,omitempty" enum:"true" doc:"the watching"`
	Send bool `json:"send,omitempty" enum:"true" doc:"the sending. Both pause together, whichever is named"`
}

type paused struct {
	Body pausedBody
}

type pausedBody struct {
	Account string `json:"account"`
	Paused  bool   `json:"paused"`
}

func (s *Server) pause(ctx context.Context, in *pauseIn) (*paused, error) {
	if _, err := s.o.Store.PauseAccount(ctx, in.id(), "api"); err != nil {
		return nil, ofAccount(in.id(), err)
	}
	return &paused{pausedBody{in.Account, true}}, nil
}

func (s *Server) resume(ctx context.Context, in *pauseIn) (*paused, error) {
	if _, err := s.o.Store.ResumeAccount(ctx, in.id(), "api"); err != nil {
		return nil, ofAccount(in.id(), err)
	}
	if s.o.Submitter != nil {
		if err := s.o.Submitter.Wake(ctx, in.id()); err != nil {
			return nil, ofAccount(in.id(), err)
		}
	}
	return &paused{pausedBody{in.Account, false}}, nil
}

// badID says what is wrong with an account id, or "".
func badID(id string) string {
	switch {
	case id == "" || len(id) > 256:
		return "must have 1 to 256 bytes"
	case id == "." || id == "..":
		return "must not be . or .."
	case !utf8.ValidString(id) || strings.ContainsFunc(id, unicode.IsControl):
		return "must not contain control characters"
	}
	return ""
}

// etag is the ETag of a version.
func etag(version uint64) string { return strconv.Quote(strconv.FormatUint(version, 10)) }

// version reads If-Match; 0 means any.
func version(ifMatch string) (uint64, error) {
	if ifMatch == "" || ifMatch == "*" {
		return 0, nil
	}
	v, err := strconv.ParseUint(strings.Trim(ifMatch, `"`), 10, 64)
	if err != nil || v == 0 {
		return 0, problem(PreconditionFailed, "If-Match names no version that was ever given")
	}
	return v, nil
}

type showIn struct {
	AccountPath
}

type showOut struct {
	ETag string `header:"ETag"`
	Body accountOut
}

func (s *Server) getAccount(ctx context.Context, in *showIn) (*showOut, error) {
	a, err := s.o.Store.Account(ctx, in.id())
	if err != nil {
		return nil, ofAccount(in.id(), err)
	}
	st, err := s.o.Store.State(ctx, in.id())
	if errors.Is(err, store.ErrStateLost) { // a worker is about to say so and begin anew
		st, err = store.State{Epoch: a.Epoch, Status: store.Status{State: store.StateInit}}, nil
	}
	if err != nil {
		return nil, ofAccount(in.id(), err)
	}
	set, err := s.o.Store.Settings(ctx)
	if err != nil {
		return nil, err
	}
	return &showOut{etag(a.Version), show(a, st, stallAfter(a, set), time.Now())}, nil
}

// stallAfter is how long an account may be silent.
func stallAfter(a store.Account, set store.Settings) time.Duration {
	after := set.StallAfter
	if a.Override.StallAfter != nil {
		after = *a.Override.StallAfter
	}
	return time.Duration(after) * time.Second
}
