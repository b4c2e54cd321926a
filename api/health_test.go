package api_test

import (
	"testing"
	"time"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/store"
)

func TestHealthOf(t *testing.T) {
	now := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	imap := store.Account{IMAP: &store.Server{Host: "h"}}
	failed := func(kind string) *store.LastError { return &store.LastError{Kind: kind} }
	for _, tt := range []struct {
		name    string
		account store.Account
		status  store.Status
		alive   time.Duration // ago; 0: never
		want    api.Health
	}{
		{"just registered", imap, store.Status{State: "init"}, 0, "starting"},
		{"no state yet", imap, store.Status{}, 0, "starting"},
		{"connecting", imap, store.Status{State: "connecting"}, 0, "starting"},
		{"first pass", imap, store.Status{State: "syncing"}, time.Second, "starting"},
		{"connected", imap, store.Status{State: "connected"}, time.Second, "ok"},
		{"connected, and an old error that healed", imap, store.Status{State: "connected", LastError: failed("serverDown")}, time.Second, "ok"},
		{"connected, last pass failed", imap, store.Status{State: "connected", Failures: 1, LastError: failed("internal")}, time.Second, "degraded"},
		{"one folder fails", imap, store.Status{State: "connected", SyncError: &store.SyncError{Path: "X"}}, time.Second, "degraded"},
		{"throttled", imap, store.Status{State: "connected", LastError: &store.LastError{Kind: "throttled", Until: now.Add(time.Minute)}}, time.Second, "degraded"},
		{"throttled once", imap, store.Status{State: "connected", LastError: &store.LastError{Kind: "throttled", Until: now.Add(-time.Minute)}}, time.Second, "ok"},
		{"connected says a worker that is gone", imap, store.Status{State: "connected"}, time.Hour, "down"},
		{"syncing says a worker that is gone", imap, store.Status{State: "syncing"}, time.Hour, "down"},
		{"stalled was said", imap, store.Status{State: "connected", Stalled: now}, time.Second, "down"},
		{"stalled while connecting", imap, store.Status{State: "connecting", Stalled: now}, time.Hour, "down"},
		{"ordinary end of a connection", imap, store.Status{State: "disconnected"}, time.Second, "starting"},
		{"lost", imap, store.Status{State: "disconnected", Failures: 1, LastError: failed("serverDown")}, time.Minute, "down"},
		{"cannot connect", imap, store.Status{State: "connectError", Failures: 3, LastError: failed("serverDown")}, time.Minute, "down"},
		{"certificate", imap, store.Status{State: "connectError", Failures: 3, LastError: failed("tls")}, time.Minute, "down"},
		{"trying again", imap, store.Status{State: "connecting", Failures: 3, LastError: failed("serverDown")}, time.Minute, "down"},
		{"back, first pass not done", imap, store.Status{State: "syncing", Failures: 3, LastError: failed("serverDown")}, time.Second, "degraded"},
		{"wrong password", imap, store.Status{State: "authenticationError", Failures: 1, LastError: failed("authDead")}, time.Minute, "action-needed"},
		{"wrong password, trying again", imap, store.Status{State: "connecting", Failures: 1, LastError: failed("authDead")}, time.Minute, "action-needed"},
		{"IMAP switched off", imap, store.Status{State: "connectError", Failures: 1, LastError: failed("config")}, time.Minute, "action-needed"},
		{"paused", store.Account{IMAP: &store.Server{}, Paused: &store.Pause{Reason: "api"}}, store.Status{State: "connected"}, time.Second, "paused"},
		{"paused itself", store.Account{IMAP: &store.Server{}, Paused: &store.Pause{Reason: "authenticationFailing"}}, store.Status{State: "paused"}, time.Hour, "action-needed"},
		{"disabled", store.Account{IMAP: &store.Server{Disabled: true}}, store.Status{State: "unset"}, 0, "paused"},
		{"nothing to watch", store.Account{}, store.Status{State: "unset"}, 0, "action-needed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var alive time.Time
			if tt.alive > 0 {
				alive = now.Add(-tt.alive)
			}
			if got := api.HealthOf(tt.account, tt.status, alive, 10*time.Minute, now); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}
