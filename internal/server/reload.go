package server

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/go-kit/log/level"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

var errNoRegistry = errors.New("no registry configured: start with --registry.file")

// Reload reloads the registry. A bad registry leaves the last good one in force. It also logs the result, because
// the operator reads the log and may not have asked for the reload. by says what asked for it, such as "SIGHUP".
func (s *Server) Reload(by string) error {
	if s.options.Reload == nil {
		level.Warn(s.logs.Kit).Log("msg", "cannot reload the registry", "by", by, "err", errNoRegistry)
		return errNoRegistry
	}
	if err := s.options.Reload(); err != nil {
		inventory.LogEach(s.logs.Kit, inventory.BadRegistry, err)
		return err
	}
	level.Info(s.logs.Kit).Log("msg", "reloaded the registry", "by", by)
	return nil
}

func (s *Server) serveReload(w http.ResponseWriter, r *http.Request) {
	switch {
	case s.options.Reload == nil:
		http.Error(w, "No registry configured: start with --registry.file.", http.StatusNotFound)
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "Use POST to reload the registry.", http.StatusMethodNotAllowed)
	default:
		if err := s.Reload(http.MethodPost); err != nil {
			http.Error(w, fmt.Sprintf("%s\n%v", inventory.BadRegistry, err), http.StatusInternalServerError)
			return
		}
		_, _ = fmt.Fprintln(w, "The registry was reloaded.")
	}
}
