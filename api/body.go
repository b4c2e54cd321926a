package api

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

const (
	// maxBody is the largest body of a route that says nothing else.
	maxBody = 1 << 20
	// maxSubmission is the largest body of a message to send.
	maxSubmission = 50 << 20
	// maxRest is what may remain of it without its attachments: two texts of 5 MiB, in JSON.
	maxRest = 16 << 20
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
	free, p := s.reserve(r, ctx.Operation())
	defer free()
	var body []byte
	if p == nil {
		body, p = s.body(w, r, ctx.Operation())
	}
	if p != nil {
		if p.Code == BodyTooLarge || p.Code == Timeout || p.Code == ServerBusy {
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

// bodyLimit is the largest body that a route takes.
func bodyLimit(op *huma.Operation) int64 {
	if n, ok := op.Metadata["body"].(int64); ok {
		return n
	}
	return maxBody
}

// reserve takes the memory that a large body will need from what all of them may have
// together; free gives it back, and what was
// reserved later, when the request has been answered.
func (s *Server) reserve(r *http.Request, op *huma.Operation) (free func(), p *Problem) {
	limit, n := bodyLimit(op), r.ContentLength
	if n < 0 {
		n = 2 * limit // it is read into a buffer that grows
	}
	c := callOf(r.Context())
	free = func() {
		s.memory.Release(c.reserved)
		s.metrics.bodies.Sub(float64(c.reserved))
		c.reserved = 0
	}
	if limit <= maxBody || n <= maxBody || r.ContentLength > limit {
		return free, nil
	}
	return free, s.more(c, n)
}

// more reserves n bytes more for a request.
func (s *Server) more(c *call, n int64) *Problem {
	if !s.memory.TryAcquire(n) {
		return problem(ServerBusy, "the messages that are being taken fill the memory that there is for them")
	}
	c.reserved += n
	s.metrics.bodies.Add(float64(n))
	return nil
}

func (s *Server) body(w http.ResponseWriter, r *http.Request, op *huma.Operation) ([]byte, *Problem) {
	limit := bodyLimit(op)
	if r.ContentLength > limit {
		return nil, problem(BodyTooLarge, "the body is over %d bytes", limit)
	}
	within := bodyTime
	if r.ContentLength >= 0 {
		within = 10*time.Second + time.Duration(r.ContentLength)*time.Second/slowest
	}
	ctl := http.NewResponseController(w)
	_ = ctl.SetReadDeadline(time.Now().Add(min(within, bodyTime+10*time.Second))) // not every writer has deadlines
	var read bytes.Buffer
	read.Grow(int(min(max(r.ContentLength, 0), limit)) + bytes.MinRead) // so that it does not grow again
	_, err := read.ReadFrom(http.MaxBytesReader(w, r.Body, limit))
	if _, over := errors.AsType[*http.MaxBytesError](err); over {
		return nil, problem(BodyTooLarge, "the body is over %d bytes", limit)
	}
	if err != nil {
		return nil, problem(Timeout, "the body did not arrive").because(err)
	}
	_ = ctl.SetReadDeadline(time.Time{})

	data := read.Bytes()
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
	if limit > maxBody {
		var p *Problem
		if data, p = s.lift(callOf(r.Context()), data); p != nil {
			return nil, p
		}
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

// lift takes the attachments out of a body, for the handler to find in its call.
func (s *Server) lift(c *call, data []byte) ([]byte, *Problem) {
	c.sum = sha256.Sum256(data)
	c.mark = "lifted:" + rand.Text() + ":"
	rest, texts, ok := lift(data, c.mark, maxRest)
	if !ok {
		return nil, problem(BodyTooLarge, "the body without its attachments is over %d bytes", maxRest)
	}
	c.texts = texts
	if len(rest) > maxBody { // it is parsed, and decoded
		return rest, s.more(c, 5*int64(len(rest)))
	}
	return rest, nil
}

// text gives the octets behind a text in base64 of the request's body.
func (c *call) text(in string) (octets []byte, ok bool) {
	if n, err := strconv.Atoi(strings.TrimPrefix(in, c.mark)); strings.HasPrefix(in, c.mark) && c.mark != "" && err == nil && n >= 0 && n < len(c.texts) {
		return c.texts[n].octets, !c.texts[n].bad
	}
	return decodeHere([]byte(in))
}
