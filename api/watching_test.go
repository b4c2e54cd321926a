package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/store"
)

// What an account has for itself is stored, shown, and given back by null.
func TestAccountsOwnWatching(t *testing.T) {
	f := newFace(t)
	f.call(200, "POST", "/v1/account", strings.Replace(jo, "{", `{"stallAfter":90,"newFolderLimit":0,"notifyMoves":true,"storeIdentity":"full","resolveGmailCategories":true,`, 1))
	shown := func() map[string]any {
		t.Helper()
		all, own := f.call(200, "GET", "/v1/account/jo", ""), map[string]any{}
		for _, key := range []string{"stallAfter", "newFolderLimit", "notifyMoves", "storeIdentity", "resolveGmailCategories"} {
			if v, ok := all[key]; ok {
				own[key] = v
			}
		}
		return own
	}
	if diff := cmp.Diff(map[string]any{"stallAfter": 90.0, "newFolderLimit": 0.0, "notifyMoves": true, "storeIdentity": "full", "resolveGmailCategories": true}, shown()); diff != "" {
		t.Errorf("shown (-want +got):\n%s", diff)
	}
	f.call(200, "PUT", "/v1/account/jo", `{"newFolderLimit":null,"notifyMoves":false,"storeIdentity":null,"resolveGmailCategories":null}`)
	if diff := cmp.Diff(map[string]any{"stallAfter": 90.0, "notifyMoves": false}, shown()); diff != "" {
		t.Errorf("after a change (-want +got):\n%s", diff)
	}
	a, err := f.store.Account(t.Context(), "jo")
	ninety, no := 90, false
	if diff := cmp.Diff(store.Override{StallAfter: &ninety, NotifyMoves: &no}, a.Override); diff != "" || err != nil {
		t.Errorf("stored (-want +got):\n%s %v", diff, err)
	}

	// its health follows its own limit
	f.call(200, "POST", "/v1/settings", `{"stallAfter":86400}`)
	st, err := f.store.State(t.Context(), "jo")
	if err != nil {
		t.Fatal(err)
	}
	st.Status.State, st.Status.SyncTime = store.StateConnected, time.Now()
	if err := f.store.Observe(t.Context(), "jo", store.StatusChange{Version: st.StatusVersion, Status: st.Status}); err != nil {
		t.Fatal(err)
	}
	for silent, want := range map[time.Duration]string{time.Minute: "ok", 10 * time.Minute: "down"} {
		if err := f.store.SetAlive(t.Context(), map[store.AccountID]time.Time{"jo": time.Now().Add(-silent)}); err != nil {
			t.Fatal(err)
		}
		if got := f.call(200, "GET", "/v1/account/jo", "")["health"]; got != want {
			t.Errorf("silent for %v: health %v, want %s", silent, got, want)
		}
	}
}
