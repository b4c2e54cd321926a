package transport_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/dispatch/hooktest"
	"github.com/postrider/postrider/smtpsend/smtptest"
	"github.com/postrider/postrider/smtpsend/transport"
	"github.com/postrider/postrider/store/secret"
)

// TestMark: the dot is behind the mark, and stays there.
func TestMark(t *testing.T) {
	stop := errors.New("lease lost")
	t.Run("refused", func(t *testing.T) {
		inBubble(t, smtptest.FaultOptions{}, transport.Options{}, func(t *testing.T, r *rig) {
			_, err := r.pool.Send(t.Context(), r.server, to("you@example.net"), say(letter), func(context.Context, []string) error { return stop })
			e := failure(t, err)
			if !errors.Is(err, stop) || e.Phase != transport.PhaseMark || e.Kind != transport.KindLocal || e.Unknown || len(e.Accepted) != 1 {
				t.Errorf("%+v", e)
			}
			synctest.Wait()
			if n := len(r.fault.Messages()); n > 0 {
				t.Errorf("the server has %d messages", n)
			}
			if got := r.mustSend(); got.Reused {
				t.Error("the connection was used again")
			}
		})
	})
	t.Run("comes after the body", func(t *testing.T) {
		var lines atomic.Int64
		script := func(s smtptest.Step) smtptest.Act {
			if s.Stage == smtptest.AtBody {
				lines.Add(1)
			}
			return smtptest.Act{}
		}
		inBubble(t, smtptest.FaultOptions{Script: script}, transport.Options{}, func(t *testing.T, r *rig) {
			_, err := r.pool.Send(t.Context(), r.server, to("you@example.net"), say(letter), func(context.Context, []string) error {
				synctest.Wait()
				if n := lines.Load(); n != 7 || len(r.fault.Messages()) > 0 {
					t.Errorf("%d lines had come, %d messages", n, len(r.fault.Messages()))
				}
				return nil
			})
			if err != nil || len(r.fault.Messages()) != 1 {
				t.Error(err)
			}
		})
	})
	t.Run("the context ends meanwhile", func(t *testing.T) {
		inBubble(t, smtptest.FaultOptions{}, transport.Options{}, func(t *testing.T, r *rig) {
			ctx, cancel := context.WithCancelCause(t.Context())
			_, err := r.pool.Send(ctx, r.server, to("you@example.net"), say(letter), func(context.Context, []string) error {
				cancel(stop)
				return nil
			})
			synctest.Wait()
			if e := failure(t, err); !errors.Is(err, stop) || e.Unknown || e.Kind != transport.KindLocal || len(r.fault.Messages()) > 0 {
				t.Errorf("%+v", e)
			}
		})
	})
	t.Run("the body cannot be read", func(t *testing.T) {
		inBubble(t, smtptest.FaultOptions{}, transport.Options{}, func(t *testing.T, r *rig) {
			_, err := r.pool.Send(t.Context(), r.server, to("you@example.net"), func(w io.Writer) error {
				_, _ = io.WriteString(w, letter)
				return stop
			}, r.mark)
			synctest.Wait()
			if e := failure(t, err); !errors.Is(err, stop) || e.Phase != transport.PhaseBody || e.Kind != transport.KindLocal || r.marks > 0 || len(r.fault.Messages()) > 0 {
				t.Errorf("%+v", e)
			}
		})
	})
	t.Run("the body has a bare line feed", func(t *testing.T) {
		inBubble(t, smtptest.FaultOptions{}, transport.Options{}, func(t *testing.T, r *rig) {
			r.body = "a\r\n\n.\r\nMAIL FROM:<x@y.example>\r\n"
			_, err := r.send()
			synctest.Wait()
			if e := failure(t, err); e.Phase != transport.PhaseBody || e.Kind != transport.KindMessage || e.Code != 0 || r.marks > 0 || len(r.fault.Messages()) > 0 {
				t.Errorf("%+v", e)
			}
		})
	})
	t.Run("the caller panics", func(t *testing.T) {
		inBubble(t, smtptest.FaultOptions{}, transport.Options{}, func(t *testing.T, r *rig) {
			func() {
				defer func() { _ = recover() }()
				_, _ = r.pool.Send(t.Context(), r.server, to("you@example.net"), func(io.Writer) error { panic("x") }, r.mark)
			}()
			synctest.Wait()
			if s := r.pool.Stats(); s.Idle != 0 || s.Busy != 0 || len(r.fault.Messages()) > 0 {
				t.Errorf("%+v", s)
			}
			r.mustSend()
		})
	})
}

