package smtpsend

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/internal/carrier"
)

const (
	inFlight = 8 * time.Second  // transactions in flight get it at shutdown
	stopping = 10 * time.Second // then what became of them is written down
)

// errShutdown is why transactions are cut when the process ends.
var errShutdown = errors.New("shutting down")

// Server is the asynq server of all tasks of this package.
type Server struct {
	core     *core
	handler  *handler
	share    *share
	asynq    *asynq.Server
	draining atomic.Bool
	work     context.Context // of transactions
	cut      context.CancelCauseFunc
	base     context.Context // of handlers: it outlives work, so that outcomes can be written
	end      context.CancelFunc
}

func newServer(c *core, rdb redis.UniversalClient) *Server {
	s := &Server{core: c, share: newShare(c.cfg.Concurrency)}
	s.work, s.cut = context.WithCancelCause(context.Background())
	s.base, s.end = context.WithCancel(context.Background())
	s.handler = &handler{core: c, server: s}
	s.asynq = asynq.NewServerFromRedisClient(rdb, asynq.Config{
		Concurrency:              s.share.workers + s.share.aside,
		Queues:                   map[string]int{TaskQueue: 1},
		BaseContext:              func() context.Context { return s.base },
		TaskCheckInterval:        c.cfg.TaskCheck,
		DelayedTaskCheckInterval: c.cfg.DelayedCheck,
		RetryDelayFunc:           carrier.RetryDelay,
		IsFailure:                carrier.Counts,
		ShutdownTimeout:          stopping,
		Logger:                   carrier.Log{To: c.log},
		LogLevel:                 asynq.WarnLevel,
	})
	return s
}

// Start begins to take tasks. It returns at once.
func (s *Server) Start() error {
	if s.core.transport == nil {
		return errors.New("smtpsend: Transport is required to send")
	}
	if err := s.asynq.Start(asynq.HandlerFunc(s.handler.ProcessTask)); err != nil {
		return fmt.Errorf("start send server: %w", err)
	}
	return nil
}

// Shutdown claims nothing any more, gives transactions in flight 8 s, and cuts the rest:
// what was not marked goes back to the queue at once, what was is unknown. It returns when
// every handler has ended, 11 s later at most. Call it once, after Start.
func (s *Server) Shutdown() {
	s.draining.Store(true)
	cut := time.AfterFunc(inFlight, func() { s.cut(errShutdown) })
	defer cut.Stop()
	s.asynq.Shutdown()
	s.cut(errShutdown)
	s.end()
}
