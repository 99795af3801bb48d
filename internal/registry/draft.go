//go:build linux

package registry

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// Candidate is a listener to be declared.
type Candidate struct {
	Listener
	// Guessed are holders that are not exact, if there are no others. A service may be named after them, but does not declare them.
	Guessed []Holder
	// Name is the name for its service. If it is empty, the service is named after its holder.
	Name string
	// Optional is set if the service need not listen there. Note is the reason, on one line.
	Optional bool
	Note     string
	// Chosen is set if the system may have chosen the port. If the holder is known, its service has any port.
	Chosen bool
	// Verdict is what a registry says of the listener, and Leased reports whether its port is leased. Only [Redraft] uses them.
	Verdict Verdict
	Leased  bool
}

// owner is the holders of a listener, as far as a registry can declare them.
type owner struct {
	// base is what the service is named after. It is empty if nothing is known.
	base             string
	processes, units []string
}

// draft is a service to be written.
type draft struct {
	owner
	protos [protocols]bool
	ports  []uint16
	// anyPort is set if the service chooses its ports. ports are then the present ones.
	anyPort bool
	bind    []string
	// optional and note are those of a candidate.
	optional bool
	note     string
}

// service returns the draft as far as that tells it from others.
func (d *draft) service() *service {
	s := &service{protos: d.protos}
	for _, text := range d.bind {
		one, _ := parseBind(text)
		s.bind = s.bind.and(one)
	}
	for _, name := range d.processes {
		s.processes = append(s.processes, processPattern(name))
	}
	for _, name := range d.units {
		s.units = append(s.units, unitPattern(name))
	}
	return s
}

func (o *owner) key() string { return fmt.Sprintf("%q", *o) }

// draftsOf returns the services that declare the candidates, in the order of their ports, and then those with any port.
func draftsOf(candidates []Candidate) []draft {
	candidates = slices.DeleteFunc(slices.Clone(candidates), func(c Candidate) bool {
		return protoOf(c.Proto) < 0 || c.Addr.Port() == 0 || !c.Addr.IsValid()
	})
	anyPort, candidates := draftsOnAnyPort(candidates)
	byPort := make(map[portKey][]Candidate)
	for _, c := range candidates {
		k := portKey{protoOf(c.Proto), c.Addr.Port()}
		byPort[k] = append(byPort[k], c)
	}
	keys := slices.SortedFunc(maps.Keys(byPort), func(a, b portKey) int {
		return cmp.Or(cmp.Compare(a.port, b.port), cmp.Compare(a.proto, b.proto))
	})
	var drafts []draft
	for _, k := range keys {
		there := byPort[k]
		// A port that must listen for one of its owners is required for all of them.
		required := slices.ContainsFunc(there, func(c Candidate) bool { return !c.Optional })
		for _, d := range draftsOnPort(there) {
			d.ports, d.protos[k.proto] = []uint16{k.port}, true
			if !required {
				d.optional, d.note = true, there[0].Note
			}
			drafts = append(drafts, d)
		}
	}
	return append(merge(drafts), anyPort...)
}

// draftsOnAnyPort returns a draft for each owner of listeners whose port the system may have chosen, and the candidates without these. An
// owner that a registry cannot tell from another one keeps its ports.
func draftsOnAnyPort(candidates []Candidate) (drafts []draft, rest []Candidate) {
	var held [][]Candidate // of each draft
	index := make(map[string]int)
	for _, c := range candidates {
		o := ownerOf(c)
		if !c.Chosen || o.base == "" || len(o.processes)+len(o.units) == 0 {
			rest = append(rest, c)
			continue
		}
		at, known := index[o.key()]
		if !known {
			at = len(drafts)
			index[o.key()], drafts, held = at, append(drafts, draft{owner: o, anyPort: true, optional: true}), append(held, nil)
		}
		held[at] = append(held[at], c)
		drafts[at].protos[protoOf(c.Proto)] = true
		if port := c.Addr.Port(); !slices.Contains(drafts[at].ports, port) {
			drafts[at].ports = append(drafts[at].ports, port)
		}
	}
	var kept []draft
	var services []*service
	for i := range drafts {
		d := &drafts[i]
		var listeners []Listener
		for _, c := range held[i] {
			listeners = append(listeners, c.Listener)
		}
		d.bind = bindOf(listeners, true)
		s := d.service()
		if slices.ContainsFunc(listeners, func(l Listener) bool { return !s.knownToHold(&l) }) ||
			slices.ContainsFunc(services, func(o *service) bool { return !toldApart(s, o) }) {
			rest = append(rest, held[i]...)
			continue
		}
		kept, services = append(kept, *d), append(services, s)
	}
	return kept, rest
}

