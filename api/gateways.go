package api

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/postrider/postrider/store"
)

// gatewayIn is a gateway in a request. Absent fields are left alone.
type gatewayIn struct {
	Gateway     Opt[string] `json:"gateway,omitempty" doc:"id, 1 to 256 bytes; absent or null when creating: made up" example:"relay"`
	Name        Opt[string] `json:"name,omitempty" maxLength:"256" example:"Relay"`
	Host        Opt[string] `json:"host,omitempty" minLength:"1" maxLength:"253" example:"smtp.example.com"`
	Port        Opt[int]    `json:"port,omitempty" minimum:"1" maximum:"65535" doc:"default 465, or 587 without secure" example:"465"`
	Secure      Opt[bool]   `json:"secure,omitempty" doc:"true: TLS from the first byte. false: STARTTLS, and nothing sent without it. Default true where the port is 465 or not given"`
	Plaintext   Opt[bool]   `json:"plaintext,omitempty" doc:"true: no TLS at all; needs mail.allowPlaintext, or a server on this machine"`
	User        Opt[string] `json:"user,omitempty" minLength:"1" maxLength:"320" example:"relay-user"`
	Pass        Opt[string] `json:"pass,omitempty" minLength:"1" maxLength:"4096" writeOnly:"true" example:"correct horse"`
	AccessToken Opt[string] `json:"accessToken,omitempty" minLength:"1" maxLength:"16384" writeOnly:"true" doc:"OAuth 2.0 access token instead of pass; you renew it by PUT"`
	TLS         Opt[tlsIn]  `json:"tls,omitempty"`
}

// apply makes the changes that a request asks for.
func (in gatewayIn) apply(g *store.Gateway, c Config) error {
	in.Name.into(&g.Name)
	asked := smtpIn{Host: in.Host, Port: in.Port, Secure: in.Secure, ServerIn: ServerIn{
		Partial: true, Plaintext: in.Plaintext, TLS: in.TLS,
		Auth: Opt[authIn]{Set: true, Value: authIn{User: in.User, Pass: in.Pass, AccessToken: in.AccessToken}},
	}}
	var old *store.Server
	if g.Version > 0 {
		old = &g.Server
	}
	next, err := asked.serverAt(serverPlace{"body", "body"}, old, c)
	if err != nil {
		return err
	}
	g.Server = *next
	return nil
}

// gatewayOut is everything that is shown of a gateway.
type gatewayOut struct {
	Gateway     string        `json:"gateway"`
	Name        string        `json:"name"`
	Host        string        `json:"host"`
	Port        int           `json:"port"`
	Secure      bool          `json:"secure"`
	Plaintext   bool          `json:"plaintext,omitempty"`
	User        string        `json:"user,omitempty"`
	Pass        string        `json:"pass,omitempty" doc:"masked"`
	AccessToken string        `json:"accessToken,omitempty" doc:"masked"`
	TLS         *tlsOut       `json:"tls,omitempty"`
	Deliveries  uint64        `json:"deliveries" doc:"messages that it took"`
	LastUse     *string       `json:"lastUse" format:"date-time"`
	LastError   *gatewayError `json:"lastError,omitempty" doc:"absent since it last took a message"`
	Version     uint64        `json:"version"`
	Created     *string       `json:"created" format:"date-time"`
	Updated     *string       `json:"updated" format:"date-time"`
}

type gatewayError struct {
	Error string  `json:"error"`
	At    *string `json:"at" format:"date-time"`
}

func showGateway(g store.Gateway) gatewayOut {
	srv := g.Server
	out := gatewayOut{
		Gateway: g.ID, Name: g.Name, Host: srv.Host, Port: srv.Port, Secure: srv.Secure, Plaintext: srv.Plaintext,
		User: srv.User, Pass: srv.Pass.String(), AccessToken: srv.AccessToken.String(), TLS: showTLS(srv.TLS),
		Deliveries: g.Use.Deliveries, LastUse: stamp(g.Use.Last), Version: g.Version, Created: stamp(g.Created), Updated: stamp(g.Updated),
	}
	if g.Use.LastError != "" {
		out.LastError = &gatewayError{g.Use.LastError, stamp(g.Use.LastErrorAt)}
	}
	return out
}

