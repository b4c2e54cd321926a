package imapsync

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
)

// lived is an account with ten old messages, of which nothing was told, and two that
// were, one in each folder; quiet for a while, so that its last proof is stored.
func (d *den) lived() {
	d.t.Helper()
	for i := range 8 {
		d.srv.add("INBOX", fmt.Sprintf("old%d", i), time.Now().Add(-48*time.Hour))
	}
	d.srv.add("Archive", "older0", time.Now().Add(-48*time.Hour))
	d.srv.add("Archive", "older1", time.Now().Add(-48*time.Hour))
	d.cfg = Config{ProbeInterval: 2 * time.Second, ListInterval: 10 * time.Second, AskInterval: 100 * time.Millisecond, AliveInterval: 5 * time.Second, Reconcile: time.Second}
	d.started()
	d.srv.put("INBOX", "one")
	d.srv.put("Archive", "two")
	d.pass(5 * time.Second)
	d.expect("messageNew INBOX <one> new", "messageNew Archive <two> new")
	d.pass(3 * time.Second)
}

// aftermath lets the engine find out, and has one message come; it compares what is said
// of the loss, and then.
func (d *den) aftermath(restart bool, loss, then []string) {
	d.t.Helper()
	if restart {
		d.up()
	}
	d.pass(15 * time.Second)
	if diff := cmp.Diff(loss, d.said()); diff != "" {
		d.t.Errorf("of the loss (-want +got):\n%s", diff)
	}
	d.srv.put("INBOX", "next")
	d.pass(5 * time.Second)
	if diff := cmp.Diff(then, d.said()); diff != "" {
		d.t.Errorf("of what came next (-want +got):\n%s", diff)
	}
}

// said is took for a journal that may have lost its beginning, or everything.
func (d *den) said() []string {
	d.t.Helper()
	oldest, _, err := d.st.JournalBounds(d.t.Context(), denAccount)
	d.ok(err)
	d.last = max(d.last, max(oldest, 1)-1)
	return d.took()
}

// What is said after one key of an account, or of its shard, is gone, whether or not the
// engine runs meanwhile: never a message that is old, never twice, and the next message
// as ever.
func TestLoss_of_one_key(t *testing.T) {
	shard := fmt.Sprintf("{s%02d}:", store.Shard(denAccount))
	account := shard + "a:" + string(denAccount) + ":"
	lost := []string{"accountStateLost missing", "authenticationSuccess", "accountInitialized stateLost"}
	meanwhile := []string{"messageNew Archive <meanwhile> new"}
	for _, c := range []struct {
		key              string
		running, stopped []string // what is said of it
		deaf             bool     // from then on nothing is said
	}{
		{key: account + "state", running: lost, stopped: lost},
		{key: account + "lease", running: meanwhile, stopped: meanwhile},
		{key: account + "folders", running: meanwhile, stopped: lost},
		// A folder's own state: the next commit, or the next start, finds it out.
		{
			key:     account + "f:0",
			running: []string{"mailboxReset Archive syncStateLost", "messageNew Archive <meanwhile> new"},
			stopped: []string{"mailboxReset Archive syncStateLost", "messageNew Archive <meanwhile> new"},
		},
		{
			key:     account + "f:1",
			running: []string{"mailboxReset INBOX syncStateLost", "messageNew Archive <meanwhile> new"},
			stopped: []string{"mailboxReset INBOX syncStateLost", "messageNew Archive <meanwhile> new"},
		},
		{key: account + "b:0", running: meanwhile, stopped: meanwhile},
		{key: account + "b:1", running: meanwhile, stopped: meanwhile},
		{key: account + "recent", running: meanwhile, stopped: meanwhile},
		{key: account + "recentAt", running: meanwhile, stopped: meanwhile},
		{key: account + "journal", running: meanwhile, stopped: meanwhile},
		{key: shard + "feed", running: meanwhile, stopped: meanwhile},
		{key: shard + "version", running: meanwhile, stopped: meanwhile},
		{key: shard + "leases", running: meanwhile, stopped: meanwhile},
		{key: shard + "alive", running: meanwhile, stopped: meanwhile},
		{key: shard + "accounts", running: meanwhile, deaf: true}, // nobody knows of it any more
		{key: "{procs}", running: meanwhile, stopped: meanwhile},
	} {
		for _, running := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/running=%v", strings.TrimPrefix(c.key, shard), running), func(t *testing.T) {
				bubble(t, true, func(d *den) {
					d.lived()
					if !running {
						d.down()
					}
					if !d.mini.Del(c.key) && running {
						d.t.Error("there was nothing to lose")
					}
					d.srv.put("Archive", "meanwhile")
					want, then := c.running, []string{"messageNew INBOX <next> new"}
					if !running {
						want = c.stopped
						if c.deaf {
							then = nil
						}
					}
					d.aftermath(!running, want, then)
					if !c.deaf && d.state().LastAlive.IsZero() {
						d.t.Error("no proof of life is kept any more")
					}
				})
			})
		}
	}
}

