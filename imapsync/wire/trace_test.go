package wire

import (
	"strings"
	"testing"
)

func TestHideStrings(t *testing.T) {
	odd := strings.Repeat("\xff", 100)
	for in, want := range map[string]string{
		`* 1 FETCH (BODY[1]<0> "secret" UID 1)`:            `* 1 FETCH (BODY[1]<0> "***" UID 1)`,
		`* 1 FETCH (UID 1 body[header] "a\"secret" X "b")`: `* 1 FETCH (UID 1 body[header] "***" X "***")`,
		"* 1 FETCH (X " + odd + ` ENVELOPE ("secret"))`:    "* 1 FETCH (X " + odd + ` ENVELOPE ("***"))`,
		`* 1 FETCH (FLAGS ("x"))`:                          `* 1 FETCH (FLAGS ("x"))`,
	} {
		if got := string(hideStrings([]byte(in), "BODY[", "ENVELOPE")); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