// GatewayPath is in the input of every route of one gateway.
type GatewayPath struct {
	Gateway string `path:"gateway" doc:"id of the gateway, percent-encoded"`
}

type gatewayWritten struct {
	ETag string `header:"ETag"`
	Body gatewayWrittenBody
}

type gatewayWrittenBody struct {
	Gateway string `json:"gateway"`
	State   string `json:"state,omitempty" enum:"new,existing" doc:"new, or existing: it was there and was updated"`
}

func (s *Server) gatewayRoutes() {
	scopes, tags := []string{scopeAccounts}, []string{"gateways"}
	register(s, huma.Operation{
		OperationID: "listGateways", Method: http.MethodGet, Path: "/v1/gateways", Tags: tags,
		Summary: "List gateways", Description: "Submission servers that any account may send through instead of its own.",
	}, scopes, s.listGateways)
	register(s, huma.Operation{
		OperationID: "createGateway", Method: http.MethodPost, Path: "/v1/gateway", Tags: tags,
		Summary: "Add a gateway", Description: "An id that exists is updated like PUT does, unless If-None-Match: * is sent.",
		Metadata: map[string]any{"time": wakeTime},
	}, scopes, s.createGateway)
	register(s, huma.Operation{
		OperationID: "getGateway", Method: http.MethodGet, Path: "/v1/gateway/{gateway}", Tags: tags,
		Summary: "What is known of a gateway", Description: "Settings with secrets masked, and how it fares.",
	}, scopes, s.getGateway)
	register(s, huma.Operation{
		OperationID: "updateGateway", Method: http.MethodPut, Path: "/v1/gateway/edit/{gateway}", Tags: tags,
		Summary: "Change a gateway", Description: "Fields that are given change; null removes. Messages that wait for it are tried at once.",
		Metadata: map[string]any{"time": wakeTime},
	}, scopes, s.updateGateway)
	register(s, huma.Operation{
		OperationID: "deleteGateway", Method: http.MethodDelete, Path: "/v1/gateway/{gateway}", Tags: tags,
		Summary: "Delete a gateway", Description: "Messages that were to go through it wait for it to come back, as long as their retries go on. Deleting again within a day answers the same.",
	}, scopes, s.deleteGateway)
}

type gatewaysOut struct {
	Body gatewaysBody
}

type gatewaysBody struct {
	PageOut
	Gateways []gatewayOut `json:"gateways" nullable:"false"`
}

func (s *Server) listGateways(ctx context.Context, in *PageIn) (*gatewaysOut, error) {
	all, err := s.o.Store.Gateways(ctx)
	if err != nil {
		return nil, err
	}
	part, of := cut(all, *in)
	rows := make([]gatewayOut, len(part))
	for i, g := range part {
		rows[i] = showGateway(g)
	}
	return &gatewaysOut{gatewaysBody{of, rows}}, nil
}

type createGatewayIn struct {
	IfNoneMatch string `header:"If-None-Match" doc:"* refuses an id that exists"`
	Body        gatewayIn
}

