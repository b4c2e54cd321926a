package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/store/storetest"
)

// Mail keeps pouring into one INBOX while the program is killed at random moments. In
// the end the journal has every message exactly once, in order; the receiver misses
// none, and saw twice only what was under way when the program died.
func TestCrash_kill_9_during_a_burst(t *testing.T) {
	kills, messages := 100, 5000
	if testing.Short() {
		kills, messages = 5, 250
	}
	hook := newReceiver(t)
	redis := storetest.NewServer(t)
	user := imaptest.StartDovecot(t).User("burst", "secret")
	s := startServe(t, loopbackEnv("POSTRIDER_REDIS_URL="+redis.URL()))
	s.register("burst", user.Server(), hook.URL)
	s.awaitEvent("burst", "accountInitialized", 30*time.Second)

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	pouring := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(func() {
		stop()
		for range pouring { // until it is closed
		}
	})
	poured := make(chan struct{}, kills)
	go func() {
		defer close(pouring)
		for i := range messages {
			id := fmt.Sprintf("m%05d@burst.example", i)
			if _, err := user.Append(ctx, "INBOX", imaptest.Message(id, id), nil, time.Now()); err != nil {
				pouring <- fmt.Errorf("append %d: %w", i, err)
				return
			}
			if (i+1)%(messages/kills) == 0 {
				poured <- struct{}{}
			}
		}
	}()

	for i := range kills {
		for ended := pouring; ; { // the last kills may come when all is poured
			select {
			case <-poured:
			case err := <-ended:
				if err != nil {
					t.Fatal(err)
				}
				ended = nil
				continue
			}
			break
		}
		<-time.After(time.Duration(chance.IntN(250)) * time.Millisecond)
		s.Kill()
		if i%10 == 9 {
			s.Launch()
			// killed again before it is ready, now and then
			<-time.After(time.Duration(chance.IntN(300)) * time.Millisecond)
			s.Kill()
		}
		s.Launch()
	}
	if err := <-pouring; err != nil {
		t.Fatal(err)
	}
	s.AwaitReady()

	list := s.delivered("burst", hook, messages)
	assertOncePerMessage(t, list, messages)
	assertDelivered(t, list, hook.all(), kills+kills/10)
}

// delivered waits until UID n was told of and all of the journal was received.
func (s *served) delivered(account string, hook *receiver, n int) (list []journalled) {
	s.t.Helper()
	eventually(s.t, 120*time.Second, "every delivery", func() bool {
		if hook.distinct() < n {
			return false
		}
		list = s.journal(account)
		told := slices.ContainsFunc(list, func(e journalled) bool { return e.Event == "messageNew" && int(e.uid()) == n })
		return told && hook.distinct() >= len(list)
	})
	return list
}

// assertOncePerMessage demands a messageNew for each UID 1…n, once, ascending.
func assertOncePerMessage(t *testing.T, list []journalled, n int) {
	t.Helper()
	next := uint32(1)
	for _, e := range list {
		if e.Event != "messageNew" {
			continue
		}
		if e.uid() != next {
			t.Errorf("messageNew of UID %d, want %d", e.uid(), next)
		}
		next = e.uid() + 1
	}
	if int(next) != n+1 {
		t.Errorf("messages up to UID %d, want %d", next-1, n)
	}
}

// assertDelivered demands that every event of the journal was received, in order, and
// that nothing was received again but what was under way at a kill: the last request of
// a connection, at most one a kill.
func assertDelivered(t *testing.T, list []journalled, got []arrived, kills int) {
	t.Helper()
	lastOf := map[string]string{}
	for _, a := range got {
		lastOf[a.conn] = a.webhookID
	}
	first := map[string]arrived{}
	newest, repeats := uint64(0), 0
	for _, a := range got {
		if was, ok := first[a.webhookID]; ok {
			repeats++
			if was.event.EventID != a.event.EventID {
				t.Errorf("delivery %s carries %s and %s", a.webhookID, was.event.EventID, a.event.EventID)
			}
			if was.conn == a.conn || lastOf[was.conn] != a.webhookID {
				t.Errorf("seq %d came over %s and again over %s, and was not under way at a kill", a.event.Seq, was.conn, a.conn)
			}
			continue
		}
		first[a.webhookID] = a
		if a.event.Seq <= newest {
			t.Errorf("seq %d arrived behind %d", a.event.Seq, newest)
		}
		newest = a.event.Seq
	}
	if repeats > kills {
		t.Errorf("%d repeats after %d kills", repeats, kills)
	}
	have := map[string]bool{}
	for _, a := range first {
		have[a.event.EventID] = true
	}
	missing := 0
	for _, e := range list {
		if !have[e.EventID] {
			missing++
		}
	}
	if missing > 0 {
		t.Errorf("the receiver misses %d of %d events", missing, len(list))
	}
	t.Logf("%d events, %d requests, %d repeats", len(list), len(got), repeats)
}

