package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/postrider/postrider/imapsync"
)

// The protocol trace has a level of its own: it is written whatever the level of the log
// is, and by nobody else.
func TestTraceLoggerHasItsOwnLevel(t *testing.T) {
	for _, format := range []string{"json", "text"} {
		var b bytes.Buffer
		log := newLogger(&b, "warn", format).With("a", 1).WithGroup("g")
		log.Info("quiet")
		log.Log(t.Context(), imapsync.LevelTrace, "quiet")
		log.Warn("loud")
		traceLogger(newLogger(&b, "warn", format)).Log(t.Context(), imapsync.LevelTrace, "traced")
		got := b.String()
		if strings.Contains(got, "quiet") || !strings.Contains(got, "loud") || !strings.Contains(got, "traced") || !strings.Contains(got, "TRACE") || strings.Contains(got, "DEBUG-4") {
			t.Errorf("%s: %s", format, got)
		}
	}
}