// TestUnknown: acceptance 7.
func TestUnknown(t *testing.T) {
	t.Run("drop behind the dot", func(t *testing.T) {
		inBubble(t, smtptest.FaultOptions{Script: smtptest.On(smtptest.AtDot, 1, smtptest.Act{Close: true})}, transport.Options{}, func(t *testing.T, r *rig) {
			_, err := r.pool.Send(t.Context(), r.server, to("you@example.net", "she@example.net"), say(letter), r.mark)
			if e := failure(t, err); !e.Unknown || len(e.Accepted) != 2 || e.Phase != transport.PhaseDot {
				t.Errorf("%+v", e)
			}
		})
	})
	t.Run("drop behind the 250", func(t *testing.T) {
		inBubble(t, smtptest.FaultOptions{Script: smtptest.On(smtptest.AfterDot, 1, smtptest.Act{Close: true})}, transport.Options{}, func(t *testing.T, r *rig) {
			r.mustSend()
			if got := r.mustSend(); got.Reused || r.pool.Stats().Replaced != 1 {
				t.Errorf("%+v", got)
			}
		})
	})
	t.Run("421 to the dot is an answer", func(t *testing.T) {
		inBubble(t, smtptest.FaultOptions{Script: smtptest.On(smtptest.AtDot, 1, smtptest.Act{Reply: "421 4.3.2 going down", Close: true})}, transport.Options{}, func(t *testing.T, r *rig) {
			_, err := r.send()
			if e := failure(t, err); e.Unknown || e.Code != 421 || e.Enhanced != [3]int{4, 3, 2} || e.Line != "421 4.3.2 going down" {
				t.Errorf("%+v", e)
			}
			r.mustSend()
		})
	})
	t.Run("gone before the dot could leave", func(t *testing.T) {
		inBubble(t, smtptest.FaultOptions{Script: smtptest.On(smtptest.AtBody, 1, smtptest.Act{Close: true})}, transport.Options{}, func(t *testing.T, r *rig) {
			_, err := r.send() // all of the body is read at once, and then nothing
			if e := failure(t, err); e.Unknown || e.Phase != transport.PhaseDot || r.marks != 1 {
				t.Errorf("%+v", e)
			}
		})
	})
	t.Run("a reply in the middle of the body counts", func(t *testing.T) {
		// A socket, since a pipe holds nothing: the reply must be on its way before the end.
		act := smtptest.Act{Reply: "552 5.3.4 too large", Close: true}
		f := smtptest.StartFault(t, smtptest.FaultOptions{Script: smtptest.On(smtptest.AtBody, 1, act)})
		pool := transport.NewPool(transport.Options{})
		defer pool.Close()
		host, port := f.Addr()
		_, err := pool.Send(t.Context(), transport.Server{Host: host, Port: port, Plaintext: true}, to("you@example.net"), say(strings.Repeat(letter, 1<<18)), nil)
		// Unread data makes the kernel reset, which may overtake the reply.
		if e := failure(t, err); e.Phase != transport.PhaseBody || e.Unknown || e.Code != 552 && e.Kind != transport.KindSocket {
			t.Errorf("%+v", e)
		}
	})
}

