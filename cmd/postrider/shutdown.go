package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// stop is the shutdown, producers first. Each phase is given its time and then left
// behind: nothing of it is needed for correctness, and an orchestrator kills after 30 s.
//
//	phase     at most  done when
//	api       5 s      no request is running
//	sync      6 s      every worker has committed, logged out and released its lease
//	relay     2 s      relay and sweepers have finished their batch
//	asynq     11 s     handlers returned or were put back; transactions of mail have ended
//	janitors  1 s      joined, metrics listener closed
//	redis     4 s      clients closed, our own server ended
func (d *daemon) stop(ctx context.Context) {
	begin := time.Now()
	d.stopping.Store(true)
	ctx = context.WithoutCancel(ctx)
	d.phase(ctx, "api", 5*time.Second, func(ctx context.Context) error {
		if d.web == nil {
			return nil
		}
		d.api.Drain()
		if err := d.web.Shutdown(ctx); err != nil {
			_ = d.web.Close()
			return fmt.Errorf("requests were cut: %w", err)
		}
		return nil
	})
	d.phase(ctx, "sync", 6*time.Second, d.sync.end)
	d.phase(ctx, "relay", 2*time.Second, d.relay.end)
	d.phase(ctx, "asynq", 11*time.Second, func(ctx context.Context) error {
		done := make(chan struct{})
		go func() { // joined, or left behind at the deadline with the whole process
			defer close(done)
			d.queue.Do(d.stopQueues)
		}()
		return await(ctx, done)
	})
	d.phase(ctx, "janitors", time.Second, func(ctx context.Context) error {
		if d.metrics != nil {
			_ = d.metrics.Close()
		}
		return d.janitors.end(ctx)
	})
	if d.transport != nil {
		d.transport.CloseIdleConnections()
	}
	d.phase(ctx, "redis", 4*time.Second, d.redis.stop)
	d.log.Info("stopped", "dur", time.Since(begin))
}

// stopQueues ends the asynq servers, both at once, and then what they sent mail with.
func (d *daemon) stopQueues() {
	var wg sync.WaitGroup
	if d.dispatch != nil {
		wg.Go(d.dispatch.Server.Shutdown)
	}
	if d.cfg.has(roleSend) {
		wg.Go(d.sender.Server.Shutdown)
	}
	wg.Wait()
	d.closeSender()
}

// phase runs one step of the shutdown and logs what became of it.
func (d *daemon) phase(ctx context.Context, name string, most time.Duration, f func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	begin := time.Now()
	if err := f(ctx); err != nil {
		d.log.Warn("shutdown phase did not end in time", "phase", name, "dur", time.Since(begin), "err", err)
		return
	}
	d.log.Info("shutdown phase", "phase", name, "dur", time.Since(begin))
}

// end cancels a group and waits for it.
func (g *group) end(ctx context.Context) error {
	if g.cancel == nil {
		return nil // never started
	}
	g.cancel(errShutdown)
	done := make(chan struct{})
	go func() {
		g.wg.Wait()
		close(done)
	}()
	return await(ctx, done)
}

func await(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("still running: %w", ctx.Err())
	}
}
