package imaptest

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Every lie shows on the wire, and ends when it is taken back.
func TestModel_lies(t *testing.T) {
	const since = "UID FETCH 1:5 (FLAGS) (CHANGEDSINCE 2 VANISHED)"
	poison := map[string][]uint32{"INBOX": {3}}
	for _, c := range []struct {
		name    string
		lie     func(*Lies)
		command string
		want    string // in the answer, joined by |
		not     string
	}{
		{"69", func(l *Lies) { l.ChangedSinceIgnored = true }, since, "UID 1 FLAGS", ""},
		{"69_flags", func(l *Lies) { l.ChangedSinceNoFlags = true }, since, "(UID 4 MODSEQ (3))", "FLAGS"},
		{"deaf", func(l *Lies) { l.ChangedSinceDeaf = true }, since, "* VANISHED (EARLIER) 2|OK", "FETCH ("},
		{"61", func(l *Lies) { l.VanishedTooMuch = true }, since, "* VANISHED (EARLIER) 1:4|", ""},
		{"61_unseen", func(l *Lies) { l.VanishedUnseen = true }, since, "* VANISHED (EARLIER) 2,16:26|", ""},
		{"61_others", func(l *Lies) { l.VanishedOthers = true }, since, "* VANISHED (EARLIER) 1|", ""},
		{"vanished", func(l *Lies) { l.VanishedDeaf = true }, since, "UID 4", "VANISHED"},
		{"70", func(l *Lies) { l.EnableEmpty = true }, "ENABLE QRESYNC", "* ENABLED|OK", "QRESYNC"},
		{"70_nothing", func(l *Lies) { l.EnableNothing = true }, "ENABLE QRESYNC", "OK", "ENABLED"},
		{"qresync", func(l *Lies) { l.QResyncDead = true }, since, "BAD", ""},
		{"22_none", func(l *Lies) { l.NoModSeq = true }, "EXAMINE INBOX", "[NOMODSEQ]", "HIGHESTMODSEQ"},
		{"22", func(l *Lies) { l.HighestModSeq = func(string, uint64) uint64 { return 1 } }, "EXAMINE INBOX", "[HIGHESTMODSEQ 1]", ""},
		{"56", func(l *Lies) { l.ListEmpty = true }, `LIST "" *`, "OK", "INBOX"},
		{"list", func(l *Lies) { l.ListWithout = []string{"Sent"} }, `LIST "" *`, "Drafts", "Sent"},
		{"55", func(l *Lies) { l.NoStatus = []string{"Sent"} }, `LIST "" * RETURN (STATUS (MESSAGES))`, `STATUS "Drafts"`, `STATUS "Sent"`},
		{"status", func(l *Lies) { l.StatusRefused = []string{"Sent"} }, "STATUS Sent (MESSAGES)", "NO [UNAVAILABLE]", ""},
		{"status_short", func(l *Lies) { l.StatusMessagesOnly = true }, "STATUS Sent (MESSAGES UIDNEXT)", "(MESSAGES 0)", "UIDNEXT"},
		{"57", func(l *Lies) { l.ExamineRefused = []string{"Sent"} }, "EXAMINE Sent", "NO [UNAVAILABLE]", ""},
		{"20", func(l *Lies) { l.NoUIDValidity = true }, "EXAMINE INBOX", "UIDNEXT", "UIDVALIDITY"},
		{"21", func(l *Lies) { l.NoUIDNext = true }, "EXAMINE INBOX", "UIDVALIDITY", "UIDNEXT"},
		{"exists", func(l *Lies) { l.ExistsOff = -1 }, "EXAMINE INBOX", "* 3 EXISTS", ""},
		{"60", func(l *Lies) { l.SearchAtMost = 2 }, "UID SEARCH ALL", "* SEARCH 1 3|OK [MESSAGELIMIT 2 3]", ""},
		{"60_silent", func(l *Lies) { l.SearchAtMost, l.SearchSilent = 2, true }, "UID SEARCH ALL", "* SEARCH 1 3|OK found", ""},
		{"59", func(l *Lies) { l.ESearchEmpty = true }, "UID SEARCH RETURN (ALL) ALL", "UID|OK", "ALL"},
		{"33", func(l *Lies) { l.Poison = poison }, "UID FETCH 1:5 (ENVELOPE)", "UID 1 ENVELOPE", "UID 4"},
		{"33_lean", func(l *Lies) { l.Poison = poison }, "UID FETCH 1:5 (FLAGS)", "UID 3", ""},
		{"unfetchable", func(l *Lies) { l.Unfetchable = poison }, "UID FETCH 1:5 (FLAGS)", "NO [SERVERBUG]", "UID 4"},
		{"not_returned", func(l *Lies) { l.NotReturned = poison }, "UID FETCH 1:5 (FLAGS)", "UID 4", "UID 3"},
		{"29", func(l *Lies) { l.NoFlags = true }, "UID FETCH 1:5 (FLAGS)", "(UID 4)", "FLAGS"},
		{"objectid", func(l *Lies) { l.NoObjectID = true }, "UID FETCH 1 (EMAILID THREADID)", "EMAILID NIL THREADID NIL", ""},
		{"parts", func(l *Lies) { l.PartsShort = true }, "UID FETCH 1 (BODY.PEEK[1])", "BODY[1] {0}", ""},
		{"19", func(l *Lies) { l.Refuse = map[string]string{"NOOP": "NO [THROTTLED] slow down"} }, "NOOP", "NO [THROTTLED] slow down", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, must := t.Context(), mustDo(t)
			m, u := modelUser(t, T1().With("OBJECTID"))
			_, _, err := u.Fill(ctx, "INBOX", Filling{Messages: 5})
			must(err)
			must(u.AddFlags(ctx, "INBOX", []uint32{4}, `\Seen`))
			must(u.Expunge(ctx, "INBOX", 2))
			k := dialModel(t, m)
			k.do("ENABLE QRESYNC")
			k.do("EXAMINE INBOX")
			truth := strings.Join(k.do(c.command), "|")
			u.Lie(c.lie)
			lie := strings.Join(k.do(c.command), "|")
			if !strings.Contains(lie, c.want) || c.not != "" && strings.Contains(lie, c.not) {
				t.Errorf("%s: %q, wants %q, not %q", c.command, lie, c.want, c.not)
			}
			u.Lie(func(l *Lies) { *l = Lies{} })
			again := strings.Join(k.do(c.command), "|")
			if tag := fmt.Sprintf("TAG \"A%d\"", k.n); strings.Contains(again, tag) {
				again = strings.ReplaceAll(again, tag, fmt.Sprintf("TAG \"A%d\"", k.n-2))
			}
			// What was open before is closed only where something was.
			if truth = strings.TrimPrefix(truth, "* OK [CLOSED] closed|"); strings.TrimPrefix(again, "* OK [CLOSED] closed|") != truth {
				t.Errorf("%s: truth was %q, is %q", c.command, truth, again)
			}
		})
	}
}

