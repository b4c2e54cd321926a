package smtpsend_test

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/smtpsend"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/storetest"
)

// pile makes n more submissions of one that was accepted, and tasks of some, as if each had
// been submitted.
func (h *house) pile(of store.SubmissionID, n, tasks int) {
	h.t.Helper()
	ctx, row := h.t.Context(), h.row(of)
	find := func(pattern string) string {
		keys, err := h.rdb.Keys(ctx, pattern).Result()
		if err != nil || len(keys) != 1 {
			h.t.Fatalf("%s: %v, %v", pattern, keys, err)
		}
		return keys[0]
	}
	key := find("*:q:" + string(of))
	fields, body := h.rdb.HGetAll(ctx, key).Val(), h.rdb.HGetAll(ctx, key+":body").Val()
	due, spool := find("*:a:ada:outbox:due"), find("*:a:ada:outbox:spool")
	sets := []string{find("*:a:ada:outbox:queued"), find("*}:outbox:queued")}
	client := asynq.NewClientFromRedisClient(h.rdb)
	p := h.rdb.Pipeline()
	for i := range n {
		id := string(store.NewSubmissionID("ada", time.Now()))
		next := strings.Replace(key, string(of), id, 1)
		p.HSet(ctx, next, fields)
		p.HSet(ctx, next+":body", body)
		p.ZAdd(ctx, due, redis.Z{Score: float64(row.Due().UnixMilli()), Member: id})
		for _, set := range sets {
			p.ZAdd(ctx, set, redis.Z{Member: id})
		}
		p.HIncrBy(ctx, spool, "n", 1)
		p.HIncrBy(ctx, spool, "bytes", row.Size)
		if i >= tasks {
			continue
		}
		b, err := json.Marshal(map[string]any{"v": 1, "account": "ada", "queueId": id, "n": row.Version})
		if err == nil {
			_, err = client.EnqueueContext(ctx, asynq.NewTask(smtpsend.TaskSubmit, b), asynq.Queue(smtpsend.TaskQueue), asynq.TaskID(id+".1"))
		}
		if err != nil {
			h.t.Fatal(err)
		}
	}
	if _, err := p.Exec(ctx); err != nil {
		h.t.Fatal(err)
	}
}

// Ten thousand messages of an account whose server hangs, and the tasks in front of it, keep
// the message of another account waiting for no longer than it takes to look at those tasks:
// a few commands each, and no worker waits.
func TestSend_beside_ten_thousand_of_a_neighbour(t *testing.T) {
	const tasks, workers = 500, 20
	release := make(chan struct{})
	taken := make(chan time.Time, 1)
	k := &sink{}
	k.set(func(x *tx) error {
		if strings.HasPrefix(x.env.From, "ada") {
			<-release
		} else {
			taken <- time.Now()
		}
		return nil
	})
	rdb := storetest.NewServer(t).Client()
	h := &house{t: t, rdb: rdb, store: storetest.On(t, rdb), sink: k}
	h.opts = smtpsend.Options{
		Store: h.store, Redis: rdb, Transport: k, Instance: "one", Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Config: smtpsend.Config{Concurrency: workers},
	}
	h.account("ada", func(a *store.Account) { a.SendLimits.MaxConnections = new(2) })
	h.account("eve")
	s, err := smtpsend.New(h.opts)
	if err != nil {
		t.Fatal(err)
	}
	h.Sender = s
	h.pile(h.submit(request("ada", "bob@example.net")), 9_999, tasks)
	h.submit(request("eve", "bob@example.net"))
	cost := &commands{}
	rdb.(*redis.Client).AddHook(cost)
	begun := time.Now()
	h.start()
	defer h.stop()
	defer close(release)
	select {
	case at := <-taken:
		t.Logf("taken after %v", at.Sub(begun))
	case <-time.After(30 * time.Second):
		t.Fatal("it waits for its neighbour")
	}
	if n := cost.n.Load(); n > 10*tasks {
		t.Errorf("%d commands for %d tasks", n, tasks)
	}
	sp, err := h.store.Spool(t.Context(), "ada")
	if err != nil || sp.Rows != 10_000 || sp.Active != 2 {
		t.Errorf("%+v, %v", sp, err)
	}
}
