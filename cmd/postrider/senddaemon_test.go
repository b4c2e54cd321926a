package main

import (
	"context"
	"testing"
	"time"

	"github.com/postrider/postrider/smtpsend/smtptest"
)

// Sending follows the providers of the configuration, its connections are counted, and a
// state that Redis lost keeps nobody from it.
func TestDaemonSends(t *testing.T) {
	sink := smtptest.StartSink(t, smtptest.SinkOptions{})
	d := startDaemon(t, func(l *loaded) {
		l.Send.Providers = `[{name: ours, hosts: ["127.*"], recipients: 1}]`
	})
	c := &apiClient{url: d.url(), token: d.token, http: newHTTPClient()}
	t.Cleanup(c.http.CloseIdleConnections)
	host, port := sink.Addr()
	for _, ask := range []struct {
		path string
		body map[string]any
	}{
		{"/v1/account", map[string]any{
			"account": "jo", "email": "jo@sender.example", "imap": false,
			"smtp": map[string]any{"host": host, "port": port, "secure": false, "plaintext": true},
		}},
		{"/v1/account/jo/submit", map[string]any{"to": []any{address("", "ann@example.net"), address("", "bob@example.net")}, "subject": "Two"}},
	} {
		if err := c.call(t.Context(), "POST", ask.path, ask.body, nil); err != nil {
			t.Fatal(ask.path, err)
		}
	}
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	got, err := sink.Wait(ctx, 2)
	if err != nil || len(got) != 2 {
		t.Errorf("two recipients came in %d transactions of a server that takes one recipient: %v", len(got), err)
	}
	eventually(t, 5*time.Second, "connections are kept for the next message", func() bool {
		families, err := d.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if f.GetName() == "postrider_send_connections" {
					got[m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
				}
			}
		}
		return len(got) == 2 && got["busy"] == 0 && got["idle"] > 0
	})
	keys, err := d.redis.client.Keys(t.Context(), "*:jo:state").Result()
	if err != nil || len(keys) != 1 || d.redis.client.Del(t.Context(), keys...).Err() != nil {
		t.Fatal(keys, err)
	}
	if err := c.call(t.Context(), "POST", "/v1/account/jo/submit", map[string]any{"to": address("", "ann@example.net"), "subject": "Three"}, nil); err != nil {
		t.Error(err)
	}
	if got, err := sink.Wait(ctx, 3); err != nil {
		t.Errorf("%d messages: %v", len(got), err)
	}
}
