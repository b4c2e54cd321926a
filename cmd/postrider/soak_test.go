package main

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/store"
)

// TestSoak: accounts whose connections are cut and thrown out again and again while mail
// comes. In the end the program uses what it used behind the warm-up, has announced
// every message once, and the server has one session an account. make soak runs it for
// half an hour.
func TestSoak(t *testing.T) {
	accounts, long, churn := 100, 30*time.Second, soakChurn{cuts: 10, mails: 20, storm: 4 * time.Second}
	if v := os.Getenv("POSTRIDER_SOAK"); v != "" {
		var err error
		if long, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
		accounts, churn = 500, soakChurn{cuts: 1, mails: 10, storm: 2 * time.Minute}
	} else if testing.Short() {
		t.Skip("takes half a minute")
	}
	quiet := min(long/10, 150*time.Second) // the collector's and the scavenger's own time
	c := newCrowd(t, accounts, true)
	c.hook = newReceiver(t)
	s := c.serve()
	c.register()
	c.awaitConnected(2 * time.Minute)

	c.churn(s, long/6, churn)
	warm := c.settle(s, quiet)
	t.Logf("behind the warm-up: %v", warm)
	c.churn(s, long-long/6-2*quiet, churn)
	end := c.settle(s, quiet)
	t.Logf("in the end:         %v", end)
	c.awaitTold(time.Minute)
	told := 0
	for _, st := range c.states() {
		told += int(st.Seq)
	}
	eventually(t, 30*time.Second, "every webhook", func() bool { return c.hook.distinct() >= told })
	t.Logf("%d events, %d requests", told, len(c.hook.all()))
	end.compare(t, warm, long >= 5*time.Minute)
	c.oneSession()
}

// soakChurn is how much happens: cuts and mails a second, and every connection thrown
// out with BYE each storm.
type soakChurn struct {
	cuts, mails int
	storm       time.Duration
}

func (c *crowd) churn(s *served, long time.Duration, rate soakChurn) {
	c.t.Helper()
	stop := c.pour(rate.mails)
	defer stop()
	end := time.After(long)
	cut, storm, show := time.NewTicker(time.Second/time.Duration(rate.cuts)), time.NewTicker(rate.storm), time.NewTicker(time.Minute)
	defer cut.Stop()
	defer storm.Stop()
	defer show.Stop()
	cuts, storms := 0, 0
	for {
		select {
		case <-end:
			c.t.Logf("%d connections cut, all thrown out %d times, in %v", cuts, storms, long)
			return
		case <-cut.C:
			c.users[rand.IntN(len(c.users))].Cut()
			cuts++
		case <-storm.C:
			for _, u := range c.users {
				u.Bye("Server shutting down")
			}
			storms++
		case <-show.C:
			c.t.Logf("%s %v", time.Now().UTC().Format(time.TimeOnly), c.usage(s))
		}
		select {
		case <-s.exited:
			c.t.Fatal("serve ended")
		default:
		}
	}
}

// holding is what the program holds on to.
type holding map[string]float64

// holdingNames are the metrics of it, in the order they are shown; redis_clients and
// server_sessions are what the other ends count.
var holdingNames = []string{
	"go_goroutines", "process_open_fds", "redis_clients", "server_sessions",
	"process_resident_memory_bytes", "go_memstats_heap_alloc_bytes", "go_memstats_stack_inuse_bytes",
}

func (u holding) String() string {
	var b strings.Builder
	for _, name := range holdingNames {
		v, unit := u[name], ""
		if strings.HasSuffix(name, "_bytes") {
			v, unit = v/(1<<20), " MiB"
		}
		fmt.Fprintf(&b, "%s %.5g%s, ", strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(name, "go_memstats_"), "process_"), "_bytes"), v, unit)
	}
	return strings.TrimSuffix(b.String(), ", ")
}

// compare demands that nothing grew by more than 5 % since before, memory only where
// there was time for it to be given back. A pool of Redis connections that was not full
// before may be now.
func (u holding) compare(t *testing.T, before holding, memory bool) {
	t.Helper()
	for _, name := range holdingNames {
		if strings.HasSuffix(name, "_bytes") && !memory {
			continue
		}
		most := before[name]*1.05 + 2
		switch name {
		case "redis_clients":
			most = max(most, redisPool+soakClients)
		case "process_open_fds":
			most += max(0, u["redis_clients"]-before["redis_clients"])
		}
		if u[name] > most {
			t.Errorf("%s was %.0f and is %.0f", name, before[name], u[name])
		}
	}
}

// soakClients are the Redis connections outside of the program's pool: of subscriptions,
// and of the test.
const soakClients = 25

// settle waits until all is quiet and returns the least that the program used then: what
// is above is the collector's to give back.
func (c *crowd) settle(s *served, quiet time.Duration) holding {
	c.t.Helper()
	for id, st := range c.states() { // who was cut too often waits for up to ten minutes
		if st.Status.State != store.StateConnected {
			s.Call(http.MethodPut, "/v1/account/"+string(id)+"/reconnect", map[string]bool{"reconnect": true}, nil)
		}
	}
	c.awaitConnected(2 * time.Minute)
	var least holding
	for end := time.Now().Add(quiet); time.Now().Before(end); <-time.After(time.Second) {
		now := c.usage(s)
		if least == nil {
			least = now
		}
		for name, v := range now {
			least[name] = min(least[name], v)
		}
	}
	return least
}

// usage asks the program's metrics, Redis and the mail server.
func (c *crowd) usage(s *served) holding {
	c.t.Helper()
	u := holding{"server_sessions": float64(c.model.Counters().Open)}
	req, err := http.NewRequest(http.MethodGet, s.URL+"/metrics", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.Token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if !slices.Contains(holdingNames, name) {
			continue
		}
		if u[name], err = strconv.ParseFloat(value, 64); err != nil {
			c.t.Fatal(err)
		}
	}
	clients, err := c.rdb.Info(c.t.Context(), "clients").Result()
	if err != nil {
		c.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(clients, "connected_clients:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		c.t.Fatal(err)
	}
	u["redis_clients"] = float64(n)
	return u
}
