package imapsync

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/storetest"
)

// warm makes what is shared by the process (the block coder) outside of any bubble.
var warm sync.Once

// bubble runs f with an engine over a fakeServer, in a synctest bubble.
func bubble(t *testing.T, condstore bool, f func(*den)) {
	t.Helper()
	warmUp(t)
	synctest.Test(t, func(t *testing.T) {
		d := newDen(t, condstore)
		defer d.end()
		f(d)
	})
}

func warmUp(t *testing.T) {
	t.Helper()
	warm.Do(func() {
		st := storetest.Miniredis(t)
		if _, err := st.CreateAccount(t.Context(), store.Account{ID: "warm"}); err != nil {
			t.Fatal(err)
		}
		l, err := st.Acquire(t.Context(), "warm", "me", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		c := store.Change{Folders: []store.FolderChange{{Num: 1, Blocks: map[uint32][]store.Record{0: {{UID: 1}}}}}}
		c.Folders[0].Meta.Replace(0, 0, 1)
		if _, err := st.Commit(t.Context(), l, c); err != nil {
			t.Fatal(err)
		}
		if _, err := st.Blocks(t.Context(), "warm", 1, c.Folders[0].Meta); err != nil {
			t.Fatal(err)
		}
	})
}

// den is an engine in a bubble.
type den struct {
	t        *testing.T
	st       *store.Store
	srv      *fakeServer
	rdb      *redis.Client
	mini     *miniredis.Miniredis
	m        *Manager
	wrap     func(Store) Store // nil: the store as it is
	cfg      Config
	profiles string // besides those that come along
	stop     func()
	log      io.Writer

	// Of another server than srv.
	dial  func(context.Context, store.Account) (Session, error)
	truth func() map[string]map[uint32][]string // nil: srv's

	early     map[string]uint32 // highest UIDs before the account was registered
	clients   []*redis.Client   // further ones, closed at the end
	saboteurs []*saboteur
	restarts  sync.WaitGroup // engines that are on their way
	last      uint64
}

const denAccount = store.AccountID("jo")

func newDen(t *testing.T, condstore bool) *den {
	mini := miniredis.NewMiniRedis()
	mini.ClockTTL(true)
	d := &den{t: t, srv: newFakeServer(condstore), mini: mini}
	d.dial = func(ctx context.Context, _ store.Account) (Session, error) { return d.srv.dial(ctx) }
	d.log = t.Output()
	d.rdb = d.client()
	d.st = storetest.On(t, d.rdb)
	_, err := d.st.CreateAccount(t.Context(), store.Account{ID: denAccount, IMAP: &store.Server{Host: "127.0.0.1", Port: 143, User: "jo"}})
	d.ok(err)
	return d
}

// client is a client of its own of the bubble's Redis.
func (d *den) client() *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: "127.0.0.1:6379", Dialer: func(context.Context, string, string) (net.Conn, error) { return unblocked(d.mini.Dial()) },
	})
}

// unblockedConn is a pipe whose writer does not wait for the reader, as a socket's: both
// ends of a pipeline write at once.
type unblockedConn struct {
	net.Conn
	out  chan []byte
	once sync.Once
	done chan struct{}
}

func unblocked(c net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	u := &unblockedConn{Conn: c, out: make(chan []byte, 1<<12), done: make(chan struct{})}
	go func() {
		for {
			select {
			case b := <-u.out:
				if _, err := u.Conn.Write(b); err != nil {
					return
				}
			case <-u.done:
				return
			}
		}
	}()
	return u, nil
}

func (u *unblockedConn) Write(b []byte) (int, error) {
	select {
	case u.out <- slices.Clone(b):
		return len(b), nil
	case <-u.done:
		return 0, net.ErrClosed
	}
}

func (u *unblockedConn) SetWriteDeadline(time.Time) error { return nil }
func (u *unblockedConn) SetDeadline(t time.Time) error    { return u.Conn.SetReadDeadline(t) }

func (u *unblockedConn) Close() error {
	u.once.Do(func() { close(u.done) })
	return u.Conn.Close()
}

func (d *den) end() {
	d.restarts.Wait()
	d.down()
	for _, c := range append(d.clients, d.rdb) {
		_ = c.Close()
	}
	d.mini.Close()
}

