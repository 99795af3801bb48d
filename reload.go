package main

import (
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
	mux.HandleFunc("POST "+reloadPath, func(w http.ResponseWriter, _ *http.Request) {
		if err := reload(); err != nil {
			http.Error(w, fmt.Sprintf("the registry stays as it was: %v", err), http.StatusInternalServerError)
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
				level.Error(logger).Log("msg", "the registry stays as it was: its file is bad", "err", err)
			}
		}
	}()
	return func() {
		signal.Stop(hangups)
		close(hangups)
	}
}
