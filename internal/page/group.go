//go:build linux

package page

import (
	"fmt"
	"slices"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// together is how far apart listeners opened at most that are shown as one: what opens later is news, and has its own row.
const together = time.Minute

// all returns the rows of listeners, in their order. What one service opens on all addresses of IPv4 and IPv6, or on both loopback
// addresses, is one row.
func (m *rows) all(listeners []*inventory.Listener) []row {
	var list []row
	for n, l := range listeners {
		if l == nil {
			continue // it is in the row of another one
		}
		of := []*inventory.Listener{l}
		for after := n + 1; after < len(listeners); after++ {
			other := listeners[after]
			if other == nil {
				continue
			}
			if other.Addr.Port() != l.Addr.Port() || other.Proto != l.Proto || other.Netns != l.Netns {
				break
			}
			if isPair(l, other) {
				of, listeners[after] = append(of, other), nil
				break
			}
		}
		list = append(list, m.of(of...))
	}
	return list
}

// isPair reports whether two listeners of a port are one service on all addresses of IPv4 and IPv6, or on both loopback addresses.
func isPair(a, b *inventory.Listener) bool {
	x, y := a.Addr.Addr(), b.Addr.Addr()
	return x.Is4() && y.Is6() && (x.IsUnspecified() && y.IsUnspecified() || x.IsLoopback() && y.IsLoopback()) &&
		a.Device == b.Device && areAlike(a, b)
}

// areAlike reports whether there is nothing to say of one listener that is not to be said of the other, but for its address and port.
func areAlike(a, b *inventory.Listener) bool {
	return a.Proto == b.Proto && a.Netns == b.Netns && a.Scope == b.Scope && a.Detailed == b.Detailed &&
		a.Judged == b.Judged && a.Client == b.Client && a.Verdict == b.Verdict && leasedBy(a) == leasedBy(b) &&
		a.Exact == b.Exact && a.ManyHolders == b.ManyHolders && slices.Equal(a.Holders, b.Holders) &&
		a.FirstSeen.IsZero() == b.FirstSeen.IsZero() && a.FirstSeen.Sub(b.FirstSeen).Abs() <= together &&
		isCalm(a) && isCalm(b)
}

// leasedBy returns who has leased the port of a listener, or nothing.
func leasedBy(l *inventory.Listener) string {
	if l.Lease == nil {
		return ""
	}
	return l.Lease.User
}

// isCalm reports whether the queue of a listener is neither full nor fills, and it loses nothing.
func isCalm(l *inventory.Listener) bool {
	q := queueOf(l)
	return q.Level != levelBad && q.Level != levelWarn && (l.Starts == nil || l.Starts.Full.IsZero() && l.Starts.Dropping.IsZero())
}

// leastFold is how many consecutive ports of one service are shown as a range.
const leastFold = 4

// folded returns rows, which are in the order of their ports, with each range of consecutive ports of one holder as one row.
func (m *rows) folded(list []row) []row {
	type kind struct{ proto, address, note, netns string }
	type run struct{ at []int } // in list
	var runs []*run
	last := make(map[kind]*run)
	for n := range list {
		r := &list[n]
		k := kind{r.Proto, r.Address, r.Note, r.netns}
		current := last[k]
		if current != nil {
			first, before := &list[current.at[0]], &list[current.at[len(current.at)-1]]
			if before.first+1 != r.first || !areAlike(first.listeners[0], r.listeners[0]) {
				current = nil
			}
		}
		if current == nil {
			current = new(run)
			last[k], runs = current, append(runs, current)
		}
		current.at = append(current.at, n)
	}
	isPart := make([]bool, len(list))
	for _, run := range runs {
		if len(run.at) < leastFold {
			continue
		}
		var parts []row
		for _, n := range run.at {
			parts = append(parts, list[n])
			isPart[n] = true
		}
		list[run.at[0]], isPart[run.at[0]] = m.fold(parts), false
	}
	kept := list[:0]
	for n := range list {
		if !isPart[n] {
			kept = append(kept, list[n])
		}
	}
	return kept
}

// fold returns the row that stands for others.
func (m *rows) fold(parts []row) row {
	var listeners []*inventory.Listener
	for i := range parts {
		listeners = append(listeners, parts[i].listeners...)
	}
	r := m.of(listeners...)
	r.Address, r.Note = parts[0].Address, parts[0].Note
	r.Port = fmt.Sprintf("%s–%s", parts[0].Port, parts[len(parts)-1].Port)
	r.Parts = parts
	return r
}

// Ports returns how many ports a range has.
func (r *row) Ports() string { return wording.Count(len(r.Parts), "port") }
