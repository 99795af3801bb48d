package main

import (
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"strings"
	"syscall"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	sloggokit "github.com/tjhop/slog-gokit"
)

// callerDepth is how many calls lie between a statement that logs and the key "caller": log.DefaultCaller's 3, and the
// level's two.
const callerDepth = 5

// loggers are the ways in which the program's parts write to one log.
type loggers struct {
	kit  log.Logger     // for the program's own code
	http scrapeLog      // for promhttp
	slog *slog.Logger   // for the exporter toolkit
	std  *stdlog.Logger // for net/http, which only has errors to tell
}

// newLoggers returns loggers that write lines of at least the given level to w. Whichever way a line comes, it bears one
// timestamp and one caller.
func newLoggers(w io.Writer, minimum, format string) loggers {
	w = log.NewSyncWriter(w)
	base := log.NewLogfmtLogger(w)
	if format == "json" {
		base = log.NewJSONLogger(w)
	}
	with := func(keyvals ...any) log.Logger {
		allowed := level.Allow(level.ParseDefault(minimum, level.InfoValue()))
		return level.NewFilter(log.With(base, keyvals...), allowed)
	}
	plain := with("ts", log.DefaultTimestampUTC)
	return loggers{
		kit:  with("ts", log.DefaultTimestampUTC, "caller", log.Caller(callerDepth)),
		slog: slog.New(sloggokit.NewGoKitHandler(withoutTime(plain), slog.LevelDebug)),
		http: scrapeLog{plain},
		std:  stdlog.New(messages{level.Error(plain)}, "", 0),
	}
}

// withoutTime takes off the time that the slog bridge adds, in favour of the log's own.
func withoutTime(next log.Logger) log.Logger {
	return log.LoggerFunc(func(keyvals ...any) error {
		kept := make([]any, 0, len(keyvals))
		for i := 0; i+1 < len(keyvals); i += 2 {
			if keyvals[i] != slog.TimeKey {
				kept = append(kept, keyvals[i], keyvals[i+1])
			}
		}
		return next.Log(kept...)
	})
}

// messages makes a log line of each message that is written to it. log.NewStdlibAdapter would do so too, but takes what
// stands before the first number of a message ("http: TLS handshake error from 192.0.2.1:40000") for its caller.
type messages struct{ next log.Logger }

func (m messages) Write(p []byte) (int, error) {
	if err := m.next.Log("msg", strings.TrimSuffix(string(p), "\n")); err != nil {
		return 0, err
	}
	return len(p), nil
}

// scrapeLog writes the errors of promhttp.
type scrapeLog struct{ next log.Logger }

// Println implements promhttp.Logger. That a client hung up is told once for each metric that it did not take: it is the
// client's trouble, and nobody else's.
func (s scrapeLog) Println(values ...any) {
	next := level.Error(s.next)
	for _, value := range values {
		if err, ok := value.(error); ok && (errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)) {
			next = level.Debug(s.next)
		}
	}
	next.Log("msg", strings.TrimSuffix(fmt.Sprintln(values...), "\n"))
}
