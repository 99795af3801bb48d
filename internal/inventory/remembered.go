//go:build linux

package inventory

import (
	"cmp"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// maxSavedPorts is how many ports are saved at most, and maxSaved how many bytes of JSON they may be.
	maxSavedPorts, maxSaved = 8 * maxRemembered, 8 << 20
	// maxSavedListeners is how many listeners of a port are saved.
	maxSavedListeners = 8
)

// Remembered is what is remembered, in a form that can be written to a file. It never changes. Its times are the wall clock's.
type Remembered struct {
	// Boot identifies the boot of the host during which it was made (boot_id), and Offset is how far the wall clock was ahead of the
	// boot clock, in nanoseconds.
	Boot   string `json:"boot"`
	Offset int64  `json:"offset"`
	// Own reports that the main network namespace was the exporter's own (self), not the host's. Seen is what else the flags let it see.
	Own  bool   `json:"own,omitempty"`
	Seen string `json:"seen,omitempty"`
	// Ports are the open ports of the main network namespace, without clients, and those that are gone. Cut reports that some were too
	// many.
	Ports    []RememberedPort    `json:"ports"`
	Cut      bool                `json:"cut,omitempty"`
	Services []RememberedService `json:"services,omitempty"`
	// Flapping are the ports that opened again and again. They are for people: a start begins to count again.
	Flapping []RememberedFlapping `json:"flapping,omitempty"`
}

// RememberedPort is a port that is open or gone.
type RememberedPort struct {
	Proto string `json:"proto"`
	Port  uint16 `json:"port"`
	// Since is when it opened, and Opened when it last did. Settled reports that it had been open for long enough.
	Since   time.Time `json:"since"`
	Opened  time.Time `json:"opened"`
	Settled bool      `json:"settled,omitempty"`
	// Gone is when it was found closed, or zero.
	Gone time.Time `json:"gone,omitzero"`
	// Returned reports that it was gone and came back, and Replaces that it came in place of one that is gone.
	Returned  bool `json:"returned,omitempty"`
	Replaces  bool `json:"replaces,omitempty"`
	Ephemeral bool `json:"ephemeral,omitempty"`

	User      uint32               `json:"user"`
	Holders   []RememberedHolder   `json:"holders,omitempty"`
	Listeners []RememberedListener `json:"listeners"`
}

// RememberedHolder is who held a port.
type RememberedHolder struct {
	Process string `json:"process,omitempty"`
	Unit    string `json:"unit,omitempty"`
	Pod     string `json:"pod,omitempty"`
}

// RememberedListener is where a port was open.
type RememberedListener struct {
	Address   netip.Addr `json:"address"`
	Device    string     `json:"device,omitempty"`
	FirstSeen time.Time  `json:"first_seen,omitzero"`
	// Reason and Service are those of its violation.
	Reason         string    `json:"reason,omitempty"`
	Service        string    `json:"service,omitempty"`
	ViolationStart time.Time `json:"violation_start,omitzero"`
	FullStart      time.Time `json:"full_start,omitzero"`
	DroppingStart  time.Time `json:"dropping_start,omitzero"`
}

// Addresses returns where the port was open.
func (p *RememberedPort) Addresses() (all []netip.Addr) {
	for _, l := range p.Listeners {
		all = append(all, l.Address)
	}
	return all
}

// RememberedService is a required port of the registry.
type RememberedService struct {
	Name       string    `json:"name"`
	Proto      string    `json:"proto"`
	Ports      string    `json:"ports"`
	Up         bool      `json:"up"`
	DownSince  time.Time `json:"down_since,omitzero"`
	LastChange time.Time `json:"last_change,omitzero"`
	// Changes is how often it went up or down since the exporter started. It is for people, too.
	Changes   uint64             `json:"changes,omitempty"`
	Addresses []netip.Addr       `json:"addresses,omitempty"`
	Holders   []RememberedHolder `json:"holders,omitempty"`
}

// RememberedFlapping is a port that opened again and again.
type RememberedFlapping struct {
	Proto    string `json:"proto"`
	Port     uint16 `json:"port"`
	Openings int    `json:"openings"` // in the last 15 minutes
	// Process and Unit are one of those that held it last.
	Process string `json:"process,omitempty"`
	Unit    string `json:"unit,omitempty"`
}

