package registry

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

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

// draftPorts makes one draft for each port of a protocol and each owner.
func draftPorts(candidates []Candidate) []draft {
	type key struct {
		port  uint16
		proto int
	}
	byPort := make(map[key][]Candidate)
	for _, c := range candidates {
		k := key{c.Addr.Port(), protoOf(c.Proto)}
		if k.port != 0 && k.proto >= 0 && c.Addr.IsValid() {
			byPort[k] = append(byPort[k], c)
		}
	}
	var drafts []draft
	for k, there := range byPort {
		// A port that one of them always has is no other's to come and go.
		must := slices.ContainsFunc(there, func(c Candidate) bool { return !c.Optional })
		for _, d := range draftsOf(there) {
			d.ports, d.protos[k.proto] = []uint16{k.port}, true
			if !must {
				d.optional, d.note = true, there[0].Note
			}
			drafts = append(drafts, d)
		}
	}
	slices.SortFunc(drafts, func(a, b draft) int {
		return cmp.Or(cmp.Compare(a.ports[0], b.ports[0]), cmp.Compare(b2i(b.protos[tcp]), b2i(a.protos[tcp])), slices.Compare(a.bind, b.bind))
	})
	return drafts
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// draftsOf makes one draft for each owner of listeners on one port of a protocol. Owners that share addresses are one: a
// registry cannot tell them apart.
func draftsOf(candidates []Candidate) []draft {
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
			return drafts
		}
	}
	one := owners[0]
	for _, o := range owners[1:] {
		if o.process != one.process {
			one.process = ""
		}
		if o.unit != one.unit {
			one.unit = ""
		}
	}
	return []draft{{owner: one, bind: bindOf(listeners, true)}}
}

func shareAddresses(drafts []draft) bool {
	allowed := make([][]netip.Prefix, len(drafts))
	for i, d := range drafts {
		for _, word := range d.bind {
			prefixes, _ := parseBind(word)
			allowed[i] = append(allowed[i], prefixes...)
		}
		for _, other := range allowed[:i] {
			if overlap(allowed[i], other) {
				return true
			}
		}
	}
	return false
}

// ownerOf returns who holds a listener. Only what is exact is declared, but a name may be made of what is not.
func ownerOf(l Listener) owner {
	var o owner
	for i, h := range l.Holders {
		switch {
		case i == 0:
			o = owner{process: h.Process, unit: h.Unit}
		case o.process != h.Process:
			o.process = ""
		}
		if o.unit != h.Unit {
			o.unit = ""
		}
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
		o.base = strings.TrimSuffix(o.unit[strings.LastIndexByte(o.unit, '/')+1:], ".service")
	}
	if !l.HoldersKnown {
		o.process, o.unit = "", ""
	}
	return o
}

// bindOf returns what bind must be for listeners to be as declared. With words, it says any and loopback, else addresses.
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

// merge makes one draft of those of one owner that differ in protocol alone, and then of those that differ in port alone.
// Without an owner, ports have nothing to do with each other.
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

// unite joins the drafts that have the same owner, bind and key, in the place of the first.
func unite(drafts []draft, key func(draft) string, join func(into, d *draft)) []draft {
	var united []draft
	index := make(map[string]int, len(drafts))
	for _, d := range drafts {
		k := fmt.Sprintf("%q %q %t %q %s", d.owner, d.bind, d.optional, d.note, key(d))
		at, known := index[k]
		if !known {
			index[k] = len(united)
			united = append(united, d)
			continue
		}
		join(&united[at], &d)
	}
	return united
}

// name returns a name that no other draft has.
func (d draft) name(taken map[string]bool) string {
	base := d.base
	if base == "" {
		base = "port"
	}
	// Room for the rest.
	base = strings.ToValidUTF8(base[:min(len(base), maxName-40)], "")
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