func (d *den) ok(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *den) up() {
	var st Store = d.st
	if d.wrap != nil {
		st = d.wrap(st)
	}
	if d.cfg.Reconcile == 0 {
		d.cfg.Reconcile = 20 * time.Second // hours go by here; what is done every second would be all that is done
	}
	profiles := builtin()
	if d.profiles != "" {
		var err error
		profiles, err = NewProfiles(d.profiles)
		d.ok(err)
	}
	d.m = NewManager(Options{
		Profiles: profiles, Store: st, Owner: "proc", Config: d.cfg, Dial: d.dial,
		Logger: slog.New(slog.NewTextHandler(d.log, nil)),
	})
	ctx, cancel := context.WithCancel(d.t.Context())
	done := make(chan struct{})
	d.stop = func() {
		cancel()
		<-done
	}
	go func(m *Manager) {
		defer close(done)
		_ = m.Run(ctx)
	}(d.m)
}

func (d *den) down() {
	if d.stop != nil {
		d.stop()
		d.stop = nil
	}
}

// pass lets time go by.
func (d *den) pass(t time.Duration) {
	time.Sleep(t)
	synctest.Wait()
}

// took returns the events since the last call, in a few words.
func (d *den) took() []string {
	d.t.Helper()
	var out []string
	for e, err := range d.st.Journal(d.t.Context(), denAccount, d.last) {
		d.ok(err)
		if e.Seq != d.last+1 {
			d.t.Fatalf("seq %d behind %d", e.Seq, d.last)
		}
		d.last = e.Seq
		var x struct {
			Subject, Origin, Reason string
			Incomplete              []string
			MissingRetries          int
			Changes                 *struct{ Flags struct{ Value []string } }
		}
		d.ok(json.Unmarshal(e.Data.(events.Raw), &x))
		words := []string{string(e.Type)}
		for _, w := range []string{e.Path, x.Subject, x.Origin, x.Reason} {
			if w != "" {
				words = append(words, w)
			}
		}
		if len(x.Incomplete) > 0 {
			words = append(words, "incomplete")
		}
		if x.MissingRetries > 0 {
			words = append(words, "retried")
		}
		if x.Changes != nil {
			words = append(words, x.Changes.Flags.Value...)
		}
		out = append(out, strings.Join(words, " "))
	}
	return out
}

func (d *den) expect(want ...string) {
	d.t.Helper()
	if diff := cmp.Diff(want, d.took()); diff != "" {
		d.t.Fatalf("events (-want +got):\n%s", diff)
	}
}

func (d *den) state() store.State {
	d.t.Helper()
	st, err := d.st.State(d.t.Context(), denAccount)
	d.ok(err)
	return st
}

// started brings the engine up and takes the first events.
func (d *den) started() {
	d.t.Helper()
	d.up()
	d.pass(3 * time.Second)
	d.expect("accountAdded", "authenticationSuccess", "mailboxNew INBOX", "mailboxNew Archive", "accountInitialized added")
}

func repeat(s string, n int) []string {
	return slices.Repeat([]string{s}, n)
}

// qresync is bubble with a server that has QRESYNC.
func qresync(t *testing.T, f func(*den)) {
	t.Helper()
	bubble(t, true, func(d *den) {
		d.srv.qresync = true
		f(d)
	})
}

func eachTier(t *testing.T, f func(*den)) {
	t.Run("qresync", func(t *testing.T) { qresync(t, f) })
	eachCounting(t, f)
}

// eachCounting runs a scenario in the tiers that find deletions by counting.
func eachCounting(t *testing.T, f func(*den)) {
	t.Run("condstore", func(t *testing.T) { bubble(t, true, f) })
	t.Run("nothing", func(t *testing.T) { bubble(t, false, f) })
}

func TestWorker_message_that_cannot_be_fetched_is_missing_then_new(t *testing.T) {
	eachTier(t, func(d *den) {
		d.started()
		d.srv.act(func() {
			uid := d.srv.add("INBOX", "late", time.Now())
			d.srv.hidden[uid] = true
			d.srv.add("INBOX", "prompt", time.Now())
		})
		d.pass(time.Second)
		d.expect("messageNew INBOX <prompt> new")
		d.pass(time.Minute)
		d.expect("messageMissing INBOX notReturned retried")
		d.pass(30 * time.Minute)
		d.expect()
		d.srv.act(func() { clear(d.srv.hidden) })
		d.pass(11 * time.Minute)
		d.expect("messageNew INBOX <late> new retried")
	})
}

func TestWorker_poison_is_announced_incomplete(t *testing.T) {
	eachTier(t, func(d *den) {
		d.started()
		d.srv.act(func() {
			d.srv.add("INBOX", "one", time.Now())
			d.srv.poisoned[d.srv.add("INBOX", "bad", time.Now())] = true
			d.srv.add("INBOX", "two", time.Now())
		})
		d.pass(time.Second / 2)
		d.expect("messageNew INBOX <one> new", "messageNew INBOX <two> new")
		d.pass(time.Minute)
		d.expect("messageNew INBOX new incomplete retried")
	})
}

