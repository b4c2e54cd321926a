package api

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

const (
	// maxBody is the largest body of every route so far.
	maxBody = 1 << 20
	// slowest is the least speed of a body, in bytes a second, after a start of 10 s.
	slowest = 16 << 10
	// bodyTime is the most time a body may take.
	bodyTime = 60 * time.Second
)

// readBody is a middleware of huma: it reads the body within bounds, demands JSON as
// strict as parseJSON's, and checks it against the route's schema. What the handler
// gets has passed.
func (s *Server) readBody(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	body, p := s.body(w, r, ctx.Operation())
	if p != nil {
		if p.Code == BodyTooLarge || p.Code == Timeout {
			w.Header().Set("Connection", "close") // what still comes is not worth reading
		}
		p.write(w, r)
		return
	}
	next(bodyContext{ctx, bytes.NewReader(body)})
}

// bodyContext hands the handler a body that was read already.
type bodyContext struct {
	humaContext
	body io.Reader
}

// humaContext has the name huma.Context cannot be embedded under: it has a method Context.
type humaContext huma.Context

// BodyReader replaces the request's.
func (c bodyContext) BodyReader() io.Reader { return c.body }

// SetReadDeadline does nothing: the body is here.
func (c bodyContext) SetReadDeadline(time.Time) error { return nil }

// Unwrap gives the context underneath, for humago.Unwrap.
func (c bodyContext) Unwrap() huma.Context { return c.humaContext }

func (s *Server) body(w http.ResponseWriter, r *http.Request, op *huma.Operation) ([]byte, *Problem) {
	if r.ContentLength > maxBody {
		return nil, problem(BodyTooLarge, "the body is over %d bytes", maxBody)
	}
	within := bodyTime
	if r.ContentLength >= 0 {
		within = 10*time.Second + time.Duration(r.ContentLength)*time.Second/slowest
	}
	ctl := http.NewResponseController(w)
	_ = ctl.SetReadDeadline(time.Now().Add(min(within, bodyTime+10*time.Second))) // not every writer has deadlines
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, over := errors.AsType[*http.MaxBytesError](err); over {
		return nil, problem(BodyTooLarge, "the body is over %d bytes", maxBody)
	}
	if err != nil {
		return nil, problem(Timeout, "the body did not arrive").because(err)
	}
	_ = ctl.SetReadDeadline(time.Time{})

	if op.RequestBody == nil {
		if len(data) > 0 && r.Method != http.MethodGet && r.Method != http.MethodHead {
			return nil, invalid("body", "Unknown", "this route takes no body")
		}
		return nil, nil
	}
	if len(data) == 0 {
		if op.RequestBody.Required {
			return nil, invalid("body", "Required", "is required")
		}
		return nil, nil
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, problem(UnsupportedMediaType, "a body must be application/json")
	}
	v, p := parseJSON(data)
	if p != nil {
		return nil, p
	}
	check := checker{schemas: s.huma.OpenAPI().Components.Schemas}
	check.check(op.RequestBody.Content["application/json"].Schema, "body", v)
	if len(check.faults) > 0 {
		return nil, refused(ValidationFailed, check.faults...)
	}
	return data, nil
}
