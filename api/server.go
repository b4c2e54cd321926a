package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"github.com/postrider/postrider/store"
)

// Kicker makes the worker of an account look again: here, or through Redis at the
// process that holds it. Kick MUST NOT wait for the worker and MAY be called for
// accounts that nobody holds.
type Kicker interface {
	Kick(ctx context.Context, id store.AccountID) error
}

// Options are what a Server is made of. Zero values of optional fields switch the
// feature off or discard.
type Options struct {
	Store    *store.Store // required
	Kicker   Kicker       // required
	Verifier Verifier     // nil: verifying answers FieldNotSupported

	SMTPVerifier SMTPVerifier // nil: verifying smtp answers FieldNotSupported
	Submitter    Submitter    // nil: this process takes no messages to send
	Outbox       Outbox       // nil: this process changes none

	// CheckTarget says whether a webhook URL may be called, with the reason in the
	// error's text, which is shown. nil allows every http and https URL.
	CheckTarget func(url string) error
	// CheckHeaders does the same for a list of webhook headers. It MUST NOT put values
	// into the error.
	CheckHeaders func([]store.Header) error
	// Checks are what /readyz asks besides the store: name and question. They are
	// asked with a deadline of one second.
	Checks map[string]func(context.Context) error

	// Monitor makes the queue dashboard, rooted at /monitor; called twice, for each
	// value of readOnly. nil: no dashboard.
	Monitor func(readOnly bool) http.Handler
	// Metrics is what GET /metrics serves; nil: no such route.
	Metrics http.Handler
	// Registerer takes the package's own metrics; nil works.
	Registerer prometheus.Registerer
	Logger     *slog.Logger // nil discards
	Config     Config
	Version    string // of the program, for the OpenAPI document
}

// Config are the api.* keys of the configuration that concern this package, and the two
// of mail.* that decide what an account may ask for.
type Config struct {
	TrustedProxies   []netip.Prefix // api.trustedProxies
	CORSOrigins      []string       // api.cors.origins, exact
	MaxConcurrent    int            // api.maxConcurrent; 0 = 200
	MaxBodyMemory    int64          // api.maxBodyMemory, bytes; 0 = 256 MiB; at least 100 MiB
	AllowQueryToken  bool           // api.allowQueryToken
	DocsNeedToken    bool           // api.docs: token
	AllowPlaintext   bool           // mail.allowPlaintext
	AllowInsecureTLS bool           // mail.allowInsecureTLS
}

// Server is the HTTP face, an http.Handler that is safe for concurrent use. Whoever
// owns the listener calls Drain before it shuts the listener down.
type Server struct {
	o       Options
	log     *slog.Logger
	mux     *http.ServeMux
	huma    huma.API
	openapi []byte
	pages   pages
	metrics metrics

	guard    *guard    // failed authentication per address
	rates    *rates    // requests per token
	streams  *streams  // open streams
	sessions *sessions // of /login
	feeds    *feeds    // who waits for events
	used     *used     // when a token's use was noted last
	working  chan struct{}
	memory   *semaphore.Weighted // for large bodies
	cross    *http.CrossOriginProtection

	draining atomic.Bool
	drained  chan struct{} // closed by Drain
	drain    sync.Once
}

// What holds unless it is configured.
const (
	maxConcurrent = 200       // requests in work at once
	maxBodyMemory = 256 << 20 // bytes of large bodies
)

// New makes a Server. It starts no goroutine and does no I/O.
func New(o Options) (*Server, error) {
	if o.Store == nil || o.Kicker == nil {
		return nil, errors.New("api: Store and Kicker are required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Config.MaxConcurrent == 0 {
		o.Config.MaxConcurrent = maxConcurrent
	}
	if o.Config.MaxBodyMemory == 0 {
		o.Config.MaxBodyMemory = maxBodyMemory
	}
	o.Config.MaxBodyMemory = max(o.Config.MaxBodyMemory, 2*maxSubmission) // so that there is room for any of them
	hookHuma()
	s := &Server{
		o: o, log: o.Logger, mux: http.NewServeMux(),
		guard: newGuard(), rates: newRates(), streams: newStreams(), sessions: newSessions(), feeds: newFeeds(), used: newUsed(),
		working: make(chan struct{}, o.Config.MaxConcurrent), cross: http.NewCrossOriginProtection(), memory: semaphore.NewWeighted(o.Config.MaxBodyMemory), drained: make(chan struct{}),
	}
	var err error
	if s.metrics, err = newMetrics(o.Registerer, s.streams); err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	s.huma = humago.New(s.mux, s.humaConfig())
	s.huma.UseMiddleware(s.authorize, s.readBody)
	s.accountRoutes()
	s.mailboxRoutes()
	s.gatewayRoutes()
	s.submitRoutes()
	s.outboxRoutes()
	s.settingRoutes()
	s.tokenRoutes()
	s.eventRoutes()
	s.streamRoutes()
	s.probeRoutes()
	if s.openapi, err = describe(s.huma.OpenAPI()); err != nil {
		return nil, fmt.Errorf("api: openapi: %w", err)
	}
	if s.pages, err = newPages(s.huma.OpenAPI()); err != nil {
		return nil, fmt.Errorf("api: pages: %w", err)
	}
	s.docRoutes()
	s.monitorRoutes()
	return s, nil
}

// OpenAPI is the document served at /openapi.json.
func (s *Server) OpenAPI() []byte { return s.openapi }

// Wake says that there are new events in a shard, so that streams and long polls look
// now instead of within a second. It never blocks and may be called at any time.
func (s *Server) Wake(shard int) { s.feeds.wake(shard) }

// Drain begins the end: readiness says no, new requests are refused, streams end with
// a comment and long polls answer what they have. It returns at once and may be called
// again; the owner of the listener then waits for the requests that run.
func (s *Server) Drain() {
	s.drain.Do(func() {
		s.draining.Store(true)
		close(s.drained)
	})
}

// How long a request may take, by what it does.
const (
	// storeTime is for requests that only ask the store, so that a Redis that went
	// silent is StoreUnavailable within two seconds.
	storeTime = 1900 * time.Millisecond
	// deleteTime is for removing all keys of a large account.
	deleteTime = 20 * time.Second
	// verifyTime is for trying a mail server.
	verifyTime = 60 * time.Second
)

// register adds a route. Its scopes are alternatives: a token needs one of them; none
// at all makes the route open. The handler runs under storeTime unless the operation
// says otherwise under "time" in its Metadata.
func register[I, O any](s *Server, op huma.Operation, scopes []string, h func(context.Context, *I) (*O, error)) {
	limit, ok := op.Metadata["time"].(time.Duration)
	if !ok {
		limit = storeTime
	}
	op.SkipValidateBody = true // readBody did
	large, _ := op.Metadata["body"].(int64)
	op.MaxBodyBytes = maxBody + 1
	op.Metadata = map[string]any{"scopes": scopes}
	if large > 0 {
		op.Metadata["body"], op.MaxBodyBytes = large, maxRest+1
	}
	op.Security = []map[string][]string{}
	for _, scope := range scopes {
		op.Security = append(op.Security, map[string][]string{"token": {scope}})
	}
	huma.Register(s.huma, op, func(ctx context.Context, in *I) (*O, error) {
		if limit > 0 {
			var stop context.CancelFunc
			ctx, stop = context.WithTimeout(ctx, limit)
			defer stop()
		}
		out, err := h(ctx, in)
		if err != nil {
			p := problemOf(err)
			c := callOf(ctx)
			c.problem = p
			return nil, p.at(c.id)
		}
		return out, nil
	})
}