// Remembered returns what is remembered. It is the same memory while that is the same, and nil before the first whole read.
func (i *Inventory) Remembered() *Remembered {
	m := i.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.saved == nil && len(m.read) == len(m.counts) {
		m.saved = m.save()
	}
	return m.saved
}

// bootID returns what identifies the boot of the host, or nothing.
func bootID(procfs string) string {
	id, err := os.ReadFile(filepath.Join(procfs, "sys/kernel/random/boot_id"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

// save returns what is remembered.
func (m *memory) save() *Remembered {
	r := &Remembered{
		Boot: m.boot, Offset: int64(m.clock.offset), Own: m.options.Netns == "self", Seen: m.options.seen(), Ports: []RememberedPort{},
	}
	all := m.goneInOrder()
	gone := len(all)
	for _, p := range m.ports {
		all = append(all, p)
	}
	slices.SortFunc(all[gone:], func(a, b *port) int {
		return cmp.Or(cmp.Compare(a.since, b.since), cmp.Compare(a.port, b.port), cmp.Compare(a.proto, b.proto))
	})
	size := 0
	for _, f := range m.shownFlapping() {
		of := RememberedFlapping{Proto: f.Proto, Port: f.Port, Openings: f.Openings}
		if len(f.Last.Processes) > 0 {
			of.Process = f.Last.Processes[0]
		}
		if len(f.Last.Units) > 0 {
			of.Unit = f.Last.Units[0]
		}
		size += 100 + 6*(len(of.Process)+len(of.Unit))
		r.Flapping = append(r.Flapping, of)
	}
	kept := fairly(all, maxSavedPorts, (*port).user)
	for _, p := range kept {
		if size += p.size(); size > maxSaved {
			break
		}
		r.Ports = append(r.Ports, m.savePort(p))
	}
	r.Cut = len(r.Ports) < len(all)
	for _, s := range m.services {
		of := RememberedService{
			Name: s.name, Proto: s.proto, Ports: s.ports, Up: s.up,
			DownSince: m.clock.wall(s.down), LastChange: m.clock.wall(s.change), Changes: s.changes, Holders: saveHolders(s.traces),
		}
		for _, t := range s.traces[:min(len(s.traces), maxSavedListeners)] {
			of.Addresses = append(of.Addresses, t.addr.Addr())
		}
		r.Services = append(r.Services, of)
	}
	slices.SortFunc(r.Services, func(a, b RememberedService) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Ports, b.Ports))
	})
	return r
}

// size returns how many bytes of JSON the port is at most, about.
func (p *port) size() int {
	size := 250 + 350*min(len(p.traces), maxSavedListeners)
	for _, t := range p.traces {
		for _, h := range t.holders {
			size += 6 * (len(h.Process) + len(h.Unit) + len(h.PodUID)) // \u0001
		}
	}
	return size
}

func (m *memory) savePort(p *port) RememberedPort {
	saved := RememberedPort{
		Proto: p.proto, Port: p.port, Since: m.clock.wall(p.since), Opened: m.clock.wall(p.opened), Settled: p.settled,
		Gone: m.clock.wall(p.gone), Returned: p.returned, Replaces: p.replaces,
		Ephemeral: p.ephemeral(), User: p.user(), Holders: saveHolders(p.traces), Listeners: []RememberedListener{},
	}
	for _, t := range p.traces[:min(len(p.traces), maxSavedListeners)] {
		l := RememberedListener{
			Address: t.addr.Addr(), Device: t.device, FirstSeen: m.clock.wall(t.opened),
			Reason: t.reason, Service: t.violated, ViolationStart: m.clock.wall(t.violation),
		}
		if t.pressure != nil {
			l.FullStart, l.DroppingStart = m.clock.wall(t.full), m.clock.wall(t.dropping)
		}
		saved.Listeners = append(saved.Listeners, l)
	}
	return saved
}

