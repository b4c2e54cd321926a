package imapsync_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/store/storetest"
)

// The figures stand for the engine between a real Dovecot and a real redis-server on
// the same cores, so they are context; the baseline's ratio is to the bare FETCH of the
// same flags by the same session.

// maildir finds where a Dovecot of ours keeps a user's mail, by its port.
func maildir(tb testing.TB, u *imaptest.DovecotUser) string {
	tb.Helper()
	confs, err := filepath.Glob("/tmp/pdc*/dovecot.conf")
	if err != nil {
		tb.Fatal(err)
	}
	for _, c := range confs {
		b, err := os.ReadFile(c)
		if err == nil && strings.Contains(string(b), fmt.Sprintf("port = %d\n", u.Server().Port)) {
			return filepath.Join(filepath.Dir(c), "mail", u.Server().User, "Maildir")
		}
	}
	tb.Fatal("no maildir")
	return ""
}

// fill puts n messages of a date into the inbox behind the server's back, as a delivery agent would.
func fill(tb testing.TB, u *imaptest.DovecotUser, n int, date time.Time) {
	tb.Helper()
	dir := maildir(tb, u)
	for i := range n {
		name := fmt.Sprintf("%d.M%06dP1.host", time.Now().Unix(), i)
		id := fmt.Sprintf("m%d@bench", i)
		tmp := filepath.Join(dir, "tmp", name)
		if err := os.WriteFile(tmp, imaptest.Message(id, id), 0o666); err != nil {
			tb.Fatal(err)
		}
		if err := os.Chtimes(tmp, date, date); err != nil {
			tb.Fatal(err)
		}
		if err := os.Rename(tmp, filepath.Join(dir, "new", name)); err != nil {
			tb.Fatal(err)
		}
	}
}

func BenchmarkBurst(b *testing.B) {
	const n = 5000
	for b.Loop() {
		t := b
		d := imaptest.StartDovecot(t)
		u := d.User("jo", "secret")
		r := newRig(b, storetest.Redis(t), u)
		r.register(time.Time{})
		r.up()
		r.initialized()
		fill(t, u, n, time.Now())
		began := time.Now()
		eventually(b, 5*time.Minute, "every event", func() bool {
			st, err := r.st.State(b.Context(), r.id)
			r.ok(err)
			return st.Seq >= uint64(9+n)
		})
		b.ReportMetric(float64(n)/time.Since(began).Seconds(), "events/s")
		r.down()
	}
}

func BenchmarkBaseline(b *testing.B) {
	const n = 100_000
	for b.Loop() {
		d := imaptest.StartDovecot(b)
		u := d.User("jo", "secret")
		r := newRig(b, storetest.Redis(b), u)
		if _, err := u.Truth(b.Context()); err != nil { // makes the folders
			b.Fatal(err)
		}
		fill(b, u, n, time.Now().AddDate(0, -1, 0))
		if _, err := u.Truth(b.Context()); err != nil { // has Dovecot index them
			b.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		r.register(time.Time{})
		began := time.Now()
		r.up()
		r.initialized()
		took := time.Since(began)
		runtime.ReadMemStats(&after)
		b.ReportMetric(took.Seconds(), "s/100k")
		b.ReportMetric(float64(after.Sys-before.Sys)/(1<<20), "MiB")
		r.down()
	}
}
