package smtpsend

import (
	"cmp"
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/smtpsend/transport"
	"github.com/postrider/postrider/store"
)

// contact is what an attempt says of an account's server. It is pure. ok is false where
// nothing was learnt, or nothing new. The event, if there is one, is about a login that
// came about, or did not; a connection that was lost later is none.
func contact(old store.SMTPStatus, server transport.Server, v Verdict, e *transport.Error, maxSize int64, now, next time.Time) (st store.SMTPStatus, event events.Payload, ok bool) {
	if e == nil || v.Scope == ScopeMessage || v.Scope == ScopeRecipient {
		if e != nil && (e.Kind == transport.KindLocal || e.Code == 0) {
			return old, nil, false
		}
		st = store.SMTPStatus{Status: store.SMTPOK, Created: now, MaxSize: maxSize, SizeAt: now}
		if e != nil {
			st.MaxSize, st.SizeAt = old.MaxSize, old.SizeAt
		}
		if old.Status == store.SMTPOK {
			st.Created = old.Created
			return st, nil, e == nil && (maxSize != old.MaxSize || now.Sub(old.SizeAt) > time.Hour)
		}
		if server.User != "" {
			success := events.AuthenticationSuccess{User: server.User, Service: "smtp"}
			if old.Status == store.SMTPError {
				success.DownFor = int64(now.Sub(old.Created).Seconds())
			}
			event = success
		}
		return st, event, true
	}
	st = store.SMTPStatus{
		Status: store.SMTPError, Created: now, Response: e.Line, ResponseCode: e.Code, Code: v.ErrorCode, Command: e.Command, Class: classOf(e, v),
		MaxSize: old.MaxSize, SizeAt: old.SizeAt,
	}
	if e.Description != "" {
		st.Description = e.Description
	} else if e.Err != nil {
		st.Description = e.Err.Error()
	}
	if old.Status == store.SMTPError {
		st.Created = old.Created
		if old.Class == st.Class && old.Code == st.Code && old.ResponseCode == st.ResponseCode {
			return old, nil, false
		}
	}
	switch e.Phase {
	case transport.PhaseConnect, transport.PhaseTLS, transport.PhaseGreeting, transport.PhaseHello, transport.PhaseSTARTTLS, transport.PhaseAuth:
	default:
		if v.Hint != HintCredentials {
			return st, nil, true
		}
	}
	code := v.ErrorCode
	if e.Code > 0 {
		code = strconv.Itoa(e.Code)
	}
	if v.Hint == HintCredentials {
		return st, events.AuthenticationError{Response: cmp.Or(e.Line, st.Description), ServerResponseCode: code, Service: "smtp", Class: st.Class}, true
	}
	at := events.TimeOf(next)
	return st, events.ConnectError{
		Response: cmp.Or(e.Line, st.Description), ServerResponseCode: code, Service: "smtp", Host: server.Host, Port: server.Port, Class: st.Class, NextAttempt: &at,
	}, true
}

// classOf is the class of the event.
func classOf(e *transport.Error, v Verdict) string {
	switch {
	case v.Hint == HintCredentials && (e.Code == 525 || e.Code == 538):
		return "blocked"
	case v.Hint == HintCredentials && e.Code == 534: // RFC 4954: a stronger mechanism, or a web login, is wanted
		return "consent"
	case v.Hint == HintCredentials:
		return "credentials"
	case v.Hint == HintTLS:
		return "tls"
	case e.Code == 421, v.Hint == HintConnections, v.Limit():
		return "throttled"
	case e.Code > 0:
		return "greeting"
	}
	switch e.Kind {
	case transport.KindDNS:
		return "dns"
	case transport.KindConnect:
		return "refused"
	case transport.KindTimeout:
		return "timeout"
	}
	return "network"
}

// tellContact writes what an attempt said of the account's own server.
func (r *run) tellContact(ctx context.Context, w way, s *step, maxSize int64, e *transport.Error) {
	var v Verdict
	if e != nil {
		v = Classify(w.profile, e)
	}
	for range 3 {
		old := r.sending(ctx).SMTP
		next, p, ok := contact(old, w.server, v, e, maxSize, s.now, s.row.Due())
		if !ok {
			return
		}
		var evs []events.Event
		if p != nil {
			id := events.NewID(string(r.account), s.row.Epoch, p.EventType(), "smtp", events.Uint(old.Version))
			evs = append(evs, events.Event{ID: id, Data: p})
		}
		err := r.store.SetSMTPStatus(ctx, r.account, old, next, evs...)
		if err == nil {
			if next.Version = old.Version + 1; r.known != nil {
				r.known.SMTP = next
			}
			return
		}
		r.known = nil
		if !errors.Is(err, store.ErrStale) {
			r.log.DebugContext(ctx, "SMTP status not written", "account", r.account, "err", err)
			return
		}
	}
}
