//go:build linux

package incidents

import (
	"errors"
	"fmt"
	"strings"
)

// registries is registries that are edited.
func (s *script) registries() *stage {
	h, plain := s.server("edited", ports), s.server("editedp", "")
	withoutAPI := strings.Replace(ports, "- {name: api,", "- {name: api, required: false,", 1)
	api, apiOfPlain := h.service("apid"), plain.service("apid")
	return newStage("registries", []*machine{h, plain},
		act{incidents: []*incident{
			h.on("an edit empties the registry", func() error { return h.exporter.declare("") },
				func() error { return h.exporter.declare(ports) }, badFile),
			plain.on("the host gets a registry while a port is gone", func() error {
				err := errors.Join(apiOfPlain.stop(), plain.awaitAlert(vanished, apiOfPlain.port(), true))
				plain.exporter.registry = strings.ReplaceAll(withoutAPI, "- {name: syslog, port: 514", "- {name: statsd, port: 8125")
				return errors.Join(err, plain.exporter.declare(plain.exporter.registry), plain.exporter.restart())
			}, nil),
			apiOfPlain.incident("the registry does not require the service that is gone", nil, nil, []string{vanished}),
		}},
		act{incidents: []*incident{
			h.on("the host is renamed, and the registry has no service for it", func() error {
				return h.exporter.declare(strings.ReplaceAll(strings.ReplaceAll(ports, `["*", "!db"]`, "[other]"), "process: ", "hosts: [other], process: "))
			}, func() error { return h.exporter.declare(ports) }, noServices),
		}},
		act{incidents: []*incident{
			api.incident("an edit removes a service that stops", func() error {
				return errors.Join(h.exporter.declare(withoutAPI), api.stop())
			}, func() error { return errors.Join(api.start(), h.exporter.declare(ports)) }, nil),
		}})
}

// crowds is hosts on which somebody opens hundreds of ports.
func (s *script) crowds() *stage {
	h, plain, many := s.server("crowd", ports), s.server("crowdp", ""), s.server("crowdq", "")
	sockets := func(first, number int) (all []string) {
		for n := range number {
			all = append(all, fmt.Sprintf("tcp/0.0.0.0:%d", first+n))
		}
		return all
	}
	appear := func(h *machine, first, number int, want ...string) *incident {
		i := h.appears(fmt.Sprintf("%d rogue ports from %d on", number, first), "opener", sockets(first, number), want...)
		i.at = ""
		return i
	}
	many.runs("fleetd", sockets(20_000, 300)...)
	fleet := many.service("fleetd")
	gone := fleet.stops(manyGone)
	gone.name, gone.at = "a program that has hundreds of ports stops", ""
	return newStage("crowds", []*machine{h, plain, many}, act{incidents: []*incident{
		appear(h, 20_000, 300, manyOpen),
		appear(plain, 600, 300, manyOpen),
		gone,
	}}, act{incidents: []*incident{appear(plain, 20_000, 300)}}) // no port below 1024
}
