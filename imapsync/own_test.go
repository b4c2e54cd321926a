package imapsync

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
)

// causes returns the events since the last call, with why they are and how they belong
// together.
func (d *den) causes() []string {
	d.t.Helper()
	out := []string{}
	for e, err := range d.st.Journal(d.t.Context(), denAccount, d.last) {
		d.ok(err)
		d.last = e.Seq
		var p struct {
			Origin, Cause, Evidence string
			SeemsLikeNew            bool
			Related                 *struct{ Evidence, Confidence string }
		}
		d.ok(json.Unmarshal(e.Data.(events.Raw), &p))
		words := []string{string(e.Type), e.Path}
		for _, w := range []string{p.Origin, p.Evidence, p.Cause} {
			if w != "" {
				words = append(words, w)
			}
		}
		if p.SeemsLikeNew {
			words = append(words, "!")
		}
		if p.Related != nil {
			words = append(words, "~", p.Related.Confidence, p.Related.Evidence)
		}
		out = append(out, strings.Join(words, " "))
	}
	return out
}

func (d *den) caused(want ...string) {
	d.t.Helper()
	if diff := cmp.Diff(want, d.causes()); diff != "" {
		d.t.Fatalf("events (-want +got):\n%s", diff)
	}
}

// number is our number of a folder.
func (d *den) number(path string) uint32 {
	d.t.Helper()
	list, _, err := d.st.Folders(d.t.Context(), denAccount)
	d.ok(err)
	i := slices.IndexFunc(list, func(f store.Folder) bool { return f.Path == path })
	if i < 0 {
		d.t.Fatalf("no folder %q", path)
	}
	return list[i].Num
}

// intend writes down what is about to be done to a message, or to a folder.
func (d *den) intend(kind store.IntentKind, path string, uid uint32, i store.Intent) store.Intent {
	d.t.Helper()
	i.Kind, i.Folder, i.UID = kind, d.number(path), uid
	if kind != store.IntentAppend {
		i.UIDValidity = d.srv.folders[path].validity
	}
	i, err := d.st.BeginIntent(d.t.Context(), denAccount, i)
	d.ok(err)
	return i
}

// ended writes down where the message came; in no folder when the server did not tell.
func (d *den) ended(i store.Intent, path string, uid uint32) {
	d.t.Helper()
	if path != "" {
		i.NewUIDValidity, i.NewUID = d.srv.folders[path].validity, uid
	}
	d.ok(d.st.EndIntent(d.t.Context(), denAccount, i))
}

// intents counts those that are not over.
func (d *den) intents() int {
	d.t.Helper()
	list, err := d.st.Intents(d.t.Context(), denAccount)
	d.ok(err)
	return len(list)
}

func (d *den) noIntents() {
	d.t.Helper()
	if n := d.intents(); n != 0 {
		d.t.Errorf("%d intents are left", n)
	}
}

