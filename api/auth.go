package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/postrider/postrider/store"
)

// maxToken is the longest credential that is looked at; imported tokens may be long.
const maxToken = 512

// authorize is a middleware of huma: it lets through who may call the route.
func (s *Server) authorize(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	if p := query(r); p != nil {
		p.write(w, r)
		return
	}
	op := ctx.Operation()
	scopes, _ := op.Metadata["scopes"].([]string)
	if len(scopes) == 0 {
		next(ctx)
		return
	}
	if p := s.pass(w, r, scopes, op.Path); p != nil {
		p.write(w, r)
		return
	}
	next(ctx)
}

// pass authenticates a request and decides whether its token may use the route.
func (s *Server) pass(w http.ResponseWriter, r *http.Request, scopes []string, route string) *Problem {
	if p := s.authenticate(r); p != nil {
		return p
	}
	t := callOf(r.Context()).token
	if p := s.rates.take(w.Header(), t, time.Now()); p != nil {
		return p
	}
	if !allows(*t, scopes, route, r.PathValue("account")) {
		s.metrics.authFailure("forbidden")
		return problem(Forbidden, "this token may not do that")
	}
	return nil
}

// authenticate finds the token behind a request, whatever it may do, and leaves it in
// the request's call.
func (s *Server) authenticate(r *http.Request) *Problem {
	c := callOf(r.Context())
	value, fromCookie := s.credential(r)
	from := network(c.addr)
	if wait := s.guard.blocked(from, time.Now()); wait > 0 && !s.guard.known(value) {
		s.metrics.authFailure("blocked")
		p := problem(RateLimited, "too many failed attempts from this address")
		p.retry = int(wait.Seconds()) + 1
		return p
	}
	if value == "" {
		return s.failed(from, "missing", "send Authorization: Bearer with a token")
	}
	t, err := s.lookup(r.Context(), value)
	if errors.Is(err, store.ErrNotFound) {
		return s.failed(from, "unknown", "the token is unknown, revoked or expired")
	}
	if err != nil {
		return problemOf(err)
	}
	if !allowed(c.addr, t.Addresses) {
		s.metrics.authFailure("address")
		return problem(AddressNotAllowed, "the token may not be used from here")
	}
	if fromCookie { // a cookie is sent by itself, so a change must come from our own pages
		if err := s.cross.Check(r); err != nil {
			s.metrics.authFailure("origin")
			return problem(Forbidden, "the request comes from another site")
		}
	}
	s.guard.good(value)
	c.token, c.value = &t, value
	if now := time.Now(); s.used.due(t.ID, now) {
		if err := s.o.Store.UseToken(r.Context(), t.ID, c.addr.String()); err != nil {
			s.log.Debug("note token use", "err", err) // the request itself is none the worse
		}
	}
	return nil
}

// lookup asks the store for a valid token; an expired one is not found.
func (s *Server) lookup(ctx context.Context, value string) (store.Token, error) {
	ctx, stop := context.WithTimeout(ctx, storeTime)
	defer stop()
	t, err := s.o.Store.TokenByValue(ctx, value)
	if err != nil {
		return store.Token{}, err
	}
	if !t.Expires.IsZero() && time.Now().After(t.Expires) {
		return store.Token{}, store.ErrNotFound
	}
	return t, nil
}

// failed counts a 401.
func (s *Server) failed(from networkKey, reason, detail string) *Problem {
	s.metrics.authFailure(reason)
	s.guard.fail(from, time.Now())
	return problem(Unauthenticated, "%s", detail)
}

// credential is the token's value that a request carries: in its header, where allowed
// in its query, or behind the cookie of a session.
func (s *Server) credential(r *http.Request) (value string, fromCookie bool) {
	if h := r.Header.Get("Authorization"); h != "" {
		scheme, value, _ := strings.Cut(h, " ")
		value = strings.TrimSpace(value)
		if !strings.EqualFold(scheme, "Bearer") || len(value) > maxToken {
			return "", false
		}
		return value, false
	}
	if s.o.Config.AllowQueryToken {
		q := r.URL.Query()
		if value := q.Get("access_token"); value != "" && len(value) <= maxToken {
			q.Del("access_token")
			r.URL.RawQuery = q.Encode() // routes refuse unknown parameters, and nobody else need see it
			return value, false
		}
	}
	if cookie, err := r.Cookie(sessionCookie); err == nil {
		if value := s.sessions.get(cookie.Value, time.Now()); value != "" {
			return value, true
		}
	}
	return "", false
}

// query refuses what a query cannot mean: broken escapes, and a parameter given twice.
func query(r *http.Request) *Problem {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return invalid("query", "Syntax", "cannot be read")
	}
	for name, values := range q {
		if len(values) > 1 {
			return invalid("query."+placeName(name), "Duplicate", "is given twice")
		}
	}
	return nil
}

// used remembers when the use of a token was noted last, so that it is at most once a
// minute.
type used struct {
	mu sync.Mutex
	at map[string]time.Time
}

func newUsed() *used { return &used{at: make(map[string]time.Time)} }

func (u *used) due(id string, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if now.Sub(u.at[id]) < time.Minute {
		return false
	}
	if len(u.at) >= maxTracked {
		clear(u.at)
	}
	u.at[id] = now
	return true
}

// fingerprint is a credential as we remember it.
func fingerprint(value string) [sha256.Size]byte { return sha256.Sum256([]byte(value)) }