func TestWorker_mass_deletion_needs_a_second_look(t *testing.T) {
	eachTier(t, func(d *den) {
		for i := range 40 {
			d.srv.add("INBOX", fakeID(i), time.Now().Add(-48*time.Hour))
		}
		d.started()
		var uids []uint32
		for u := range uint32(30) {
			uids = append(uids, u+1)
		}
		d.srv.expunge("INBOX", uids...)
		d.pass(25 * time.Second)
		d.expect()
		d.pass(10 * time.Second)
		d.expect(repeat("messageDeleted INBOX", 30)...)
	})
}

func TestWorker_partial_answer_deletes_nothing(t *testing.T) {
	eachCounting(t, func(d *den) {
		for i := range 10 {
			d.srv.add("INBOX", fakeID(i), time.Now().Add(-48*time.Hour))
		}
		d.started()
		d.srv.act(func() { d.srv.cutSearch, d.srv.limited = 3, true })
		d.srv.act(func() { d.srv.hidden[9], d.srv.hidden[10] = true, true })
		d.srv.expunge("INBOX", 1)
		d.pass(4 * time.Minute)
		d.expect()
		d.srv.act(func() { d.srv.cutSearch, d.srv.limited = 0, false; clear(d.srv.hidden) })
		d.pass(6 * time.Minute)
		d.expect("messageDeleted INBOX")
	})
}

func TestWorker_folder_that_refuses_costs_nobody_else(t *testing.T) {
	eachTier(t, func(d *den) {
		d.started()
		d.srv.act(func() {
			d.srv.refused["Archive"] = true
			d.srv.add("Archive", "hidden", time.Now())
		})
		d.pass(10 * time.Minute)
		d.expect("mailboxStalled Archive refused")
		d.srv.put("INBOX", "fine")
		d.pass(time.Second)
		d.expect("messageNew INBOX <fine> new")
		d.srv.act(func() { clear(d.srv.refused) })
		d.pass(20 * time.Minute)
		d.expect("mailboxRecovered Archive", "messageNew Archive <hidden> new")
	})
}

func TestWorker_empty_folder_list_is_not_believed(t *testing.T) {
	eachTier(t, func(d *den) {
		d.started()
		d.srv.act(func() { d.srv.noFolders = true })
		d.pass(10*time.Minute + 10*time.Second)
		d.srv.act(func() { d.srv.noFolders = false })
		d.pass(20 * time.Minute)
		d.expect()
		d.srv.put("INBOX", "fine")
		d.pass(time.Second)
		d.expect("messageNew INBOX <fine> new")
	})
}

func TestWorker_unreadable_line_of_the_folder_list_deletes_nothing(t *testing.T) {
	eachTier(t, func(d *den) {
		d.srv.add("Archive", "old", time.Now().Add(-48*time.Hour))
		d.started()
		d.srv.act(func() { d.srv.garbled = "Archive" })
		d.pass(21 * time.Minute)
		d.expect()
		d.srv.act(func() {
			d.srv.garbled = ""
			delete(d.srv.folders, "Archive")
		})
		d.pass(11 * time.Minute)
		d.expect("mailboxDeleted Archive")
	})
}

func TestWorker_uidvalidity_is_looked_at_twice(t *testing.T) {
	eachTier(t, func(d *den) {
		d.srv.add("Archive", "old", time.Now().Add(-48*time.Hour))
		d.started()
		d.srv.put("Archive", "known")
		d.pass(3 * time.Minute)
		d.expect("messageNew Archive <known> new")
		n := 0
		d.srv.act(func() { d.srv.folders["Archive"].validity++; n = d.srv.opened["Archive"] })
		for seen := n; seen == n; {
			d.pass(time.Second)
			d.srv.act(func() { seen = d.srv.opened["Archive"] })
		}
		d.srv.act(func() { d.srv.folders["Archive"].validity-- })
		d.pass(5 * time.Minute)
		d.expect()
		d.srv.act(func() { d.srv.folders["Archive"].validity++; d.srv.add("Archive", "fresh", time.Now()) })
		d.pass(3 * time.Minute)
		d.expect("mailboxReset Archive uidValidityChange", "messageNew Archive <fresh> new")
	})
}

