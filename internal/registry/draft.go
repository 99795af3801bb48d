package registry

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"
)

// Candidate is a listener to be declared.
type Candidate struct {
	Listener
	// Name is the name for its service. If it is empty, the service is named after its holder.
	Name string
	// Optional is set if the service need not listen there. Note is the reason, on one line.
	Optional bool
	Note     string
}

// owner is the holder of a listener, as far as a registry can declare it.
type owner struct {
	// base is what the service is named after. It is empty if nothing is known.
	base          string
	process, unit string
}

// draft is a service to be written.
type draft struct {
	owner
	protos [protocols]bool
	ports  []uint16
	bind   []string
	// optional and note are those of a candidate.
	optional bool
	note     string
}

// draftsOf returns the services that declare the candidates, in the order of their ports.
func draftsOf(candidates []Candidate) []draft {
	byPort := make(map[portKey][]Candidate)
	for _, c := range candidates {
		if k := (portKey{protoOf(c.Proto), c.Addr.Port()}); k.port != 0 && k.proto >= 0 && c.Addr.IsValid() {
			byPort[k] = append(byPort[k], c)
		}
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
	return merge(drafts)
}

// draftsOnPort returns a draft for each owner of listeners on one port of a protocol, sorted by address. Owners that share
// addresses become one, because a registry cannot tell them apart.
func draftsOnPort(candidates []Candidate) []draft {
	var owners []owner
	held := make(map[owner][]Listener)
	listeners := make([]Listener, len(candidates))
	for i, c := range candidates {
		listeners[i] = c.Listener
		o := ownerOf(c.Listener)
		if checkName(c.Name) == "" {
			o.base = c.Name
		}
		if held[o] == nil {
			owners = append(owners, o)
		}
		held[o] = append(held[o], c.Listener)
	}
	for _, words := range []bool{true, false} {
		drafts := make([]draft, len(owners))
		for i, o := range owners {
			drafts[i] = draft{owner: o, bind: bindOf(held[o], words)}
		}
		if !shareAddresses(drafts) {
			slices.SortFunc(drafts, func(a, b draft) int { return slices.Compare(a.bind, b.bind) })
			return drafts
		}
	}
	one := owners[0]
	for _, o := range owners {
		one.process, one.unit = common(one.process, o.process), common(one.unit, o.unit)
	}
	return []draft{{owner: one, bind: bindOf(listeners, true)}}
}

// common returns the text that a and b share, or nothing if they differ.
func common(a, b string) string {
	if a != b {
		return ""
	}
	return a
}

func shareAddresses(drafts []draft) bool {
	allowed := make([][]netip.Prefix, len(drafts))
	for i, d := range drafts {
		for _, word := range d.bind {
			prefixes, _ := parseBind(word)
			allowed[i] = append(allowed[i], prefixes...)
		}
		if slices.ContainsFunc(allowed[:i], func(other []netip.Prefix) bool { return overlap(allowed[i], other) }) {
			return true
		}
	}
	return false
}

// ownerOf returns the owner of a listener. It declares only exact holders, but is named after others too.
func ownerOf(l Listener) owner {
	var o owner
	for i, h := range l.Holders {
		if i == 0 {
			o.process, o.unit = h.Process, h.Unit
		}
		o.process, o.unit = common(o.process, h.Process), common(o.unit, h.Unit)
	}
	if socket, ok := strings.CutSuffix(o.unit, ".socket"); ok && o.process == activator {
		// Its service holds it from the first connection on.
		o.process, o.unit = "", socket+".service"
	}
	if checkName(o.process) != "" || strings.HasPrefix(o.process, "/") {
		o.process = ""
	}
	if checkName(o.unit) != "" || checkUnit(o.unit) != "" {
		o.unit = ""
	}
	if o.base = o.process; strings.HasSuffix(o.unit, ".service") {
		o.base = strings.TrimSuffix(path.Base(o.unit), ".service")
	}
	if checkName(o.base) != "" {
		o.base = ""
	}
	if !l.HoldersKnown {
		o.process, o.unit = "", ""
	}
	return o
}

// bindOf returns a narrow bind that allows listeners. With words it prefers the words any and loopback to addresses.
func bindOf(listeners []Listener, words bool) []string {
	var addrs []netip.Addr
	var wild4, wild6, dual bool
	for _, l := range listeners {
		addr := l.Addr.Addr().Unmap().WithZone("")
		switch {
		case !addr.IsUnspecified():
			addrs = append(addrs, addr)
		case addr.Is4():
			wild4 = true
		default:
			wild6, dual = true, dual || l.IPv6Only != Yes
		}
	}
	if words && dual || wild4 && wild6 {
		return []string{"any"}
	}
	var bind []string
	if wild4 {
		bind = append(bind, "0.0.0.0")
	}
	if wild6 {
		bind = append(bind, "::")
	}
	words = words && len(bind) == 0
	slices.SortFunc(addrs, netip.Addr.Compare)
	for _, addr := range slices.Compact(addrs) {
		word := addr.String()
		if words && addr.IsLoopback() {
			word = "loopback"
		}
		if covered := addr.Is4() && wild4 || addr.Is6() && wild6; !covered && !slices.Contains(bind, word) {
			bind = append(bind, word)
		}
	}
	return bind
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
	base := cmp.Or(d.base, "port")
	base = strings.ToValidUTF8(base[:min(len(base), maxName-40)], "") // leave room for the rest
	name := base
	if d.base == "" || taken[name] {
		name = fmt.Sprintf("%s-%d", base, d.ports[0])
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
