//go:build linux

package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"syscall"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	sloggokit "github.com/tjhop/slog-gokit"
)

const (
	// callerDepth is the number of calls between a log statement and the key "caller": 3 for log.DefaultCaller, and 2 for the
	// level.
	callerDepth = 5
	// maxLogValue is how much of a value is logged, in bytes: enough for the upper part of a stack.
	maxLogValue = 4 << 10
)

// Logs are the loggers of the server and of the libraries that it uses.
type Logs struct {
	Kit     log.Logger   // the server's own
	Toolkit *slog.Logger // for exporter-toolkit, net/http and promhttp
	// Dropped returns how many lines were dropped, because nobody read them. It is nil if none ever is.
	Dropped func() uint64
}

// NewQueuedLogs returns loggers that wait for nobody, and what they write to.
func NewQueuedLogs(w io.Writer, minimum, format string) (Logs, *LogWriter) {
	queue := newLogWriter(w, func(dropped uint64) []byte {
		var line bytes.Buffer
		level.Warn(NewLogs(&line, minimum, format).Kit).Log("msg", "log lines were dropped, because nobody read the log", "lines", dropped)
		return line.Bytes()
	})
	logs := NewLogs(queue, minimum, format)
	logs.Dropped = queue.Dropped
	return logs, queue
}

// NewLogs returns loggers that write lines of at least the given level to w. Each line has one timestamp and at most one
// caller.
func NewLogs(w io.Writer, minimum, format string) Logs {
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
	return Logs{
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

// scrapeLogger logs the errors of promhttp.
type scrapeLogger struct{ next slog.Handler }

// Println implements promhttp.Logger. When a client hangs up, promhttp logs an error for each family that was not sent. That is
// the client's problem, so it is only logged for debugging.
func (s scrapeLogger) Println(values ...any) {
	severity := slog.LevelError
	for _, value := range values {
		if err, ok := value.(error); ok && (errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)) {
			severity = slog.LevelDebug
		}
	}
	slog.NewLogLogger(s.next, severity).Println(values...)
}
