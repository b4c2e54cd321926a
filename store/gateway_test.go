package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/secret"
	"github.com/postrider/postrider/store/storetest"
)

// everything that Redis holds, as text.
func everything(t *testing.T, rdb redis.UniversalClient) string {
	t.Helper()
	var all strings.Builder
	for _, k := range rdb.Keys(t.Context(), "*").Val() {
		switch rdb.Type(t.Context(), k).Val() {
		case "hash":
			fmt.Fprintln(&all, k, rdb.HGetAll(t.Context(), k).Val())
		case "string":
			fmt.Fprintln(&all, k, rdb.Get(t.Context(), k).Val())
		}
	}
	return all.String()
}

func submission() *store.Server {
	return &store.Server{
		Host: "smtp.example.com", Port: 465, Secure: true, User: "u", TLS: store.ServerTLS{MinVersion: "1.3"},
		Pass: secret.New("planted-pass"), AccessToken: secret.New("planted-token"),
	}
}

func TestSendingOfAnAccountIsKept(t *testing.T) {
	storetest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := storetest.On(t, rdb)
		yes, none := true, 0
		a, err := s.CreateAccount(t.Context(), store.Account{
			ID: "sender", SMTP: submission(), SMTPEHLOName: "mail.example.com", Copy: &yes,
			SendLimits: store.SendLimits{PerDay: &none}, Aliases: []string{"a@example.com"}, Locale: "de", Timezone: "Europe/Berlin",
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Account(t.Context(), a.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(a, got, cmp.AllowUnexported(secret.Text{})); diff != "" {
			t.Error(diff)
		}
		if all := everything(t, rdb); strings.Contains(all, "planted") || !strings.Contains(all, "smtp.example.com") {
			t.Errorf("stored: %s", all)
		}
	})
}

func TestGateways(t *testing.T) {
	storetest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s, ctx := storetest.On(t, rdb), t.Context()
		made, err := s.CreateGateway(ctx, store.Gateway{ID: "relay:1", Name: "Relay", Server: *submission()})
		if err != nil || made.Version != 1 || made.Created.IsZero() {
			t.Fatalf("%+v %v", made, err)
		}
		if _, err := s.CreateGateway(ctx, store.Gateway{ID: "relay:1"}); !errors.Is(err, store.ErrExists) {
			t.Errorf("second: %v", err)
		}
		if all := everything(t, rdb); strings.Contains(all, "planted") {
			t.Errorf("a secret is stored open: %s", all)
		}

		// what became of it: the last error stays until something is accepted
		for _, failure := range []string{"", "", "535 5.7.8 no" + strings.Repeat("ö", 600)} {
			if err := s.UseGateway(ctx, "relay:1", failure); err != nil {
				t.Fatal(err)
			}
		}
		g, err := s.Gateway(ctx, "relay:1")
		if err != nil || g.Use.Deliveries != 2 || !strings.HasPrefix(g.Use.LastError, "535 5.7.8") || len(g.Use.LastError) > 1000 ||
			g.Use.LastErrorAt.IsZero() || !g.Use.LastErrorAt.Equal(g.Use.Last) {
			t.Errorf("use %+v, %v", g.Use, err)
		}
		if diff := cmp.Diff(made.Server, g.Server, cmp.AllowUnexported(secret.Text{})); diff != "" {
			t.Error(diff)
		}

		renamed, err := s.UpdateGateway(ctx, "relay:1", 1, func(g *store.Gateway) error { g.Name = "B"; return nil })
		if err != nil || renamed.Version != 2 || renamed.Use.Deliveries != 2 || !renamed.Created.Equal(made.Created) {
			t.Errorf("%+v %v", renamed, err)
		}
		if _, err := s.UpdateGateway(ctx, "relay:1", 1, func(*store.Gateway) error { return nil }); !errors.Is(err, store.ErrStale) {
			t.Errorf("old version: %v", err)
		}
		if err := s.UseGateway(ctx, "relay:1", ""); err != nil {
			t.Fatal(err)
		}
		if _, err := s.CreateGateway(ctx, store.Gateway{ID: "a", Server: *submission()}); err != nil {
			t.Fatal(err)
		}
		list, err := s.Gateways(ctx)
		if err != nil || len(list) != 2 || list[0].ID != "a" || list[1].Name != "B" || list[1].Use.Deliveries != 3 || list[1].Use.LastError != "" {
			t.Errorf("%+v %v", list, err)
		}

		// gone with its counters, and deleting again says the same
		for range 2 {
			if err := s.DeleteGateway(ctx, "relay:1"); err != nil {
				t.Error(err)
			}
		}
		if err := s.UseGateway(ctx, "relay:1", "late"); err != nil {
			t.Error(err)
		}
		if all := everything(t, rdb); slices.ContainsFunc([]string{"late", "n:relay:1"}, func(left string) bool { return strings.Contains(all, left) }) {
			t.Errorf("left behind: %s", all)
		}
		if _, err := s.Gateway(ctx, "relay:1"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("read: %v", err)
		}
		if err := s.DeleteGateway(ctx, "never"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("never there: %v", err)
		}
		if _, err := s.UpdateGateway(ctx, "relay:1", 0, func(*store.Gateway) error { return nil }); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("update: %v", err)
		}
	})
}

// Of changes made at once none is lost.
func TestGatewayChangesMeet(t *testing.T) {
	rdb := storetest.MiniredisClient(t)
	s, ctx := storetest.On(t, rdb), t.Context()
	if _, err := s.CreateGateway(ctx, store.Gateway{ID: "g", Server: *submission()}); err != nil {
		t.Fatal(err)
	}
	inner := true
	got, err := s.UpdateGateway(ctx, "g", 0, func(g *store.Gateway) error {
		if inner { // somebody is quicker
			inner = false
			_, err := s.UpdateGateway(ctx, "g", 0, func(g *store.Gateway) error { g.Name = "first"; return nil })
			if err != nil {
				return err
			}
		}
		g.Server.Host = "second.example"
		return nil
	})
	if err != nil || got.Name != "first" || got.Server.Host != "second.example" || got.Version != 3 {
		t.Errorf("%+v %v", got, err)
	}
}
