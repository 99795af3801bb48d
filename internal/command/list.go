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

	"github.com/listen-exporter/listen_exporter/collector"
	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/registry"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// The formats of list.
const (
	FormatTable      = "table"
	FormatJSON       = "json"
	FormatRegistry   = "registry"
	FormatPrometheus = "prometheus"
)

// ListOptions are the options of list.
type ListOptions struct {
	Inventory inventory.Options // what is read
	Format    string
	// Output is the file to replace with the answer. Empty or Stdin, a "-", stands for Streams.Out.
	Output string
	// OwnAddress is the exporter's --web.listen-address, or empty if it has none. FormatRegistry declares it.
	OwnAddress string
	// Watch says to show the table again and again.
	Watch bool
	// Ports are the ports and services that are asked for. Without any, all listeners are shown.
	Ports []string
	// Only says which of the listeners are shown.
	Only Filter
	// State returns what is remembered, for Ports.
	State func() State
	// HostGiven reports whether the user gave the host's name in the registry.
	HostGiven bool
}

// List shows the current listeners and returns the exit code. If ports are asked for, that is ExitFound unless something listens on each.
func List(o ListOptions, s Streams) int {
	if o.Watch {
		return watch(o, s)
	}
	var out bytes.Buffer
	screen := screenOf(s.Out)
	if o.Output != "" && o.Output != Stdin {
		s.Out, screen = fileWriter{o.Output}, screenOf(nil)
	}
	open, clauses, err := answerOn(o, &out, screen, s)
	return s.finish(&out, !open, err, clauses)
}

// answerOn writes what list shows on a screen. It reports whether something listens on each port that is asked for, and returns what
// could not be found out.
func answerOn(o ListOptions, out *bytes.Buffer, screen screen, s Streams) (open bool, clauses []string, err error) {
	if len(o.Ports) > 0 {
		return listPorts(o, out, screen, s)
	}
	clauses, err = list(o, out, screen, s)
	return true, clauses, err
}

// list writes the listeners. It returns what the table does not say of them.
func list(o ListOptions, out *bytes.Buffer, screen screen, s Streams) (clauses []string, err error) {
	switch o.Format {
	case FormatRegistry:
		const why = "a registry must declare every listener"
		if err := errors.Join(refuseFilters(o.Inventory, why), o.Only.refuse(why)); err != nil {
			return nil, err
		}
		o.Inventory = mainNamespace(o.Inventory)
	case FormatPrometheus:
		return nil, writeMetrics(out, o, s)
	}
	snapshot, err := read(o.Inventory, s.Logger)
	if err != nil {
		return nil, err
	}
	if err := o.Only.refused(o.Inventory, snapshot); err != nil {
		return nil, err
	}
	err = incomplete(snapshot)
	if o.Format == FormatRegistry {
		return nil, errors.Join(err, writeRegistry(out, o, snapshot, unknown(o.Inventory, snapshot, "interfaces")))
	}
	clauses = unknown(o.Inventory, snapshot, details) // before the filters: what is not known may be what is asked for
	err = errors.Join(err, o.Only.unsure(o.Inventory, snapshot))
	all := o.Only.of(entries(snapshot))
	snapshot.Listeners = o.Only.listeners(snapshot.Listeners)
	if o.Format == FormatJSON {
		return nil, errors.Join(err, writeJSON(out, o.Inventory, snapshot, clauses, nil, time.Now()))
	}
	listTable(all, o.Inventory.Netns == "all").write(out, screen)
	if screen.terminal {
		fmt.Fprintf(out, "\n%s\n", summary(snapshot, all))
	}
	return clauses, err
}

// writeMetrics writes what a scrape would show of the listeners.
func writeMetrics(out *bytes.Buffer, o ListOptions, s Streams) error {
	if err := o.Only.refuse("--format=prometheus has other filters, --collector.port-include and --collector.scope-exclude"); err != nil {
		return err
	}
	listeners, err := inventory.Open(o.Inventory, s.Logger)
	if err != nil {
		return err
	}
	snapshot := snapshotOf(listeners)
	text, err := collector.Once(snapshot)
	out.Write(text)
	return errors.Join(err, incomplete(snapshot))
}

// details are what list and the exporter's JSON show of a listener only by netlink.
const details = "interfaces and queue limits"

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
	if n := count(s, func(l *inventory.Listener) bool { return len(l.Holders) == 0 }); n > 0 && s.Succeeded(inventory.CollectorHolder) {
		text += "\nthe holders of " + wording.Count(n, "listener") + " are not known"
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
		candidate := registry.Candidate{Listener: l.Input(), Verdict: l.Verdict, Leased: l.Lease != nil}
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
