package server

import (
	"errors"
	"log/slog"
	"syscall"

	"github.com/go-kit/log"
)

// Logs are the loggers of the server and of the libraries that it uses.
type Logs struct {
	Kit     log.Logger   // the server's own
	Toolkit *slog.Logger // for exporter-toolkit, net/http and promhttp
	// Dropped returns how many lines were dropped, because nobody read them. It is nil if none ever is.
	Dropped func() uint64
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