// saveHolders returns who held listeners, each once.
func saveHolders(traces []*trace) (saved []RememberedHolder) {
	for _, t := range traces {
		for _, h := range t.holders {
			if of := (RememberedHolder{h.Process, h.Unit, h.PodUID}); len(saved) < maxHolders && !slices.Contains(saved, of) {
				saved = append(saved, of)
			}
		}
	}
	return saved
}

// recall takes over what was remembered before the start. It may come from anywhere: what cannot be is left out.
func (m *memory) recall(r *Remembered) {
	now, _, _ := m.clock.now()
	then := m.clock
	sameBoot := r.Boot != "" && r.Boot == m.boot
	if sameBoot {
		then.offset = time.Duration(r.Offset)
		if (then.offset - m.clock.offset).Abs() <= longestStep {
			m.clock.offset = then.offset // timestamps that were shown stay the same
		}
	}
	at := func(wall time.Time) instant {
		if wall.Year() < 1970 || wall.Year() > 2200 { // beyond what an instant can be, or zero
			return never
		}
		return min(then.instant(wall), now)
	}
	if r.Own != (m.options.Netns == "self") {
		return // it is of other ports
	}
	m.loaded, m.cut = true, r.Cut || r.Seen != m.options.seen()
	for _, saved := range r.Ports[:min(len(r.Ports), maxSavedPorts)] {
		if m.counts[saved.Proto] == nil || len(saved.Listeners) == 0 {
			continue
		}
		p := &port{
			portID: portID{saved.Proto, saved.Port}, since: at(saved.Since), opened: at(saved.Opened), settled: saved.Settled,
			gone: at(saved.Gone), returned: saved.Returned, replaces: saved.Replaces,
		}
		if p.since == never || !sameBoot && !p.settled {
			p.since = now
		}
		holders := recallHolders(saved.Holders)
		for _, l := range saved.Listeners[:min(len(saved.Listeners), maxSavedListeners)] {
			addr := netip.AddrPortFrom(l.Address, saved.Port)
			if !l.Address.IsValid() || !m.options.passes(Key{Proto: saved.Proto, Addr: addr, Scope: scopeOf(l.Address)}) {
				continue
			}
			t := &trace{
				spot: spot{saved.Proto, "", place{addr, l.Device}},
				user: saved.User, opened: at(l.FirstSeen), ephemeral: saved.Ephemeral, counts: true, holders: holders,
				reason: l.Reason, violated: l.Service, violation: at(l.ViolationStart), since: never,
			}
			if t.violation == never || !m.hasRegistry {
				t.reason, t.violated, t.violation = "", "", never
			}
			t.pressure = recallPressure(at(l.FullStart), at(l.DroppingStart), now)
			p.traces = append(p.traces, t)
			if p.gone == never {
				m.listeners[t.spot] = t
			}
		}
		switch {
		case len(p.traces) == 0:
		case p.gone == never:
			m.ports[p.portID] = p
			m.settles(p)
		case !m.hasRegistry:
			m.gone[p.portID] = p
		}
	}
	for _, saved := range r.Services {
		s := &service{
			serviceID: serviceID{saved.Name, saved.Proto, saved.Ports}, up: saved.Up,
			down: at(saved.DownSince), change: at(saved.LastChange),
		}
		if !s.up && s.down == never || !m.hasRegistry || m.counts[saved.Proto] == nil {
			continue // else nothing would ever say that it is up, or is no service
		}
		for _, address := range saved.Addresses {
			if address.IsValid() {
				s.traces = append(s.traces, &trace{spot: spot{proto: saved.Proto, place: place{addr: netip.AddrPortFrom(address, 0)}}, holders: recallHolders(saved.Holders)})
			}
		}
		m.services[s.serviceID] = s
	}
}

func recallHolders(saved []RememberedHolder) (holders []Holder) {
	for _, h := range saved[:min(len(saved), maxHolders)] {
		holders = append(holders, Holder{Process: h.Process, Unit: h.Unit, PodUID: h.Pod})
	}
	return holders
}

// recallPressure returns what is remembered of a listener that was full, or lost packets, at the last look before the start.
func recallPressure(full, dropping, now instant) *pressure {
	if full == never && dropping == never {
		return nil
	}
	return newPressure(full, now, dropping)
}
