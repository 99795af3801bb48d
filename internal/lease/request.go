//go:build linux

package lease

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"
)

// wanted is a request of which everything is known.
type wanted struct {
	lease Lease // without an ID and ports
	count int
	// ports are those of the team's ranges from which the user may lease.
	ports   portSet
	anyUser portSet
	// taken are leases that the store has and did not list.
	taken []Lease
}

// check returns what a request wants.
func (m *Manager) check(r Request, rules *ruled) (*wanted, error) {
	if r.Proto == "" {
		r.Proto = "tcp"
	}
	if r.TTL == 0 {
		r.TTL = min(DefaultTTL, m.options.MaxTTL)
	}
	if r.Count == 0 {
		r.Count = 1
	}
	switch {
	case r.Proto != "tcp" && r.Proto != "udp":
		return nil, &FieldError{"proto", fmt.Sprintf("%q is no protocol: want tcp or udp", r.Proto)}
	case r.TTL < MinTTL || r.TTL > m.options.MaxTTL:
		return nil, &FieldError{"ttl", fmt.Sprintf("%s is not from %s to %s, which is the exporter's --lease.max-ttl", shortest(r.TTL), MinTTL, shortest(m.options.MaxTTL))}
	case r.Count < 1 || r.Count > m.maxCount():
		return nil, &FieldError{"count", fmt.Sprintf("%d is not from 1 to %d", r.Count, m.maxCount())}
	case r.Key != "" && !keyForm.Get().MatchString(r.Key):
		return nil, &FieldError{"key", "want at most 64 printable ASCII characters, and no space at an end"}
	}
	team, ranges, err := teamOf(r, rules)
	if err != nil {
		return nil, err
	}
	if r.Name == "" {
		r.Name = team
		if !nameForm.Get().MatchString(team) {
			return nil, &FieldError{"name", fmt.Sprintf("missing, and the team's name %q is none for a lease: %s", team, wantName)}
		}
	}
	switch {
	case !nameForm.Get().MatchString(r.Name):
		return nil, &FieldError{"name", fmt.Sprintf("%q is no name: %s", r.Name, wantName)}
	case rules.Service(r.Name):
		return nil, &FieldError{"name", fmt.Sprintf("%q is the name of a service of the registry: want another", r.Name)}
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id) // which never fails
	w := &wanted{count: r.Count, lease: Lease{
		ID: hex.EncodeToString(id), Team: team, Name: r.Name, Proto: r.Proto, UID: r.UID, User: userName(r.UID), Host: m.options.Host, Key: r.Key, TTL: r.TTL,
	}}
	for _, of := range ranges {
		w.ports.addRange(of.Range)
		if of.AnyUser {
			w.anyUser.addRange(of.Range)
		}
	}
	return w, nil
}

// shortest returns a duration as a person writes it, such as 24h instead of 24h0m0s.
func shortest(d time.Duration) string {
	text := d.String()
	for _, none := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, none) {
			text = text[:len(text)-2]
		}
	}
	return text
}

const wantName = "want 1 to 63 letters, digits, dots, dashes and underscores"

// teamOf returns the team whose ports are wanted, and its ranges from which the user may lease.
func teamOf(r Request, rules *ruled) (team string, ranges []Range, err error) {
	var teams, mayFrom, users []string
	for _, of := range rules.Ranges {
		teams = append(teams, of.Team)
		if r.Team != "" && r.Team != of.Team {
			continue
		}
		users = append(users, of.Users...)
		if mayLease(of.Users, r.UID) {
			mayFrom = append(mayFrom, of.Team)
			ranges = append(ranges, of)
		}
	}
	teams, mayFrom = distinct(teams), distinct(mayFrom)
	switch {
	case len(teams) == 0:
		return "", nil, &FieldError{"team", "no team has ports to lease on this host: want users: in a reserved range of the registry"}
	case r.Team != "" && !slices.Contains(teams, r.Team):
		return "", nil, &FieldError{"team", fmt.Sprintf("%q has no ports to lease on this host: want %s", r.Team, strings.Join(teams, " or "))}
	case len(mayFrom) == 0:
		return "", nil, &NotAllowedError{User: userName(r.UID), Team: r.Team, Users: distinct(users)}
	case len(mayFrom) > 1:
		return "", nil, &FieldError{"team", "missing: want " + strings.Join(mayFrom, " or ")}
	}
	return mayFrom[0], ranges, nil
}

func distinct(names []string) []string { return slices.Compact(slices.Sorted(slices.Values(names))) }

// mayLease reports whether a user is root or one of users, which are names, numbers, or * for all.
func mayLease(users []string, uid uint32) bool {
	number := strconv.FormatUint(uint64(uid), 10)
	return uid == 0 || slices.ContainsFunc(users, func(of string) bool {
		if of == "*" || of == number {
			return true
		}
		known, err := user.Lookup(of)
		return err == nil && known.Uid == number
	})
}

// userName returns the name of a user, or the number.
func userName(uid uint32) string {
	number := strconv.FormatUint(uint64(uid), 10)
	if known, err := user.LookupId(number); err == nil && known.Username != "" {
		return known.Username
	}
	return number
}

// maxCount returns how many ports a user may ask for.
func (m *Manager) maxCount() int {
	most := MaxCount
	for _, limit := range []int{m.options.MaxPerUser, m.options.MaxPerTeam} {
		if limit > 0 {
			most = min(most, limit)
		}
	}
	return most
}

// limits returns an error if the user or the team would have too many ports.
func (m *Manager) limits(c *choice) error {
	user, team := 0, 0
	for _, l := range c.leases {
		if l.Deadline == 0 || l.Overstayed == 0 && !l.Alive(c.now) {
			continue
		}
		if l.UID == c.lease.UID {
			user += len(l.Ports)
		}
		if l.Team == c.lease.Team {
			team += len(l.Ports)
		}
	}
	if most := m.options.MaxPerUser; most > 0 && user+c.count > most {
		return &LimitError{"user " + c.lease.User, user, most}
	}
	if most := m.options.MaxPerTeam; most > 0 && team+c.count > most {
		return &LimitError{"team " + c.lease.Team, team, most}
	}
	return nil
}
