package imapsync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/storetest"
)

// refusal is an answer of Redis that is an error.
type refusal string

func (r refusal) Error() string { return string(r) }
func (refusal) RedisError()     {}

// saboteur strikes at Redis commands of an engine. It counts those that name the account;
// the rest (heartbeats, versions) go by.
type saboteur struct {
	all   bool // they do not
	hits  func(n int) bool
	after bool   // the command is done, its answer lost
	err   error  // what the engine is told; nil: what Redis says
	blow  func() // more that happens then

	mu   sync.Mutex
	n    int
	dead bool // the process is gone: nothing more of it reaches Redis
}

// do runs a command, or not.
func (s *saboteur) do(ours bool, next func() error, fail func(error) error) error {
	s.mu.Lock()
	if ours {
		s.n++
	}
	hit := ours && s.hits != nil && !s.dead && s.hits(s.n)
	dead := s.dead
	s.mu.Unlock()
	switch {
	case dead:
		return fail(io.EOF)
	case !hit:
		return next()
	}
	var err error
	if s.after {
		err = next()
	}
	if s.blow != nil {
		s.blow()
	}
	switch {
	case s.err != nil:
		return fail(s.err)
	case s.after:
		return err
	}
	return next()
}

func (s *saboteur) counts(cmd redis.Cmder) bool {
	for _, a := range cmd.Args() {
		if key, ok := a.(string); ok && strings.Contains(key, "a:"+string(denAccount)+":") {
			return true
		}
	}
	return s.all
}

func (s *saboteur) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (s *saboteur) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return s.do(s.counts(cmd), func() error { return next(ctx, cmd) }, func(err error) error {
			cmd.SetErr(err)
			return err
		})
	}
}

func (s *saboteur) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		ours := false
		for _, c := range cmds {
			ours = ours || s.counts(c)
		}
		return s.do(ours, func() error { return next(ctx, cmds) }, func(err error) error {
			for _, c := range cmds {
				c.SetErr(err)
			}
			return err
		})
	}
}

// sabotaged has the engine use Redis through saboteurs.
func (d *den) sabotaged(all ...*saboteur) {
	rdb := d.client()
	for _, s := range all {
		rdb.AddHook(s)
		d.saboteurs = append(d.saboteurs, s)
	}
	st := storetest.On(d.t, rdb)
	d.wrap = func(Store) Store { return st }
	d.clients = append(d.clients, rdb)
}

// recorded is a history that touches every kind of commit: registration, first looks
// that announce, arrivals, flags, expunges, a move, folders made, renamed and deleted,
// another UIDVALIDITY, a crowd.
func (d *den) recorded() {
	old := time.Now().Add(-48 * time.Hour)
	for i := range 4 {
		d.srv.add("INBOX", fmt.Sprintf("old%d", i), old)
	}
	d.srv.add("Archive", "older0", old)
	d.srv.add("Archive", "older1", old)
	d.early = map[string]uint32{"INBOX": 4, "Archive": 2}
	_, err := d.st.UpdateAccount(d.t.Context(), denAccount, 0, func(a *store.Account) error {
		a.NotifyFrom = old.Add(-time.Hour)
		return nil
	})
	d.ok(err)
	d.cfg = Config{ProbeInterval: 2 * time.Second, ListInterval: 2 * time.Second, AskInterval: 100 * time.Millisecond, AliveInterval: 5 * time.Second}
	d.up()
	step := func(f func()) {
		d.pass(2500 * time.Millisecond)
		d.srv.act(f)
	}
	step(func() {
		d.srv.add("INBOX", "a1", time.Now())
		d.srv.add("INBOX", "a2", time.Now())
		d.srv.add("Archive", "b1", time.Now())
	})
	step(func() {
		d.srv.mark("INBOX", 5, `\Seen`)
		d.srv.mark("Archive", 1, `\Flagged`)
		d.srv.add("Archive", "b2", time.Now())
	})
	step(func() {
		delete(d.srv.folders["INBOX"].msgs, 1)
		delete(d.srv.folders["Archive"].msgs, 2)
		d.srv.modseq++
	})
	step(func() {
		m := d.srv.folders["INBOX"].msgs[6]
		delete(d.srv.folders["INBOX"].msgs, 6)
		d.srv.add("Archive", strings.Trim(m.id, "<>"), m.date)
	})
	step(func() {
		d.srv.create("Projects")
		d.srv.add("Projects", "p1", time.Now())
	})
	step(func() {
		d.srv.folders["Kunden"] = d.srv.folders["Projects"]
		delete(d.srv.folders, "Projects")
	})
	step(func() { d.srv.add("Kunden", "q1", time.Now()) })
	step(func() { // the same messages, in another order, under another UIDVALIDITY
		was := d.srv.folders["Archive"]
		d.srv.create("Archive")
		for uid := was.next; uid > 0; uid-- {
			if m := was.msgs[uid]; m != nil {
				d.srv.add("Archive", strings.Trim(m.id, "<>"), m.date, m.flags...)
			}
		}
		d.srv.add("Archive", "r1", time.Now())
	})
	step(func() {
		for i := range 30 {
			d.srv.add("INBOX", fakeID(i), time.Now())
		}
	})
	step(func() { delete(d.srv.folders, "Kunden") })
	d.pass(5 * time.Second)
}

// settle has saboteurs strike no more, and waits until events and state are the
// server's, and stay it.
func (d *den) settle() {
	d.t.Helper()
	for _, s := range d.saboteurs {
		s.mu.Lock()
		s.hits = nil
		s.mu.Unlock()
	}
	d.restarts.Wait()
	const most = 20 * time.Minute
	err := d.agrees()
	for began := time.Now(); err != nil && time.Since(began) < most; err = d.agrees() {
		d.pass(5 * time.Second)
	}
	if err == nil {
		d.pass(5 * time.Second)
		err = d.agrees()
	}
	l, lerr := d.ledger()
	if lerr == nil {
		lerr = l.onceEach()
		if len(l.strange) > 0 {
			lerr = errors.Join(lerr, fmt.Errorf("came back and never was there: seq %v", l.strange))
		}
	}
	if err = errors.Join(err, lerr); err != nil {
		d.t.Fatal(err)
	}
}
