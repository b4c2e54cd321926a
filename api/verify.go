package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/postrider/postrider/store"
)

// Verifier tries a mail server with the credentials in it, storing nothing. Verify MUST
// return by the end of ctx, with what it found until then; it never fails as such.
type Verifier interface {
	Verify(ctx context.Context, server store.Server) VerifyResult
}

// SMTPVerifier does the same with a submission server: it connects, logs in, and hands
// over no message. ehloName is the name to use; "" leaves it to the implementation.
type SMTPVerifier interface {
	VerifySMTP(ctx context.Context, server store.Server, ehloName string) VerifyResult
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
	IMAP      Opt[imapIn] `json:"imap,omitempty"`
	SMTP      Opt[smtpIn] `json:"smtp,omitempty"`
	EHLOName  string      `json:"smtpEhloName,omitempty" maxLength:"255"`
	Mailboxes bool        `json:"mailboxes,omitempty" doc:"list the folders too"`
}

type verifyOut struct {
	Limit     string `header:"X-RateLimit-Limit"`
	Remaining string `header:"X-RateLimit-Remaining"`
	Reset     string `header:"X-RateLimit-Reset"`
	Body      verifiedBody
}

type verifiedBody struct {
	IMAP      *VerifyResult     `json:"imap,omitempty"`
	SMTP      *VerifyResult     `json:"smtp,omitempty"`
	Mailboxes []VerifiedMailbox `json:"mailboxes,omitempty" nullable:"false"`
}

func (s *Server) verifyAccount(ctx context.Context, in *verifyIn) (*verifyOut, error) {
	b := in.Body
	switch {
	case b.IMAP.Value.Partial:
		return nil, invalid("body.imap.partial", "Invalid", "has no meaning here: nothing is stored")
	case b.SMTP.Value.Partial:
		return nil, invalid("body.smtp.partial", "Invalid", "has no meaning here: nothing is stored")
	}
	var try store.Account
	if b.IMAP.Set && !b.IMAP.Null {
		server, err := b.IMAP.Value.server(nil, s.o.Config)
		if err != nil {
			return nil, err
		}
		try.IMAP = server
	}
	if b.SMTP.Set && !b.SMTP.Null {
		server, err := b.SMTP.Value.server(nil, s.o.Config)
		if err != nil {
			return nil, err
		}
		try.SMTP = server
	}
	if try.IMAP == nil && try.SMTP == nil {
		return nil, invalid("body.imap", "Required", "is required, or smtp")
	}
	if err := store.CheckEHLOName(b.EHLOName); err != nil {
		return nil, invalid("body.smtpEhloName", "Invalid", "%s", err)
	}
	try.SMTPEHLOName = b.EHLOName
	left, err := s.mayVerify(ctx)
	if err != nil {
		return nil, err
	}
	left.Body.IMAP, left.Body.SMTP, err = s.try(ctx, try)
	if err != nil {
		return nil, err
	}
	if b.Mailboxes && left.Body.IMAP != nil {
		left.Body.Mailboxes = left.Body.IMAP.Mailboxes
	}
	return left, nil
}

// try tries the servers of an account, both at once; what it has none of gives nil.
func (s *Server) try(ctx context.Context, a store.Account) (imap, smtp *VerifyResult, err error) {
	if a.IMAP != nil && s.o.Verifier == nil || a.SMTP != nil && s.o.SMTPVerifier == nil {
		return nil, nil, problem(FieldNotSupported, "this process cannot try mail servers")
	}
	var wg sync.WaitGroup
	if a.IMAP != nil {
		wg.Go(func() {
			got := s.o.Verifier.Verify(ctx, *a.IMAP)
			imap = &got
		})
	}
	if a.SMTP != nil {
		wg.Go(func() {
			got := s.o.SMTPVerifier.VerifySMTP(ctx, *a.SMTP, a.SMTPEHLOName)
			smtp = &got
		})
	}
	wg.Wait()
	return imap, smtp, nil
}

// verifyFirst is the test before an account is stored: of the servers as they would be
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
	if would.IMAP == nil && would.SMTP == nil {
		return invalid("query.verify", "Invalid", "needs an imap or smtp block to try")
	}
	if _, err := s.mayVerify(ctx); err != nil {
		return err
	}
	imap, smtp, err := s.try(ctx, would)
	if err != nil {
		return err
	}
	got, which := imap, "imap"
	if got == nil || got.Success {
		got, which = smtp, "smtp"
	}
	if got == nil || got.Success {
		return nil
	}
	code := ConnectionError
	if slices.Contains(needsAction, got.Kind) {
		code = AuthenticationFails
	}
	p := problem(code, "%s: %s", which, got.Error)
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