// TestReuse: what a connection may be used for again, and for how long.
func TestReuse(t *testing.T) {
	t.Run("idle ends after 30 s, politely", func(t *testing.T) {
		inBubble(t, smtptest.FaultOptions{}, transport.Options{}, func(t *testing.T, r *rig) {
			r.mustSend()
			time.Sleep(29 * time.Second)
			if got := r.mustSend(); !got.Reused {
				t.Error("not used again")
			}
			time.Sleep(31 * time.Second)
			synctest.Wait()
			if _, open := r.fault.Connections(); open != 0 || !r.fault.Heard("QUIT") || r.pool.Stats().Idle != 0 {
				t.Errorf("%d open", open)
			}
		})
	})
	t.Run("100 messages", func(t *testing.T) {
		inBubble(t, smtptest.FaultOptions{}, transport.Options{}, func(t *testing.T, r *rig) {
			for range 201 {
				r.mustSend()
			}
			if total, _ := r.fault.Connections(); total != 3 || r.fault.Heard("RSET") {
				t.Errorf("%d connections", total)
			}
		})
	})
	t.Run("10 minutes", func(t *testing.T) {
		inBubble(t, smtptest.FaultOptions{}, transport.Options{}, func(t *testing.T, r *rig) {
			for range 41 { // 0 s to 800 s
				r.mustSend()
				time.Sleep(20 * time.Second)
			}
			if total, _ := r.fault.Connections(); total != 2 {
				t.Errorf("%d connections", total)
			}
		})
	})
	// Acceptance 17: the server had enough of a connection that was unused.
	for name, act := range map[string]smtptest.Act{
		"421 at MAIL": {Reply: "421 4.4.2 idle too long", Close: true}, "closed at MAIL": {Close: true}, "nonsense at MAIL": {Reply: "what"},
	} {
		t.Run("replaced: "+name, func(t *testing.T) {
			script := func(s smtptest.Step) smtptest.Act {
				if s.Stage == smtptest.AtMail && s.N == 2 {
					return act
				}
				return smtptest.Act{}
			}
			inBubble(t, smtptest.FaultOptions{Script: script}, transport.Options{}, func(t *testing.T, r *rig) {
				r.mustSend()
				if got := r.mustSend(); got.Reused || r.marks != 2 || r.pool.Stats().Replaced != 1 {
					t.Errorf("%+v, %d marks", got, r.marks)
				}
			})
		})
	}
	t.Run("not replaced: refused at MAIL, lost later, new", func(t *testing.T) {
		for _, script := range []smtptest.Script{
			func(s smtptest.Step) smtptest.Act {
				return map[bool]smtptest.Act{true: {Reply: "451 4.3.0 later"}}[s.Stage == smtptest.AtMail && s.N == 2]
			},
			func(s smtptest.Step) smtptest.Act {
				return map[bool]smtptest.Act{true: {Close: true}}[s.Stage == smtptest.AtRcpt && s.N == 2]
			},
		} {
			inBubble(t, smtptest.FaultOptions{Script: script}, transport.Options{}, func(t *testing.T, r *rig) {
				r.mustSend()
				_, err := r.send()
				failure(t, err)
				if total, _ := r.fault.Connections(); total != 1 || r.pool.Stats().Replaced != 0 {
					t.Errorf("%d connections", total)
				}
			})
		}
		inBubble(t, smtptest.FaultOptions{Script: smtptest.On(smtptest.AtMail, 0, smtptest.Act{Close: true})}, transport.Options{}, func(t *testing.T, r *rig) {
			_, err := r.send()
			failure(t, err)
			if total, _ := r.fault.Connections(); total != 1 {
				t.Errorf("%d connections", total)
			}
		})
	})
}

