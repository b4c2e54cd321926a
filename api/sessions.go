package api

import (
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/postrider/postrider/store/secret"
)

// sessionCookie carries a session of /login.
const sessionCookie = "postrider_session"

const (
	sessionTime = 12 * time.Hour
	maxSessions = 1000
)

// sessions stand in for tokens in browsers. The cookie's value is random and kept as a
// hash; behind it is the token itself, asked for anew with every request, so that a
// revoked token ends its sessions. They live in this process: after a restart one signs
// in again.
type sessions struct {
	mu sync.Mutex
	of map[[sha256.Size]byte]session
}

type session struct {
	token secret.Text
	ends  time.Time
}

func newSessions() *sessions { return &sessions{of: make(map[[sha256.Size]byte]session)} }

// add begins a session and gives the cookie's value.
func (s *sessions) add(token string, now time.Time) string {
	value := rand.Text() + rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.of) >= maxSessions {
		for k, v := range s.of {
			if !now.Before(v.ends) {
				delete(s.of, k)
			}
		}
		if len(s.of) >= maxSessions {
			clear(s.of) // somebody with a token signs in in a loop; the others sign in again
		}
	}
	s.of[fingerprint(value)] = session{secret.New(token), now.Add(sessionTime)}
	return value
}

// get is the token behind a cookie, or "".
func (s *sessions) get(cookie string, now time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.of[fingerprint(cookie)]
	if !ok || !now.Before(v.ends) {
		return ""
	}
	return v.token.Reveal()
}

// end forgets a session.
func (s *sessions) end(cookie string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.of, fingerprint(cookie))
}