// draftsOnPort returns a draft for each owner of listeners on one port of a protocol, sorted by address. Owners become one if a
// registry cannot tell them apart.
func draftsOnPort(candidates []Candidate) []draft {
	var bySocket []Candidate
	var listeners []Listener
	var processes, units [][]string
	for _, c := range candidates {
		bySocket = append(bySocket, c.bySocket()...)
		listeners = append(listeners, c.Listener)
		o := ownerOf(c)
		processes, units = append(processes, o.processes), append(units, o.units)
	}
	for _, parts := range [][]Candidate{bySocket, candidates} {
		if drafts := draftsByOwner(parts); drafts != nil {
			return drafts
		}
	}
	one := ownerOf(candidates[0])
	one.processes, one.units = union(processes), union(units)
	return []draft{{owner: one, bind: bindOf(listeners, true)}}
}

// bySocket returns a candidate for each socket of a listener, if all their holders are known.
func (c Candidate) bySocket() []Candidate {
	if len(c.Sockets) == 0 || c.someUnknown() {
		return []Candidate{c}
	}
	parts := make([]Candidate, len(c.Sockets))
	for i, holders := range c.Sockets {
		parts[i] = c
		parts[i].Sockets = [][]Holder{holders}
	}
	return parts
}

// draftsByOwner returns a draft for each owner of listeners on one port of a protocol, or nil if a registry cannot tell them apart.
func draftsByOwner(candidates []Candidate) []draft {
	var owners []owner
	var held [][]Listener // of each owner
	index := make(map[string]int)
	for _, c := range candidates {
		o := ownerOf(c)
		at, known := index[o.key()]
		if !known {
			at = len(owners)
			index[o.key()], owners, held = at, append(owners, o), append(held, nil)
		}
		held[at] = append(held[at], c.Listener)
	}
	// Addresses tell services apart even where no holder is known.
	for _, way := range []struct{ words, byHolder bool }{{true, false}, {false, false}, {true, true}} {
		drafts := make([]draft, len(owners))
		for i, o := range owners {
			drafts[i] = draft{owner: o, bind: bindOf(held[i], way.words)}
		}
		if apart(drafts, held, way.byHolder) {
			slices.SortStableFunc(drafts, func(a, b draft) int { return slices.Compare(a.bind, b.bind) })
			return drafts
		}
	}
	return nil
}

// maxNames is how many names of processes or units a draft lists. Where there are more, it leaves them open.
const maxNames = 4

// union returns the names of all lists, each once. It returns nothing if one of the lists is empty, or if there are too many names.
func union(lists [][]string) (all []string) {
	for _, names := range lists {
		if len(names) == 0 {
			return nil
		}
		for _, name := range names {
			if !slices.Contains(all, name) {
				all = append(all, name)
			}
		}
	}
	if len(all) > maxNames {
		return nil
	}
	return all
}

// apart reports whether a registry can tell the drafts apart: no two of them conflict, and none permits a listener of another, unless
// byHolder is set and their holders differ. held are the listeners of each.
func apart(drafts []draft, held [][]Listener, byHolder bool) bool {
	services := make([]*service, len(drafts))
	for i := range drafts {
		services[i] = drafts[i].service()
	}
	for i, a := range services {
		for j, b := range services {
			switch {
			case i == j || byHolder && toldApart(a, b):
			case a.bind.overlaps(&b.bind), slices.ContainsFunc(held[i], func(l Listener) bool { return b.bind.permits(&l) }):
				return false
			}
		}
	}
	return true
}

