package imapsync

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/postrider/postrider/imapsync/imaptest"
)

// deed is one thing that happens to a mailbox or to us. Its numbers are taken modulo
// what is there, so that a deed makes sense anywhere and a history can be shortened.
type deed struct {
	Do      string
	A, B, C uint16
	Pause   uint8 // how long afterwards; see pauses
	Amid    bool  // not now: in the middle of our next question
}

// deeds are all kinds there are, the frequent ones often.
var deeds = slices.Concat(
	slices.Repeat([]string{"append"}, 8), slices.Repeat([]string{"flag"}, 5), slices.Repeat([]string{"unflag"}, 2),
	slices.Repeat([]string{"expunge"}, 4), slices.Repeat([]string{"move"}, 4), slices.Repeat([]string{"copy"}, 2),
	[]string{
		"append again", "append old", "append many", "expunge some", "expunge all", "empty and fill", "create", "delete", "delete and create",
		"label", "label", "unlabel", "rename", "new uidvalidity", "renumber", "forget vanished", "cut", "cut", "restart", "flush", "refuse", "bye", "lie", "lie", "be true", "hour", "settle",
	},
)

// pauses are how long one waits between two deeds: most often the engine is not done.
var pauses = []time.Duration{0, 0, time.Millisecond, 200 * time.Millisecond, time.Second, 3 * time.Second, 40 * time.Second, 3 * time.Minute}

// deedGen draws one deed.
var deedGen = rapid.Custom(func(t *rapid.T) deed {
	return deed{
		Do: rapid.SampledFrom(deeds).Draw(t, "do"),
		A:  rapid.Uint16().Draw(t, "a"), B: rapid.Uint16().Draw(t, "b"), C: rapid.Uint16().Draw(t, "c"),
		Pause: uint8(rapid.IntRange(0, len(pauses)-1).Draw(t, "pause")),
		Amid:  rapid.IntRange(0, 5).Draw(t, "amid") == 5,
	}
})

// historyGen draws some fifty deeds, in pieces, of which whole ones can go when a
// failing history is shortened.
var historyGen = rapid.Custom(func(t *rapid.T) []deed {
	var all []deed
	for range 10 {
		all = append(all, rapid.SliceOfN(deedGen, 0, 14).Draw(t, "deeds")...)
	}
	return all
})

// actor is another client of the mailbox, and its server in a bad mood.
type actor struct {
	box   *imaptest.ModelUser
	n     int
	moved map[string]bool // folders whose UIDs mean something else than at the last settling
	lied  bool            // since the last settling

	everLied bool
}

// pick chooses a folder and the UIDs in it.
func (a *actor) pick(n uint16) (string, []uint32) {
	t, err := a.box.Truth(context.Background())
	if err != nil {
		panic(err)
	}
	names := slices.Sorted(maps.Keys(t))
	// INBOX and one other see most of what happens.
	name := "INBOX"
	switch n % 4 {
	case 1:
		name = "Archive"
	case 2, 3:
		name = names[int(n/4)%len(names)]
	}
	if _, ok := t[name]; !ok && n%4 == 1 {
		name = allMail
	}
	if _, ok := t[name]; !ok {
		name = names[0]
	}
	return name, slices.Sorted(maps.Keys(t[name].Messages))
}

var (
	someFlags  = []string{`\Seen`, `\Flagged`, `\Answered`, "work", `$Forwarded`}
	someLabels = []string{`\Inbox`, `\Sent`, "F1", "F2"}
)

