package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/internal/benchtest"
	"github.com/postrider/postrider/store/storetest"
)

// solo is one account on a model server.
type solo struct {
	*served
	b     *testing.B
	model *imaptest.Model
	user  *imaptest.ModelUser
}

func newSolo(b *testing.B, d imaptest.Dialect, fill func(*imaptest.ModelUser), env ...string) *solo {
	m := imaptest.StartModel(b, d)
	u := m.User("solo@example.com", "secret")
	fill(u)
	env = append(env, "POSTRIDER_REDIS_URL="+storetest.NewServer(b).URL())
	s := &solo{served: startBinary(b, builtBinary(b), loopbackEnv(env...)), b: b, model: m, user: u}
	s.register("solo", u.Server(), "")
	s.awaitEvent("solo", "accountInitialized", 10*time.Minute)
	eventually(b, time.Minute, "the account is connected", func() bool { return s.health("solo").State == "connected" })
	<-time.After(2 * time.Second) // what is left to do of the first look is done
	return s
}

// traffic is what went through the server: bytes, and commands of all names.
func (s *solo) traffic() (bytes, commands int) {
	c := s.model.Counters()
	for _, n := range c.Commands {
		commands += n
	}
	return int(c.In + c.Out), commands
}

// Ten flags change and ten messages go in a folder of a million while the connection is
// down: what finding them costs, by what the server can do.
func BenchmarkDelta(b *testing.B) {
	for _, tier := range []struct {
		d                      imaptest.Dialect
		found                  int // of the 20; without CONDSTORE flags are looked at little by little
		mostMS, mostKB, within float64
	}{
		{imaptest.T1(), 20, 100, 100, 60}, {imaptest.T2(), 20, 0, 0, 60}, {imaptest.T3(), 10, 0, 0, 120},
	} {
		b.Run(tier.d.Name, func(b *testing.B) {
			ctx := b.Context()
			var last uint32
			s := newSolo(b, tier.d, func(u *imaptest.ModelUser) {
				var err error
				if _, last, err = u.Fill(ctx, "INBOX", imaptest.Filling{Messages: 1_000_000, Hole: 10, Flags: []string{`\Seen`}}); err != nil {
					b.Fatal(err)
				}
			})
			var flagged, gone []uint32
			for i := range uint32(10) { // none of them a hole
				flagged, gone = append(flagged, 1+i*(last/100)*10), append(gone, 5+i*(last/100)*10)
			}
			before := len(s.journal("solo"))
			s.user.Lie(func(l *imaptest.Lies) { l.NoPush = true })
			if err := s.user.AddFlags(ctx, "INBOX", flagged, `\Flagged`); err != nil {
				b.Fatal(err)
			}
			if err := s.user.Expunge(ctx, "INBOX", gone...); err != nil {
				b.Fatal(err)
			}
			bytes, commands := s.traffic()
			used, began := benchtest.CPU(b, s.cmd.Process.Pid), time.Now()
			s.user.Cut()
			s.user.Lie(func(l *imaptest.Lies) { l.NoPush = false })
			for s.seq() < before+tier.found {
				if time.Since(began).Seconds() > tier.within {
					b.Fatalf("%d of %d changes are found", s.seq()-before, tier.found)
				}
				<-time.After(100 * time.Millisecond)
			}
			used = benchtest.CPU(b, s.cmd.Process.Pid) - used
			bytes2, commands2 := s.traffic()
			name := func(what string) string { return fmt.Sprintf("20 changes in 1,000,000, %s: %s", tier.d.Name, what) }
			benchtest.Figure{Name: name("CPU"), Value: benchtest.MS(used), Unit: "ms", Most: tier.mostMS}.Report(b)
			benchtest.Figure{Name: name("traffic"), Value: float64(bytes2-bytes) / 1000, Unit: "KB", Most: tier.mostKB}.Report(b)
			benchtest.Figure{Name: name("commands, login included"), Value: float64(commands2 - commands), Unit: "commands"}.Report(b)
			benchtest.Figure{Name: name("from the cut to the last event"), Value: time.Since(began).Seconds(), Unit: "s"}.Report(b)
		})
	}
}

