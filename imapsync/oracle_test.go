package imapsync

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/secret"
)

// peers are the servers that histories happen on: every tier, with and without what may
// come with it, and with a limit on what one command looks at.
var peers = map[string][]imaptest.Dialect{
	"T0": {imaptest.T0(), imaptest.T0().Without("LIST-STATUS")},
	"T1": {imaptest.T1(), imaptest.T1().With("NOTIFY", "OBJECTID", "MESSAGELIMIT=5")},
	"T2": {imaptest.T2(), imaptest.T2().With("OBJECTID", "MESSAGELIMIT=5").Without("LIST-STATUS")},
	"T3": {imaptest.T3(), imaptest.T3().With("MESSAGELIMIT=5").Without("LIST-STATUS", "ESEARCH")},
}

// drawn is about how many deeds a tier sees: POSTRIDER_MODEL says it, as CI and make model
// do. Without, the test is skipped.
func drawn(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv("POSTRIDER_MODEL"))
	if err != nil {
		t.Skip("drawn histories take minutes: make test, or make model")
	}
	return n
}

// Whatever others do to a mailbox, whatever the server gets wrong and whenever the engine
// is stopped: at every moment nothing is said that is not so, and when all is quiet the
// events folded up are the server's folders, and so is the state.
func TestOracle(t *testing.T) {
	n := drawn(t)
	const deedsEach, dialectsEach = 50, 2
	was := flag.Lookup("rapid.checks").Value.String()
	if err := flag.Set("rapid.checks", strconv.Itoa(n/deedsEach/dialectsEach)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = flag.Set("rapid.checks", was) })
	for tier, dialects := range peers {
		for _, dialect := range dialects {
			t.Run(tier+"/"+dialect.Name, func(t *testing.T) {
				t.Parallel()
				done, fast := 0, 0
				rapid.Check(t, func(rt *rapid.T) {
					h := historyGen.Draw(rt, "history")
					done += len(h)
					indexer := ""
					if rapid.IntRange(0, fastOneIn-1).Draw(rt, "fast") == fastOneIn-1 {
						indexer = store.IndexerFast
						fast += len(h)
					}
					if err := history(t, dialect, indexer, h, nil); err != nil {
						rt.Fatalf("imapIndexer %q: %v\n%s", indexer, err, toldOf(h))
					}
				})
				t.Logf("%d deeds, %d of them in fast accounts", done, fast)
			})
		}
	}
}

// fastOneIn: one of so many histories is that of an account whose imapIndexer is fast.
const fastOneIn = 20

// happens lets a history happen to an account that is watched in full.
func happens(t *testing.T, dialect imaptest.Dialect, h []deed, p *plant) error {
	return history(t, dialect, "", h, p)
}

// history lets one happen in a bubble to an account with this imapIndexer, and says what
// was wrong. One that takes minutes of real time ends the process: its bubble's clock does
// not see that it hangs.
func history(t *testing.T, dialect imaptest.Dialect, indexer string, h []deed, p *plant) (err error) {
	warmUp(t)
	defer time.AfterFunc(3*time.Minute, func() {
		debug.SetTraceback("all")
		panic(fmt.Sprintf("%s: a history that does not end:\n%s", dialect.Name, toldOf(h)))
	}).Stop()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dialect, p)
		defer w.end()
		defer func() {
			switch e := recover().(type) {
			case nil:
			case wrong:
				err = e.error
			default:
				panic(e)
			}
		}()
		w.fast = indexer == store.IndexerFast
		w.indexed(indexer)
		w.begin(len(h)%2 == 0)
		for _, x := range h {
			w.do(x)
		}
		w.settle()
		if !w.fast {
			w.anew()
		}
	})
	return err
}

// wrong ends a history.
type wrong struct{ error }

// world is an engine over a model server, with somebody else acting on the mailbox.
type world struct {
	*den
	*actor
	dialect imaptest.Dialect
	model   *imaptest.Model
	fast    bool // new mail alone is told
	seen    uint64

	mu    sync.Mutex
	amid  []deed
	asked struct { // without any time going by
		at    time.Time
		times int
		most  int
	}
}

// hammered is how many commands at one moment are too many: an engine that asks without
// waiting for anything would go on until the bubble's clock moves, which it never does.
const hammered = 5000

func newWorld(t *testing.T, dialect imaptest.Dialect, p *plant) *world {
	model := imaptest.NewModel(dialect)
	w := &world{dialect: dialect, model: model, actor: &actor{box: model.User("jo", "secret"), moved: map[string]bool{}}}
	w.den = newDen(t, true)
	// Nobody else wants the account, and hours go by: what a process does every second
	// would be all that is done.
	w.cfg = Config{LeaseTTL: 24 * time.Hour, RenewInterval: time.Hour, Reconcile: 15 * time.Minute, AliveInterval: 15 * time.Minute}
	w.log = io.Discard
	if os.Getenv("POSTRIDER_MODEL_LOG") != "" {
		w.log = t.Output()
	}
	dialer := NewDialer(DialerOptions{AllowPlaintext: true, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return unblocked(model.Dial(ctx, network, addr))
	}})
	w.dial = func(ctx context.Context, _ store.Account) (Session, error) {
		s, err := dialer.Dial(ctx, store.Server{Host: "127.0.0.1", Port: 1143, User: "jo", Pass: secret.New("secret"), Plaintext: true})
		if err == nil && p != nil && p.session != nil {
			s = p.session(s)
		}
		return s, err
	}
	flaky := &flakyStore{Store: w.st, rnd: rand.New(rand.NewPCG(1, 2))}
	flaky.rate.Store(4)
	w.wrap = func(Store) Store {
		if p != nil && p.store != nil {
			return p.store(flaky)
		}
		return flaky
	}
	model.Hook(w.hook)
	return w
}

