//go:build linux

package incidents

import (
	"errors"
	"os"
	"slices"
	"time"
)

// outage is how long power is lost: longer than an hour, where there is time.
func outage() time.Duration {
	if isFull() {
		return 70 * time.Minute / speed
	}
	return 8 * time.Minute / speed
}

// without returns the services of the host except one.
func (h *machine) without(program string) []*service {
	return slices.DeleteFunc(slices.Clone(h.services), func(s *service) bool { return s.program == program })
}

// losesPower cuts the power and boots the host without a service.
func (h *machine) losesPower(name, program string) *incident {
	return h.on(name, func() error {
		err := h.losePower()
		time.Sleep(outage())
		return errors.Join(err, h.awaitAlert(down, "", true), h.bootWith(h.without(program)...))
	}, nil, down)
}

// powerCuts are reboots of whole hosts: some whose exporter has a state file, and one whose exporter has none.
func (s *script) powerCuts() *stage {
	declared, plain, forgetful := s.server("cut", ports), s.server("cutp", ""), s.server("cutn", "")
	hosts := []*machine{declared, plain, forgetful}
	var cut []*incident
	for _, h := range hosts {
		h.exporter.root, h.exporter.forgets = false, h == forgetful
		want := []string{vanished}
		switch h {
		case declared:
			want = []string{missing + " api"}
		case forgetful:
			if isFull() { // documented: without a state file, Prometheus knows what was open within the last hour
				want = nil
			}
		}
		api := h.service("apid")
		cut = append(cut, h.losesPower("power is cut, and a port does not come back", "apid"),
			api.incident("it does not come back", nil, api.start, want))
	}
	return newStage("cuts", hosts, act{incidents: cut})
}

// slowBoots are reboots after which everything comes back, but not at once.
func (s *script) slowBoots() *stage {
	declared, plain := s.servers("slow")
	hosts := []*machine{declared, plain}
	var slow []*incident
	for _, h := range hosts {
		slow = append(slow, h.on("a quick reboot, after which services start slowly", func() error {
			err := h.losePower()
			time.Sleep(time.Minute / speed)
			err = errors.Join(err, h.bootWith(h.services[:1]...))
			for _, s := range h.services[1:] {
				time.Sleep(15 * time.Second / speed)
				err = errors.Join(err, s.start())
			}
			return err
		}, nil))
	}
	return newStage("slow", hosts, act{incidents: slow})
}

// restarts are of exporters, with a state file and without.
func (s *script) restarts() *stage {
	var hosts []*machine
	var unseen, seen []*incident
	for _, h := range []*machine{s.server("kept", ports), s.server("keptp", ""), s.server("keptn", "")} {
		hosts = append(hosts, h)
		h.exporter.forgets = h.name == "keptn"
		want := vanished
		if h.exporter.registry != "" {
			want = missing
		}
		wanted := func(service string) string {
			if want == missing {
				return want + " " + service
			}
			return want
		}
		api, shop := h.service("apid"), h.service("shopd")
		unseen = append(unseen, h.on("a port is lost while the exporter restarts", func() error {
			return errors.Join(h.exporter.stop(), h.awaitUp(0), api.stop(), h.exporter.start())
		}, nil), api.incident("a port is lost while the exporter restarts", nil, api.start, []string{wanted("api")}))
		if !h.exporter.forgets {
			seen = append(seen, h.on("the exporter restarts while an alert fires", func() error {
				return errors.Join(shop.stop(), h.awaitAlert(want, shop.port(), true), h.exporter.restart())
			}, nil), shop.incident("the exporter restarts while an alert fires", nil, shop.start, []string{wanted("shop")}))
		}
	}
	return newStage("restarts", hosts, act{incidents: unseen}, act{incidents: seen})
}

// badStates are state files that cannot be read or written.
func (s *script) badStates() *stage {
	declared, plain, copied := s.server("readonly", ports), s.server("torn", ""), s.server("copied", "")
	plain.runs("oldd", "tcp/0.0.0.0:9999") // which the copied host has not
	copied.exporter.forgets = true
	for _, h := range []*machine{declared, plain} {
		h.exporter.root = false
	}
	return newStage("states", []*machine{declared, plain, copied},
		act{incidents: []*incident{
			copied.on("a copied machine starts with the state of another", func() error {
				text, err := os.ReadFile(plain.exporter.stateFile())
				err = errors.Join(err, os.MkdirAll(copied.file("state"), 0o750), os.WriteFile(copied.exporter.stateFile(), text, 0o600))
				copied.exporter.forgets = false
				return errors.Join(err, copied.exporter.restart())
			}, nil),
		}},
		act{incidents: []*incident{
			declared.on("the state directory becomes read-only", func() error { return os.Chmod(declared.file("state"), 0o500) },
				func() error { return os.Chmod(declared.file("state"), 0o750) }, unwritten),
			declared.service("apid").stops(missing + " api"),
			plain.on("the state file is torn", func() error {
				err := plain.exporter.stop()
				err = errors.Join(err, os.Truncate(plain.exporter.stateFile(), 100), plain.awaitUp(0))
				return errors.Join(err, plain.exporter.start(), plain.awaitUp(1), plain.service("apid").stop())
			}, nil),
			plain.service("apid").incident("a port is lost after that", nil, plain.service("apid").start, []string{vanished}),
		}}).inFull()
}
