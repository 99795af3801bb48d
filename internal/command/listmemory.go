//go:build linux

package command

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// State is what the exporter of this host keeps in its state file.
type State struct {
	File string
	// Err is why the rest is not known, and what to do.
	Err      error
	Written  time.Time
	Memory   *inventory.Remembered
	Registry *inventory.LastRegistry // nil without one
	Host     string                  // the name of the host in it
}

// recall fills in since when the listeners are what they are.
func (a *answer) recall() {
	type place struct {
		proto, device string
		addr          netip.AddrPort
	}
	open := make(map[place]inventory.RememberedListener)
	for _, p := range a.state.Memory.Ports {
		if p.Gone.IsZero() {
			for _, l := range p.Listeners {
				open[place{p.Proto, l.Device, netip.AddrPortFrom(l.Address, p.Port)}] = l
			}
		}
	}
	for i := range a.snapshot.Listeners {
		l := &a.snapshot.Listeners[i]
		was, known := open[place{l.Proto, l.Device, l.Addr}]
		if !known || l.Netns != "" {
			continue
		}
		l.FirstSeen, l.Starts = was.FirstSeen, &inventory.Starts{Dropping: was.DroppingStart}
		if was.Reason == l.Verdict.Reason && was.Service == l.Verdict.Service {
			l.Starts.Violation = was.ViolationStart
		}
		if l.Full() {
			l.Starts.Full = was.FullStart
		}
	}
}

// troubles returns what is wrong with a listener, a sentence each.
func (a *answer) troubles(l *inventory.Listener) (all []string) {
	starts := startsOf(l)
	since := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return ", since " + a.when(t)
	}
	if l.Verdict.Reason != "" {
		all = append(all, l.Verdict.Reason+": "+whyViolated(l)+since(starts.Violation))
	}
	if l.Full() {
		all = append(all, fmt.Sprintf("the accept queue is full, %d of %d%s", l.AcceptQueueLength, l.AcceptQueueLimit, since(starts.Full)))
	}
	if !starts.Dropping.IsZero() {
		all = append(all, "loses packets"+since(starts.Dropping))
	}
	return all
}

// startsOf returns since when a listener is what it is, as far as that is known.
func startsOf(l *inventory.Listener) inventory.Starts {
	if l.Starts == nil {
		return inventory.Starts{}
	}
	return *l.Starts
}

// memoryOf is what is remembered of the ports that are asked for.
type memoryOf struct {
	ports    []inventory.RememberedPort
	services []inventory.RememberedService
	flapping []inventory.RememberedFlapping
}

func (a *answer) memory() (of memoryOf) {
	m := a.state.Memory
	asked := func(is func(query) bool) bool { return slices.ContainsFunc(a.queries, is) }
	for _, p := range m.Ports {
		if asked(func(q query) bool { return q.has(p.Proto, p.Port) }) {
			of.ports = append(of.ports, p)
		}
	}
	for _, s := range m.Services {
		if asked(func(q query) bool { return q.hasService(s.Name, s.Proto, s.Ports) }) {
			of.services = append(of.services, s)
		}
	}
	for _, f := range m.Flapping {
		if asked(func(q query) bool { return q.has(f.Proto, f.Port) }) {
			of.flapping = append(of.flapping, f)
		}
	}
	return of
}

// remembered returns what the memory says that the listeners do not, a sentence each.
func (a *answer) remembered() (lines []string) {
	if a.state.Memory == nil {
		return nil
	}
	of := a.memory()
	add := func(format string, values ...any) { lines = append(lines, fmt.Sprintf(format, values...)) }
	for _, p := range of.ports {
		if slices.ContainsFunc(a.snapshot.Listeners, func(l inventory.Listener) bool {
			return l.Netns == "" && l.Proto == p.Proto && l.Addr.Port() == p.Port
		}) {
			continue
		}
		gone := "gone since " + a.when(p.Gone)
		if p.Gone.IsZero() {
			gone = "gone, after " + a.when(a.state.Written)
		}
		add("%s %d: %s; was open since %s%s", p.Proto, p.Port, gone, a.when(p.Since), a.last(p.Addresses(), p.Holders))
	}
	for _, s := range of.services {
		text := fmt.Sprintf("%s (%s %s): ", wording.Printable(s.Name), s.Proto, wording.Printable(s.Ports))
		up := a.isUp(s)
		switch {
		case up && !s.Up:
			text += "up again, was down since " + a.when(s.DownSince)
		case up && s.LastChange.IsZero():
			continue
		case up:
			text += "up since " + a.when(s.LastChange)
		case s.Up:
			text += "down, after " + a.when(a.state.Written)
		default:
			text += "down since " + a.when(s.DownSince)
		}
		if !up {
			text += a.last(s.Addresses, s.Holders)
		}
		if s.Changes > 0 {
			text += fmt.Sprintf("; went up or down %s since the exporter started", wording.Count(int(min(s.Changes, 1<<30)), "time"))
		}
		add("%s", text)
	}
	for _, f := range of.flapping {
		text := fmt.Sprintf("%s %d: flaps, opened %s within 15m", f.Proto, f.Port, wording.Count(f.Openings, "time"))
		if f.Process != "" || f.Unit != "" {
			text += ", last by " + holderOf(inventory.Holder{Process: f.Process, Unit: f.Unit})
			a.next(f.Unit)
		}
		add("%s", text)
	}
	if len(lines) == 0 && len(a.snapshot.Listeners) == 0 {
		add("nothing is remembered of it")
	}
	return lines
}

