//go:build linux

package collector

import (
	"slices"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// maxLeased is how many leased ports there are series for, one by one.
const maxLeased = 1024

// eachLeased calls yield for each leased port of this host whose lease counts, once and for at most maxLeased of them. It returns how many
// more there are.
func eachLeased(v *inventory.LeaseView, counts func(*inventory.Lease) bool, yield func(*inventory.Lease, uint16)) (omitted int) {
	known := make(map[uint16]bool)
	for n := range v.Leases {
		l := &v.Leases[n]
		if l.Deadline == 0 || !counts(l) { // that of another host
			continue
		}
		for _, port := range l.Ports {
			switch {
			case known[port]:
				continue
			case len(known) < maxLeased:
				yield(l, port)
			default:
				omitted++
			}
			known[port] = true
		}
	}
	return omitted
}

func isLeased(*inventory.Lease) bool { return true }

func isOverstayed(l *inventory.Lease) bool { return l.Overstayed != 0 }

// leases returns the host function of families about leases.
func leases(host func(*inventory.LeaseView, add)) func(reading, add) {
	return func(r reading, add add) {
		if r.Leases != nil {
			host(r.Leases, add)
		}
	}
}

// teams returns the host function of a count of ports of each team from whose ranges somebody may lease.
func teams(count func(inventory.LeaseTeam) int) func(reading, add) {
	return leases(func(v *inventory.LeaseView, add add) {
		for n, t := range v.Teams {
			if !slices.ContainsFunc(v.Teams[:n], func(other inventory.LeaseTeam) bool { return other.Name == t.Name }) {
				add(float64(count(t)), "team", t.Name)
			}
		}
	})
}

// sameLeases reports whether two snapshots are known to have the same leases.
func sameLeases(a, b *inventory.Snapshot) bool {
	if a.Leases == nil || b.Leases == nil {
		return a.Leases == b.Leases
	}
	one, other := a.Leases.Leases, b.Leases.Leases
	return a.Leases.Booted.Equal(b.Leases.Booted) && len(one) == len(other) && (len(one) == 0 || &one[0] == &other[0])
}
