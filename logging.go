package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	sloggokit "github.com/tjhop/slog-gokit"

	"github.com/listen-exporter/listen_exporter/internal/command"
	"github.com/listen-exporter/listen_exporter/internal/server"
)

const (
	// callerDepth is the number of calls between a log statement and the key "caller": 3 for log.DefaultCaller, and 2 for the
	// level.
	callerDepth = 5
	// maxLogValue is how much of a value is logged, in bytes: enough for the upper part of a stack.
	maxLogValue = 4 << 10
)

// newCommandLogger returns the logger of a command: plain text, unless the user asked for a level or a format. It writes at once:
// somebody waits for the command, and a signal ends it even while it writes.
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

// newServerLogs returns the loggers of the server, which wait for nobody, and what they write to.
func newServerLogs(stderr io.Writer, minimum, format string) (server.Logs, *server.LogWriter) {
	w := server.NewLogWriter(stderr, func(dropped uint64) []byte {
		var line bytes.Buffer
		level.Warn(newLogs(&line, minimum, format).Kit).Log("msg", "log lines were dropped, because nobody read the log", "lines", dropped)
		return line.Bytes()
	})
	logs := newLogs(w, minimum, format)
	logs.Dropped = w.Dropped
	return logs, w
}

// newLogs returns loggers that write lines of at least the given level to w. Each line has one timestamp and at most one
// caller.
func newLogs(w io.Writer, minimum, format string) server.Logs {
	w = log.NewSyncWriter(w)
	base := log.NewLogfmtLogger(w)
	if format == "json" {
		base = log.NewJSONLogger(w)
	}
	base = shortened(base)
	with := func(keyvals ...any) log.Logger {
		allowed := level.Allow(level.ParseDefault(minimum, level.InfoValue()))
		return level.NewFilter(log.With(base, keyvals...), allowed)
	}
	return server.Logs{
		Kit:     with("ts", log.DefaultTimestampUTC, "caller", log.Caller(callerDepth)),
		Toolkit: slog.New(sloggokit.NewGoKitHandler(withoutTime(with("ts", log.DefaultTimestampUTC)), slog.LevelDebug)),
	}
}

// shortened cuts long values, such as an error that quotes a file, or a stack.
func shortened(next log.Logger) log.Logger {
	return log.LoggerFunc(func(keyvals ...any) error {
		for i := 1; i < len(keyvals); i += 2 {
			text, isText := keyvals[i].(string)
			if err, isError := keyvals[i].(error); isError {
				text, isText = err.Error(), true
			}
			if isText && len(text) > maxLogValue {
				keyvals[i] = fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(text[:maxLogValue], ""), len(text))
			}
		}
		return next.Log(keyvals...)
	})
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
