//go:build linux

package server

import (
	"context"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/prometheus/exporter-toolkit/web"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// Options are the options of a Server.
type Options struct {
	// Web has the addresses to listen on, and the file for TLS and passwords.
	Web *web.FlagConfig
	// TelemetryPath is the path of the metrics. See ValidateTelemetryPath.
	TelemetryPath string
	// MaxRequests limits the scrapes in progress, or is 0 for no limit.
	MaxRequests int
	// DisableExporterMetrics excludes the metrics about the exporter itself.
	DisableExporterMetrics bool
	// Page shows the listeners at / instead of just links, and serves them as JSON.
	Page bool
	// EnableLifecycle allows a POST to /-/reload.
	EnableLifecycle bool
	// Host and RegistryFile are shown on the page.
	Host, RegistryFile string

	// Snapshot reads the current listeners, as far as they are known by the context's deadline.
	Snapshot func(context.Context) *inventory.Snapshot
	// SnapshotWithProcesses is the same for the page and its JSON, which show PIDs.
	SnapshotWithProcesses func(context.Context) *inventory.Snapshot
	// WriteJSON writes a snapshot as JSON.
	WriteJSON func(io.Writer, *inventory.Snapshot) error
	// Reload reloads the registry. It is nil if there is no registry.
	Reload func() error
}

const (
	listenersPath = "/api/v1/listeners"
	healthyPath   = "/-/healthy"
	readyPath     = "/-/ready"
	reloadPath    = "/-/reload"
)

// ValidateTelemetryPath returns an error if metrics cannot be served at a path.
func ValidateTelemetryPath(p string) error {
	switch {
	case !strings.HasPrefix(p, "/"), path.Clean(p) != p, strings.ContainsAny(p, "{} \t\r\n?#%"):
		return fmt.Errorf("%q is not usable: want a plain absolute path such as /metrics", p)
	case p == listenersPath, p == healthyPath, p == readyPath, p == reloadPath:
		return fmt.Errorf("%s has another purpose: want a path such as /metrics", p)
	}
	return nil
}
