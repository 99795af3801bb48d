package registry

import (
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
