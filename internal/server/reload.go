package server

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

var errNoRegistry = errors.New("no registry configured: start with --registry.file")

// reloader reloads the registry. A bad registry leaves the last good one in force.
type reloader struct {
	reload func() error // nil if there is no registry
	logger log.Logger
}

// do reloads the registry. It logs the result too, as whoever asked for it may not be the one who has to know. by says what
// asked.
func (r reloader) do(by string) error {
	if r.reload == nil {
		level.Warn(r.logger).Log("msg", "cannot reload", "by", by, "err", errNoRegistry)
		return errNoRegistry
	}
	if err := r.reload(); err != nil {
		inventory.LogEach(r.logger, inventory.BadRegistry, err)
		return err
	}
	level.Info(r.logger).Log("msg", "reloaded", "by", by)
	return nil
}

// ServeHTTP implements http.Handler.
func (r reloader) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	switch {
	case r.reload == nil:
		http.Error(w, "No registry configured: start with --registry.file.", http.StatusNotFound)
	case request.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "Use POST to reload the registry.", http.StatusMethodNotAllowed)
	default:
		if err := r.do(http.MethodPost); err != nil {
			http.Error(w, fmt.Sprintf("%s\n%v", inventory.BadRegistry, err), http.StatusInternalServerError)
			return
		}
		_, _ = fmt.Fprintln(w, "The registry was reloaded.")
	}
}
