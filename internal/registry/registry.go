//go:build linux

// Package registry reads ports.yml, the list of services that should listen, and judges listeners by it.
//
// Its files depend on each other in one direction: yaml.go and node.go read YAML, fields.go and parse.go make a Registry of it,
// conflict.go finds what cannot hold together, table.go picks the part for one host, and judge.go compares listeners with that part.
package registry

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/listen-exporter/listen_exporter/internal/ports"
	"github.com/listen-exporter/listen_exporter/internal/wording"
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

// Registry is the content of one file, or of several that are one registry. It never changes, and may be shared.
type Registry struct {
	file      string
	services  []*service
	forbidden []*prohibition
	reserved  []*reservation

	ranges []Range // of reserved, sorted
}

// place is where something is written.
type place struct {
	file string
	// line and column count from 1, columns in characters.
	line, column int
}

// from returns the place as an error at another place names it: "on line 3", or "at base.yml:3" in another file.
func (p place) from(other place) string {
	if p.file == other.file {
		return fmt.Sprintf("on line %d", p.line)
	}
	return fmt.Sprintf("at %s:%d", wording.Path(p.file), p.line)
}

// requirement says what of a service must listen.
type requirement int

const (
	optional  requirement = iota // required: false
	everyPort                    // required: true
	onePort                      // required: one-port
	oneHost                      // required: one-host
)

// service is an entry of services.
type service struct {
	place
	name, purpose, owner string
	anyPort              bool        // port: any; ports are then all
	ports                []portRange // sorted, without overlaps
	protos               [protocols]bool
	bind                 bind
	boundTo              string    // bind as written
	processes            []pattern // empty for any
	units                []pattern // empty for any
	required             requirement
	hosts                hosts
}

// prohibition is an entry of forbidden.
type prohibition struct {
	place
	reason    string
	ports     []portRange // sorted, without overlaps
	protos    [protocols]bool
	tolerated bind // where it may listen after all; the zero value is nowhere
	hosts     hosts
}

// reservation is an entry of reserved.
type reservation struct {
	place
	team       string
	ports      []portRange // sorted, without overlaps
	namespaces []glob
	hosts      hosts
	users      []string // who may lease from it
	anyUser    bool     // whoever's the sockets on leased ports are
}

// portRange is a port or a range of ports, with its place in the file.
type portRange struct {
	ports.Range
	place
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
	// SomeHosts reports whether it is only reserved on some hosts.
	SomeHosts bool
	// File and Line are where it is reserved.
	File string
	Line int

	of *reservation
}

// AllowsNamespace reports whether the range is for a Kubernetes namespace: one of its globs matches.
func (r Range) AllowsNamespace(namespace string) bool {
	return slices.ContainsFunc(r.of.namespaces, func(g glob) bool { return g.matches(namespace) })
}

// TeamUse is how many of a team's reserved ports are in use.
type TeamUse struct {
	Team string
	// Size is the number of ports that are reserved for it. Used is how many of them have a listener, of any protocol and
	// address.
	Size, Used int
}

// File returns the name of the file, or "the registry" if there are several.
func (r *Registry) File() string { return r.file }

// ServiceCount returns how many services are declared, for all hosts together.
func (r *Registry) ServiceCount() int { return len(r.services) }

// Ranges returns all reserved ranges, lowest port first.
func (r *Registry) Ranges() []Range { return slices.Clone(r.ranges) }

// RangeOf returns the first range with a port that is reserved on every host. Only ranges of the same team can overlap there.
func (r *Registry) RangeOf(port uint16) (Range, bool) {
	return firstRange(r.ranges, func(r Range) bool { return r.Contains(port) && !r.SomeHosts })
}

func firstRange(ranges []Range, is func(Range) bool) (Range, bool) {
	if i := slices.IndexFunc(ranges, is); i >= 0 {
		return ranges[i], true
	}
	return Range{}, false
}

// rangesOf returns the ranges of reservations, lowest port first.
func rangesOf(reserved []*reservation) (ranges []Range) {
	for _, of := range reserved {
		for _, p := range of.ports {
			ranges = append(ranges, Range{Team: of.team, Range: p.Range, SomeHosts: of.hosts.some(), File: p.file, Line: p.line, of: of})
		}
	}
	slices.SortStableFunc(ranges, func(a, b Range) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
	})
	return ranges
}

// teamsOf returns the teams of ranges, in the order of the file.
func teamsOf(reserved []*reservation) (teams []TeamUse) {
	sets := make(map[string]ports.Set)
	for _, of := range reserved {
		if sets[of.team] == nil {
			teams = append(teams, TeamUse{Team: of.team})
		}
		for _, p := range of.ports {
			sets[of.team] = append(sets[of.team], p.Range)
		}
	}
	for i := range teams {
		for _, merged := range sets[teams[i].Team].Merged() {
			teams[i].Size += merged.Size()
		}
	}
	return teams
}
