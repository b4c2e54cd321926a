// Package api is the HTTP face of Postrider: accounts, settings, tokens and events
// as JSON under /v1, described by an OpenAPI 3.1 document made from the Go types,
// with problem details (RFC 9457) for everything that is refused.
//
// # What it owns
//
// Nothing durable: all state is in package store. In memory, per process: the
// sessions of /login, the counters behind rate limits, and who waits for events.
// It runs no engine; what it needs of one it declares ([Kicker], [Verifier],
// [SMTPVerifier], [Submitter], [Outbox], [Options]) and cmd/postrider joins. Of package
// smtpsend it has the words of requests and errors, nothing that works.
//
// # How a request travels
//
//	ServeHTTP  request id, headers, panics, log line, metrics, hop, CORS, limits
//	mux        net/http's patterns; what matches none is a problem too
//	authorize  who asks (bearer token or session), address, rate, scope, binding
//	body       read within bounds, strict JSON, checked against the schema; of a message to
//	           send the attachments stay octets in the memory that was read (lift.go)
//	handler    func(ctx, *In) (*Out, error); errors become problems in problem.go
//
// A route is one call of register, which demands its scopes; the OpenAPI document
// shows them and a test walks all of them.
//
// # Goroutines
//
// The package starts none that outlives its request. A stream or a long poll is the goroutine of its request;
// it ends with the request, with Drain, or when its token is revoked.
//
// # Standards
//
// RFC 9457 (problem details), RFC 6750 section 2.1 (bearer tokens; section 2.3, in
// the query, only where configured), RFC 9110 section 13 (If-Match, If-None-Match,
// on accounts), the WHATWG's server-sent events. Not implemented: content
// negotiation beyond JSON, ranges, and preconditions by date.
package api