// TestKeys: acceptance 44.
func TestKeys(t *testing.T) {
	cert := certificate(t)
	fo := smtptest.FaultOptions{Certificate: cert, Mechanisms: []string{"PLAIN"}, Users: map[string]string{"jo": "secret", "al": "other"}}
	inBubble(t, fo, transport.Options{}, func(t *testing.T, r *rig) {
		jo, al := r.server, r.server
		jo.Key = "jo/1"
		al.Key, al.User, al.Pass = "al/1", "al", secret.New("other")
		careless := al
		careless.Key = jo.Key // a caller's mistake is not enough
		for i, s := range []transport.Server{jo, al, jo, al, careless} {
			got, err := r.pool.Send(t.Context(), s, to("you@example.net"), say(letter), nil)
			if err != nil || got.Reused != (i == 2 || i == 3) {
				t.Errorf("%d: reused %v, %v", i, got.Reused, err)
			}
		}
		for i, m := range r.fault.Messages() {
			if want := []string{"jo", "al", "jo", "al", "al"}[i]; m.User != want {
				t.Errorf("message %d was sent as %s", i, m.User)
			}
		}
		if s := r.pool.Stats(); s.Idle != 3 || s.Busy != 0 {
			t.Errorf("%+v", s)
		}
		// New credentials: the old connection ends, now or after its message.
		during := func(context.Context, []string) error {
			if s := r.pool.Stats(); s.Idle != 2 || s.Busy != 1 {
				t.Errorf("%+v", s)
			}
			r.pool.Forget(func(key string) bool { return strings.HasPrefix(key, "jo/") })
			return nil
		}
		if _, err := r.pool.Send(t.Context(), jo, to("you@example.net"), say(letter), during); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if s := r.pool.Stats(); s.Idle != 1 {
			t.Errorf("%+v", s)
		}
		if got, err := r.pool.Send(t.Context(), jo, to("you@example.net"), say(letter), nil); err != nil || got.Reused {
			t.Errorf("%+v %v", got, err)
		}
	})
}

// TestLimits: so many connections at a host and at all, so many being made; who waits
// gets one that is not needed.
func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := hooktest.NewMemory()
		var making, most atomic.Int64
		script := func(s smtptest.Step) smtptest.Act {
			switch s.Stage {
			case smtptest.AtBanner:
				n := making.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				return smtptest.Act{Delay: time.Second}
			case smtptest.AtHello:
				making.Add(-1)
			case smtptest.AtDot:
				return smtptest.Act{Delay: 100 * time.Millisecond}
			}
			return smtptest.Act{}
		}
		a, b := smtptest.NewFault(smtptest.FaultOptions{Script: script}), smtptest.NewFault(smtptest.FaultOptions{})
		a.Serve(network.Listen("a.test:587"))
		b.Serve(network.Listen("b.test:587"))
		pool := transport.NewPool(transport.Options{Dial: network.Dial, AllowPlaintext: true, Connections: 7, ConnectionsPerHost: 6, HandshakesPerHost: 3})
		send := func(host string, i int) {
			s := transport.Server{Host: host, Port: 587, Plaintext: true, Key: fmt.Sprint("acc", i)}
			for range 3 {
				if _, err := pool.Send(t.Context(), s, to("you@example.net"), say(letter), nil); err != nil {
					t.Error(err)
				}
			}
		}
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() { send("a.test", i) })
			wg.Go(func() { send("b.test", i) })
		}
		wg.Wait()
		if a.Peak() > 6 || b.Peak() > 6 || most.Load() > 3 {
			t.Errorf("%d and %d at once, %d being made", a.Peak(), b.Peak(), most.Load())
		}
		if n := len(a.Messages()) + len(b.Messages()); n != 120 {
			t.Errorf("%d messages", n)
		}
		// Unused ones wait no longer than 30 s for each other.
		if total, _ := a.Connections(); total > 40 {
			t.Errorf("%d connections for 20 accounts", total)
		}
		pool.Close()
		a.Close()
		b.Close()
	})
}

