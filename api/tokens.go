package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/postrider/postrider/store"
)

type tokenIn struct {
	Description  Opt[string]         `json:"description,omitempty" maxLength:"256" example:"the crm"`
	Scopes       []string            `json:"scopes" minItems:"1" maxItems:"20" enum:"*,api,accounts,read,write,send,events,webhooks,settings,tokens,monitor,metrics" example:"[\"accounts\",\"events\"]"`
	Account      Opt[string]         `json:"account,omitempty" minLength:"1" maxLength:"256" doc:"the only account it may see; not with *, settings, tokens, metrics, monitor"`
	Restrictions Opt[restrictionsIn] `json:"restrictions,omitempty"`
	Expires      Opt[When]           `json:"expires,omitempty"`
	Metadata     Opt[Object]         `json:"metadata,omitempty"`
}

type restrictionsIn struct {
	Addresses Opt[[]string]    `json:"addresses,omitempty" maxItems:"100" doc:"networks it may come from, in CIDR notation" example:"[\"192.0.2.0/24\"]"`
	RateLimit Opt[rateLimitIn] `json:"rateLimit,omitempty"`
}

type rateLimitIn struct {
	MaxRequests int `json:"maxRequests" minimum:"1" maximum:"1000000" example:"600"`
	TimeWindow  int `json:"timeWindow" minimum:"1" maximum:"86400" doc:"seconds" example:"60"`
}

// TokenOut is what is shown of a token; never its value.
type TokenOut struct {
	ID           string           `json:"id"`
	Description  string           `json:"description"`
	Scopes       []string         `json:"scopes" nullable:"false"`
	Account      *string          `json:"account"`
	Restrictions *restrictionsOut `json:"restrictions,omitempty"`
	Created      *string          `json:"created" format:"date-time"`
	Expires      *string          `json:"expires" format:"date-time"`
	LastUse      *string          `json:"lastUse" format:"date-time" doc:"to the minute"`
	LastAddress  string           `json:"lastAddress,omitempty"`
	Metadata     *Object          `json:"metadata,omitempty"`
}

type restrictionsOut struct {
	Addresses []string      `json:"addresses,omitempty" nullable:"false"`
	RateLimit *rateLimitOut `json:"rateLimit,omitempty"`
}

type rateLimitOut struct {
	MaxRequests int `json:"maxRequests"`
	TimeWindow  int `json:"timeWindow"`
}

type tokenCreated struct {
	Body tokenCreatedBody
}

type tokenCreatedBody struct {
	Token string `json:"token" doc:"the value: shown this once"`
	TokenOut
}

func (s *Server) tokenRoutes() {
	scopes, tags := []string{scopeTokens}, []string{"tokens"}
	create := huma.Operation{
		OperationID: "createToken", Method: http.MethodPost, Path: "/v1/tokens", Tags: tags, DefaultStatus: http.StatusOK,
		Summary: "Make a token", Description: "Its value is in this answer and nowhere else. Nobody can grant more than they hold.",
	}
	register(s, create, scopes, s.createToken)
	create.OperationID, create.Path, create.Deprecated = "createTokenAlias", "/v1/token", true
	create.Summary = "Make a token (other name of POST /v1/tokens)"
	register(s, create, scopes, s.createToken)
	register(s, huma.Operation{
		OperationID: "listTokens", Method: http.MethodGet, Path: "/v1/tokens", Tags: tags, Summary: "List tokens",
	}, scopes, s.listTokens)
	register(s, huma.Operation{
		OperationID: "getToken", Method: http.MethodGet, Path: "/v1/tokens/{id}", Tags: tags, Summary: "What is known of a token",
	}, scopes, s.getToken)
	register(s, huma.Operation{
		OperationID: "deleteToken", Method: http.MethodDelete, Path: "/v1/tokens/{id}", Tags: tags,
		Summary: "Revoke a token", Description: "It is refused everywhere within 5 seconds. Needs the scope tokens; a token may delete itself with any scope.",
	}, []string{scopeTokens, scopeAny}, s.deleteToken)
}

type createTokenIn struct {
	Body tokenIn
}