// act does a deed that other people do. What cannot be done is nothing: a name that is
// taken, a folder that is gone.
func (a *actor) act(x deed) {
	ctx := context.Background()
	folder, uids := a.pick(x.A)
	to, _ := a.pick(x.C)
	one := func() []uint32 { return []uint32{uids[int(x.B)%len(uids)]} }
	add := func(id string, date time.Time, flags ...string) {
		_, _ = a.box.Append(ctx, folder, imaptest.Message(id, id), flags, date)
	}
	fresh := func() string {
		a.n++
		return fmt.Sprintf("m%d@x", a.n)
	}
	if len(uids) == 0 && slices.Contains([]string{"flag", "unflag", "expunge", "expunge some", "move", "copy", "label", "unlabel"}, x.Do) {
		return
	}
	other := fmt.Sprintf("F%d", x.B%5)
	switch x.Do {
	case "append":
		add(fresh(), time.Now(), someFlags[:x.B%3]...)
	case "append again": // the same message once more
		add(fmt.Sprintf("m%d@x", int(x.B)%(a.n+1)), time.Now())
	case "append old":
		a.n++
		add(fmt.Sprintf("old%d@x", a.n), time.Now().Add(-72*time.Hour))
	case "append many":
		for range 40 {
			add(fresh(), time.Now())
		}
	case "flag":
		_ = a.box.AddFlags(ctx, folder, one(), someFlags[int(x.C)%len(someFlags)])
	case "unflag":
		_ = a.box.RemoveFlags(ctx, folder, one(), someFlags...)
	case "label": // where there are labels
		_ = a.box.Label(ctx, folder, one(), someLabels[int(x.C)%len(someLabels):][:1], nil)
	case "unlabel":
		_ = a.box.Label(ctx, folder, one(), nil, someLabels)
	case "expunge":
		_ = a.box.Expunge(ctx, folder, one()...)
	case "expunge some":
		from := int(x.B) % len(uids)
		_ = a.box.Expunge(ctx, folder, uids[from:min(from+1+int(x.C)%10, len(uids))]...)
	case "expunge all":
		_ = a.box.Expunge(ctx, folder, uids...)
	case "empty and fill": // as many as before, and not one of them
		_ = a.box.Expunge(ctx, folder, uids...)
		for range uids {
			add(fresh(), time.Now())
		}
	case "move":
		_ = a.box.Move(ctx, folder, to, one()...)
	case "copy":
		_ = a.box.Copy(ctx, folder, to, one()...)
	case "create":
		_ = a.box.CreateFolder(ctx, other)
	case "delete":
		a.remove(ctx, folder)
	case "delete and create":
		if a.remove(ctx, folder) {
			_ = a.box.CreateFolder(ctx, folder)
		}
	case "rename":
		if !stays(folder) && a.box.RenameFolder(ctx, folder, other) == nil {
			a.moved[folder], a.moved[other] = true, true
		}
	case "new uidvalidity":
		a.moved[folder] = true
		_ = a.box.ResetUIDValidity(ctx, folder)
	case "renumber":
		a.moved[folder] = true
		_ = a.box.Renumber(ctx, folder)
	case "forget vanished":
		_ = a.box.Forget(ctx, folder)
	case "cut":
		a.box.Cut()
	case "refuse":
		answers := []string{"NO [UNAVAILABLE] not now", "BAD what", "NO no"}
		commands := []string{"UID FETCH", "EXAMINE", "UID SEARCH", "STATUS", "LIST", "IDLE", "NOOP", "ENABLE", "NOTIFY", ""}
		a.lie(func(l *imaptest.Lies) {
			l.Refuse = map[string]string{commands[int(x.A)%len(commands)]: answers[int(x.B)%len(answers)]}
		})
	case "bye":
		a.lie(func(l *imaptest.Lies) { l.Bye = map[string]string{"": "Session expired"} })
	case "lie":
		a.lie(func(l *imaptest.Lies) { lies[int(x.A)%len(lies)](l, folder, uids) })
	}
}

// lie ends the lie before: two that confirm each other nobody could find out.
func (a *actor) lie(f func(*imaptest.Lies)) {
	a.lied, a.everLied = true, true
	a.box.Lie(func(l *imaptest.Lies) {
		*l = imaptest.Lies{}
		f(l)
	})
}

// true ends all lies.
func (a *actor) true() { a.box.Lie(func(l *imaptest.Lies) { *l = imaptest.Lies{} }) }

func (a *actor) remove(ctx context.Context, folder string) bool {
	if stays(folder) || folder == "Archive" {
		return false
	}
	a.moved[folder] = true
	return a.box.DeleteFolder(ctx, folder) == nil
}

