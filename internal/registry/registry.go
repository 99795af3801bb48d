// Package registry reads ports.yml, the list of services that should listen, and judges listeners by it.
//
// Its files depend on each other in one direction: yaml.go and node.go read YAML, fields.go and parse.go make a Registry of it,
// table.go picks the part for one host, and judge.go compares listeners with that part.
package registry

import (
	"cmp"
	"slices"

	"github.com/listen-exporter/listen_exporter/internal/ports"
)

// The transport protocols, as indexes.
const (
	tcp = iota
	udp
	protocols
)

var protoNames = [protocols]string{tcp: "tcp", udp: "udp"}

// protoOf returns a protocol's index, or -1 if it is neither tcp nor udp.
func protoOf(name string) int { return slices.Index(protoNames[:], name) }

// Registry is the content of one file. It never changes, and may be shared.
type Registry struct {
	file     string
	services []*service
	reserved []*reservation

	// The rest is derived from reserved. ranges are sorted.
	ranges []Range
	teams  []TeamUse
}

// service is an entry of services.
type service struct {
	name, purpose string
	ports         []portRange // sorted, without overlaps
	protos        [protocols]bool
	bind          bind
	boundTo       string    // bind as written
	processes     []pattern // empty for any
	units         []pattern // empty for any
	heldBy        []string  // process and unit as written
	required      bool
	hosts         []glob // empty for every host
}

// reservation is an entry of reserved.
type reservation struct {
	team       string
	ports      []portRange // sorted, without overlaps
	namespaces []string
}

// portRange is a port or a range of ports, with its place in the file.
type portRange struct {
	ports.Range
	line, column int
}

// String returns "port 22" or "ports 8000-8010".
func (r portRange) String() string {
	if r.First == r.Last {
		return "port " + r.Range.String()
	}
	return "ports " + r.Range.String()
}

// Range is a range of ports that is reserved for a team.
type Range struct {
	Team string
	ports.Range
	// Namespaces are the Kubernetes namespaces that may use it.
	Namespaces []string
	// File and Line are where it is reserved.
	File string
	Line int
}

// TeamUse is how many of a team's reserved ports are in use.
type TeamUse struct {
	Team string
	// Size is the number of ports that are reserved for it. Used is how many of them have a listener, of any protocol and
	// address.
	Size, Used int
}

// File returns the name of the file.
func (r *Registry) File() string { return r.file }

// ServiceCount returns how many services the file declares, for all hosts together.
func (r *Registry) ServiceCount() int { return len(r.services) }

// Ranges returns all reserved ranges, lowest port first.
func (r *Registry) Ranges() []Range { return slices.Clone(r.ranges) }

// RangeOf returns the first reserved range that contains a port. Only ranges of the same team can overlap.
func (r *Registry) RangeOf(port uint16) (Range, bool) {
	if i := slices.IndexFunc(r.ranges, func(candidate Range) bool { return candidate.Contains(port) }); i >= 0 {
		return r.ranges[i], true
	}
	return Range{}, false
}

// finish derives the ranges and the teams from the reservations.
func (r *Registry) finish() {
	sets := make(map[string]ports.Set)
	for _, reserved := range r.reserved {
		if sets[reserved.team] == nil {
			r.teams = append(r.teams, TeamUse{Team: reserved.team})
		}
		for _, p := range reserved.ports {
			r.ranges = append(r.ranges, Range{reserved.team, p.Range, reserved.namespaces, r.file, p.line})
			sets[reserved.team] = append(sets[reserved.team], p.Range)
		}
	}
	slices.SortStableFunc(r.ranges, func(a, b Range) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
	})
	for i := range r.teams {
		for _, merged := range sets[r.teams[i].Team].Merged() {
			r.teams[i].Size += merged.Size()
		}
	}
}
