package imapsync

import (
	"testing"

	"github.com/postrider/postrider/imapsync/imaptest"
)

// calm is a store that fails no commit: one that failed has all looked at again.
var calm = &plant{store: func(s Store) Store { return s.(*flakyStore).Store }}

// Histories that were drawn once, or made of such ones, and came out wrong.
func TestOracle_what_was_wrong_once(t *testing.T) {
	const (
		archive  = 1  // as pick takes it
		early    = 15 // the lie that EXISTS tells of messages before they can be had: archive, too
		offByOne = 13 // the lie that EXISTS is one more than there is
		tooFew   = 14 // the lie that EXISTS is one less than there is
		two      = 18 // the lie that SEARCH finds two at most, and does not say that there are more
		others   = 26 // the lie that VANISHED names others than are gone
		unlisted = 27 // the lie that LIST leaves a folder out
		minutes  = 7  // a pause
	)
	only := map[string]string{ // the tier that a history is about
		"VANISHED names another one": "T1", "VANISHED names another one afterwards": "T1", "a folder is not listed": "T3",
	}
	for name, h := range map[string][]deed{
		// The number of messages fits again before the list does.
		"one goes for one that does not show itself": {
			{Do: "append", A: archive},
			{Do: "append", A: archive, Pause: minutes},
			{Do: "lie", A: early},
			{Do: "append", A: archive},
			{Do: "expunge", A: archive, Pause: minutes},
		},
		"one goes while another does not show itself": {
			{Do: "append", A: archive},
			{Do: "append", A: archive, Pause: minutes},
			{Do: "lie", A: early},
			{Do: "append", A: archive, Pause: minutes},
			{Do: "expunge", A: archive, Pause: minutes},
		},
		"one goes, and the worker, while another does not show itself": {
			{Do: "append", A: archive},
			{Do: "append", A: archive, Pause: minutes},
			{Do: "lie", A: early},
			{Do: "append", A: archive, Pause: minutes},
			{Do: "expunge", A: archive},
			{Do: "restart", Pause: minutes},
		},
		"a folder's first list does not show all of it": {
			{Do: "append old", A: archive},
			{Do: "append", A: archive},
			{Do: "append", A: archive, Pause: minutes},
			{Do: "lie", A: early},
			{Do: "append", A: archive},
			{Do: "rename", A: archive, B: 2, Pause: minutes},
			{Do: "expunge", A: 6},
		},
		// What the folder was found to count too much confirms a list that is short by as much.
		"the number was wrong for long, and then the list is": {
			{Do: "append"},
			{Do: "append"},
			{Do: "lie", A: offByOne},
			{Do: "append", Pause: minutes},
			{Do: "forget vanished", Pause: minutes},
			{Do: "forget vanished", Pause: minutes},
			{Do: "forget vanished", Pause: minutes},
			{Do: "forget vanished", Pause: minutes},
			{Do: "lie", A: two},
			{Do: "cut", Pause: minutes},
		},
		// The number is right because it was counted by what was said.
		"VANISHED names another one": {
			{Do: "append"},
			{Do: "append", Pause: minutes},
			{Do: "lie", A: others},
			{Do: "expunge", B: 1, Pause: minutes},
		},
		"VANISHED names another one afterwards": {
			{Do: "append", A: archive},
			{Do: "append", A: archive, Pause: minutes},
			{Do: "lie", A: others},
			{Do: "expunge", A: archive, B: 1, Pause: minutes},
		},
		// Two reasons to wait, and the one that was over had it asked without end.
		"all goes while the number does not add up": {
			{Do: "refuse", A: 65535},
			{Do: "create"},
			{Do: "append many", A: archive},
			{Do: "cut", Pause: minutes},
			{Do: "lie", A: tooFew},
			{Do: "append", A: archive, Pause: minutes},
			{Do: "expunge all", A: archive},
		},
		"a folder is not listed": {
			{Do: "append", A: archive},
			{Do: "append", A: archive, Pause: minutes},
			{Do: "lie", A: unlisted},
			{Do: "hour"},
			{Do: "hour"},
		},
	} {
		for _, dialect := range []imaptest.Dialect{imaptest.T1(), imaptest.T2(), imaptest.T3()} {
			if tier := only[name]; tier != "" && tier != dialect.Name {
				continue
			}
			t.Run(dialect.Name+"/"+name, func(t *testing.T) {
				t.Parallel()
				if err := happens(t, dialect, h, calm); err != nil {
					t.Error(err)
				}
			})
		}
	}
}
