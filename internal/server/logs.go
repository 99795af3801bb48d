package server

import (
	"errors"
	"fmt"
	stdlog "log"
	"log/slog"
	"strings"
	"syscall"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

// Logs are the loggers of the server and of the libraries that it uses.
type Logs struct {
	Kit     log.Logger   // the server's own
	Plain   log.Logger   // does not add a caller, for libraries that do not name theirs
	Toolkit *slog.Logger // for exporter-toolkit
}

// forHTTP returns the logger for net/http, which only logs errors.
func (l Logs) forHTTP() *stdlog.Logger { return stdlog.New(messageWriter{level.Error(l.Plain)}, "", 0) }

// messageWriter logs each message that is written to it. log.NewStdlibAdapter would take the start of some messages ("http: TLS
// handshake error from 192.0.2.1:40000") for their caller.
type messageWriter struct{ next log.Logger }

func (m messageWriter) Write(p []byte) (int, error) {
	if err := m.next.Log("msg", strings.TrimSuffix(string(p), "\n")); err != nil {
		return 0, err
	}
	return len(p), nil
}

// scrapeLogger logs the errors of promhttp.
type scrapeLogger struct{ next log.Logger }

// Println implements promhttp.Logger. When a client hangs up, promhttp logs an error for each family that was not sent. That is
// the client's problem, so it is only logged for debugging.
func (s scrapeLogger) Println(values ...any) {
	next := level.Error(s.next)
	for _, value := range values {
		if err, ok := value.(error); ok && (errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)) {
			next = level.Debug(s.next)
		}
	}
	next.Log("msg", strings.TrimSuffix(fmt.Sprintln(values...), "\n"))
}
