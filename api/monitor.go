package api

import (
	"net/http"
	"strings"
	"time"
)

// monitorCSP is what the queue dashboard needs and no more; its two font sheets from
// elsewhere are refused by it.
const monitorCSP = "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; frame-ancestors 'none'"

// maxForm is the largest sign-in form.
const maxForm = 4 << 10

// monitorRoutes mounts the queue dashboard and the sign-in before it.
func (s *Server) monitorRoutes() {
	s.mux.HandleFunc("GET /login", s.loginPage)
	s.mux.HandleFunc("POST /login", s.login)
	s.mux.HandleFunc("POST /logout", s.logout)
	if s.o.Monitor == nil {
		return
	}
	viewer, operator := s.o.Monitor(true), s.o.Monitor(false)
	s.mux.HandleFunc("/monitor/", func(w http.ResponseWriter, r *http.Request) {
		if s.signInFirst(r) {
			http.Redirect(w, r, "/login", http.StatusSeeOther)
			return
		}
		if p := s.pass(w, r, []string{scopeMonitor}, "/monitor/"); p != nil {
			p.write(w, r)
			return
		}
		w.Header().Set("Content-Security-Policy", monitorCSP)
		w.Header().Del("Cache-Control") // the dashboard's files may be kept
		if holds(callOf(r.Context()).token.Scopes, scopeAll) {
			operator.ServeHTTP(w, r)
			return
		}
		viewer.ServeHTTP(w, r)
	})
}

// signInFirst says whether a request is that of a browser which has not signed in.
func (s *Server) signInFirst(r *http.Request) bool {
	value, _ := s.credential(r)
	return value == "" && r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html")
}

func (s *Server) loginPage(w http.ResponseWriter, _ *http.Request) {
	s.pages.serve(w, http.StatusOK, s.pages.login(""))
}

func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	if err := s.cross.Check(r); err != nil {
		s.metrics.authFailure("origin")
		problem(Forbidden, "the request comes from another site").write(w, r)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(10 * time.Second))
	value := strings.TrimSpace(r.PostFormValue("token"))
	if len(value) > maxToken {
		value = ""
	}
	r.Header.Set("Authorization", "Bearer "+value) // what is signed in with is judged like any token
	if p := s.authenticate(r); p != nil {
		switch p.Code {
		case Unauthenticated:
			callOf(r.Context()).problem = p
			s.pages.serve(w, http.StatusUnauthorized, s.pages.login("This token is not known here."))
		default:
			p.write(w, r)
		}
		return
	}
	http.SetCookie(w, &http.Cookie{
		Name: sessionCookie, Value: s.sessions.add(value, time.Now()), Path: "/", MaxAge: int(sessionTime.Seconds()),
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: callOf(r.Context()).secure,
	})
	http.Redirect(w, r, "/monitor/", http.StatusSeeOther)
}

func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	if err := s.cross.Check(r); err != nil {
		problem(Forbidden, "the request comes from another site").write(w, r)
		return
	}
	if cookie, err := r.Cookie(sessionCookie); err == nil {
		s.sessions.end(cookie.Value)
	}
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}