func (s *Server) createToken(ctx context.Context, in *createTokenIn) (*tokenCreated, error) {
	b := in.Body
	if !mayGrant(callOf(ctx).token.Scopes, b.Scopes) {
		return nil, problem(Forbidden, "a token cannot grant more than it holds")
	}
	t := store.Token{
		Description: b.Description.Value, Scopes: b.Scopes, Account: store.AccountID(b.Account.Value),
		Addresses: b.Restrictions.Value.Addresses.Value, Expires: b.Expires.Value.Time,
	}
	for i, cidr := range t.Addresses {
		if _, err := parseCIDR(cidr); err != nil {
			return nil, invalid("body.restrictions.addresses["+strconv.Itoa(i)+"]", "Invalid", "must be a network like 192.0.2.0/24")
		}
	}
	if limit := b.Restrictions.Value.RateLimit; limit.Set && !limit.Null {
		t.RateMax, t.RateWindow = limit.Value.MaxRequests, limit.Value.TimeWindow
	}
	if !t.Expires.IsZero() && !t.Expires.After(time.Now()) {
		return nil, invalid("body.expires", "OutOfRange", "must be in the future")
	}
	if b.Metadata.Set && !b.Metadata.Null {
		if len(b.Metadata.Value) > maxMetadata {
			return nil, invalid("body.metadata", "OutOfRange", "must be at most %d bytes", maxMetadata)
		}
		t.Metadata = []byte(b.Metadata.Value)
	}
	if t.Account != "" {
		if problem := badID(string(t.Account)); problem != "" {
			return nil, invalid("body.account", "Invalid", "%s", problem)
		}
		for i, scope := range t.Scopes {
			if slices.Contains(unbound, scope) {
				return nil, invalid("body.scopes["+strconv.Itoa(i)+"]", "Conflict", "cannot be combined with account")
			}
		}
		if _, err := s.o.Store.Account(ctx, t.Account); err != nil {
			return nil, ofAccount(t.Account, err)
		}
	}
	value, t, err := s.o.Store.CreateToken(ctx, t)
	if err != nil {
		return nil, err
	}
	return &tokenCreated{tokenCreatedBody{value, showToken(t)}}, nil
}

type listTokensIn struct {
	PageIn
	Account string `query:"account" maxLength:"256" doc:"only tokens bound to this account"`
}

type tokenList struct {
	Body tokenListBody
}

type tokenListBody struct {
	PageOut
	Tokens []TokenOut `json:"tokens" nullable:"false"`
}

func (s *Server) listTokens(ctx context.Context, in *listTokensIn) (*tokenList, error) {
	tokens, err := s.o.Store.Tokens(ctx)
	if err != nil {
		return nil, err
	}
	if in.Account != "" {
		tokens = slices.DeleteFunc(tokens, func(t store.Token) bool { return string(t.Account) != in.Account })
	}
	slices.SortFunc(tokens, func(a, b store.Token) int { return strings.Compare(a.ID, b.ID) })
	part, of := cut(tokens, in.PageIn)
	list := make([]TokenOut, len(part))
	for i, t := range part {
		list[i] = showToken(t)
	}
	return &tokenList{tokenListBody{of, list}}, nil
}

type tokenPath struct {
	ID string `path:"id" maxLength:"64"`
}

type tokenShown struct {
	Body TokenOut
}

func (s *Server) getToken(ctx context.Context, in *tokenPath) (*tokenShown, error) {
	tokens, err := s.o.Store.Tokens(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(tokens, func(t store.Token) bool { return t.ID == in.ID })
	if i < 0 {
		return nil, problem(TokenNotFound, "no such token")
	}
	return &tokenShown{showToken(tokens[i])}, nil
}

type tokenDeleted struct {
	Body tokenDeletedBody
}

type tokenDeletedBody struct {
	Deleted bool `json:"deleted"`
}

func (s *Server) deleteToken(ctx context.Context, in *tokenPath) (*tokenDeleted, error) {
	if own := callOf(ctx).token; own.ID != in.ID && (own.Account != "" || !holds(own.Scopes, scopeTokens)) {
		return nil, problem(Forbidden, "this token may not do that")
	}
	err := s.o.Store.DeleteToken(ctx, in.ID)
	if errors.Is(err, store.ErrNotFound) {
		return nil, problem(TokenNotFound, "no such token")
	}
	if err != nil {
		return nil, err
	}
	return &tokenDeleted{tokenDeletedBody{true}}, nil
}

func showToken(t store.Token) TokenOut {
	out := TokenOut{
		ID: t.ID, Description: t.Description, Scopes: t.Scopes, Created: stamp(t.Created), Expires: stamp(t.Expires),
		LastUse: stamp(t.LastUse), LastAddress: t.LastAddress,
	}
	if t.Account != "" {
		account := string(t.Account)
		out.Account = &account
	}
	if len(t.Addresses) > 0 || t.RateMax > 0 {
		out.Restrictions = &restrictionsOut{Addresses: t.Addresses}
		if t.RateMax > 0 {
			out.Restrictions.RateLimit = &rateLimitOut{t.RateMax, t.RateWindow}
		}
	}
	if len(t.Metadata) > 0 {
		m := Object(t.Metadata)
		out.Metadata = &m
	}
	return out
}
