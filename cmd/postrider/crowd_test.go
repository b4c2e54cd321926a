package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/secret"
	"github.com/postrider/postrider/store/storetest"
)

// crowd is many accounts on one mail server and one Redis, with mail that arrives all
// the time, for any number of processes to watch.
type crowd struct {
	t     testing.TB
	model *imaptest.Model
	users []*imaptest.ModelUser
	redis *storetest.Server
	rdb   redis.UniversalClient
	st    *store.Store
	ids   []store.AccountID
	bin   string    // the program
	hook  *receiver // of all accounts' webhooks; nil = none

	mu  sync.Mutex
	put []uint32 // UIDs given in each account's INBOX, 1 to this
}

func newCrowd(t testing.TB, n int, secure bool) *crowd {
	t.Helper()
	c := &crowd{t: t, model: imaptest.NewModel(imaptest.T1()), redis: storetest.NewServer(t), put: make([]uint32, n), bin: builtBinary(t)}
	t.Cleanup(c.model.Close)
	if _, err := c.model.Listen(secure); err != nil {
		t.Fatal(err)
	}
	c.rdb = c.redis.Client()
	c.st = storetest.On(t, c.rdb)
	for i := range n {
		c.users = append(c.users, c.model.User(fmt.Sprintf("user-%05d@example.com", i), "secret"))
		c.ids = append(c.ids, store.AccountID(fmt.Sprintf("acct-%05d", i)))
	}
	return c
}

// serve starts a process on the crowd's Redis.
func (c *crowd) serve(env ...string) *served {
	c.t.Helper()
	token := "crowd-token-of-at-least-32-characters"
	s := startBinary(c.t, c.bin, loopbackEnv(append([]string{
		"POSTRIDER_REDIS_URL=" + c.redis.URL(), "POSTRIDER_API_TOKEN=" + token,
		"POSTRIDER_SECRETS_KEYS=" + base64.StdEncoding.EncodeToString(make([]byte, secret.KeySize)), // that of storetest
	}, env...)...))
	s.Token = token
	return s
}

// register adds all accounts.
func (c *crowd) register() {
	c.t.Helper()
	for i, id := range c.ids {
		srv := c.users[i].Server()
		a := store.Account{ID: id, Email: srv.User, IMAP: &store.Server{
			Host: srv.Host, Port: srv.Port, User: srv.User, Pass: secret.New(srv.Pass), Plaintext: !srv.ImplicitTLS, Secure: srv.ImplicitTLS,
		}}
		a.IMAP.TLS.CA = srv.CA
		if c.hook != nil {
			a.Webhooks = secret.New(c.hook.URL)
		}
		if _, err := c.st.CreateAccount(c.t.Context(), a); err != nil {
			c.t.Fatal(err)
		}
	}
}

// append puts a message into an account's INBOX.
func (c *crowd) append(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := fmt.Sprintf("m%d.%d@crowd.example", i, c.put[i]+1)
	uid, err := c.users[i].Append(context.Background(), "INBOX", imaptest.Message(id, id), nil, time.Now())
	if err != nil || uid != c.put[i]+1 {
		c.t.Errorf("append to account %d: UID %d, %v", i, uid, err)
	}
	c.put[i] = uid
}

// pour appends to random accounts, rate a second, until stop is called.
func (c *crowd) pour(rate int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		every := time.NewTicker(time.Second / time.Duration(rate))
		defer every.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-every.C:
				c.append(rand.IntN(len(c.ids)))
			}
		}
	}()
	stop = func() { cancel(); <-done }
	c.t.Cleanup(stop)
	return stop
}

// oneSession demands that each account has a session, and never had more than one beside it.
func (c *crowd) oneSession() {
	c.t.Helper()
	for i, u := range c.users {
		if now, most, _ := u.Sessions(); now != 1 || most > 2 {
			c.t.Errorf("%s has %d sessions, and had %d at once", c.ids[i], now, most)
		}
	}
}

// states reads all accounts.
func (c *crowd) states() map[store.AccountID]store.State {
	c.t.Helper()
	states, err := c.st.States(c.t.Context(), c.ids)
	if err != nil {
		c.t.Fatal(err)
	}
	return states
}

// awaitConnected waits until every account is connected under a lease.
func (c *crowd) awaitConnected(within time.Duration) {
	c.t.Helper()
	last := map[string]int{}
	defer func() {
		if c.t.Failed() {
			c.t.Logf("accounts are %v", last)
		}
	}()
	eventually(c.t, within, "all accounts connected", func() bool {
		if len(c.ids) > 1000 {
			<-time.After(time.Second) // to look costs more than some milliseconds
		}
		clear(last)
		for _, st := range c.states() {
			if st.Owner != "" && st.Status.State == store.StateConnected {
				last["connected"]++
				continue
			}
			last[fmt.Sprintf("%s under %q, %s, %+v", st.Status.State, st.Owner, st.Status.Sync.Phase, st.Status.LastError)]++
		}
		return last["connected"] == len(c.ids)
	})
}

// shares counts the accounts by who holds them.
func (c *crowd) shares() map[string]int {
	n := map[string]int{}
	for _, st := range c.states() {
		n[st.Owner]++
	}
	return n
}

// journal reads an account's journal, demands that seq begins with 1 and has no gap and
// that no id is there twice, and returns when the message of each UID was announced.
func (c *crowd) journal(i int) map[uint32]time.Time {
	c.t.Helper()
	told, ids, next := map[uint32]time.Time{}, map[events.ID]bool{}, uint64(1)
	for e, err := range c.st.Journal(c.t.Context(), c.ids[i], 0) {
		if err != nil {
			c.t.Fatal(err)
		}
		if e.Seq != next || ids[e.ID] {
			c.t.Errorf("%s: seq %d, want %d; id %s there before: %v", c.ids[i], e.Seq, next, e.ID, ids[e.ID])
		}
		next, ids[e.ID] = e.Seq+1, true
		if e.Type != events.MessageNewType {
			continue
		}
		raw, _ := e.Data.(events.Raw)
		uid := journalled{Data: json.RawMessage(raw)}.uid()
		if _, twice := told[uid]; twice {
			c.t.Errorf("%s: UID %d is announced twice", c.ids[i], uid)
		}
		told[uid] = e.Date.Time
	}
	return told
}

// awaitTold waits until every message is announced, exactly once, and returns when each
// account's newest was.
func (c *crowd) awaitTold(within time.Duration) []time.Time {
	c.t.Helper()
	deadline := time.Now().Add(within)
	newest := make([]time.Time, len(c.ids))
	for i := range c.ids {
		c.mu.Lock()
		want := c.put[i]
		c.mu.Unlock()
		var told map[uint32]time.Time
		for told = c.journal(i); len(told) < int(want) && time.Now().Before(deadline); told = c.journal(i) {
			<-time.After(20 * time.Millisecond)
		}
		for uid := range want {
			if told[uid+1].IsZero() {
				c.t.Errorf("%s: UID %d of %d is not announced", c.ids[i], uid+1, want)
			}
		}
		newest[i] = told[want]
	}
	return newest
}
