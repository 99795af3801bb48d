package main

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// reloader reads the registry again when it is asked to, and logs how that went: whoever asked may not be who has to know.
type reloader struct {
	read   func() error // nil if there is no registry
	logger log.Logger
}

// reload reads the registry again. by is how it was asked to.
func (r reloader) reload(by string) error {
	if err := r.read(); err != nil {
		inventory.LogEach(r.logger, inventory.BadRegistry, err)
		return err
	}
	level.Info(r.logger).Log("msg", "reloaded", "by", by)
	return nil
}

// withReload lets a POST to reloadPath read the registry again, beside what next answers. Whoever may send it can make the
// exporter work, and no more: a registry that is bad leaves the last one in force.
func withReload(next http.Handler, r reloader) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", next)
	mux.HandleFunc(reloadPath, func(w http.ResponseWriter, req *http.Request) {
		switch {
		case r.read == nil:
			http.Error(w, "There is no registry to read again: it takes --registry.file.", http.StatusNotFound)
			return
		case req.Method != http.MethodPost:
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "To read the registry again takes a POST.", http.StatusMethodNotAllowed)
			return
		}
		if err := r.reload(http.MethodPost); err != nil {
			http.Error(w, fmt.Sprintf("%s\n%v", inventory.BadRegistry, err), http.StatusInternalServerError)
			return
		}
		_, _ = fmt.Fprintln(w, "The registry was read again.")
	})
	return mux
}

// catchHangups returns the SIGHUPs that come from now on. None of them ends the program any more.
func catchHangups() chan os.Signal {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	return hangups
}

// reloadOnHangup reads the registry again at each SIGHUP, until stop is called.
func reloadOnHangup(hangups chan os.Signal, r reloader) (stop func()) {
	go func() {
		for range hangups {
			if r.read == nil {
				level.Warn(r.logger).Log("msg", "SIGHUP: there is no registry to read again: it takes --registry.file")
				continue
			}
			_ = r.reload("SIGHUP") // which logs its error
		}
	}()
	return func() {
		signal.Stop(hangups)
		close(hangups)
	}
}
