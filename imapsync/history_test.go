package imapsync_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/store/storetest"
)

// What another client does to mailboxes on real servers, with the engine and the server
// restarted in between: when all is quiet, the events folded up are the server's
// folders, and so is the state. The same on the model of a server, longer and with
// faults: TestModel.
func TestEngine_history_on_real_servers(t *testing.T) {
	type peer interface {
		Stop()
		Start()
	}
	for name, start := range map[string]func(t *testing.T) (peer, imaptest.Mailbox){
		"dovecot": func(t *testing.T) (peer, imaptest.Mailbox) {
			s := imaptest.StartDovecot(t)
			return s, s.User("jo", "secret")
		},
		"cyrus": func(t *testing.T) (peer, imaptest.Mailbox) {
			s := imaptest.StartCyrus(t)
			return s, s.User("jo", "secret")
		},
		"courier": func(t *testing.T) (peer, imaptest.Mailbox) {
			s := imaptest.StartCourier(t)
			return s, s.User("jo", "secret")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			srv, box := start(t)
			realHistory(newRig(t, storetest.Miniredis(t), box), srv.Stop, srv.Start, rand.New(rand.NewPCG(seed, 1)))
		})
	}
}

func realHistory(r *rig, stop, start func(), rnd *rand.Rand) {
	ctx := r.t.Context()
	r.begin()
	n := 0
	put := func(folder string) {
		n++
		r.put(folder, fmt.Sprintf("m%d@x", n))
	}
	for range 30 {
		truth, err := r.box.Truth(ctx)
		r.ok(err)
		names := slices.Sorted(maps.Keys(truth))
		folder, to := names[rnd.IntN(len(names))], names[rnd.IntN(len(names))]
		uids := slices.Sorted(maps.Keys(truth[folder].Messages))
		var one uint32
		if len(uids) > 0 {
			one = uids[rnd.IntN(len(uids))]
		}
		switch op := rnd.IntN(20); {
		case op < 7 || one == 0 && op < 15:
			put(folder)
		case op < 9:
			r.ok(r.box.AddFlags(ctx, folder, []uint32{one}, []string{`\Seen`, `\Flagged`, "$later"}[rnd.IntN(3)]))
		case op < 10:
			r.ok(r.box.RemoveFlags(ctx, folder, []uint32{one}, `\Seen`, "$later"))
		case op < 12:
			r.ok(r.box.Expunge(ctx, folder, one))
		case op < 14 && to != folder:
			r.ok(r.box.Move(ctx, folder, to, one))
		case op < 15 && to != folder:
			r.ok(r.box.Copy(ctx, folder, to, one))
		case op < 16:
			n++
			r.ok(r.box.CreateFolder(ctx, fmt.Sprintf("F%d", n)))
		case op < 17 && folder[0] == 'F':
			r.ok(r.box.DeleteFolder(ctx, folder))
		case op < 18:
			r.down()
			put(folder)
			r.up()
		case op < 19:
			stop()
			start()
			r.box.(interface{ Disconnect() }).Disconnect()
		}
		<-time.After(time.Duration(rnd.IntN(60)) * time.Millisecond)
	}
	truth, err := r.box.Truth(ctx)
	r.ok(err)
	start1 := map[string]map[uint32][]string{}
	for name := range truth {
		put(name) // a server without MODSEQ shows flags when the folder is opened
	}
	for _, name := range []string{"INBOX", "Sent", "Drafts", "Trash", "Junk", "Archive"} {
		start1[name] = map[uint32][]string{}
	}
	poll(40*time.Second, func() bool { return r.differs() == "" })
	r.check()
	r.fold(start1, r.journal(0))
}
