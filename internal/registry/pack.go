package registry

import (
	"fmt"
	"net/netip"
	"strings"
)

// pack puts what was read into a few pieces of memory. The garbage collector visits every piece in each of its cycles: with the
// six or seven of each of 65 535 services, one cycle takes longer than a scrape.
func (r *Registry) pack() {
	services := make([]service, len(r.services))
	size, spans := 0, 0
	for i, s := range r.services {
		services[i] = *s
		r.services[i] = &services[i]
		for _, text := range services[i].texts() {
			size += len(*text)
		}
		spans += len(s.ports)
	}
	var texts strings.Builder
	texts.Grow(size)
	ports := make([]portSpan, 0, spans)
	binds := make(map[string][]netip.Prefix)
	for i := range services {
		s := &services[i]
		for _, text := range s.texts() {
			start := texts.Len()
			texts.WriteString(*text)
			*text = texts.String()[start:]
		}
		s.process = newProcessName(s.process.full)
		start := len(ports)
		ports = append(ports, s.ports...)
		s.ports = ports[start:]
		key := fmt.Sprint(s.bind)
		if shared, known := binds[key]; known {
			s.bind = shared
		} else {
			binds[key] = s.bind
		}
	}
}

// texts are the texts of a service, to be changed.
func (s *service) texts() [6]*string {
	return [...]*string{&s.name, &s.purpose, &s.boundTo, &s.heldAs, &s.process.full, &s.unit.name}
}
