package imapsync

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"
)

// points are the numbers 1..n at which to strike: all with POSTRIDER_FAULTS=all, else
// every stride-th from a random one on. A failure names its number.
func points(n, stride int) []int {
	from := 1 + rand.IntN(stride)
	if os.Getenv("POSTRIDER_FAULTS") == "all" {
		from, stride = 1, 1
	}
	var ks []int
	for k := from; k <= n; k += stride {
		ks = append(ks, k)
	}
	return ks
}

// commandsOf is a little more than the Redis commands, and the questions to the server,
// that the recorded history takes.
const (
	commandsOf  = 125
	questionsOf = 145
)

// refusals are ways in which Redis says not now, and in which nothing is heard of it.
var refusals = []error{
	refusal("READONLY You can't write against a read only replica."),
	refusal("OOM command not allowed when used memory > 'maxmemory'."),
	refusal("LOADING Redis is loading the dataset in memory"),
	refusal("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk."),
	refusal("ERR Error running script (call to f_0): @user_script:1: -OOM command not allowed when used memory > 'maxmemory'."),
	refusal("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."),
	&net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded},
}

// The recorded history with one Redis command of its account failing, for every one of
// them: it does not reach Redis, its answer is lost, Redis refuses it, the worker is ended
// or the process killed before or behind it. At that moment state and events agree; in
// the end both are the server's, no message announced twice.
func TestFault_every_redis_command_fails_once(t *testing.T) {
	ways := []struct {
		name string
		plan func(d *den, s *saboteur, k int)
	}{
		{"unsent", func(_ *den, s *saboteur, _ int) { s.err = io.EOF }},
		{"answer lost", func(_ *den, s *saboteur, _ int) { s.after, s.err = true, io.EOF }},
		{"refused", func(_ *den, s *saboteur, k int) { s.err = refusals[k%len(refusals)] }},
		{"worker ended", func(d *den, s *saboteur, _ int) { s.blow = d.endWorker }},
		{"killed before", func(d *den, s *saboteur, _ int) { s.err, s.blow = io.EOF, func() { d.kill(s) } }},
		{"killed behind", func(d *den, s *saboteur, _ int) { s.after, s.err, s.blow = true, io.EOF, func() { d.kill(s) } }},
	}
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			for _, condstore := range []bool{true, false} {
				for _, k := range points(commandsOf, 40) {
					t.Run(fmt.Sprintf("condstore=%v/command=%d", condstore, k), func(t *testing.T) {
						bubble(t, condstore, func(d *den) {
							s := &saboteur{hits: func(n int) bool { return n == k }}
							way.plan(d, s, k)
							d.watched(s)
							d.sabotaged(s)
							d.recorded()
							d.settle()
						})
					})
				}
			}
		})
	}
}

// watched has a saboteur look, as it strikes, whether state and events agree.
func (d *den) watched(s *saboteur) {
	also := s.blow
	s.blow = func() {
		if also != nil {
			also()
		}
		if err := d.oneStep(); err != nil {
			d.t.Errorf("command %d: %v", s.n, err)
		}
	}
}

// endWorker cancels the account's worker, as handing over does.
func (d *den) endWorker() {
	if w := d.m.worker(denAccount); w != nil {
		w.cancel(errHandover)
	}
}

// kill ends the process as kill -9 does: nothing more of it reaches Redis or the server,
// and a second later another one is there.
func (d *den) kill(s *saboteur) {
	s.mu.Lock()
	s.dead = true
	s.mu.Unlock()
	d.srv.act(func() {
		for _, x := range d.srv.sessions {
			x.Close()
		}
	})
	d.restarts.Go(func() {
		time.Sleep(time.Second)
		d.down()
		d.wrap = nil
		d.up()
	})
}

// Every eleventh command of all there are, those of the manager included, fails, and
// every thirteenth is done and not answered.
func TestFault_redis_stumbles_all_the_time(t *testing.T) {
	eachTier(t, func(d *den) {
		unsent := &saboteur{all: true, err: io.EOF, hits: func(n int) bool { return n%11 == 0 }}
		lost := &saboteur{all: true, after: true, err: io.EOF, hits: func(n int) bool { return n%13 == 0 }}
		d.sabotaged(unsent, lost)
		d.recorded()
		d.settle()
	})
}

// The recorded history with one question to the server failing, for every one of them:
// the connection ends, the server refuses, the worker is ended.
func TestFault_every_question_fails_once(t *testing.T) {
	ways := []struct {
		name  string
		error func(d *den) error
	}{
		{"cut", func(*den) error { return errFakeClosed }},
		{"no", func(*den) error { return errFakeNo }},
		{"bad", func(*den) error { return &Error{Kind: ErrBad, Stage: StageCommand, Text: "what?"} }},
		{"bye", func(*den) error { return &Error{Kind: ErrBye, Stage: StageCommand, Text: "bye"} }},
		{"worker ended", func(d *den) error { d.endWorker(); return nil }},
	}
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			for _, condstore := range []bool{true, false} {
				for _, k := range points(questionsOf, 50) {
					t.Run(fmt.Sprintf("condstore=%v/question=%d", condstore, k), func(t *testing.T) {
						bubble(t, condstore, func(d *den) {
							d.srv.strike = func(n int) error {
								if n != k {
									return nil
								}
								return way.error(d)
							}
							d.recorded()
							d.settle()
						})
					})
				}
			}
		})
	}
}