func (s *Server) createGateway(ctx context.Context, in *createGatewayIn) (*gatewayWritten, error) {
	if in.IfNoneMatch != "" && in.IfNoneMatch != "*" {
		return nil, invalid("header.If-None-Match", "Invalid", "must be *")
	}
	id := in.Body.Gateway.Value
	if !in.Body.Gateway.Set || in.Body.Gateway.Null {
		id = strings.ToLower(rand.Text())
	} else if problem := badID(id); problem != "" {
		return nil, invalid("body.gateway", "Invalid", "%s", problem)
	}
	fresh := store.Gateway{ID: id}
	newErr := in.Body.apply(&fresh, s.o.Config)
	if newErr == nil {
		g, err := s.o.Store.CreateGateway(ctx, fresh)
		if err == nil {
			return &gatewayWritten{etag(g.Version), gatewayWrittenBody{id, "new"}}, nil
		}
		if !errors.Is(err, store.ErrExists) {
			return nil, err
		}
	}
	if in.IfNoneMatch == "*" {
		if newErr != nil {
			return nil, newErr
		}
		return nil, problem(GatewayAlreadyExists, "gateway %q exists", id)
	}
	g, err := s.o.Store.UpdateGateway(ctx, id, 0, func(g *store.Gateway) error { return in.Body.apply(g, s.o.Config) })
	if errors.Is(err, store.ErrNotFound) && newErr != nil { // what a new gateway lacked, not that it is new
		return nil, newErr
	}
	if err != nil {
		return nil, err
	}
	if err := s.wakeGateway(ctx, id); err != nil {
		return nil, err
	}
	return &gatewayWritten{etag(g.Version), gatewayWrittenBody{id, "existing"}}, nil
}

type showGatewayOut struct {
	ETag string `header:"ETag"`
	Body gatewayOut
}

func (s *Server) getGateway(ctx context.Context, in *GatewayPath) (*showGatewayOut, error) {
	g, err := s.o.Store.Gateway(ctx, in.Gateway)
	if err != nil {
		return nil, ofGateway(in.Gateway, err)
	}
	return &showGatewayOut{etag(g.Version), showGateway(g)}, nil
}

type updateGatewayIn struct {
	GatewayPath
	IfMatch string `header:"If-Match" doc:"version in quotes, as ETag gave it"`
	Body    gatewayIn
}

func (s *Server) updateGateway(ctx context.Context, in *updateGatewayIn) (*gatewayWritten, error) {
	match, err := version(in.IfMatch)
	if err != nil {
		return nil, err
	}
	if in.Body.Gateway.Set && in.Body.Gateway.Value != in.Gateway {
		return nil, invalid("body.gateway", "Invalid", "is not the gateway in the path; ids do not change")
	}
	g, err := s.o.Store.UpdateGateway(ctx, in.Gateway, match, func(g *store.Gateway) error { return in.Body.apply(g, s.o.Config) })
	if err != nil {
		return nil, ofGateway(in.Gateway, err)
	}
	if err := s.wakeGateway(ctx, in.Gateway); err != nil {
		return nil, err
	}
	return &gatewayWritten{etag(g.Version), gatewayWrittenBody{Gateway: in.Gateway}}, nil
}

// wakeTime is for waking the accounts that send through a gateway.
const wakeTime = 20 * time.Second

// wakeGateway has accounts send at once what waits for another gateway than it was.
func (s *Server) wakeGateway(ctx context.Context, id string) error {
	if s.o.Submitter == nil {
		return nil
	}
	for account, err := range s.o.Store.WaitingFor(ctx, id) {
		if err == nil {
			err = s.o.Submitter.Wake(ctx, account)
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	return nil
}

type gatewayDeleted struct {
	Body gatewayDeletedBody
}

type gatewayDeletedBody struct {
	Gateway string `json:"gateway"`
	Deleted bool   `json:"deleted"`
}

func (s *Server) deleteGateway(ctx context.Context, in *GatewayPath) (*gatewayDeleted, error) {
	if err := s.o.Store.DeleteGateway(ctx, in.Gateway); err != nil {
		return nil, ofGateway(in.Gateway, err)
	}
	return &gatewayDeleted{gatewayDeletedBody{in.Gateway, true}}, nil
}

// ofGateway maps what the store says about one gateway.
func ofGateway(id string, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return problem(GatewayNotFound, "no gateway %q", id).because(err)
	}
	return err
}
