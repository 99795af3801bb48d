//go:build linux

package command

import (
	"fmt"
	"slices"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/ports"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// query is an argument of list: ports, or a service.
type query struct {
	text  string
	proto string    // or empty for both
	ports ports.Set // nil for a service
	// required are the required ports of a service.
	required []inventory.ServiceState
	// leases are those with the name of the service.
	leases []inventory.Lease
}

// parseQuery parses a port such as "22", "8000-8010" or "tcp/22", or the name of a service.
func parseQuery(text string, s *inventory.Snapshot, host string) (query, error) {
	q := query{text: text}
	number := text
	if proto, after, has := strings.Cut(text, "/"); has && (proto == inventory.TCP || proto == inventory.UDP) {
		q.proto, number = proto, after
	}
	var err error
	if q.ports, err = ports.ParseSet(number); err == nil {
		return q, nil
	}
	const want = "want a port such as 22, 8000-8010 or tcp/22"
	if s.Compliance == nil {
		return q, fmt.Errorf("%s is not a port, and without a registry there is no service of that name: %s, or --registry.file", wording.Quoted(text), want)
	}
	for _, state := range s.Compliance.Services {
		if state.Name == text {
			q.required = append(q.required, state)
		}
	}
	if s.Leases != nil {
		q.leases = slices.DeleteFunc(slices.Clone(s.Leases.Leases), func(of inventory.Lease) bool { return of.Name != text })
	}
	if len(q.leases) == 0 && !slices.ContainsFunc(s.Compliance.Declared, func(d inventory.ServiceInfo) bool { return d.Name == text }) {
		return q, fmt.Errorf("%s is neither a port nor a service of the registry for the host %s: %s, or the name of a service", wording.Quoted(text), wording.Name(host), want)
	}
	return q, nil
}

// has reports whether a query asks for a port.
func (q query) has(proto string, port uint16) bool {
	if q.ports != nil {
		return (q.proto == "" || q.proto == proto) && q.ports.Contains(port)
	}
	if slices.ContainsFunc(q.leases, func(of inventory.Lease) bool { return of.Has(proto, port) }) {
		return true
	}
	return slices.ContainsFunc(q.required, func(s inventory.ServiceState) bool {
		set, _ := ports.ParseSet(s.Ports)
		return s.Proto == proto && set.Contains(port)
	})
}

// hasListener reports whether a query asks for a listener.
func (q query) hasListener(l *inventory.Listener) bool {
	return q.has(l.Proto, l.Addr.Port()) || q.ports == nil && l.Declared() && l.Verdict.Service == q.text
}

// hasService reports whether a query asks for a required port of a service.
func (q query) hasService(name, proto, list string) bool {
	if q.ports == nil {
		return name == q.text
	}
	set, _ := ports.ParseSet(list)
	return slices.ContainsFunc(set, func(r ports.Range) bool {
		return slices.ContainsFunc(q.ports, func(asked ports.Range) bool {
			return (q.proto == "" || q.proto == proto) && asked.First <= r.Last && r.First <= asked.Last
		})
	})
}
