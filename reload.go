package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

// withReload lets a POST to reloadPath call reload, beside what next answers. Whoever may send it can make the exporter work,
// and no more: a registry that is bad leaves the last one in force.
func withReload(next http.Handler, reload func() error) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", next)
	mux.HandleFunc(reloadPath, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "To read the registry again takes a POST.", http.StatusMethodNotAllowed)
			return
		}
		if err := reload(); err != nil {
			http.Error(w, fmt.Sprintf("The registry stays as it was: its file is bad.\n%v", err), http.StatusInternalServerError)
			return
		}
		_, _ = fmt.Fprintln(w, "The registry was read again.")
	})
	return mux
}

// reloadOnHangup calls reload at each SIGHUP, until stop is called.
func reloadOnHangup(reload func() error, logger log.Logger) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		for range hangups {
			if err := reload(); err != nil {
				logEach(logger, "the registry stays as it was: its file is bad", err)
				continue
			}
			level.Info(logger).Log("msg", "SIGHUP: reloaded")
		}
	}()
	return func() {
		signal.Stop(hangups)
		close(hangups)
	}
}

// logEach logs what went wrong: each of the errors that err joins on a line of its own, such as the faults of a registry.
func logEach(logger log.Logger, msg string, err error) {
	errs := []error{err}
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		errs = joined.Unwrap()
	}
	for _, err := range errs {
		level.Error(logger).Log("msg", msg, "err", err)
	}
}
