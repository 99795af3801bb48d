//go:build linux

package server

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/go-kit/log/level"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

var errNoRegistry = errors.New("no registry configured: start with --registry.file, or restart if a file of --registry.optional-file is there now")

// Reload reloads the registry. A bad registry leaves the last good one in force. It also logs the result, because
// the operator reads the log and may not have asked for the reload. by says what asked for it, such as "SIGHUP".
func (s *Server) Reload(by string) error {
	if s.options.Reload == nil {
		level.Warn(s.logs.Kit).Log("msg", "cannot reload the registry", "by", by, "err", errNoRegistry)
		return errNoRegistry
	}
	err := s.panics.guard("reload the registry", s.options.Reload)
	s.logReload(by, err)
	return err
}

// logReload logs the result of a reload. An error that is the same as after the last reload is one line.
func (s *Server) logReload(by string, err error) {
	s.reload.Lock()
	defer s.reload.Unlock()
	last := s.reload.err
	s.reload.err = err
	switch {
	case err == nil:
		level.Info(s.logs.Kit).Log("msg", "reloaded the registry", "by", by)
	case last != nil && last.Error() == err.Error():
		level.Error(s.logs.Kit).Log("msg", inventory.BadRegistry, "by", by, "err", "as logged before")
	default:
		inventory.LogEach(s.logs.Kit, inventory.BadRegistry, err)
	}
}

func (s *Server) serveReload(w http.ResponseWriter, r *http.Request) {
	switch {
	case s.options.Reload == nil:
		http.Error(w, "No registry configured: start with --registry.file, or restart if a file of --registry.optional-file is there now.", http.StatusNotFound)
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "Use POST to reload the registry.", http.StatusMethodNotAllowed)
	default:
		if err := s.Reload(http.MethodPost); err != nil {
			http.Error(w, fmt.Sprintf("%s\n%s\nThe log says more.", inventory.BadRegistry, wording.Public(err)), http.StatusInternalServerError)
			return
		}
		_, _ = fmt.Fprintln(w, "The registry was reloaded.")
	}
}
