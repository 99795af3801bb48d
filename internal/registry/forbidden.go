//go:build linux

package registry

import (
	"iter"
	"slices"

	"github.com/listen-exporter/listen_exporter/internal/ports"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// bans are prohibitions by protocol and port, in the order of the file. Each is in the list of each 256 ports that it reaches.
type bans [protocols][256][]ban

type ban struct {
	ports.Range
	*prohibition
}

func bansOf(forbidden []*prohibition) *bans {
	b := new(bans)
	for _, f := range forbidden {
		for proto, forbids := range f.protos {
			for i := 0; forbids && i < len(f.ports); i++ {
				for high := f.ports[i].First >> 8; high <= f.ports[i].Last>>8; high++ {
					b[proto][high] = append(b[proto][high], ban{f.ports[i].Range, f})
				}
			}
		}
	}
	return b
}

// of returns what forbids a port.
func (b *bans) of(proto int, port uint16) iter.Seq[*prohibition] {
	return func(yield func(*prohibition) bool) {
		if proto < 0 {
			return
		}
		for _, f := range b[proto][port>>8] {
			if f.Contains(port) && !yield(f.prohibition) {
				return
			}
		}
	}
}

// forbids reports whether nothing of a service may listen on a port that is forbidden, as far as that shows without solving globs.
func (f *prohibition) forbids(s *service) bool {
	if f.tolerated.overlaps(&s.bind) {
		return false
	}
	for _, host := range s.hosts.included() {
		if !slices.ContainsFunc(f.hosts.included(), func(g glob) bool { return g.covers(&host) }) ||
			slices.ContainsFunc(f.hosts.exclude, func(g glob) bool { return !g.differs(&host) }) {
			return false
		}
	}
	return true
}

// banned notes required services that must listen where they must not.
func (r *report) banned(registry *Registry) {
	all := bansOf(registry.forbidden)
	work := 0
	for _, s := range registry.services {
		if s.required == optional || s.required == onePort { // of which another port may listen
			continue
		}
		for proto, declared := range s.protos {
			for i := 0; declared && i < len(s.ports); i++ {
				r.bannedPort(all, s, proto, s.ports[i], &work)
			}
		}
	}
}

// bannedPort notes the first of the ports that must listen and must not. It stops when work exceeds maxWork.
func (r *report) bannedPort(all *bans, s *service, proto int, ports portRange, work *int) {
	for port := int(ports.First); port <= int(ports.Last); port++ {
		for f := range all.of(proto, uint16(port)) {
			if *work++; *work > maxWork {
				return
			}
			if f.forbids(s) {
				r.addAt(ports.place, "%s port %d of required service %s is forbidden %s: want it in one of them, or bind or hosts that tell them apart",
					protoNames[proto], port, wording.Quoted(s.name), f.from(ports.place))
				return
			}
		}
	}
}