// seq is the number of the account's last event.
func (s *solo) seq() int {
	var page struct{ Events []journalled }
	s.Call("GET", "/v1/account/solo/events?after=0&limit=1000", nil, &page)
	return len(page.Events)
}

// A hundred folders in which nothing happens: what a look at all of them costs.
func BenchmarkNothingNew(b *testing.B) {
	d := imaptest.T1()
	for i := range 100 - len(d.Folders) {
		d.Folders = append(d.Folders, imaptest.ModelFolder{Name: fmt.Sprintf("Projects %02d", i)})
	}
	for _, way := range []struct {
		d    imaptest.Dialect
		verb string
		per  float64
		most float64
	}{{d, "LIST", 1, 15}, {d.Without("LIST-STATUS"), "STATUS", 99, 0}} {
		b.Run(way.verb, func(b *testing.B) {
			s := newSolo(b, way.d, func(*imaptest.ModelUser) {}, "POSTRIDER_SYNC_PROBE_INTERVAL=5s", "POSTRIDER_SYNC_ASK_INTERVAL=20ms")
			const looked = 20 * time.Second
			used := benchtest.CPU(b, s.cmd.Process.Pid)
			bytes, commands := s.traffic()
			asked := s.model.Counters().Commands[way.verb]
			<-time.After(looked)
			looks := float64(s.model.Counters().Commands[way.verb]-asked) / way.per
			bytes2, commands2 := s.traffic()
			used = benchtest.CPU(b, s.cmd.Process.Pid) - used
			name := func(what string) string { return "nothing new in 100 folders, by " + way.verb + ": " + what }
			benchtest.Figure{Name: name("traffic of a look"), Value: float64(bytes2-bytes) / looks / 1000, Unit: "KB", Most: way.most}.Report(b)
			benchtest.Figure{Name: name("commands of a look"), Value: float64(commands2-commands) / looks, Unit: "commands"}.Report(b)
			benchtest.Figure{Name: name("CPU of a look"), Value: benchtest.MS(used) / looks, Unit: "ms"}.Report(b)
		})
	}
}

// Sixty servers that send nesting without end, literals without end and lines without
// end, beside a hundred good accounts.
func BenchmarkHostile(b *testing.B) {
	c := newCrowd(b, 100, false)
	c.hook = newReceiver(b)
	s := c.serve()
	c.register()
	c.awaitConnected(time.Minute)
	<-time.After(5 * time.Second)
	alone := c.latencies(100, 200*time.Millisecond)
	memory := benchtest.RSS(b, s.cmd.Process.Pid)
	for row, lines := range map[string]string{
		"47": "* 1 FETCH (UID 1 BODYSTRUCTURE " + strings.Repeat("(", 5<<20) + strings.Repeat(")", 5<<20) + ")\r\n",
		"49": `* LIST () "/" {9999999999}` + "\r\n",
		"51": `* LIST () "/" ` + strings.Repeat("x", 80<<20),
	} {
		peer := newHostilePeer(b, saysLists(lines))
		for i := range 20 {
			s.register(fmt.Sprintf("row%s-%02d", row, i), peer.server(), "")
		}
	}
	peak := memory
	stop := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for {
			peak = max(peak, benchtest.RSS(b, s.cmd.Process.Pid))
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	beside := c.latencies(100, 200*time.Millisecond)
	close(stop)
	<-watched
	for _, q := range []float64{0.5, 0.99} {
		v, base := benchtest.Quantile(beside, q), benchtest.Quantile(alone, q)
		benchtest.Figure{
			Name: fmt.Sprintf("good accounts beside hostile servers p%.0f", 100*q), Value: benchtest.MS(v), Unit: "ms",
			Baseline: "without them", Ratio: float64(v) / float64(base),
		}.Report(b)
	}
	benchtest.Figure{Name: "memory beside hostile servers, more at most", Value: (peak - memory) / (1 << 20), Unit: "MiB", Most: 100}.Report(b)
}
