//go:build linux

package registry

import (
	"net/netip"
	"slices"

	"github.com/listen-exporter/listen_exporter/internal/ports"
)

// Declared is a service that declares a port, and where it does so.
type Declared struct {
	Name string
	ports.Range
	File string
	Line int
}

// Forbidden is why a port is forbidden, and where that is written.
type Forbidden struct {
	Reason, File string
	Line         int
}

// ForbiddenAt returns what forbids a port on every host. addr is where it would listen, or the zero Addr if that is not known: then
// what may listen at some addresses is not forbidden.
func (r *Registry) ForbiddenAt(proto string, port uint16, addr netip.Addr) (Forbidden, bool) {
	p, l := protoOf(proto), Listener{Addr: netip.AddrPortFrom(addr, port), Loopback: addr.IsLoopback()}
	for _, f := range r.forbidden {
		if p < 0 || !f.protos[p] || f.hosts.some() || !slices.ContainsFunc(f.ports, func(its portRange) bool { return its.Contains(port) }) {
			continue
		}
		if addr.IsValid() && !f.tolerated.permits(&l) && !f.tolerated.mayPermit(&l) || f.tolerated.size() == 0 {
			return Forbidden{f.reason, f.file, f.line}, true
		}
	}
	return Forbidden{}, false
}

// DeclaredBy returns the services, of any host, that declare a port for others than the host itself. It leaves out those for
// kube-proxy, which listens on the nodePorts of Kubernetes.
func (r *Registry) DeclaredBy(proto string, port uint16) (all []Declared) {
	p := protoOf(proto)
	for _, s := range r.services {
		if p < 0 || !s.protos[p] || s.anyPort || s.boundTo == "loopback" || slices.ContainsFunc(s.processes, func(p pattern) bool { return p.matches("kube-proxy") }) {
			continue
		}
		for _, its := range s.ports {
			if its.Contains(port) {
				all = append(all, Declared{s.name, its.Range, its.file, its.line})
			}
		}
	}
	return all
}
