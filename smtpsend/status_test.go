package smtpsend

import (
	"fmt"
	"testing"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/smtpsend/transport"
	"github.com/postrider/postrider/store"
)

// What attempts say of an account's server, one after another: events come with the first
// login, with each new kind of failure to log in, and with its end.
func TestContact(t *testing.T) {
	auth := &transport.Error{Phase: transport.PhaseAuth, Code: 535, Line: "535 5.7.8 no", Kind: transport.KindAuth}
	down := &transport.Error{Phase: transport.PhaseConnect, Kind: transport.KindConnect, Err: fmt.Errorf("refused")}
	late := &transport.Error{Phase: transport.PhaseData, Kind: transport.KindSocket}
	mail := &transport.Error{Phase: transport.PhaseMail, Code: 550, Line: "550 no", Kind: transport.KindEnvelope}
	large := &transport.Error{Phase: transport.PhaseMail, Kind: transport.KindMessage, Enhanced: [3]int{5, 3, 4}}
	server := transport.Server{Host: "mail.example.com", Port: 587, User: "u"}
	var st store.SMTPStatus
	for i, tt := range []struct {
		err    *transport.Error
		status string
		event  string
	}{
		{large, "", ""}, // nobody was asked
		{nil, "ok", "authenticationSuccess"},
		{nil, "ok", ""},
		{mail, "ok", ""},
		{late, "error", ""}, // lost, and not refused
		{nil, "ok", "authenticationSuccess"},
		{down, "error", "connectError refused ECONNECTION"},
		{down, "error", ""},
		{auth, "error", "authenticationError credentials 535"},
		{auth, "error", ""},
		{down, "error", "connectError refused ECONNECTION"},
		{mail, "ok", "authenticationSuccess"},
	} {
		var v Verdict
		if tt.err != nil {
			v = Classify(profile(), tt.err)
		}
		now := noon.Add(time.Duration(i) * time.Minute)
		next, p, ok := contact(st, server, v, tt.err, 1000, now, now.Add(time.Minute))
		if ok {
			st = next
		}
		event := ""
		switch d := p.(type) {
		case events.AuthenticationSuccess:
			event = string(d.EventType())
		case events.AuthenticationError:
			event = fmt.Sprint(d.EventType(), " ", d.Class, " ", d.ServerResponseCode)
		case events.ConnectError:
			event = fmt.Sprint(d.EventType(), " ", d.Class, " ", d.ServerResponseCode)
		}
		if st.Status != tt.status || event != tt.event {
			t.Errorf("%d: %s, %q; want %s, %q", i, st.Status, event, tt.status, tt.event)
		}
	}
}
