package storetest

import (
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/secret"
)

// Keyring is a ring with one fixed key.
func Keyring(t testing.TB) *secret.Keyring {
	t.Helper()
	ring, err := secret.NewKeyring(make([]byte, secret.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// On makes a store on a client.
func On(t testing.TB, rdb redis.UniversalClient) *store.Store {
	t.Helper()
	return store.New(store.Options{Client: rdb, Secrets: Keyring(t)})
}

// Miniredis makes a store on a fresh miniredis.
func Miniredis(t testing.TB) *store.Store {
	t.Helper()
	return On(t, MiniredisClient(t))
}

// MiniredisClient makes a client of a fresh miniredis.
func MiniredisClient(t testing.TB) redis.UniversalClient {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// Redis makes a store on a fresh redis-server.
func Redis(t testing.TB) *store.Store {
	t.Helper()
	return On(t, NewServer(t).Client())
}

// Each runs f on miniredis and on a redis-server.
func Each(t *testing.T, f func(*testing.T, redis.UniversalClient)) {
	t.Helper()
	t.Run("miniredis", func(t *testing.T) { f(t, MiniredisClient(t)) })
	t.Run("redis", func(t *testing.T) { f(t, NewServer(t).Client()) })
}