func TestWorker_server_that_tells_little(t *testing.T) {
	bubble(t, false, func(d *den) {
		d.srv.bare, d.srv.listStatus = true, false
		d.started()
		d.pass(11 * time.Minute)
		d.expect()
		var one uint32
		d.srv.act(func() {
			one = d.srv.add("Archive", "one", time.Now())
			d.srv.add("Archive", "two", time.Now())
		})
		d.pass(11 * time.Minute)
		d.expect("messageNew Archive <one> new", "messageNew Archive <two> new")
		d.pass(3 * time.Minute)
		var before, after int
		d.srv.act(func() { before = d.srv.opened["Archive"] })
		d.pass(20 * time.Minute)
		d.srv.act(func() { after = d.srv.opened["Archive"] })
		if after-before > 4 {
			d.t.Errorf("a folder at rest was opened %d times in 20 minutes", after-before)
		}
		d.srv.act(func() {
			delete(d.srv.folders["Archive"].msgs, one)
			d.srv.add("Archive", "three", time.Now())
		})
		d.pass(3 * time.Minute)
		d.expect("messageNew Archive <three> new", "messageDeleted Archive") // which was looked for in the inbox first
	})
}

func TestWatchdog_closes_a_silent_session(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.started()
		d.srv.act(func() { d.srv.mute = true })
		d.pass(5 * time.Minute)
		if st := d.state().Status; st.LastError == nil || st.LastError.Kind != FaultSilent {
			d.t.Fatalf("state %s, error %+v", st.State, st.LastError)
		}
		d.srv.act(func() { d.srv.mute = false })
		d.srv.put("INBOX", "late")
		d.pass(20 * time.Minute)
		if st := d.state().Status.State; st != store.StateConnected {
			d.t.Fatalf("state %s", st)
		}
		got := d.took()
		if !slices.Contains(got, "messageNew INBOX <late> new") {
			d.t.Fatalf("got %q", got)
		}
	})
}

func TestManager_stalled_is_said_once_and_recovered(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.started()
		d.srv.act(func() {
			d.srv.dialErr = &Error{Kind: ErrDial, Stage: StageDial, Err: &net.OpError{Op: "dial", Err: context.DeadlineExceeded}}
			for _, x := range d.srv.sessions {
				x.Close()
			}
		})
		d.pass(25 * time.Minute)
		got := d.took()
		if len(got) != 2 || got[0] != "connectError" || !strings.HasPrefix(got[1], "accountStalled") {
			d.t.Fatalf("got %q", got)
		}
		d.srv.act(func() { d.srv.dialErr = nil })
		d.pass(11 * time.Minute)
		d.expect("authenticationSuccess", "accountRecovered")
	})
}

func TestWorker_refused_credentials_pause_the_account(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.srv.dialErr = &Error{Kind: ErrNo, Stage: StageLogin, Command: "LOGIN", Code: "AUTHENTICATIONFAILED", Text: "no"}
		d.up()
		d.pass(time.Minute)
		d.expect("accountAdded", "authenticationError")
		st := d.state()
		st.Status.AuthFailing = st.Status.AuthFailing.AddDate(0, 0, -4) // days in a bubble are paid for in seconds
		d.ok(d.st.Observe(d.t.Context(), denAccount, store.StatusChange{Version: st.StatusVersion, Status: st.Status}))
		d.pass(61 * time.Minute)
		if got := d.took(); !slices.Contains(got, "accountPaused authenticationFailing") {
			d.t.Fatalf("got %q", got)
		}
		if n, _ := d.srv.counted(); n > 10 {
			d.t.Errorf("%d logins", n)
		}
	})
}

func TestWorker_panic_is_one_accounts_matter(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.srv.panics = 1
		d.up()
		d.pass(30 * time.Second)
		if e := d.state().Status.LastError; e == nil || e.Kind != FaultInternal {
			d.t.Fatalf("error %+v", e)
		}
		d.pass(time.Minute)
		d.expect("accountAdded", "authenticationSuccess", "mailboxNew INBOX", "mailboxNew Archive", "accountInitialized added")
	})
}

func TestManager_paused_account_is_left_alone(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.started()
		_, err := d.st.PauseAccount(d.t.Context(), denAccount, "api")
		d.ok(err)
		d.srv.put("INBOX", "meanwhile")
		d.pass(time.Minute)
		d.expect("accountPaused api")
		if n := len(d.m.Watched()); n != 0 {
			d.t.Fatalf("%d accounts watched", n)
		}
		_, err = d.st.ResumeAccount(d.t.Context(), denAccount, "api")
		d.ok(err)
		d.pass(time.Minute)
		d.expect("accountResumed api", "messageNew INBOX <meanwhile> new")
	})
}
