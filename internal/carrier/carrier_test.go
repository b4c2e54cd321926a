package carrier

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hibiken/asynq"
)

func TestAt(t *testing.T) {
	whole := time.Unix(1795335302, 0)
	if got := At(whole); !got.Equal(whole) {
		t.Error(got)
	}
	if got := At(whole.Add(time.Millisecond)); !got.Equal(whole.Add(time.Second)) {
		t.Error(got)
	}
}

func TestCounts(t *testing.T) {
	for err, want := range map[error]bool{
		nil: false, errors.New("redis away"): true, &Later{}: true, &Later{Free: true}: false, fmt.Errorf("no: %w", asynq.SkipRetry): true,
	} {
		if Counts(err) != want {
			t.Errorf("%v", err)
		}
	}
}

func TestRetryDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(300 * time.Millisecond)
		later := &Later{Due: time.Now().Add(10 * time.Second), Text: "450 4.2.0 · attempt 2/10"}
		for _, tt := range []struct {
			n    int
			err  error
			ours bool
			want time.Duration
		}{
			{9, fmt.Errorf("drained: %w", later), true, 10*time.Second + 700*time.Millisecond},
			{9, &Later{Due: time.Now().Add(-time.Hour)}, true, 0},
			{0, fmt.Errorf("given up: %w", asynq.SkipRetry), true, 5 * time.Second},
			{0, errors.New("redis away"), false, 5 * time.Second},
			{99, errors.New("redis away"), false, time.Minute},
		} {
			if got := RetryDelay(tt.n, tt.err, nil); got != tt.want || Ours(tt.err) != tt.ours {
				t.Errorf("%d %v: %v, ours %v", tt.n, tt.err, got, Ours(tt.err))
			}
		}
	})
}

func TestAlarms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, begun := NewAlarms(), time.Now()
		var rung []string
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			a.Run(ctx, func(name string) { rung = append(rung, fmt.Sprint(name, " ", time.Since(begun).Round(time.Second))) })
			close(done)
		}()
		a.Set("x", begun.Add(2*time.Hour))
		a.Set("y", begun.Add(time.Minute))
		a.Set("x", begun.Add(10*time.Second))
		a.Set("past", begun.Add(-time.Second))
		time.Sleep(3 * time.Hour)
		stop()
		<-done
		if got := fmt.Sprint(rung); got != "[past 0s x 10s y 1m0s]" {
			t.Error(got)
		}
	})
}
