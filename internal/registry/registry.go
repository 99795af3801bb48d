// Package registry reads ports.yml, the table of what should listen, and judges by it what does.
package registry

import (
	"cmp"
	"net/netip"
	"slices"
)

// The transport protocols, as indexes.
const (
	tcp = iota
	udp
	protocols
)

var protoNames = [protocols]string{tcp: "tcp", udp: "udp"}

// protoOf returns a protocol's index, or -1 for any other than tcp and udp.
func protoOf(name string) int { return slices.Index(protoNames[:], name) }

// Registry is the content of one file. It is never changed after it was made, and may be shared.
type Registry struct {
	file     string
	services []*service
	reserved []*reservation

	// What follows is made of reserved. teamOf has the index in teams plus one, or 0, for each port.
	ranges []Range
	teams  []TeamUse
	teamOf [1 << 16]uint16
}

// service is an entry of services.
type service struct {
	name, purpose string
	line          int
	ports         []portSpan // sorted, none overlaps another
	protos        [protocols]bool
	bind          []netip.Prefix
	boundTo       string // bind as it is written, for a person
	heldAs        string // process and unit, likewise
	process       processName
	unit          unitName
	required      bool
	hosts         []glob // empty for every host
}

// reservation is an entry of reserved.
type reservation struct {
	team       string
	ports      []portSpan // sorted, none overlaps another
	namespaces []string
}

// Range is a range of ports that is reserved for a team.
type Range struct {
	Team string
	// First and Last are its ends, both included.
	First, Last uint16
	// Namespaces are the Kubernetes namespaces that may use it.
	Namespaces []string
	// File and Line are where it is reserved.
	File string
	Line int
}

// Contains tells whether port is in the range.
func (r Range) Contains(port uint16) bool { return r.First <= port && port <= r.Last }

// File returns the name of the file.
func (r *Registry) File() string { return r.file }

// ServiceCount returns how many services the file declares, for whatever hosts.
func (r *Registry) ServiceCount() int { return len(r.services) }

// Ranges returns all reserved ranges, lowest port first.
func (r *Registry) Ranges() []Range { return slices.Clone(r.ranges) }

// RangesFor returns the reserved ranges that a Kubernetes namespace may use, lowest port first.
func (r *Registry) RangesFor(namespace string) []Range {
	var ranges []Range
	for _, candidate := range r.ranges {
		if slices.Contains(candidate.Namespaces, namespace) {
			ranges = append(ranges, candidate)
		}
	}
	return ranges
}

// RangeOf returns the first reserved range that a port lies in. Only ranges of one team can overlap.
func (r *Registry) RangeOf(port uint16) (Range, bool) {
	if i := slices.IndexFunc(r.ranges, func(candidate Range) bool { return candidate.Contains(port) }); i >= 0 {
		return r.ranges[i], true
	}
	return Range{}, false
}

// finish makes what is looked up of what was read.
func (r *Registry) finish() {
	r.pack()
	index := make(map[string]uint16)
	for _, reserved := range r.reserved {
		team, known := index[reserved.team]
		if !known {
			r.teams = append(r.teams, TeamUse{Team: reserved.team})
			team = uint16(len(r.teams))
			index[reserved.team] = team
		}
		for _, s := range reserved.ports {
			r.ranges = append(r.ranges, Range{
				Team: reserved.team, First: s.first, Last: s.last, Namespaces: reserved.namespaces, File: r.file, Line: s.line,
			})
			for port := int(s.first); port <= int(s.last); port++ {
				if r.teamOf[port] == 0 {
					r.teams[team-1].Size++
				}
				r.teamOf[port] = team
			}
		}
	}
	slices.SortStableFunc(r.ranges, func(a, b Range) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
	})
}
