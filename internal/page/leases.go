//go:build linux

package page

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// leases are what the page shows of ports that are leased.
type leases struct {
	// Teams say how the ranges of each team are leased.
	Teams []string
	// Rows has the first maxLeases leases, those that are overstayed before the others. More is the number of others.
	Rows []leaseRow
	More int
	// ShowHosts reports whether there are leases of other hosts.
	ShowHosts bool
}

// leaseRow is a lease.
type leaseRow struct {
	State                    state
	Name, Team, Proto, Ports string
	User, Host               string
	// Expires is when, or zero if that is not known. Span is how long until then, or since then.
	Expires time.Time
	Span    string
}

// maxLeases is how many leases are shown.
const maxLeases = 1000

// newLeases returns the leases of a snapshot, or nil if none are given here.
func newLeases(s *inventory.Snapshot, made time.Time) *leases {
	if s.Leases.IsEmpty() {
		return nil
	}
	all := new(leases)
	for _, team := range s.Leases.Teams {
		all.Teams = append(all.Teams, fmt.Sprintf("%s: %s leased, %d available", wording.Printable(team.Name), wording.Count(team.Leased, "port"), team.Available))
	}
	for i := range s.Leases.Leases {
		r := newLeaseRow(s.Leases, &s.Leases.Leases[i], made)
		all.ShowHosts = all.ShowHosts || r.Expires.IsZero()
		all.Rows = append(all.Rows, r)
	}
	slices.SortStableFunc(all.Rows, func(a, b leaseRow) int { return cmp.Compare(rankOfLease(a), rankOfLease(b)) })
	if n := len(all.Rows); n > maxLeases {
		all.Rows, all.More = all.Rows[:maxLeases], n-maxLeases
	}
	return all
}

func newLeaseRow(v *inventory.LeaseView, of *inventory.Lease, made time.Time) leaseRow {
	r := leaseRow{
		Name: wording.Printable(of.Name), Team: wording.Printable(of.Team), Proto: of.Proto, Ports: portsText(of.Ports),
		User: wording.Printable(of.User), Host: wording.Printable(of.Host), State: state{levelGood, v.State(of), ""},
	}
	if of.Deadline != 0 {
		r.Expires = v.Booted.Add(of.Deadline).UTC()
		left := r.Expires.Sub(made)
		if r.Span = "in " + span(left); left <= 0 {
			r.Span = span(-left) + " ago"
		}
	}
	switch r.State.Word {
	case inventory.LeaseOverstayed:
		r.State.Level, r.State.Detail = levelBad, "it has expired, and something still listens"
	case inventory.LeaseExpired:
		r.State.Level, r.State.Detail = levelNone, "its ports are free unless something listens"
	}
	return r
}

// rankOfLease orders leases: problems come first.
func rankOfLease(r leaseRow) int {
	if r.State.Level == levelBad {
		return 0
	}
	return 1
}

// portsText returns ports as a list of ports and ranges, lowest first.
func portsText(ports []uint16) string {
	ports = slices.Sorted(slices.Values(ports))
	var texts []string
	for from := 0; from < len(ports); {
		to := from
		for to+1 < len(ports) && ports[to+1] == ports[to]+1 {
			to++
		}
		text := strconv.Itoa(int(ports[from]))
		if to > from {
			text += "–" + strconv.Itoa(int(ports[to]))
		}
		texts, from = append(texts, text), to+1
	}
	return strings.Join(texts, ", ")
}

// Moment returns when a lease expires, at a glance.
func (r leaseRow) Moment() string { return r.Expires.Format("2006-01-02 15:04:05") }
