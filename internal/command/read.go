//go:build linux

package command

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-kit/log"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// patience is how long a command waits for a read: one of a million sockets takes seconds. One that hangs must not hang the
// command.
const patience = 20 * time.Second

// read reads the current listeners once.
func read(o inventory.Options, logger log.Logger) (*inventory.Snapshot, error) {
	o.EphemeralMinAge = 0 // a single read cannot tell how old a socket is
	o.Processes = true
	listeners, err := inventory.Open(o, logger)
	if err != nil {
		return nil, err
	}
	defer listeners.Close() // --watch reads again and again
	snapshot := snapshotOf(listeners)
	for i := range snapshot.Listeners { // a single read does not know either since when something is so
		l := &snapshot.Listeners[i]
		l.FirstSeen, l.Starts = time.Time{}, nil
	}
	return snapshot, nil
}

// snapshotOf reads the current listeners, as far as that is done in time.
func snapshotOf(listeners *inventory.Inventory) *inventory.Snapshot {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return listeners.Snapshot(ctx)
}

// mainNamespace returns o without the other network namespaces: the registry is only about the main one.
func mainNamespace(o inventory.Options) inventory.Options {
	if o.Netns == "all" {
		o.Netns = "host"
	}
	return o
}

// refuseFilters returns an error if o leaves listeners out. Otherwise a command that covers all of them would silently pass
// what it did not see.
func refuseFilters(o inventory.Options, why string) error {
	var given []string
	for _, filter := range []struct {
		flag  string
		given bool
	}{
		{"--collector.port-include", o.PortInclude.String() != ""},
		{"--collector.port-exclude", o.PortExclude.String() != ""},
		{"--collector.scope-exclude", o.ScopeExclude.String() != ""},
		{"--no-collector.tcp", !o.TCP},
		{"--no-collector.udp", !o.UDP},
	} {
		if filter.given {
			given = append(given, filter.flag)
		}
	}
	if len(given) == 0 {
		return nil
	}
	return fmt.Errorf("%s: leave out %s", why, strings.Join(given, " and "))
}

// incomplete returns an error for each failed read. The inventory has already logged the causes.
func incomplete(s *inventory.Snapshot) error {
	var failed []error
	for _, read := range s.Reads {
		if read.Err == nil {
			continue
		}
		what := "its listeners are missing here"
		switch read.Collector {
		case inventory.CollectorHolder:
			what = "the holders are not known"
		case inventory.CollectorNetns:
			what = "listeners of other network namespaces are missing here"
		}
		failed = append(failed, fmt.Errorf("%s could not be read: %s", read.Collector, what))
	}
	if clause, matters := leasesUnknown(s); matters {
		failed = append(failed, errors.New(clause+": what violates the registry may be leased"))
	}
	if s.NamespacesNeverRead > 0 {
		failed = append(failed, fmt.Errorf("%d network namespaces could not be read in time: their listeners are missing here", s.NamespacesNeverRead))
	}
	return errors.Join(failed...)
}
