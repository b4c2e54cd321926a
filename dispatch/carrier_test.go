package dispatch

import (
	"context"
	"io"
	"log/slog"
	"net"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/storetest"
)

// noReads fails what a store reads of deliveries and journals.
type noReads struct{}

func (noReads) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (noReads) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(context.Context, redis.Cmder) error { return io.EOF }
}

func (noReads) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(context.Context, []redis.Cmder) error { return io.EOF }
}

// What people are shown of a task cannot be read for some lanes: all of them are enqueued
// all the same.
func TestRelease_enqueues_what_it_cannot_describe(t *testing.T) {
	addr := miniredis.RunT(t).Addr()
	broken, whole := redis.NewClient(&redis.Options{Addr: addr}), redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { _ = broken.Close(); _ = whole.Close() })
	broken.AddHook(noReads{})
	c := &carriers{store: storetest.On(t, broken), client: asynq.NewClientFromRedisClient(whole), log: slog.New(slog.DiscardHandler)}
	var lanes []store.Released
	known := map[eventKey]*events.Event{}
	for i, lane := range []store.Lane{"d:dlv_1", "a:x", "a:y", "d:dlv_2"} {
		head := store.Pointer{Feed: "1-1", Seq: uint64(i), Event: events.MessageNewType}
		lanes = append(lanes, store.Released{Lane: lane, Carrier: "1-1/1", Head: head})
		if account, ok := lane.Account(); ok {
			known[eventKey{account, head.Seq}] = &events.Event{ID: "evt_1", Type: events.MessageNewType, Data: events.Raw("{}")}
		}
	}
	c.release(t.Context(), testRoute(), lanes, known)
	q, err := asynq.NewInspectorFromRedisClient(whole).GetQueueInfo(Queue)
	if err != nil || q.Pending != len(lanes) {
		t.Fatalf("%+v, %v", q, err)
	}
}
