//go:build linux

// Package api serves a Manager's leases over HTTP, on a socket of its own, and has a client for that. docs/leases.openapi.yml describes
// what goes over the wire.
package api

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/prometheus/common/model"

	"github.com/listen-exporter/listen_exporter/internal/lease"
)

// Request is the body of POST /api/v1/leases. An empty field has the default of [lease.Request].
type Request struct {
	Team  string   `json:"team,omitempty"`
	Name  string   `json:"name,omitempty"`
	Proto string   `json:"proto,omitempty"`
	TTL   Duration `json:"ttl,omitzero"`
	Count int      `json:"count,omitempty"`
	Key   string   `json:"key,omitempty"`
}

// The states of a lease.
const (
	Held       = lease.Held
	Overstayed = lease.Overstayed
	Expired    = lease.Expired
	Ended      = "ended"
)

// Lease is a [lease.Lease].
type Lease struct {
	ID      string   `json:"id"`
	Team    string   `json:"team"`
	Name    string   `json:"name"`
	Proto   string   `json:"proto"`
	Ports   []uint16 `json:"ports"`
	UID     uint32   `json:"uid"`
	User    string   `json:"user"`
	AnyUser bool     `json:"any_user"`
	Host    string   `json:"host"`
	TTL     Duration `json:"ttl"`
	// Expires is when it expires or has ended, by the wall clock to the millisecond. It is nil for a lease of another host.
	Expires *time.Time `json:"expires"`
	// State is Held, Overstayed, Expired or Ended.
	State string `json:"state"`
	// Key is only shown to the user who took the lease.
	Key string `json:"key,omitempty"`
}

// Team is a [lease.Team].
type Team struct {
	Team      string `json:"team"`
	Leased    int    `json:"leased"`
	Available int    `json:"available"`
}

// Listing is the answer to GET /api/v1/leases.
type Listing struct {
	// Host is the name of the exporter's host in the registry.
	Host  string `json:"host"`
	Teams []Team `json:"teams"`
	// Problem is why the store cannot be reached, or empty. The leases are then those that were last known.
	Problem string `json:"problem,omitempty"`
	// Ended are the leases of this host that ended within the last lease.EndedKept: whoever looked at the ports before that needs them.
	Ended []Lease `json:"ended,omitempty"`
	// Leases are those of all hosts. They are the last field: see write.
	Leases []Lease `json:"leases"`
}

// View returns what was listed just now, on this host, as the View of a time on CLOCK_BOOTTIME.
func (l Listing) View(at time.Duration) lease.View {
	view := lease.View{Time: at}
	if l.Problem != "" {
		view.Err = fmt.Errorf("%w: %s", lease.ErrAway, l.Problem)
	}
	now := lease.HostClock().Boot()
	for _, listed := range l.Leases {
		view.Leases = append(view.Leases, listed.kept(now, l.Problem != ""))
	}
	for _, listed := range l.Ended {
		view.Ended = append(view.Ended, listed.kept(now, l.Problem != ""))
	}
	for _, team := range l.Teams {
		view.Teams = append(view.Teams, lease.Team{Name: team.Team, Leased: team.Leased, Available: team.Available})
	}
	return view
}

// kept returns a lease as a store keeps it, which may be away: what is held is then held beyond its time.
func (l *Lease) kept(now time.Duration, away bool) lease.Lease {
	kept := lease.Lease{
		ID: l.ID, Team: l.Team, Name: l.Name, Proto: l.Proto, Ports: l.Ports, UID: l.UID, User: l.User, AnyUser: l.AnyUser, Host: l.Host,
		Key: l.Key, TTL: time.Duration(l.TTL),
	}
	if l.Expires != nil { // it is of this host
		kept.Deadline = now + time.Until(*l.Expires)
		if l.State == Held && !away {
			kept.Deadline = max(kept.Deadline, now+1)
		}
	}
	if l.State == Overstayed {
		kept.Overstayed = now
	}
	return kept
}

// Error is the body of an answer without success, and the Client's error for it.
type Error struct {
	// Status is that of HTTP, and RetryAfter when the request may be repeated, or 0.
	Status     int           `json:"-"`
	RetryAfter time.Duration `json:"-"`
	// Message is a sentence for people.
	Message string `json:"error"`
	// Field is the field of the request that is bad, if one is.
	Field string `json:"field,omitempty"`
	// Exhausted is why there are no ports, with status 409.
	*Exhausted
}

func (e *Error) Error() string { return e.Message }

// Exhausted is a [lease.ExhaustedError].
type Exhausted struct {
	Team    string   `json:"team"`
	Count   int      `json:"count"`
	Left    int      `json:"left"`
	Size    int      `json:"size"`
	Holders []Holder `json:"holders"`
	// More is how many holders there are besides.
	More int `json:"more"`
}

// Holder is a [lease.PortHolder].
type Holder struct {
	Port    uint16     `json:"port"`
	Why     string     `json:"why"`
	Name    string     `json:"name,omitempty"`
	User    string     `json:"user,omitempty"`
	Host    string     `json:"host,omitempty"`
	Expires *time.Time `json:"expires,omitempty"`
}

// Duration is a string in JSON such as "5m", to the millisecond.
type Duration time.Duration

// ParseDuration parses a duration in the form of Go, such as 1m30s, or of Prometheus, such as 1d.
func ParseDuration(text string) (time.Duration, error) {
	if parsed, err := time.ParseDuration(text); err == nil {
		return parsed.Truncate(time.Millisecond), nil
	}
	parsed, err := model.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q is no duration: want one such as 5m", text)
	}
	return time.Duration(parsed), nil
}

func (d Duration) String() string { return model.Duration(d).String() }

// MarshalJSON implements [json.Marshaler].
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON implements [json.Unmarshaler].
func (d *Duration) UnmarshalJSON(text []byte) error {
	var form string
	if err := json.Unmarshal(text, &form); err != nil {
		return err
	}
	parsed, err := ParseDuration(form)
	*d = Duration(parsed)
	return err
}
