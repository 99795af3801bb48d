//go:build linux

package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/internal/lease/api"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// leasePatience is how long list and audit wait for the leases of the exporter, which has them in memory.
const leasePatience = 2 * time.Second

// askedLeases are the leases of the exporter of this host, which is asked for them at each look.
type askedLeases struct{ address string }

// LeasesAt returns the leases of the exporter that serves them at an address, or nil if that is a Unix socket that is not there: no
// exporter leases ports then. They are only read from a Unix socket: over TCP a password would be needed.
func LeasesAt(address string) inventory.Leases {
	if path, is := strings.CutPrefix(address, "unix:"); is {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	return askedLeases{address}
}

// View implements inventory.Leases. Only a look asks the exporter.
func (askedLeases) View() lease.View { return lease.View{} }

// Looked implements inventory.Leases.
func (a askedLeases) Looked(at time.Duration, _ []uint16, _ bool) lease.View {
	view, err := a.ask(at)
	if err != nil {
		return lease.View{Time: at, Err: err}
	}
	return view
}

func (a askedLeases) ask(at time.Duration) (lease.View, error) {
	if !strings.HasPrefix(a.address, "unix:") {
		return lease.View{}, errors.New("they are only read from a Unix socket: want --lease.listen-address=unix:PATH")
	}
	client, err := api.NewClient(a.address, "", "")
	if err != nil {
		return lease.View{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), leasePatience)
	defer cancel()
	listing, err := client.Leases(ctx)
	switch {
	case errors.Is(err, fs.ErrNotExist): // no exporter leases ports here any more
		return lease.View{Time: at}, nil
	case errors.Is(err, context.DeadlineExceeded):
		return lease.View{}, fmt.Errorf("%s: no answer within %s", a.address, leasePatience)
	case err != nil:
		return lease.View{}, fmt.Errorf("%s: %w", a.address, err)
	}
	return listing.View(at), nil
}

// leasesUnknown returns a clause on what is not known of the leases, or nothing. matters reports that a listener violates the registry
// which may be leased.
func leasesUnknown(s *inventory.Snapshot) (clause string, matters bool) {
	switch {
	case s.Leases == nil || s.Leases.Err == nil:
		return "", false
	case errors.Is(s.Leases.Err, lease.ErrAway): // an exporter knows them, and judges by them
		return "the leases are those that were last known: " + wording.Public(s.Leases.Err), false
	}
	return "the leases are not known: " + wording.Public(s.Leases.Err), count(s, func(l *inventory.Listener) bool {
		return l.Verdict.Reason == inventory.ReasonReserved || l.Verdict.Reason == inventory.ReasonUnregistered
	}) > 0
}

// expiry returns when a lease of this host expires, by the wall clock.
func expiry(s *inventory.Snapshot, of *inventory.Lease) time.Time {
	return s.Leases.Booted.Add(of.Deadline)
}

// leased returns the leases that have a port which is asked for.
func (a *answer) leased() (all []inventory.Lease) {
	if a.snapshot.Leases == nil {
		return nil
	}
	for _, of := range a.snapshot.Leases.Leases {
		if slices.ContainsFunc(of.Ports, func(port uint16) bool { return a.asksFor(of.Proto, port) }) {
			all = append(all, of)
		}
	}
	return all
}

// asksFor reports whether a query asks for a port.
func (a *answer) asksFor(proto string, port uint16) bool {
	return slices.ContainsFunc(a.queries, func(q query) bool { return q.has(proto, port) })
}

// leases returns what there is to say of the leases of the ports that are asked for, a sentence for each port.
func (a *answer) leases() (lines []string) {
	for _, of := range a.leased() {
		text := fmt.Sprintf("leased as %s by %s from the ports of %s", wording.Printable(of.Name), wording.Printable(of.User), wording.Printable(of.Team))
		if of.Deadline == 0 {
			text += " on " + wording.Name(of.Host)
		} else {
			text += a.until(&of)
		}
		for _, port := range of.Ports {
			if a.asksFor(of.Proto, port) {
				lines = append(lines, fmt.Sprintf("%s %d: %s", of.Proto, port, text))
			}
		}
	}
	return lines
}

// until returns until when a lease of this host lives, or lived.
func (a *answer) until(of *inventory.Lease) string {
	at := expiry(a.snapshot, of)
	switch state := a.snapshot.Leases.State(of); {
	case state == lease.Overstayed:
		return ", overstayed: still listens although the lease expired " + a.when(at)
	case state == lease.Expired:
		return ", expired " + a.when(at)
	case a.snapshot.Leases.Err != nil && !at.After(a.now):
		return ", held beyond its time, " + a.when(at) + ", as its store cannot be reached"
	default:
		return fmt.Sprintf(", until %s (in %s)", a.clock(at), ageOf(at.Sub(a.now)))
	}
}

// jsonLease is a lease. Expires is null for one of another host.
type jsonLease struct {
	ID          string     `json:"id"`
	Team        string     `json:"team"`
	ServiceName string     `json:"service_name"`
	Proto       string     `json:"proto"`
	Ports       []uint16   `json:"ports"`
	UID         uint32     `json:"uid"`
	User        string     `json:"user"`
	AnyUser     bool       `json:"any_user"`
	Host        string     `json:"host"`
	Expires     *time.Time `json:"expires"`
	State       string     `json:"state"`
}

// jsonLeases returns the leases of a snapshot, or nil if no ports are leased here.
func jsonLeases(s *inventory.Snapshot) []jsonLease {
	if s.Leases.IsEmpty() {
		return nil
	}
	all := []jsonLease{}
	for i := range s.Leases.Leases {
		of := &s.Leases.Leases[i]
		j := jsonLease{of.ID, of.Team, of.Name, of.Proto, of.Ports, of.UID, of.User, of.AnyUser, of.Host, nil, s.Leases.State(of)}
		if of.Deadline != 0 {
			j.Expires = moment(expiry(s, of).Truncate(time.Second))
		}
		all = append(all, j)
	}
	return all
}

// jsonReservedOf returns how the ports of a team are used and leased.
func jsonReservedOf(s *inventory.Snapshot, use inventory.TeamUse) jsonReserved {
	j := jsonReserved{Team: use.Team, Ports: use.Size, PortsUsed: use.Used}
	if s.Leases == nil {
		return j
	}
	for i := range s.Leases.Teams {
		if team := &s.Leases.Teams[i]; team.Name == use.Team {
			j.PortsLeased, j.PortsAvailable = &team.Leased, &team.Available
		}
	}
	return j
}