func TestModel_lies_in_time(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, must := t.Context(), mustDo(t)
		m, u := modelUser(t, T3())
		k := dialModel(t, m)
		k.do("EXAMINE INBOX")
		u.Lie(func(l *Lies) { l.ExistsBeforeItIs = true }) // row 67
		_, err := u.Append(ctx, "INBOX", Message("a@x", "a"), nil, Date)
		must(err)
		k.says("NOOP", "* 1 EXISTS", "OK")
		k.says("UID FETCH 1:* (FLAGS)", "OK")
		k.says("UID SEARCH ALL", "* SEARCH", "OK")
		u.Lie(func(l *Lies) { l.ExistsBeforeItIs = false })
		k.says("UID FETCH 1:* (FLAGS)", "* 1 FETCH (UID 1 FLAGS ())", "OK")

		u.Lie(func(l *Lies) { l.AlternatingUIDs = []string{"Sent"} }) // row 68
		for _, want := range []string{"1002", "2002", "1002"} {
			if got := strings.Join(k.do("EXAMINE Sent"), "|"); !strings.Contains(got, "[UIDVALIDITY "+want+"]") {
				t.Errorf("%q", got)
			}
		}
		k.do("EXAMINE INBOX")
		u.Lie(func(l *Lies) { l.NoPush = true })
		k.send("I IDLE\r\n")
		k.line()
		_, err = u.Append(ctx, "INBOX", Message("b@x", "b"), nil, Date)
		must(err)
		_ = k.c.SetReadDeadline(time.Now().Add(time.Hour))
		if l, err := k.br.ReadString('\n'); err == nil {
			t.Errorf("IDLE told %q", l)
		}
		_ = k.c.SetReadDeadline(time.Time{})
		k.send("DONE\r\n")
		for l := k.line(); !strings.HasPrefix(l, "I OK"); l = k.line() {
		}

		u.Lie(func(l *Lies) {
			l.Delay = map[string]time.Duration{"NOOP": time.Minute}
			l.Bye = map[string]string{"CHECK": "Session expired"}
		})
		begin := time.Now()
		k.do("NOOP")
		if d := time.Since(begin); d != time.Minute {
			t.Errorf("NOOP took %s", d)
		}
		k.send("C CHECK\r\n")
		if l := k.line(); l != "* BYE Session expired" {
			t.Errorf("%q", l)
		}
		if _, err := k.br.ReadByte(); err != io.EOF {
			t.Errorf("then %v", err)
		}
		m.Close()
	})
}