func TestOwn_append(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(d *den)
		want string
		left int
	}{
		{"by APPENDUID", func(d *den) {
			i := d.intend(store.IntentAppend, "INBOX", 0, store.Intent{})
			d.ended(i, "INBOX", d.srv.put("INBOX", "one"))
		}, "messageNew INBOX ownAppend", 0},
		{"by Message-ID and size", func(d *den) {
			i := d.intend(store.IntentAppend, "INBOX", 0, store.Intent{MessageID: "<one>", Size: 100})
			d.srv.put("INBOX", "one")
			d.ended(i, "", 0)
		}, "messageNew INBOX ownAppend", 0},
		{"crashed before the result", func(d *den) {
			d.intend(store.IntentAppend, "INBOX", 0, store.Intent{MessageID: "<one>", Size: 100})
			d.srv.put("INBOX", "one")
		}, "messageNew INBOX ownAppend", 0},
		{"result late", func(d *den) {
			i := d.intend(store.IntentAppend, "INBOX", 0, store.Intent{})
			uid := d.srv.put("INBOX", "one")
			d.pass(500 * time.Millisecond)
			d.ended(i, "INBOX", uid)
		}, "messageNew INBOX ownAppend", 0},
		{"another size", func(d *den) {
			i := d.intend(store.IntentAppend, "INBOX", 0, store.Intent{MessageID: "<one>", Size: 101})
			d.srv.put("INBOX", "one")
			d.ended(i, "", 0)
		}, "messageNew INBOX new !", 1},
		{"another UID", func(d *den) {
			i := d.intend(store.IntentAppend, "INBOX", 0, store.Intent{MessageID: "<one>", Size: 100})
			d.ended(i, "INBOX", d.srv.put("INBOX", "one")+7)
		}, "messageNew INBOX new !", 1},
		{"another folder", func(d *den) {
			i := d.intend(store.IntentAppend, "Archive", 0, store.Intent{MessageID: "<one>", Size: 100})
			d.srv.put("INBOX", "one")
			d.ended(i, "", 0)
		}, "messageNew INBOX new !", 1},
		{"expired", func(d *den) {
			i := d.intend(store.IntentAppend, "INBOX", 0, store.Intent{MessageID: "<one>", Size: 100})
			d.ended(i, "", 0)
			d.pass(10 * time.Minute)
			d.srv.put("INBOX", "one")
		}, "messageNew INBOX new !", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, true, func(d *den) {
				d.started()
				tt.do(d)
				d.look()
				d.caused(tt.want)
				if n := d.intents(); n != tt.left {
					d.t.Errorf("%d intents are left, want %d", n, tt.left)
				}
				d.srv.put("INBOX", "stranger's")
				d.look()
				d.caused("messageNew INBOX new !")
			})
		})
	}
}

func TestOwn_flags(t *testing.T) {
	for _, tt := range []struct {
		name  string
		add   [][]string // of our commands
		flags []string   // what the message has then
		cause bool
	}{
		{"ours", [][]string{{`\Answered`}}, []string{`\Answered`, `\Seen`}, true},
		{"ours, another case", [][]string{{`\answered`}}, []string{`\Answered`, `\Seen`}, true},
		{"two of ours", [][]string{{`\Answered`}, {`\Flagged`}}, []string{`\Answered`, `\Flagged`, `\Seen`}, true},
		{"more than ours", [][]string{{`\Answered`}}, []string{`\Answered`, `\Flagged`, `\Seen`}, false},
		{"ours and less", [][]string{{`\Answered`}}, []string{`\Answered`}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachTier(t, func(d *den) {
				uid := d.srv.put("INBOX", "one", `\Seen`)
				d.up()
				d.pass(3 * time.Second)
				d.causes()
				for _, flags := range tt.add {
					d.ended(d.intend(store.IntentStore, "INBOX", uid, store.Intent{Add: flags}), "", 0)
				}
				d.srv.flag("INBOX", uid, tt.flags...)
				d.look()
				want := "messageUpdated INBOX"
				if tt.cause {
					want += " api"
				}
				d.caused(want)
				d.noIntents()
				// The same by somebody else.
				d.srv.flag("INBOX", uid, `\Seen`)
				d.look()
				d.srv.flag("INBOX", uid, tt.flags...)
				d.look()
				d.causedNone()
			})
		})
	}
}

// causedNone wants events, and none of them ours.
func (d *den) causedNone() {
	d.t.Helper()
	got := d.causes()
	if len(got) == 0 || slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "api") }) {
		d.t.Errorf("events %q", got)
	}
}