// begin watches the empty mailbox.
func (w *world) begin(moves bool) {
	if moves {
		if _, err := w.st.UpdateSettings(w.t.Context(), map[string]json.RawMessage{"notifyMoves": json.RawMessage("true")}); err != nil {
			w.wrong("%v", err)
		}
	}
	w.up()
	w.pass(5 * time.Second)
	w.look()
}

func (w *world) end() {
	w.den.end()
	w.model.Close()
}

// hook does in the middle of our question what was drawn for it.
func (w *world) hook(c imaptest.ModelCommand) imaptest.Act {
	if c.Name == "LOGIN" || c.Name == "" {
		return imaptest.Act{}
	}
	w.logf("C%d %s %s (%s)", c.Session, c.Name, c.Args, c.Folder)
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := time.Now(); now.Equal(w.asked.at) {
		w.asked.times++
	} else {
		w.asked.at, w.asked.times = now, 0
	}
	if w.asked.most = max(w.asked.most, w.asked.times); w.asked.most > hammered {
		return imaptest.Act{Delay: time.Minute}
	}
	if len(w.amid) > 0 {
		x := w.amid[0]
		w.amid = w.amid[1:]
		w.act(x)
	}
	return imaptest.Act{}
}

// logf logs what happens where that is asked for.
func (w *world) logf(format string, args ...any) {
	if os.Getenv("POSTRIDER_MODEL_LOG") != "" {
		w.t.Logf(time.Now().Format("15:04:05.000 ")+format, args...)
	}
}

// do does a deed, lets some time go by, and looks at what was said.
func (w *world) do(x deed) {
	w.logf("deed %+v", x)
	switch x.Do {
	case "restart":
		w.down()
		w.up()
	case "be true":
		w.actor.true()
	case "hour":
		w.pass(time.Hour)
	case "settle":
		w.settle()
	case "flush": // at rest: what a first look is not shown, nobody can miss
		w.settle()
		w.flush(time.Now().AddDate(-1, 0, 0))
		w.pass(5 * time.Minute)
	default:
		w.mu.Lock()
		if x.Amid && x.Do != "cut" {
			w.amid = append(w.amid, x)
		} else {
			w.act(x)
		}
		w.mu.Unlock()
	}
	w.pass(pauses[x.Pause])
	w.look()
}

func (w *world) wrong(format string, args ...any) {
	panic(wrong{fmt.Errorf(format, args...)})
}

// look holds what was said since against what is there now: a message of which it was
// said that it is gone must not be there, and one that was announced must have been.
func (w *world) look() {
	w.mu.Lock()
	asked := w.asked
	w.mu.Unlock()
	if asked.most > hammered {
		w.wrong("the server was asked %d times at one moment, %s", asked.most, asked.at)
	}
	for e, err := range w.st.Journal(w.t.Context(), denAccount, w.seen) {
		if err != nil {
			w.wrong("%v", err)
		}
		w.seen = e.Seq
		w.logf("event %d %s %s %s", e.Seq, e.Type, e.Path, e.Data)
		if _, there := w.truth()[e.Path]; e.Type == events.MailboxDeletedType && there && !w.moved[e.Path] {
			w.wrong("seq %d: %s was said to be gone, and is there", e.Seq, e.Path)
		}
		if e.Type != events.MessageDeletedType && e.Type != events.MessageNewType || w.moved[e.Path] {
			continue
		}
		var p struct {
			UID    uint32
			Origin events.Origin
		}
		if err := json.Unmarshal(e.Data.(events.Raw), &p); err != nil {
			w.wrong("%v", err)
		}
		folder, ok := w.truth()[e.Path]
		_, there := folder.Messages[p.UID]
		switch gone := e.Type == events.MessageDeletedType; {
		case gone && there:
			w.wrong("seq %d: UID %d of %s was said to be gone, and is there", e.Seq, p.UID, e.Path)
		case !gone && ok && p.UID >= folder.UIDNext:
			w.wrong("seq %d: UID %d of %s was announced, and never was there", e.Seq, p.UID, e.Path)
		case p.Origin == events.OriginReappeared && !w.everLied:
			if l, err := w.ledger(); err != nil || l.strange[e.Seq] {
				w.wrong("seq %d: UID %d of %s came back, and never was there (%v)", e.Seq, p.UID, e.Path, err)
			}
		}
	}
}