// isUp reports whether a service is up now or, where that is not known, was.
func (a *answer) isUp(s inventory.RememberedService) bool {
	if c := a.snapshot.Compliance; c != nil {
		for _, now := range c.Services {
			if now.Name == s.Name && now.Proto == s.Proto && now.Ports == s.Ports {
				return now.Up
			}
		}
	}
	return s.Up
}

// last returns where a port last was and who held it, and notes the unit to look at.
func (a *answer) last(addresses []netip.Addr, holders []inventory.RememberedHolder) (text string) {
	if len(addresses) > 0 {
		text += "; last on " + wording.Printable(strings.Join(texts(addresses), ", "))
	}
	var names []string
	for _, h := range holders {
		names = append(names, holderOf(inventory.Holder{Process: h.Process, Unit: h.Unit, PodUID: h.Pod}))
		if h.Pod == "" {
			a.next(h.Unit)
		}
	}
	if len(names) > 0 {
		text += ", held by " + strings.Join(names, ",")
	}
	return text
}

// jsonMemory is what is remembered of the ports that are asked for.
type jsonMemory struct {
	File     string                `json:"file"`
	Written  time.Time             `json:"written"`
	Ports    []jsonRememberedPort  `json:"ports"`
	Services []jsonRememberedState `json:"services"`
	Flapping []jsonFlapping        `json:"flapping"`
}

type jsonRememberedPort struct {
	Proto     string     `json:"proto"`
	Port      uint16     `json:"port"`
	Since     time.Time  `json:"since"`
	Gone      *time.Time `json:"gone"`
	Addresses []string   `json:"addresses"`
	Processes []string   `json:"processes"`
	Units     []string   `json:"units"`
}

type jsonRememberedState struct {
	ServiceName string     `json:"service_name"`
	Proto       string     `json:"proto"`
	Ports       string     `json:"ports"`
	DownStart   *time.Time `json:"down_start"`
	LastChange  *time.Time `json:"last_change"`
	Changes     uint64     `json:"changes"`
	Addresses   []string   `json:"addresses"`
	Processes   []string   `json:"processes"`
	Units       []string   `json:"units"`
}

type jsonFlapping struct {
	Proto    string `json:"proto"`
	Port     uint16 `json:"port"`
	Openings int    `json:"openings"`
	Process  string `json:"process"`
	Unit     string `json:"unit"`
}

// json returns what is remembered, or nil if that is not known.
func (a *answer) json() *jsonMemory {
	if a.state.Memory == nil {
		return nil
	}
	of := a.memory()
	j := &jsonMemory{
		File: a.state.File, Written: a.state.Written.UTC(),
		Ports: []jsonRememberedPort{}, Services: []jsonRememberedState{}, Flapping: []jsonFlapping{},
	}
	for _, p := range of.ports {
		port := jsonRememberedPort{Proto: p.Proto, Port: p.Port, Since: p.Since.UTC(), Gone: moment(p.Gone), Addresses: texts(p.Addresses())}
		port.Processes, port.Units = holderNames(p.Holders)
		j.Ports = append(j.Ports, port)
	}
	for _, s := range of.services {
		service := jsonRememberedState{
			ServiceName: s.Name, Proto: s.Proto, Ports: s.Ports, DownStart: moment(s.DownSince), LastChange: moment(s.LastChange),
			Changes: s.Changes, Addresses: texts(s.Addresses),
		}
		service.Processes, service.Units = holderNames(s.Holders)
		j.Services = append(j.Services, service)
	}
	for _, f := range of.flapping {
		j.Flapping = append(j.Flapping, jsonFlapping(f))
	}
	return j
}

// texts returns addresses as texts, and no address as an empty list.
func texts(addresses []netip.Addr) []string {
	all := []string{}
	for _, address := range addresses {
		all = append(all, address.String())
	}
	return all
}

// moment returns a time for JSON, or nil for none.
func moment(t time.Time) *time.Time { return known(t.UTC(), !t.IsZero()) }

// holderNames returns the processes and units of holders, each once.
func holderNames(holders []inventory.RememberedHolder) (processes, units []string) {
	processes, units = []string{}, []string{}
	for _, h := range holders {
		if h.Process != "" && !slices.Contains(processes, h.Process) {
			processes = append(processes, h.Process)
		}
		if h.Unit != "" && !slices.Contains(units, h.Unit) {
			units = append(units, h.Unit)
		}
	}
	return processes, units
}