// Our own redis-server is killed while mail comes in, and started again by the program.
// What the append-only file holds is never lost; what it may lose is found again.
func TestCrash_redis_is_killed(t *testing.T) {
	kills := 5
	if testing.Short() {
		kills = 1
	}
	hook := newReceiver(t)
	redis := storetest.NewServer(t)
	user := imaptest.StartDovecot(t).User("redis", "secret")
	s := startServe(t, loopbackEnv("POSTRIDER_REDIS_URL="+redis.URL()))
	s.register("redis", user.Server(), hook.URL)
	s.awaitEvent("redis", "accountInitialized", 30*time.Second)
	const each = 100
	for i := range kills {
		for j := range each {
			id := fmt.Sprintf("m%d-%d@redis.example", i, j)
			if _, err := user.Append(t.Context(), "INBOX", imaptest.Message(id, id), nil, time.Now()); err != nil {
				t.Fatal(err)
			}
			if j == each/2 {
				redis.Kill()
			}
			if j == each*3/4 {
				redis.Start()
			}
		}
	}
	n := kills * each
	list := s.delivered("redis", hook, n)
	assertOncePerMessage(t, list, n)
	have := map[string]bool{}
	for _, a := range hook.all() {
		have[a.event.EventID] = true
	}
	for _, e := range list {
		if !have[e.EventID] {
			t.Errorf("the receiver misses seq %d %s", e.Seq, e.Event)
		}
		if e.Event == "accountStateLost" {
			t.Errorf("state was lost: %s", e.Data)
		}
	}
}

// Redis comes back without the end of its append-only file, as after a power failure.
// What was forgotten is found again and told under the same ids; no flood, no gap.
func TestCrash_redis_loses_the_end_of_its_file(t *testing.T) {
	hook := newReceiver(t)
	redis := storetest.NewServer(t)
	user := imaptest.StartDovecot(t).User("power", "secret")
	appendMany(t, user, "Archive", "old%d@power.example", 100, time.Now().Add(-time.Hour)) // the baseline, which must stay silent
	s := startServe(t, loopbackEnv("POSTRIDER_REDIS_URL="+redis.URL()))
	s.register("power", user.Server(), hook.URL)
	s.awaitEvent("power", "accountInitialized", 30*time.Second)
	const n = 200
	appendMany(t, user, "INBOX", "m%d@power.example", n, time.Now())
	eventually(t, 30*time.Second, "every message in the journal", func() bool { return count(s.journal("power"), "messageNew") == n })
	before := map[uint32]string{}
	for _, e := range s.journal("power") {
		if e.Event == "messageNew" {
			before[e.uid()] = e.EventID
		}
	}
	for round := range 3 {
		redis.Kill()
		cutTail(t, redis.Dir(), int64(20_000*(round+1)))
		redis.Start()
		eventually(t, 60*time.Second, "every message in the journal again", func() bool {
			var page struct{ Events []journalled }
			status, _ := s.TryCall("GET", "/v1/account/power/events?limit=1", nil, &page)
			return status == 200 && count(s.journal("power"), "messageNew") == n
		})
		list := s.journal("power")
		assertOncePerMessage(t, list, n)
		for _, e := range list {
			if e.Event == "messageNew" && before[e.uid()] != e.EventID {
				t.Errorf("UID %d was %s and is now %s", e.uid(), before[e.uid()], e.EventID)
			}
			if e.Event == "accountStateLost" {
				t.Errorf("state was lost: %s", e.Data)
			}
		}
		eventually(t, 60*time.Second, "every delivery", func() bool {
			have := map[string]bool{}
			for _, a := range hook.all() {
				have[a.event.EventID] = true
			}
			for _, e := range s.journal("power") {
				if !have[e.EventID] {
					return false
				}
			}
			return true
		})
	}
}

// cutTail removes the last n bytes of the append-only file.
func cutTail(t *testing.T, dir string, n int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "appendonlydir", "*.incr.aof"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no append-only file: %v", err)
	}
	slices.Sort(files)
	last := files[len(files)-1]
	info, err := os.Stat(last)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() < 2*n {
		t.Fatalf("%s has %d bytes only", last, info.Size())
	}
	if err := os.Truncate(last, info.Size()-n); err != nil {
		t.Fatal(err)
	}
}

// An account's state is gone while its registration is there. The account is looked at
// again without a flood, and the loss is said once.
func TestCrash_redis_loses_an_account_s_state(t *testing.T) {
	hook := newReceiver(t)
	redis := storetest.NewServer(t)
	user := imaptest.StartDovecot(t).User("lost", "secret")
	appendMany(t, user, "INBOX", "old%d@lost.example", 200, time.Now().Add(-time.Hour))
	s := startServe(t, loopbackEnv("POSTRIDER_REDIS_URL="+redis.URL()))
	s.register("lost", user.Server(), hook.URL)
	s.awaitEvent("lost", "accountInitialized", 30*time.Second)
	s.Kill()
	rdb := redis.Client()
	for _, key := range rdb.Keys(t.Context(), "*:a:lost:*").Val() {
		if !strings.HasSuffix(key, ":journal") {
			rdb.Del(t.Context(), key)
		}
	}
	s.Start()
	eventually(t, 60*time.Second, "a second accountInitialized", func() bool {
		return count(s.journal("lost"), "accountInitialized") == 2
	})
	if _, err := user.Append(t.Context(), "INBOX", imaptest.Message("new@lost.example", "new"), nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	s.awaitEvent("lost", "messageNew", 30*time.Second)
	list := s.journal("lost")
	if n := count(list, "accountStateLost"); n != 1 {
		t.Errorf("the loss was said %d times", n)
	}
	if n := count(list, "messageNew"); n != 1 {
		t.Errorf("%d messages were announced, one is new", n)
	}
}

func count(list []journalled, event string) int {
	n := 0
	for _, e := range list {
		if e.Event == event {
			n++
		}
	}
	return n
}

// appendMany puts n messages into a folder, whose Message-IDs are format with 0 to n-1.
func appendMany(t *testing.T, user *imaptest.DovecotUser, folder, format string, n int, date time.Time) {
	t.Helper()
	for i := range n {
		id := fmt.Sprintf(format, i)
		if _, err := user.Append(t.Context(), folder, imaptest.Message(id, id), nil, date); err != nil {
			t.Fatal(err)
		}
	}
}