// A server that hangs keeps those who wait for a connection to it for some seconds only.
func TestLimits_busy(t *testing.T) {
	fo := smtptest.FaultOptions{Script: smtptest.On(smtptest.AtDot, 1, smtptest.Act{Delay: time.Minute})}
	inBubble(t, fo, transport.Options{ConnectionsPerHost: 1}, func(t *testing.T, r *rig) {
		var wg sync.WaitGroup
		wg.Go(func() { r.mustSend() })
		time.Sleep(time.Second)
		begun := time.Now()
		_, err := r.send()
		if e := failure(t, err); !errors.Is(err, transport.ErrBusy) || e.Kind != transport.KindLocal || e.Phase != transport.PhaseConnect || time.Since(begun) > 11*time.Second {
			t.Errorf("after %v: %+v", time.Since(begun), e)
		}
		wg.Wait()
		r.mustSend()
	})
}

func TestClose(t *testing.T) {
	inBubble(t, smtptest.FaultOptions{Script: smtptest.On(smtptest.AtDot, 2, smtptest.Act{Delay: time.Minute})}, transport.Options{}, func(t *testing.T, r *rig) {
		r.mustSend()
		var err error
		done := make(chan struct{})
		go func() {
			_, err = r.send()
			close(done)
		}()
		time.Sleep(time.Second)
		r.pool.Close()
		<-done
		if e := failure(t, err); !errors.Is(err, transport.ErrClosed) || !e.Unknown || e.Kind != transport.KindLocal {
			t.Errorf("%+v", e)
		}
		if _, err := r.send(); !errors.Is(err, transport.ErrClosed) {
			t.Error(err)
		}
		r.pool.Close()
	})
}

// TestContext: its end ends every step at once.
func TestContext(t *testing.T) {
	for _, stage := range []smtptest.Stage{smtptest.AtBanner, smtptest.AtHello, smtptest.AtMail, smtptest.AtRcpt, smtptest.AtData, smtptest.AtBody, smtptest.AtDot} {
		t.Run(string(stage), func(t *testing.T) {
			inBubble(t, smtptest.FaultOptions{Script: smtptest.On(stage, 1, smtptest.Act{Stall: true})}, transport.Options{}, func(t *testing.T, r *rig) {
				ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
				defer cancel()
				began := time.Now()
				_, err := r.pool.Send(ctx, r.server, to("you@example.net"), say(strings.Repeat(letter, 1000)), nil)
				e := failure(t, err)
				if time.Since(began) != 7*time.Second || e.Kind != transport.KindLocal || !errors.Is(err, context.DeadlineExceeded) || e.Unknown != (stage == smtptest.AtDot) {
					t.Errorf("after %v: %+v", time.Since(began), e)
				}
			})
		})
	}
	t.Run("a transaction has an hour", func(t *testing.T) {
		script := func(s smtptest.Step) smtptest.Act {
			return map[bool]smtptest.Act{true: {Delay: 230 * time.Second}}[s.Stage == smtptest.AtRcpt]
		}
		inBubble(t, smtptest.FaultOptions{Extensions: []string{"SIZE"}, Script: script}, transport.Options{}, func(t *testing.T, r *rig) {
			began := time.Now()
			env := to()
			for i := range 20 {
				env.To = append(env.To, fmt.Sprintf("you%d@example.net", i))
			}
			_, err := r.pool.Send(t.Context(), r.server, env, say(letter), nil)
			if e := failure(t, err); time.Since(began) != time.Hour || e.Kind != transport.KindTimeout || len(e.Accepted) != 15 {
				t.Errorf("after %v: %+v", time.Since(began), e)
			}
		})
	})
}

