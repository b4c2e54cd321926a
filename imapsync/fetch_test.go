package imapsync

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"github.com/postrider/postrider/imapsync/imaptest"
)

func TestReferences(t *testing.T) {
	var many []string
	for i := range 60 {
		many = append(many, fmt.Sprintf("<%d@x>", i))
	}
	if ids := allIDs([]string{strings.Join(many, " ")}); len(ids) != maxReferences || ids[0] != "<10@x>" {
		t.Errorf("references = %v", ids)
	}
}

// What is kept of an answer has a bound, whatever a server sends of messages it says there
// are none of; the connection goes on.
func TestFetch_keeps_no_answer_without_end(t *testing.T) {
	// sends says n messages: a line is made of a UID.
	sends := func(n int, line string) imaptest.Step {
		var steps []imaptest.Step
		steps = append(steps, imaptest.Expect("UID FETCH"))
		for uid := 1; uid <= n; uid++ {
			steps = append(steps, imaptest.Send(strings.ReplaceAll(line, "{uid}", fmt.Sprint(uid))))
		}
		return imaptest.All(append(steps, imaptest.Send("{tag} OK done\r\n"))...)
	}
	long := strings.Repeat("x", 60<<10)
	most := imap.UIDSet{{Start: 1, Stop: 1 << 20}}
	for name, c := range map[string]struct {
		line string
		ask  func(Session) (int, error)
		err  error
	}{
		"messages": {
			`* 1 FETCH (UID {uid} ENVELOPE (NIL "` + long + `" NIL NIL NIL NIL NIL NIL NIL NIL))` + "\r\n",
			func(s Session) (int, error) { got, err := s.Messages(t.Context(), most); return len(got), err }, errTooLarge,
		},
		"identities": {
			"* 1 FETCH (UID {uid} BODY[HEADER.FIELDS (MESSAGE-ID)] " + literal("Message-ID: <"+long+">\r\n\r\n") + ")\r\n",
			func(s Session) (int, error) { got, err := s.Identities(t.Context(), most); return len(got), err }, errTooLarge,
		},
	} {
		t.Run(name, func(t *testing.T) {
			script, s, err := dialScript(t, nil, selected("3"), sends(300, c.line), imaptest.Answer("NOOP"), imaptest.Silence())
			t.Cleanup(script.Close)
			ok(t, err)
			must[Selected](t)(s.Select(t.Context(), "INBOX"))
			if n, err := c.ask(s); n > 0 || !errors.Is(err, c.err) {
				t.Errorf("%d messages, %v", n, err)
			}
			ok(t, s.Noop(t.Context()))
		})
	}
	t.Run("labels", func(t *testing.T) {
		script, s, err := dialScript(t, nil, imaptest.LoggedIn("X-GM-EXT-1"),
			imaptest.Answer("EXAMINE", "* 3000 EXISTS\r\n"), sends(3000, "* 1 FETCH (UID {uid} FLAGS () X-GM-LABELS (l{uid} "+long[:4<<10]+"))\r\n"), imaptest.Silence())
		t.Cleanup(script.Close)
		ok(t, err)
		must[Selected](t)(s.Select(t.Context(), "INBOX"))
		if d, err := s.Flags(t.Context(), most); len(d.Flags) > 0 || !errors.Is(err, errTooMany) {
			t.Errorf("%d messages, %v", len(d.Flags), err)
		}
	})
}