// The list of folders is gone, and the next thing that is written is a part of it.
func TestLoss_of_the_folder_list_before_it_changes(t *testing.T) {
	eachTier(t, func(d *den) {
		d.lived()
		d.mini.Del(fmt.Sprintf("{s%02d}:a:%s:folders", store.Shard(denAccount), denAccount))
		d.srv.act(func() { d.srv.create("Projects") })
		d.aftermath(false, []string{"accountStateLost missing", "authenticationSuccess", "accountInitialized stateLost"}, []string{"messageNew INBOX <next> new"})
	})
}

// Everything is gone, under a running engine: nobody is watched, nothing is said; who
// registers anew is new.
func TestLoss_of_everything(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.lived()
		d.mini.FlushAll()
		d.srv.put("INBOX", "meanwhile")
		d.pass(time.Minute)
		if n := len(d.m.Watched()); n != 0 {
			d.t.Errorf("%d accounts watched", n)
		}
		if _, newest, err := d.st.JournalBounds(d.t.Context(), denAccount); err != nil || newest != 0 {
			d.t.Errorf("newest event %d, %v", newest, err)
		}
		_, err := d.st.CreateAccount(d.t.Context(), store.Account{ID: denAccount, IMAP: &store.Server{Host: "127.0.0.1", Port: 143, User: "jo"}})
		d.ok(err)
		d.last = 0
		d.pass(20 * time.Second)
		d.expect("accountAdded", "authenticationSuccess", "mailboxNew INBOX", "mailboxNew Archive", "accountInitialized added")
	})
}

// One byte of what is kept of a folder, or of the account, is another: it is found out and
// said once, or harmless; never old mail, and the next message as ever.
func TestLoss_of_one_byte(t *testing.T) {
	account := fmt.Sprintf("{s%02d}:a:%s:", store.Shard(denAccount), denAccount)
	for _, c := range []struct{ key, field string }{
		{"b:0", "0"},
		{"b:1", "0"},
		{"f:0", "m"},
		{"f:1", "m"},
		{"f:1", "v"},
		{"folders", "0"},
		{"folders", "1"},
		{"state", "epoch"},
		{"state", "seq"},
		{"state", "status"},
		{"state", "listV"},
		{"state", "listN"},
	} {
		for _, at := range []float64{0.3, 0.99} {
			t.Run(fmt.Sprintf("%s/%s/at=%v", c.key, c.field, at), func(t *testing.T) {
				bubble(t, true, func(d *den) {
					d.lived()
					d.down()
					was := []byte(d.mini.HGet(account+c.key, c.field))
					was[int(at*float64(len(was)))] ^= 1
					d.mini.HSet(account+c.key, c.field, string(was))
					before := d.news()
					d.up()
					d.pass(15 * time.Second)
					d.srv.put("INBOX", "next")
					d.srv.put("Archive", "also next")
					d.pass(15 * time.Second)
					got := d.news()
					for _, id := range []string{"<next>", "<also next>"} {
						if got[id] != 1 {
							d.t.Errorf("%s was announced %d times", id, got[id])
						}
						delete(got, id)
					}
					for id, n := range got {
						if n > before[id] {
							d.t.Errorf("%s was announced again", id)
						}
					}
				})
			})
		}
	}
}

