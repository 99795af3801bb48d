//go:build linux

package lease

import (
	"errors"
	"fmt"
	"slices"

	"github.com/listen-exporter/listen_exporter/internal/ports"
)

// Range is a range of ports that the registry reserves for a team of this host, and from which somebody may lease.
type Range struct {
	ports.Range
	Team string
	// Users are who may lease from it: names, numbers, or * for all. Root always may.
	Users []string
	// AnyUser reports whether the sockets on a leased port may belong to any user.
	AnyUser bool
}

// Rules are what the registry and the kernel say of the ports of this host at one moment.
type Rules struct {
	// Ranges are what may be leased, lowest port first.
	Ranges []Range
	// Refuse returns why a port must not be leased, such as `service "web" declares it`, or nothing.
	Refuse func(port uint16) string
	// Claim returns what the registry says against a port, which is a part of what Refuse says, or nothing. A lease of the port is not
	// renewed then. That the kernel gives the port to clients by now does not matter: its program has it.
	Claim func(port uint16) string
	// Service reports whether a service of the registry has a name, which a lease must not take then.
	Service func(name string) bool
	// Version is of a comparable type, and equal only for the same rules: what Refuse says of tens of thousands of ports is kept by it.
	// nil equals nothing.
	Version any
}

// errNoRules is the error of a manager that does not know the registry yet.
var errNoRules = errors.New("no port can be leased before the registry is read")

// ruled is what follows from rules. It never changes.
type ruled struct {
	Rules
	teams   []teamPorts
	refused portSet // of the ranges
}

// teamPorts are the ports of a team's ranges.
type teamPorts struct {
	name  string
	ports ports.Set // merged
}

// Use sets what returns the rules. They are asked for at each lease that is to be given or renewed.
func (m *Manager) Use(rules func() (Rules, error)) {
	m.mu.Lock()
	m.ask = rules
	m.mu.Unlock()
	_, _ = m.rules() // for the first View: who wants a lease sees the error
}

// rules returns the rules of this moment.
func (m *Manager) rules() (*ruled, error) {
	m.mu.Lock()
	ask, last := m.ask, m.ruled
	m.mu.Unlock()
	if ask == nil {
		return nil, errNoRules
	}
	now, err := ask()
	if err != nil {
		return nil, err
	}
	if last != nil && now.Version != nil && now.Version == last.Version {
		return last, nil
	}
	r := &ruled{Rules: now}
	for _, of := range now.Ranges {
		i := slices.IndexFunc(r.teams, func(t teamPorts) bool { return t.name == of.Team })
		if i < 0 {
			i = len(r.teams)
			r.teams = append(r.teams, teamPorts{name: of.Team})
		}
		r.teams[i].ports = append(r.teams[i].ports, of.Range)
	}
	for i := range r.teams {
		r.teams[i].ports = r.teams[i].ports.Merged()
		for _, of := range r.teams[i].ports {
			for port := range all(of) {
				if now.Refuse(port) != "" {
					r.refused.add(port)
				}
			}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ruled = r
	return r, nil
}

// permits returns an error, a *WithdrawnError, if the registry of this moment no longer permits a lease. If that cannot be read, what it
// said last counts.
func (m *Manager) permits(l *Lease) error {
	rules, err := m.rules()
	if err != nil {
		m.mu.Lock()
		rules = m.ruled
		m.mu.Unlock()
		if rules == nil {
			return err
		}
	}
	if rules.Service(l.Name) {
		return &WithdrawnError{fmt.Sprintf("%q is now the name of a service: want another name for the next lease", l.Name)}
	}
	for _, port := range l.Ports {
		if why := rules.Claim(port); why != "" {
			return &WithdrawnError{fmt.Sprintf("port %d: %s", port, why)}
		}
	}
	return rules.reserves(l)
}

// reserves returns an error unless ranges reserve the ports of a lease as the lease has them.
func (r *ruled) reserves(l *Lease) error {
	var from ports.Set // what the lease may have
	var users []string // who may lease from the other ranges of its ports
	noneAny := false   // which some of them have no any_user for
	for _, of := range r.Ranges {
		switch {
		case of.Team != l.Team || !slices.ContainsFunc(l.Ports, of.Contains):
		case !mayLease(of.Users, l.UID):
			users = append(users, of.Users...)
		case l.AnyUser && !of.AnyUser:
			noneAny = true
		default:
			from = append(from, of.Range)
		}
	}
	for _, port := range l.Ports {
		switch {
		case slices.ContainsFunc(from, func(of ports.Range) bool { return of.Contains(port) }):
		case noneAny:
			return &WithdrawnError{fmt.Sprintf("the range of port %d no longer has any_user: true, with which the lease was given", port)}
		case len(users) > 0:
			return &WithdrawnError{(&NotAllowedError{User: l.User, Team: l.Team, Users: distinct(users)}).Error()}
		default:
			return &WithdrawnError{fmt.Sprintf("port %d is no longer in a range that team %s leases: want a new lease", port, l.Team)}
		}
	}
	return nil
}
