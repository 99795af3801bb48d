//go:build linux

package incidents

import (
	"errors"
	"time"
)

// replicas is hosts that two Prometheus replicas scrape, whose series are in one database.
func (s *script) replicas() *stage {
	declared, plain := s.servers("twice")
	hosts := []*machine{declared, plain}
	var crashes []*incident
	for _, h := range hosts {
		h.targets = []map[string]string{{"replica": "a"}, {"replica": "b"}}
		crashes = append(crashes, h.on("the exporter is stopped", h.exporter.stop, func() error { return h.exporter.start() }, down))
	}
	loops := []*incident{
		declared.service("apid").loops(30*time.Second, 30*time.Second, flapping+" api"),
		plain.service("apid").loops(30*time.Second, 30*time.Second, flapping),
	}
	return newStage("replicas", hosts, act{incidents: append(declared.ofEachKind(), plain.ofEachPlainKind()...)},
		act{incidents: loops}, act{incidents: crashes})
}

// renamed is hosts that get another instance label, and another job that no rule knows by its name.
func (s *script) renamed() *stage {
	declared, plain := s.servers("renamed")
	hosts := []*machine{declared, plain}
	rename := []*incident{declared.on("the job is renamed, and an instance is relabelled", func() error {
		declared.targets = []map[string]string{{"job": "sockets"}}
		plain.targets = []map[string]string{{"instance": "renamedp.example.org"}}
		return s.world.monitoring.retarget()
	}, nil)}
	return newStage("renamed", hosts, act{incidents: rename},
		act{incidents: append(declared.ofEachKind(), plain.ofEachPlainKind()...)},
		act{incidents: []*incident{
			declared.on("the exporter is stopped", declared.exporter.stop, func() error { return declared.exporter.start() }, down),
			plain.on("the exporter is stopped", plain.exporter.stop, func() error { return plain.exporter.start() }, down),
		}})
}

// departed is a host that leaves service discovery while an alert fires, and comes back.
func (s *script) departed() *stage {
	h := s.server("departed", ports)
	api := h.service("apid")
	return newStage("departed", []*machine{h}, act{incidents: []*incident{
		h.on("the host leaves service discovery", func() error {
			err := errors.Join(api.stop(), h.awaitAlert(missing, api.port(), true))
			h.targets = nil
			return errors.Join(err, s.world.monitoring.retarget())
		}, nil),
		api.incident("a service stops before that", nil, nil, []string{missing + " api"}),
	}}, act{incidents: []*incident{
		h.on("the host comes back to service discovery", func() error {
			h.targets = []map[string]string{nil}
			return s.world.monitoring.retarget()
		}, nil),
		api.incident("it is still missing", nil, api.start, []string{missing + " api"}),
	}}).inFull()
}

// pairPorts is the registry of two hosts of a cluster.
const pairPorts = `
services:
  - {name: ssh, port: 22, process: sshd}
  - {name: git, port: 2222, process: gitd}
  - {name: vip, port: 8800, required: one-host}
  - {name: shop, port: [9001, 9002], required: one-port}
`

// pairs is services that may be on one of two hosts, or on one of two ports.
func (s *script) pairs() *stage {
	one, two := s.host("lb1", pairPorts), s.host("lb2", pairPorts)
	for _, h := range []*machine{one, two} {
		h.cluster = "lb"
		h.targets = []map[string]string{{"cluster": "lb"}}
		h.runs("blued", "tcp/0.0.0.0:9001")
	}
	one.runs("vipd", "tcp/0.0.0.0:8800")
	vip, vip2 := one.service("vipd"), &service{host: two, program: "vipd", sockets: []string{"tcp/0.0.0.0:8800"}}
	blue, green := one.service("blued"), &service{host: one, program: "greend", sockets: []string{"tcp/0.0.0.0:9002"}}
	const between = 20 * time.Second / speed
	bothColours := blue.incident("both colours are down", green.stop, blue.start, []string{missing + " shop"})
	bothColours.at = "tcp/9001,9002"
	lost := two.on("the host that has the shared address loses power, and the other takes it over", func() error {
		err := two.losePower()
		time.Sleep(between)
		return errors.Join(err, vip.start(), two.awaitAlert(down, "", true), two.boot())
	}, nil, down)
	return newStage("pairs", []*machine{one, two}, act{incidents: []*incident{
		vip.incident("a failover works", func() error {
			err := vip.stop()
			time.Sleep(between)
			return errors.Join(err, vip2.start())
		}, nil, nil),
		blue.incident("green takes over from blue", func() error {
			err := green.start()
			time.Sleep(between)
			return errors.Join(err, blue.stop())
		}, nil, nil),
	}}, act{incidents: []*incident{
		vip.incident("a failover does not work", vip2.stop, vip2.start, []string{nowhere + " vip"}),
		bothColours,
	}}, act{incidents: []*incident{lost}})
}