// The same of a folder that is watched fast, of whose messages nothing but that is kept. What
// its state is without, whatever it says, old mail is not told of.
func TestLoss_of_a_fast_folder(t *testing.T) {
	key := fmt.Sprintf("{s%02d}:a:%s:f:0", store.Shard(denAccount), denAccount)
	lives := func(d *den, broken func(was string) string) {
		d.indexed(store.IndexerFast)
		d.lived()
		d.down()
		d.mini.HSet(key, "m", broken(d.mini.HGet(key, "m")))
		d.srv.put("Archive", "meanwhile")
		before := d.news()
		d.up()
		d.pass(15 * time.Second)
		d.srv.put("Archive", "next")
		d.pass(15 * time.Second)
		after := d.news()
		for _, id := range []string{"<meanwhile>", "<next>"} {
			if before[id]++; after[id] != 1 {
				d.t.Errorf("%s was announced %d times", id, after[id])
			}
		}
		if diff := cmp.Diff(before, after); diff != "" {
			d.t.Errorf("announced (-want +got):\n%s", diff)
		}
	}
	t.Run("unreadable", func(t *testing.T) {
		bubble(t, true, func(d *den) {
			lives(d, func(string) string { return "{nonsense" })
			d.ok(d.nothingKept())
		})
	})
	size := 0
	bubble(t, true, func(d *den) {
		lives(d, func(was string) string { size = len(was); return was })
	})
	for _, at := range points(size, 20) {
		t.Run(fmt.Sprintf("byte=%d", at), func(t *testing.T) {
			bubble(t, true, func(d *den) {
				lives(d, func(was string) string { return was[:at-1] + string(was[at-1]^1) + was[at:] })
			})
		})
	}
}

// news counts how often each message was announced.
func (d *den) news() map[string]int {
	d.t.Helper()
	n := map[string]int{}
	for e, err := range d.st.Journal(d.t.Context(), denAccount, 0) {
		d.ok(err)
		var p struct{ Subject string }
		d.ok(json.Unmarshal(e.Data.(events.Raw), &p))
		if e.Type == events.MessageNewType {
			n[p.Subject]++
		}
	}
	return n
}

// An older snapshot is there again, as after a power failure that cost Redis its last
// second, or as somebody restored it: what it does not know is told again, under the ids
// that it had, and numbered anew without a gap.
func TestLoss_of_the_last_second(t *testing.T) {
	for _, running := range []bool{true, false} {
		t.Run(fmt.Sprintf("running=%v", running), func(t *testing.T) {
			eachTier(t, func(d *den) {
				d.lived()
				restore := d.snapshot()
				d.srv.act(func() {
					d.srv.add("INBOX", "three", time.Now())
					d.srv.mark("INBOX", 1, `\Seen`)
					delete(d.srv.folders["Archive"].msgs, 3)
					d.srv.modseq++
					d.srv.create("Projects")
				})
				d.pass(20 * time.Second)
				before := d.idsAfter(d.last)
				if !running {
					d.down()
				}
				restore()
				if !running {
					d.up()
				}
				d.pass(70 * time.Second)
				if diff := cmp.Diff(before, d.idsAfter(d.last)); diff != "" || len(before) != 4 {
					d.t.Fatalf("%d events before, and again (-before +again):\n%s", len(before), diff)
				}
				d.took()
				d.srv.put("INBOX", "next")
				d.pass(5 * time.Second)
				d.expect("messageNew INBOX <next> new")
			})
		})
	}
}

// idsAfter are the ids of the events after seq, with their types, in no order: folders
// have none among each other.
func (d *den) idsAfter(seq uint64) map[string]bool {
	d.t.Helper()
	ids := map[string]bool{}
	for e, err := range d.st.Journal(d.t.Context(), denAccount, seq) {
		d.ok(err)
		ids[string(e.Type)+" "+string(e.ID)] = true
	}
	return ids
}

// snapshot keeps all of Redis; what it returns puts it back.
func (d *den) snapshot() (restore func()) {
	d.t.Helper()
	ctx := d.t.Context()
	var puts []func(redis.Pipeliner)
	put := func(f func(redis.Pipeliner)) { puts = append(puts, f) }
	for _, key := range d.mini.Keys() {
		switch kind := d.rdb.Type(ctx, key).Val(); kind {
		case "string":
			v := d.rdb.Get(ctx, key).Val()
			put(func(p redis.Pipeliner) { p.Set(ctx, key, v, 0) })
		case "hash":
			v := d.rdb.HGetAll(ctx, key).Val()
			put(func(p redis.Pipeliner) { p.HSet(ctx, key, v) })
		case "zset":
			v := d.rdb.ZRangeWithScores(ctx, key, 0, -1).Val()
			put(func(p redis.Pipeliner) { p.ZAdd(ctx, key, v...) })
		case "stream":
			v := d.rdb.XRange(ctx, key, "-", "+").Val()
			put(func(p redis.Pipeliner) {
				for _, m := range v {
					p.XAdd(ctx, &redis.XAddArgs{Stream: key, ID: m.ID, Values: m.Values})
				}
			})
		default:
			d.t.Fatalf("%s is a %s", key, kind)
		}
	}
	return func() {
		_, err := d.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.FlushAll(ctx)
			for _, f := range puts {
				f(p)
			}
			return nil
		})
		d.ok(err)
	}
}
