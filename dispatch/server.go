package dispatch

import (
	"context"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/internal/carrier"
)

const (
	inFlight = 8 * time.Second  // requests in flight get it at shutdown
	stopping = 10 * time.Second // then handlers write what became of them
)

// Server is the asynq server of carriers.
type Server struct {
	core      *core
	deliverer *Deliverer
	asynq     *asynq.Server
	ctx       context.Context // of all handlers
	cancel    context.CancelCauseFunc
}

func newServer(c *core, rdb redis.UniversalClient, d *Deliverer) *Server {
	s := &Server{core: c, deliverer: d}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.asynq = asynq.NewServerFromRedisClient(rdb, asynq.Config{
		Concurrency:              c.cfg.Concurrency,
		Queues:                   map[string]int{Queue: 1},
		BaseContext:              func() context.Context { return s.ctx },
		TaskCheckInterval:        c.cfg.TaskCheck,
		DelayedTaskCheckInterval: c.cfg.DelayedCheck,
		RetryDelayFunc:           carrier.RetryDelay,
		ShutdownTimeout:          stopping,
		Logger:                   carrier.Log{To: c.log},
		LogLevel:                 asynq.WarnLevel,
	})
	return s
}

// Start begins to take tasks. It returns at once.
func (s *Server) Start() error {
	if err := s.asynq.Start(asynq.HandlerFunc(s.deliverer.ProcessTask)); err != nil {
		return fmt.Errorf("start webhook server: %w", err)
	}
	return nil
}

// Shutdown takes no new task, gives requests in flight 8 s, cuts the rest as interrupted,
// and returns when every handler has ended, 11 s later at most. Call it once, after Start.
func (s *Server) Shutdown() {
	s.deliverer.draining.Store(true)
	cut := time.AfterFunc(inFlight, func() { s.cancel(errInterrupted) })
	defer cut.Stop()
	s.asynq.Shutdown()
	s.cancel(errInterrupted)
	ctx, stop := context.WithTimeout(context.Background(), relayFlush)
	defer stop()
	if err := s.core.store.DispatchRetire(ctx, s.core.proc); err != nil {
		s.core.log.Debug("retire", "err", err)
	}
}
