//go:build linux

package command

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/registry"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// The formats of list.
const (
	FormatTable    = "table"
	FormatJSON     = "json"
	FormatRegistry = "registry"
)

// ListOptions are the options of list.
type ListOptions struct {
	Inventory inventory.Options // what is read
	Format    string
	// OwnAddress is the exporter's --web.listen-address, or empty if it has none. FormatRegistry declares it.
	OwnAddress string
	// Ports are the ports and services that are asked for. Without any, all listeners are shown.
	Ports []string
	// State is what is remembered, for Ports.
	State State
	// HostGiven reports whether the user gave the host's name in the registry.
	HostGiven bool
}

// List shows the current listeners and returns the exit code. If ports are asked for, that is ExitFound unless something listens on each.
func List(o ListOptions, s Streams) int {
	var out bytes.Buffer
	if len(o.Ports) > 0 {
		open, clauses, err := listPorts(o, &out, screenOf(s.Out), s)
		return s.finish(&out, !open, err, clauses)
	}
	clauses, err := list(o, &out, screenOf(s.Out), s)
	return s.finish(&out, false, err, clauses)
}

// list writes the listeners. It returns what the table does not say of them.
func list(o ListOptions, out *bytes.Buffer, screen screen, s Streams) (clauses []string, err error) {
	if o.Format == FormatRegistry {
		if err := refuseFilters(o.Inventory, "a registry must declare every listener"); err != nil {
			return nil, err
		}
		o.Inventory = mainNamespace(o.Inventory)
	}
	snapshot, err := read(o.Inventory, s.Logger)
	if err != nil {
		return nil, err
	}
	err = incomplete(snapshot)
	const details = "interfaces and queue limits"
	switch o.Format {
	case FormatJSON:
		return nil, errors.Join(err, writeJSON(out, o.Inventory, snapshot, unknown(o.Inventory, snapshot, details), nil, time.Now()))
	case FormatRegistry:
		return nil, errors.Join(err, writeRegistry(out, o, snapshot, unknown(o.Inventory, snapshot, "interfaces")))
	}
	all := entries(snapshot)
	listTable(all, o.Inventory.Netns == "all").write(out, screen)
	if screen.terminal {
		fmt.Fprintf(out, "\n%s\n", summary(snapshot, all))
	}
	return unknown(o.Inventory, snapshot, details), err
}

// summary returns the text below the table on a terminal.
func summary(s *inventory.Snapshot, all []entry) string {
	text := wording.Count(len(s.Listeners), "listener")
	if s.Compliance != nil {
		declared, violations, clients, missing := tally(all)
		text += fmt.Sprintf(": %d as declared, %s", declared, wording.Count(violations, "violation"))
		if clients > 0 {
			text += fmt.Sprintf(", %d %s", clients, inventory.StateClient)
		}
		text += "; " + wording.Count(missing, "missing service")
	}
	if s.Unattributed > 0 && s.Succeeded(inventory.CollectorHolder) {
		text += "\nthe holders of " + wording.Count(s.Unattributed, "listener") + " are not known"
	}
	return text
}

// writeRegistry writes a registry that declares the current listeners, and the exporter even if it is not running yet. If there is a
// registry, it is that one with what is new, and with marks where something has gone.
func writeRegistry(out *bytes.Buffer, o ListOptions, s *inventory.Snapshot, clauses []string) error {
	found := candidates(s)
	if s.Compliance != nil {
		if err := writeAgain(out, o.Inventory, found, s); err != nil {
			return err
		}
	} else {
		if own, ok := parseOwnAddress(o.OwnAddress); ok && !slices.ContainsFunc(found, func(other registry.Candidate) bool {
			return other.Proto == inventory.TCP && other.Addr.Port() == own.Port()
		}) {
			found = append(found, registry.Candidate{
				Listener: registry.Listener{Proto: inventory.TCP, Addr: own},
				Name:     wording.Program, Optional: true, Note: "the exporter itself, once it runs",
			})
		}
		out.Write(registry.Format(found))
	}
	for _, read := range s.Reads {
		if read.Err != nil {
			fmt.Fprintf(out, "%s: %s could not be read.\n", registry.IncompleteMark, read.Collector)
		}
	}
	for _, clause := range clauses {
		fmt.Fprintf(out, "%s: %s.\n", registry.IncompleteMark, clause)
	}
	if len(found) == 0 && s.Compliance == nil {
		return errors.New("nothing listens that a registry could declare: a registry needs at least one service")
	}
	return nil
}

// candidates returns the listeners that a registry could declare.
func candidates(s *inventory.Snapshot) (found []registry.Candidate) {
	for i := range s.Listeners {
		l := &s.Listeners[i]
		if l.Client {
			continue
		}
		candidate := registry.Candidate{Listener: l.Input(), Verdict: l.Verdict}
		if !l.Exact {
			for _, h := range l.Holders {
				candidate.Guessed = append(candidate.Guessed, registry.Holder{Process: h.Process, Unit: h.Unit})
			}
		}
		if l.Range == inventory.RangeEphemeral {
			candidate.Chosen, candidate.Optional, candidate.Note = true, true, "the system may have chosen this port: it can change at the next start"
		}
		found = append(found, candidate)
	}
	return found
}

// writeAgain writes the registry, with what has changed since it was written.
func writeAgain(out *bytes.Buffer, o inventory.Options, found []registry.Candidate, s *inventory.Snapshot) error {
	sources, err := registry.Read(o.RegistryFiles...)
	if err != nil {
		return err
	}
	text, err := registry.Redraft(sources, registry.Present{Host: o.RegistryHost, Candidates: found, Missing: s.Missing()})
	out.Write(text)
	return err
}

// parseOwnAddress returns the address and port of a --web.listen-address, if it has a fixed port.
func parseOwnAddress(address string) (own netip.AddrPort, ok bool) {
	host, service, _ := net.SplitHostPort(address) // without a port, service is empty
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil || port == 0 {
		return netip.AddrPort{}, false
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		addr = netip.IPv6Unspecified() // a host name may resolve to any address
	}
	return netip.AddrPortFrom(addr, uint16(port)), true
}