// TestMemory: a reply without end costs none (acceptance 8), and neither does a large body.
func TestMemory(t *testing.T) {
	used := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.TotalAlloc
	}
	f := smtptest.StartFault(t, smtptest.FaultOptions{Discard: true, Script: smtptest.On(smtptest.AtHello, 2, smtptest.Act{Endless: true})})
	host, port := f.Addr()
	pool := transport.NewPool(transport.Options{})
	defer pool.Close()
	s := transport.Server{Host: host, Port: port, Plaintext: true, Key: "k"}
	line := []byte(strings.Repeat("x", 998) + "\r\n")
	send := func(lines int) error {
		_, err := pool.Send(t.Context(), s, to("you@example.net"), func(w io.Writer) error {
			for range lines {
				if _, err := w.Write(line); err != nil {
					return err
				}
			}
			return nil
		}, nil)
		return err
	}
	before := used()
	if err := send(32 << 10); err != nil {
		t.Fatal(err)
	}
	if n := used() - before; n > 2<<20 {
		t.Errorf("32 MB sent with %d KiB", n>>10)
	}
	if m := f.Messages()[0]; m.Size != 32<<10*1000 {
		t.Errorf("%d octets came", m.Size)
	}
	s.Key = "another"
	before = used()
	if e := failure(t, send(1)); e.Kind != transport.KindProtocol {
		t.Error(e)
	}
	if n := used() - before; n > 2<<20 {
		t.Errorf("a reply without end took %d KiB", n>>10)
	}
}

func TestCheck(t *testing.T) {
	cert := certificate(t)
	inBubble(t, smtptest.FaultOptions{Certificate: cert, Mechanisms: []string{"PLAIN"}, Users: map[string]string{"jo": "secret"}}, transport.Options{}, func(t *testing.T, r *rig) {
		o, err := r.pool.Check(t.Context(), r.server)
		if err != nil || !o.Secure || o.MaxSize != 36700160 || len(o.Extensions) != 7 {
			t.Errorf("%+v %v", o, err)
		}
		r.mustSend()
		if total, _ := r.fault.Connections(); total != 2 || !r.fault.Heard("QUIT") {
			t.Errorf("%d connections", total)
		}
		r.server.Pass = secret.New("wrong")
		if _, err := r.pool.Check(t.Context(), r.server); failure(t, err).Code != 535 {
			t.Error(err)
		}
	})
}

// TestLeak: nothing is left of many sends with faults at random places.
func TestLeak(t *testing.T) {
	cert := certificate(t)
	var n atomic.Uint64
	acts := []smtptest.Act{{Close: true}, {Reply: "421 4.0.0 bye", Close: true}, {Reply: "451 4.0.0 later"}, {Reply: "550 5.0.0 no"}, {Reply: "?"}}
	script := func(s smtptest.Step) smtptest.Act {
		x := n.Add(1) * 0x9E3779B97F4A7C15 >> 33
		if x%13 == 0 && s.Stage != smtptest.AtBody {
			return acts[x/13%uint64(len(acts))]
		}
		return smtptest.Act{}
	}
	inBubble(t, smtptest.FaultOptions{Certificate: cert, Script: script}, transport.Options{}, func(t *testing.T, r *rig) {
		var wg sync.WaitGroup
		var sent, unknown atomic.Int64
		for i := range 8 {
			wg.Go(func() {
				s := r.server
				s.Key = fmt.Sprint(i)
				for range 60 {
					_, err := r.pool.Send(t.Context(), s, to("a@example.net", "b@example.net"), say(letter), nil)
					if err == nil {
						sent.Add(1)
					} else if e, ok := errors.AsType[*transport.Error](err); ok && e.Unknown {
						unknown.Add(1)
					}
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Minute)
		synctest.Wait()
		if _, open := r.fault.Connections(); open != 0 || r.pool.Stats().Idle+r.pool.Stats().Busy != 0 {
			t.Errorf("%d open, %+v", open, r.pool.Stats())
		}
		// What was told and what is there agree.
		if got := int64(len(r.fault.Messages())); sent.Load() < 100 || got < sent.Load() || got > sent.Load()+unknown.Load() {
			t.Errorf("%d sent, %d unknown, %d there", sent.Load(), unknown.Load(), got)
		}
	})
}
