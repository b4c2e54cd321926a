package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/postrider/postrider/store"
)

// Verifier tries a mail server with the credentials in it, storing nothing. Verify MUST
// return by the end of ctx, with what it found until then; it never fails as such.
type Verifier interface {
	Verify(ctx context.Context, server store.Server) VerifyResult
}

// VerifyResult is what came of trying a server. Texts are shown to the caller, so they
// hold no credentials.
type VerifyResult struct {
	Success      bool              `json:"success"`
	Error        string            `json:"error,omitempty" doc:"what failed, in words"`
	Code         string            `json:"code,omitempty" doc:"response code of the server, like AUTHENTICATIONFAILED"`
	ResponseText string            `json:"responseText,omitempty" doc:"what the server said"`
	Kind         string            `json:"kind,omitempty" doc:"as in an account's lastError"`
	Class        string            `json:"class,omitempty"`
	Action       string            `json:"action,omitempty" doc:"a sentence to show a user"`
	Capabilities []string          `json:"capabilities,omitempty" nullable:"false"`
	Plan         []string          `json:"plan,omitempty" nullable:"false" doc:"what would be watched how, in words"`
	Mailboxes    []VerifiedMailbox `json:"-"`
}

// VerifiedMailbox is a folder that was seen while trying a server.
type VerifiedMailbox struct {
	Path       string `json:"path"`
	Delimiter  string `json:"delimiter,omitempty"`
	SpecialUse string `json:"specialUse,omitempty"`
}

// The limit on verifying, which makes us dial where the caller says.
const (
	verifyMost   = 30
	verifyWindow = time.Minute
)

type verifyIn struct {
	Body verifyBody
}

type verifyBody struct {
	IMAP      imapIn `json:"imap"`
	Mailboxes bool   `json:"mailboxes,omitempty" doc:"list the folders too"`
}

type verifyOut struct {
	Limit     string `header:"X-RateLimit-Limit"`
	Remaining string `header:"X-RateLimit-Remaining"`
	Reset     string `header:"X-RateLimit-Reset"`
	Body      verifiedBody
}

type verifiedBody struct {
	IMAP      VerifyResult      `json:"imap"`
	Mailboxes []VerifiedMailbox `json:"mailboxes,omitempty" nullable:"false"`
}

func (s *Server) verifyAccount(ctx context.Context, in *verifyIn) (*verifyOut, error) {
	if in.Body.IMAP.Partial {
		return nil, invalid("body.imap.partial", "Invalid", "has no meaning here: nothing is stored")
	}
	server, err := in.Body.IMAP.server(nil, s.o.Config)
	if err != nil {
		return nil, err
	}
	left, err := s.mayVerify(ctx)
	if err != nil {
		return nil, err
	}
	if s.o.Verifier == nil {
		return nil, problem(FieldNotSupported, "this process cannot try mail servers")
	}
	got := s.o.Verifier.Verify(ctx, *server)
	left.Body.IMAP = got
	if in.Body.Mailboxes {
		left.Body.Mailboxes = got.Mailboxes
	}
	return left, nil
}

// verifyFirst is the test before an account is stored: of the server as it would be
// stored, what an existing account keeps included.
func (s *Server) verifyFirst(ctx context.Context, id store.AccountID, in accountIn) error {
	would := store.Account{ID: id}
	switch a, err := s.o.Store.Account(ctx, id); {
	case err == nil:
		would = a
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	if err := in.apply(&would, s.o.Config); err != nil {
		return err
	}
	if would.IMAP == nil {
		return invalid("query.verify", "Invalid", "needs an imap block to try")
	}
	if _, err := s.mayVerify(ctx); err != nil {
		return err
	}
	if s.o.Verifier == nil {
		return problem(FieldNotSupported, "this process cannot try mail servers")
	}
	got := s.o.Verifier.Verify(ctx, *would.IMAP)
	if got.Success {
		return nil
	}
	code := ConnectionError
	if slices.Contains(needsAction, got.Kind) {
		code = AuthenticationFails
	}
	p := problem(code, "%s", got.Error)
	p.Response, p.ServerResponseCode, p.Kind, p.Action = got.ResponseText, got.Code, got.Kind, got.Action
	return p
}

// mayVerify counts against the limit of the caller's token.
func (s *Server) mayVerify(ctx context.Context) (*verifyOut, error) {
	name := "verify:"
	if t := callOf(ctx).token; t != nil {
		name += t.ID
	}
	h := http.Header{}
	if p := s.rates.count(h, name, verifyMost, verifyWindow, time.Now()); p != nil {
		return nil, p
	}
	return &verifyOut{
		Limit: h.Get("X-RateLimit-Limit"), Remaining: h.Get("X-RateLimit-Remaining"), Reset: h.Get("X-RateLimit-Reset"),
	}, nil
}
