package main

import (
	"context"
	"io"
	"log/slog"

	"github.com/postrider/postrider/imapsync"
)

// newLogger makes the logger that everything is handed.
func newLogger(w io.Writer, level, format string) *slog.Logger {
	o := &slog.HandlerOptions{Level: imapsync.LevelTrace, ReplaceAttr: nameTrace}
	var h slog.Handler = slog.NewJSONHandler(w, o)
	if format == "text" || format == "auto" && isTerminal(w) {
		h = slog.NewTextHandler(w, o)
	}
	return slog.New(leveled{h, map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}[level]})
}

// traceLogger writes the protocol trace where log writes, whatever log's level is.
func traceLogger(log *slog.Logger) *slog.Logger {
	if h, ok := log.Handler().(leveled); ok {
		return slog.New(h.Handler)
	}
	return log
}

// leveled is a handler with a level of its own, over one that takes everything.
type leveled struct {
	slog.Handler
	least slog.Level
}

// Enabled implements slog.Handler.
func (h leveled) Enabled(_ context.Context, l slog.Level) bool { return l >= h.least }

// WithAttrs implements slog.Handler.
func (h leveled) WithAttrs(a []slog.Attr) slog.Handler {
	return leveled{h.Handler.WithAttrs(a), h.least}
}

// WithGroup implements slog.Handler.
func (h leveled) WithGroup(name string) slog.Handler {
	return leveled{h.Handler.WithGroup(name), h.least}
}

// nameTrace calls the level of the protocol trace by its name.
func nameTrace(groups []string, a slog.Attr) slog.Attr {
	if l, ok := a.Value.Any().(slog.Level); ok && len(groups) == 0 && a.Key == slog.LevelKey && l == imapsync.LevelTrace {
		a.Value = slog.StringValue("TRACE")
	}
	return a
}
