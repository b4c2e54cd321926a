package smtpsend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/internal/tlsconf"
	"github.com/postrider/postrider/smtpsend/transport"
	"github.com/postrider/postrider/store"
)

// way is how a submission leaves: by which server, and what is known of its provider.
type way struct {
	server  transport.Server
	profile Profile
	host    string // host:port
}

// way finds the server of an account, or of a gateway. Errors: ErrNoServer, ErrNoGateway,
// store.ErrUnavailable.
func (c *core) way(ctx context.Context, a store.Account, set store.Settings, gateway string) (way, error) {
	srv := a.SMTP
	if gateway != "" {
		g, err := c.store.Gateway(ctx, gateway)
		if errors.Is(err, store.ErrNotFound) {
			return way{}, fmt.Errorf("gateway %q: %w", gateway, ErrNoGateway)
		}
		if err != nil {
			return way{}, err
		}
		srv = &g.Server
	}
	if srv == nil || srv.Disabled {
		return way{}, fmt.Errorf("account %q: %w", a.ID, ErrNoServer)
	}
	w := way{
		server:  ServerOf(*srv, cmp.Or(a.SMTPEHLOName, set.SMTPEHLOName)),
		profile: c.profiles.Match(srv.Host, a.Email), host: hostPort(srv),
	}
	w.server.Key = poolKey(a.ID, gateway, w.server)
	return w, nil
}

// ServerOf is a stored server as transport takes it, without a Key. ehloName may be "".
func ServerOf(s store.Server, ehloName string) transport.Server {
	return transport.Server{
		Host: s.Host, Port: s.Port, Secure: s.Secure, Plaintext: s.Plaintext, TLS: tlsconf.Settings(s.TLS),
		User: s.User, Pass: s.Pass, AccessToken: s.AccessToken, EHLOName: ehloName,
	}
}

func hostPort(s *store.Server) string { return strings.ToLower(s.Host) + ":" + strconv.Itoa(s.Port) }

// pace is how much an account may send: of transactions at once, and by time. host is its
// own server's, "" where it has none.
func (c *core) pace(a store.Account) (slots int, l store.Limits, host string) {
	var p Profile
	if a.SMTP != nil {
		p, host = c.profiles.Match(a.SMTP.Host, a.Email), hostPort(a.SMTP)
	} else {
		p = c.profiles.Match("", a.Email)
	}
	slots = p.Connections
	if n := a.SendLimits.MaxConnections; n != nil && *n > 0 {
		slots = *n
	}
	return slots, a.SendLimits.Over(store.Limits{
		PerMinute: p.Limits.PerMinute, PerHour: p.Limits.PerHour, PerDay: p.Limits.PerDay, RecipientsPerDay: p.Limits.RecipientsPerDay,
	}), host
}

// poolKey names everything that makes another connection of it.
func poolKey(a store.AccountID, gateway string, s transport.Server) string {
	return string(a) + "/" + events.Digest(append([]string{
		gateway, s.Host, strconv.Itoa(s.Port), strconv.FormatBool(s.Secure), strconv.FormatBool(s.Plaintext),
		s.TLS.CA, s.TLS.MinVersion, s.TLS.ServerName, strconv.FormatBool(s.TLS.InsecureSkipVerify),
		s.User, s.Pass.Reveal(), s.AccessToken.Reveal(), s.EHLOName,
	}, s.TLS.Pin...)...)
}

// envelope is what a transaction of a row asks the server for.
func envelope(row store.Submission, p Profile) transport.Envelope {
	e := transport.Envelope{
		From: row.From, To: row.Pending, Size: row.Size, UTF8: row.UTF8, EightBit: row.EightBit, RequireTLS: row.RequireTLS,
		DSN: transport.DSN{ID: string(row.ID)},
	}
	if d := row.DSN; d != nil {
		e.DSN = transport.DSN{ID: cmp.Or(d.ID, string(row.ID)), Return: d.Return, Notify: d.Notify, Recipient: d.Recipient}
	}
	if n := p.Recipients; n > 0 && len(e.To) > n {
		e.To = e.To[:n]
	}
	return e
}

func chance() float64 { return rand.Float64() }
