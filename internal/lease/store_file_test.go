//go:build linux

package lease_test

import (
	"path/filepath"
	"testing"

	"github.com/listen-exporter/listen_exporter/internal/lease"
)

// fileStores are the stores that each build has.
var fileStores = storeKind{name: "file", start: func(*testing.T) func(t *testing.T) opener {
	return func(t *testing.T) opener {
		path := filepath.Join(t.TempDir(), "leases.db")
		return func(host string, clock lease.Clock) lease.Store {
			s, err := lease.OpenFile(path, host, clock)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	}
}}