// truth are the folders that are watched, as they are.
func (w *world) truth() map[string]imaptest.Folder {
	t, err := w.box.Truth(w.t.Context())
	if err != nil {
		w.wrong("%v", err)
	}
	if w.dialect.Has("X-GM-EXT-1") { // the others are labels
		maps.DeleteFunc(t, func(path string, _ imaptest.Folder) bool {
			return path != allMail && path != gmailRoot+"Spam" && path != gmailRoot+"Trash"
		})
	}
	return t
}

// settle lets all be quiet and true, and compares.
func (w *world) settle() {
	w.mu.Lock()
	for _, x := range w.amid {
		w.act(x)
	}
	w.amid = nil
	w.actor.true()
	w.mu.Unlock()
	quiet := 80 * time.Minute // a round over the flags of a server that does not count changes
	if w.lied {
		quiet = 7 * time.Hour // a folder that refused is asked again
	}
	w.pass(quiet)
	w.look()
	l, err := w.ledger()
	if err != nil {
		w.wrong("%v", err)
	}
	subjects, err := w.box.Subjects(w.t.Context())
	if err != nil {
		w.wrong("%v", err)
	}
	truth, labels := w.truth(), map[string]map[uint32][]string{}
	for path := range truth {
		if labels[path], err = w.box.Labels(w.t.Context(), path); err != nil {
			w.wrong("%v", err)
		}
	}
	want := wanted(truth, subjects, labels)
	if w.fast {
		err = errors.Join(l.onlyNew(want), w.nothingKept())
	} else {
		err = w.against(want, l)
	}
	if err != nil {
		w.wrong("settled: %v", err)
	}
	if st := w.state().Status; st.State != store.StateConnected {
		w.t.Logf("last error: %+v", st.LastError)
		w.wrong("settled: the account is %s", st.State)
	}
	clear(w.moved)
	w.lied = false
	for _, c := range w.box.Heard() {
		if !slices.Contains(allowed, c.Name) {
			w.wrong("the watching connection said %s %s", c.Name, c.Args)
		}
	}
}

// allowed is all that watching may say to a server.
var allowed = strings.Split("CAPABILITY,ID,ENABLE,NAMESPACE,LIST,STATUS,EXAMINE,UNSELECT,NOTIFY,IDLE,NOOP,LOGOUT,LOGIN,AUTHENTICATE,COMPRESS,DONE,UID FETCH,UID SEARCH", ",")

// anew compares the state with that of an account that has just taken its first look.
func (w *world) anew() {
	const other = store.AccountID("other")
	imap := &store.Server{Host: "127.0.0.1", Port: 1143, User: "jo"}
	if _, err := w.st.CreateAccount(w.t.Context(), store.Account{ID: other, IMAP: imap}); err != nil {
		w.wrong("%v", err)
	}
	w.m.Kick("")
	w.pass(5 * time.Minute)
	ours, theirs := w.records(denAccount), w.records(other)
	if w.everLied { // what the server refused to tell then is not asked for again
		for path, recs := range theirs {
			for i := range recs {
				if i < len(ours[path]) && ours[path][i].EmailID == "" {
					recs[i].EmailID, recs[i].ThreadID = "", ""
				}
			}
		}
	}
	if diff := cmp.Diff(theirs, ours); diff != "" {
		w.wrong("state (-first look +ours):\n%s", diff)
	}
}

func (w *world) records(id store.AccountID) map[string][]store.Record {
	out := map[string][]store.Record{}
	folders, _, err := w.st.Folders(w.t.Context(), id)
	if err != nil {
		w.wrong("%v", err)
	}
	for _, f := range folders {
		if f.Watched == watchedNo {
			continue
		}
		meta, err := w.st.FolderMeta(w.t.Context(), id, f.Num)
		if err != nil {
			w.wrong("%s: %v", f.Path, err)
		}
		blocks, err := w.st.Blocks(w.t.Context(), id, f.Num, meta)
		if err != nil {
			w.wrong("%s: %v", f.Path, err)
		}
		all := []store.Record{}
		for _, i := range slices.Sorted(maps.Keys(blocks)) {
			all = append(all, blocks[i]...)
		}
		out[f.Path] = all
	}
	return out
}

// flakyStore fails commits: before they happen, or after, as a lost answer does.
type flakyStore struct {
	*store.Store
	rnd  *rand.Rand // of the worker's goroutine
	rate atomic.Int64
}

func (f *flakyStore) Commit(ctx context.Context, l store.Lease, c store.Change) (store.Committed, error) {
	switch n := f.rnd.Int64N(100); {
	case n < f.rate.Load():
		return store.Committed{}, fmt.Errorf("planted: %w", store.ErrUnavailable)
	case n < 2*f.rate.Load():
		if _, err := f.Store.Commit(ctx, l, c); err != nil {
			return store.Committed{}, err
		}
		return store.Committed{}, fmt.Errorf("planted, and done: %w", store.ErrUnavailable)
	}
	return f.Store.Commit(ctx, l, c)
}