func TestOwn_move(t *testing.T) {
	for _, tt := range []struct {
		name           string
		from, to       string
		moves, copyUID bool
		late           time.Duration // of the result
		want           []string
	}{
		{"left first", "INBOX", "Archive", false, true, 0, []string{"messageDeleted INBOX api ~ certain copyuid", "messageNew Archive moved ~ certain copyuid"}},
		{"came first", "Archive", "INBOX", false, true, 0, []string{"messageDeleted Archive api ~ certain copyuid", "messageNew INBOX moved ~ certain copyuid"}},
		{"one event", "INBOX", "Archive", true, true, 0, []string{"messageMoved Archive copyuid api"}},
		{"came first, one event", "Archive", "INBOX", true, true, 0, []string{"messageMoved INBOX copyuid api"}},
		{"result late", "INBOX", "Archive", true, true, 500 * time.Millisecond, []string{"messageMoved Archive copyuid api"}},
		{"no COPYUID", "INBOX", "Archive", false, false, 0, []string{"messageDeleted INBOX api", "messageNew Archive existing"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachTier(t, func(d *den) {
				d.set(map[string]any{"notifyMoves": tt.moves})
				uid := d.srv.add(tt.from, "one", time.Now().Add(-90*24*time.Hour)) // nothing else would link it
				d.started()
				i := d.intend(store.IntentMove, tt.from, uid, store.Intent{Target: d.number(tt.to)})
				var n uint32
				d.srv.act(func() { n = d.srv.copies(tt.from, uid, tt.to, true) })
				d.pass(tt.late)
				if tt.copyUID {
					d.ended(i, tt.to, n)
				} else {
					d.ended(i, "", 0)
				}
				d.look()
				d.look()
				d.caused(tt.want...)
				d.noIntents()
				if n := d.held(); n != 0 {
					d.t.Errorf("%d messages are still held", n)
				}
				// The same by somebody else.
				d.srv.act(func() { d.srv.copies(tt.to, n, tt.from, true) })
				d.look()
				d.causedNone()
			})
		})
	}
}

func TestOwn_copy_and_expunge(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.srv.objectID = true
		old := time.Now().Add(-90 * 24 * time.Hour)
		one, two := d.srv.add("INBOX", "one", old), d.srv.add("INBOX", "two", old)
		d.started()
		i := d.intend(store.IntentCopy, "INBOX", one, store.Intent{Target: d.number("Archive")})
		var n uint32
		d.srv.act(func() { n = d.srv.copies("INBOX", one, "Archive", false) })
		d.ended(i, "Archive", n)
		d.look()
		d.caused("messageNew Archive copied")
		d.ended(d.intend(store.IntentExpunge, "INBOX", one, store.Intent{}), "", 0)
		d.srv.expunge("INBOX", one)
		d.look()
		d.caused("messageDeleted INBOX api")
		d.noIntents()
		d.srv.expunge("INBOX", two)
		d.pass(2 * time.Minute)
		d.caused("messageDeleted INBOX")
	})
}

// Each Redis command of the account fails once, or its answer is lost, while our own
// changes are seen: each has its cause, once.
func TestOwn_commit_fails_once(t *testing.T) {
	for _, after := range []bool{false, true} {
		for k := 1; k <= 24; k++ {
			t.Run(fmt.Sprintf("after=%v/%d", after, k), func(t *testing.T) {
				bubble(t, true, func(d *den) {
					armed := false
					n := 0
					s := &saboteur{after: after, err: io.EOF, hits: func(int) bool {
						if !armed {
							return false
						}
						n++
						return n == k
					}}
					d.sabotaged(s)
					uid := d.srv.add("INBOX", "one", time.Now().Add(-90*24*time.Hour))
					d.started()
					d.down() // all of it is seen with the next look
					d.ended(d.intend(store.IntentStore, "INBOX", uid, store.Intent{Add: []string{`\Seen`}}), "", 0)
					d.srv.flag("INBOX", uid, `\Seen`)
					i := d.intend(store.IntentAppend, "Archive", 0, store.Intent{})
					d.ended(i, "Archive", d.srv.put("Archive", "two"))
					armed = true
					d.up()
					d.pass(3 * time.Minute)
					got := slices.DeleteFunc(d.causes(), func(s string) bool { return !strings.HasPrefix(s, "message") })
					slices.Sort(got)
					if diff := cmp.Diff([]string{"messageNew Archive ownAppend", "messageUpdated INBOX api"}, got); diff != "" {
						d.t.Errorf("events (-want +got):\n%s", diff)
					}
					d.noIntents()
				})
			})
		}
	}
}