// ownerOf returns the owner of a listener. It declares only exact holders, and only if those of all sockets are known, but is named
// after others too.
func ownerOf(c Candidate) owner {
	holders := slices.Concat(c.Sockets...)
	exact := len(holders) > 0 && !slices.ContainsFunc(c.Sockets, func(holders []Holder) bool { return len(holders) == 0 })
	if len(holders) == 0 {
		holders = c.Guessed
	}
	var processes, units [][]string
	for _, h := range holders {
		if !h.activates() {
			processes = append(processes, lastingProcess(h))
		}
		units = append(units, lastingUnit(h.Unit))
	}
	names := union(processes)
	covered := func(name string) bool {
		return slices.ContainsFunc(names, func(other string) bool { return other != name && processPattern(other).matches(name) })
	}
	o := owner{processes: slices.DeleteFunc(slices.Clone(names), covered), units: union(units)}
	if len(o.processes) > 0 {
		o.base = strings.TrimRight(o.processes[0], "*-_.")
	}
	if len(o.units) > 0 && strings.HasSuffix(o.units[0], ".service") {
		o.base = strings.TrimSuffix(path.Base(o.units[0]), ".service")
	}
	if o.base = strings.TrimSpace(cmp.Or(c.Name, o.base)); checkName(o.base) != "" {
		o.base = ""
	}
	if !exact {
		o.processes, o.units = nil, nil
	}
	return o
}

// bindOf returns a narrow bind that allows listeners. With words it prefers the words any and loopback, and interfaces, to addresses.
func bindOf(listeners []Listener, words bool) []string {
	var bind []string
	var wild4, wild6, dual bool
	for _, l := range listeners {
		switch addr := l.ip(); {
		case !addr.IsUnspecified() || placeOf(l) != "":
		case addr.Is4():
			wild4 = true
		default:
			wild6, dual = true, dual || !l.Detailed || !l.IPv6Only
		}
	}
	if words && dual || wild4 && wild6 {
		return []string{"any"}
	}
	if wild4 {
		bind = append(bind, "0.0.0.0")
	}
	if wild6 {
		bind = append(bind, "::")
	}
	for _, l := range slices.SortedStableFunc(slices.Values(listeners), func(a, b Listener) int { return a.ip().Compare(b.ip()) }) {
		addr := l.ip()
		word := addr.String()
		if words || addr.IsUnspecified() {
			word = cmp.Or(placeOf(l), word)
		}
		if covered := addr.Is4() && wild4 || addr.Is6() && wild6; !covered && !slices.Contains(bind, word) {
			bind = append(bind, word)
		}
	}
	return bind
}

// placeOf returns the bind that allows every address where a listener is: on its interface, or on this host only. It is empty if that
// is everywhere.
func placeOf(l Listener) string {
	switch {
	case l.Loopback || l.ip().IsLoopback():
		return "loopback"
	case l.Detailed && checkDevice(l.Device) == "":
		return "%" + l.Device
	}
	return ""
}

// merge joins drafts of one owner that differ only in protocol, and then those that differ only in port. Ports without a known
// owner stay apart.
func merge(drafts []draft) []draft {
	drafts = unite(drafts, func(d draft) string { return fmt.Sprint(d.ports) }, func(into, d *draft) {
		for proto := range protocols {
			into.protos[proto] = into.protos[proto] || d.protos[proto]
		}
	})
	return unite(drafts, func(d draft) string {
		if d.base == "" {
			return fmt.Sprint(d.ports)
		}
		return fmt.Sprint(d.protos)
	}, func(into, d *draft) { into.ports = append(into.ports, d.ports...) })
}

// unite joins drafts with the same owner, bind and key, in the place of the first.
func unite(drafts []draft, key func(draft) string, join func(into, d *draft)) []draft {
	var united []draft
	index := make(map[string]int, len(drafts))
	for _, d := range drafts {
		k := fmt.Sprintf("%q %q %t %q %s", d.owner, d.bind, d.optional, d.note, key(d))
		if at, known := index[k]; known {
			join(&united[at], &d)
			continue
		}
		index[k] = len(united)
		united = append(united, d)
	}
	return united
}

// name returns a name that no other draft has, and adds it to taken.
func (d draft) name(taken map[string]bool) string {
	name := strings.ToValidUTF8(d.base[:min(len(d.base), maxName-40)], "") // leave room for the rest
	switch {
	case d.anyPort && taken[name]:
		name += "-any"
	case name == "" || taken[name]:
		name = fmt.Sprintf("%s-%d", cmp.Or(name, "port"), d.ports[0])
	}
	if taken[name] && d.protos[udp] {
		name += "-udp"
	}
	for unique, n := name, 2; ; n++ {
		if !taken[unique] {
			taken[unique] = true
			return unique
		}
		unique = fmt.Sprintf("%s-%d", name, n)
	}
}