// stays says whether a folder can be neither deleted nor renamed.
func stays(folder string) bool { return folder == "INBOX" || strings.HasPrefix(folder, gmailRoot) }

// lies are those under which nothing wrong may be said, and all is found when they end.
var lies = []func(l *imaptest.Lies, folder string, uids []uint32){
	func(l *imaptest.Lies, _ string, _ []uint32) { l.ChangedSinceIgnored = true },
	func(l *imaptest.Lies, _ string, _ []uint32) { l.VanishedTooMuch = true },
	func(l *imaptest.Lies, _ string, _ []uint32) { l.VanishedUnseen = true },
	func(l *imaptest.Lies, _ string, _ []uint32) { l.VanishedDeaf = true },
	func(l *imaptest.Lies, _ string, _ []uint32) { l.EnableEmpty = true },
	func(l *imaptest.Lies, _ string, _ []uint32) { l.EnableNothing = true },
	func(l *imaptest.Lies, _ string, _ []uint32) { l.QResyncDead = true },
	func(l *imaptest.Lies, _ string, _ []uint32) { l.NoModSeq = true },
	func(l *imaptest.Lies, _ string, _ []uint32) { l.ListEmpty = true },
	func(l *imaptest.Lies, folder string, _ []uint32) { l.NoStatus = []string{folder} },
	func(l *imaptest.Lies, folder string, _ []uint32) { l.StatusRefused = []string{folder} },
	func(l *imaptest.Lies, folder string, _ []uint32) { l.ExamineRefused = []string{folder} },
	func(l *imaptest.Lies, _ string, _ []uint32) { l.NoUIDNext = true },
	func(l *imaptest.Lies, _ string, _ []uint32) { l.ExistsOff = 1 },
	func(l *imaptest.Lies, _ string, _ []uint32) { l.ExistsOff = -1 },
	func(l *imaptest.Lies, _ string, _ []uint32) { l.ExistsBeforeItIs = true },
	func(l *imaptest.Lies, _ string, _ []uint32) { l.StatusMessagesOnly = true },
	func(l *imaptest.Lies, _ string, _ []uint32) { l.SearchAtMost = 2 },
	func(l *imaptest.Lies, _ string, _ []uint32) { l.SearchAtMost, l.SearchSilent = 2, true },
	func(l *imaptest.Lies, _ string, _ []uint32) { l.ESearchEmpty = true },
	func(l *imaptest.Lies, folder string, uids []uint32) {
		l.Poison = map[string][]uint32{folder: last(uids)}
	},
	func(l *imaptest.Lies, folder string, uids []uint32) {
		l.Unfetchable = map[string][]uint32{folder: last(uids)}
	},
	func(l *imaptest.Lies, folder string, uids []uint32) {
		// That the newest one's flags change meanwhile only the daily look at flags finds.
		l.NotReturned = map[string][]uint32{folder: last(uids)[1:]}
	},
	func(l *imaptest.Lies, _ string, _ []uint32) { l.NoPush = true },
	func(l *imaptest.Lies, _ string, _ []uint32) { l.Overflow = true },
	func(l *imaptest.Lies, _ string, _ []uint32) { l.MergedExpunge = true },
	func(l *imaptest.Lies, _ string, _ []uint32) { l.VanishedOthers = true },
	func(l *imaptest.Lies, folder string, _ []uint32) {
		if folder != allMail { // without it the others are watched, and are known from then on
			l.ListWithout = []string{folder}
		}
	},
}

// last is the UID that comes next, too: the one that nobody has seen yet.
func last(uids []uint32) []uint32 {
	top := uint32(0)
	if len(uids) > 0 {
		top = uids[len(uids)-1]
	}
	return []uint32{top, top + 1, top + 2}
}

// toldOf is a history for people: one deed a line.
func toldOf(h []deed) string {
	var s strings.Builder
	for i, x := range h {
		fmt.Fprintf(&s, "%3d %-18s %5d %5d %5d pause %s amid %v\n", i, x.Do, x.A, x.B, x.C, pauses[x.Pause], x.Amid)
	}
	return s.String()
}
