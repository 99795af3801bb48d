package main

import (
	"io"
	"log/slog"
	"slices"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	sloggokit "github.com/tjhop/slog-gokit"

	"github.com/listen-exporter/listen_exporter/internal/command"
	"github.com/listen-exporter/listen_exporter/internal/server"
)

// callerDepth is the number of calls between a log statement and the key "caller": 3 for log.DefaultCaller, and 2 for the
// level.
const callerDepth = 5

// newCommandLogger returns the logger of a command: plain text, unless the user asked for a level or a format.
func newCommandLogger(c *config, stderr io.Writer) log.Logger {
	if !c.logLevelSet && !c.logFormatSet {
		return command.PlainLogger(stderr)
	}
	minimum := c.logLevel
	if !c.logLevelSet {
		minimum = commandLogLevel
	}
	return newLogs(stderr, minimum, c.logFormat).Kit
}

// newLogs returns loggers that write lines of at least the given level to w. Each line has one timestamp and at most one
// caller.
func newLogs(w io.Writer, minimum, format string) server.Logs {
	w = log.NewSyncWriter(w)
	base := log.NewLogfmtLogger(w)
	if format == "json" {
		base = log.NewJSONLogger(w)
	}
	with := func(keyvals ...any) log.Logger {
		allowed := level.Allow(level.ParseDefault(minimum, level.InfoValue()))
		return level.NewFilter(log.With(base, keyvals...), allowed)
	}
	return server.Logs{
		Kit:     with("ts", log.DefaultTimestampUTC, "caller", log.Caller(callerDepth)),
		Toolkit: slog.New(sloggokit.NewGoKitHandler(withoutTime(with("ts", log.DefaultTimestampUTC)), slog.LevelDebug)),
	}
}

// withoutTime removes the timestamp that the slog bridge adds: the log has its own.
func withoutTime(next log.Logger) log.Logger {
	return log.LoggerFunc(func(keyvals ...any) error {
		if i := slices.Index(keyvals, any(slog.TimeKey)); i >= 0 {
			keyvals = slices.Delete(keyvals, i, i+2)
		}
		return next.Log(keyvals...)
	})
}
