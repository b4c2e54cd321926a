package message

import (
	"testing"
	"time"
)

func TestDate(t *testing.T) {
	for in, want := range map[string]string{
		"Sat, 21 Nov 2026 10:00:00 +0100":       "2026-11-21T09:00:00Z",
		"Sat, 21 Nov 2026 10:00:00 +0100 (CET)": "2026-11-21T09:00:00Z",
		"21 Nov 26 10:00 GMT":                   "2026-11-21T10:00:00Z",
		"2026-11-21T10:00:00+01:00":             "2026-11-21T09:00:00Z",
		"2026-11-21 10:00:00":                   "2026-11-21T10:00:00Z",
		"Sat Nov 21 10:00:00 2026":              "2026-11-21T10:00:00Z",
		"Sat, 21 Nov 2026 10:00:00":             "2026-11-21T10:00:00Z",
		"soon":                                  "",
		"":                                      "",
		"Mon, 1 Jan 0001 00:00:00 +0000":        "",
	} {
		got, ok := Date(in)
		if s := got.UTC().Format(time.RFC3339); ok != (want != "") || ok && s != want {
			t.Errorf("%q: %s %v, want %s", in, s, ok, want)
		}
	}
}
