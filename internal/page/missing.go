//go:build linux

package page

import (
	"slices"
	"strings"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// missing is a service that should listen on a port.
type missing struct {
	Service, Purpose, Owner, Proto string
	// Ports are the port, or those of which one should listen.
	Ports string
	// Detail explains how it is missing, and since when it is.
	Detail string
	// Last is who held it last, or empty if that is not known.
	Last string
}

// maxMissing is how many missing services are shown: a registry may declare every port, and nobody reads so much.
const maxMissing = 1000

// missingServices returns the first maxMissing services that do not listen, and how many more there are.
func missingServices(s *inventory.Snapshot, now time.Time) (list []missing, more int) {
	down := s.Missing()
	if len(down) > maxMissing {
		down, more = down[:maxMissing], len(down)-maxMissing
	}
	type place struct {
		proto string
		port  uint16
	}
	listens := make(map[place]bool)
	for i := range s.Listeners {
		if l := &s.Listeners[i]; l.Netns == "" {
			listens[place{l.Proto, l.Addr.Port()}] = true
		}
	}
	type required struct{ name, proto, ports string }
	remembered := make(map[required]*inventory.ServiceMemory)
	if s.Memory != nil {
		for i := range s.Memory.Services {
			m := &s.Memory.Services[i]
			remembered[required{m.Name, m.Proto, m.Ports}] = m
		}
	}
	for _, service := range down {
		m := missing{
			Service: wording.Printable(service.Name), Purpose: wording.Printable(service.Purpose),
			Owner: wording.Printable(service.Owner), Proto: service.Proto, Ports: service.Ports, Detail: "nothing listens as declared",
		}
		if listens[place{service.Proto, service.Port}] {
			m.Detail = "the port is open, but not as declared"
		}
		if service.Assumed {
			m.Detail += " (assumed: whether :: also takes IPv4 is not known)"
		}
		if before := remembered[required{service.Name, service.Proto, service.Ports}]; before != nil {
			if !before.DownSince.IsZero() {
				m.Detail += ", for " + span(now.Sub(before.DownSince))
			}
			m.Last = wording.Printable(strings.Join(slices.Concat(before.Last.Processes, before.Last.Units), ", "))
		}
		list = append(list, m)
	}
	return list, more
}
