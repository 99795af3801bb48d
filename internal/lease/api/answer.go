//go:build linux

package api

import (
	"bufio"
	"encoding/json"
	"net/http"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/lease"
)

// moment is a time on CLOCK_BOOTTIME and by the wall clock.
type moment struct {
	boot time.Duration
	wall time.Time
}

func (h *handler) now() moment { return moment{h.leases.Now(), time.Now()} }

// wallTime returns when a deadline is by the wall clock, or nil if it is not known.
func (m moment) wallTime(deadline time.Duration) *time.Time {
	if deadline == 0 {
		return nil
	}
	t := m.wall.Add(deadline - m.boot).UTC().Truncate(time.Millisecond)
	return &t
}

// lease returns a lease as a user may see it.
func (m moment) lease(l lease.Lease, uid uint32) Lease {
	shown := Lease{
		ID: l.ID, Team: l.Team, Name: l.Name, Proto: l.Proto, Ports: append([]uint16{}, l.Ports...), UID: l.UID, User: l.User,
		AnyUser: l.AnyUser, Host: l.Host, TTL: Duration(l.TTL), Expires: m.wallTime(l.Deadline), State: lease.View{Time: m.boot}.State(&l),
	}
	if l.Deadline != 0 && l.UID == uid { // on another host the number may be another user's
		shown.Key = l.Key
	}
	return shown
}

func (m moment) exhausted(e *lease.ExhaustedError) *Exhausted {
	shown := &Exhausted{Team: e.Team, Count: e.Count, Left: e.Left, Size: e.Size, Holders: []Holder{}, More: e.More}
	for _, held := range e.Holders {
		shown.Holders = append(shown.Holders, Holder{held.Port, held.Why, held.Name, held.User, held.Host, m.wallTime(held.Expires)})
	}
	return shown
}

// listing is an answer that is sent lease by lease: a whole one for each slow reader could take much memory.
type listing struct {
	Listing
	now  moment
	uid  uint32
	view lease.View
}

func (h *handler) list(r request) (int, any, error) {
	return http.StatusOK, h.listing(h.leases.View(), h.now(), r.uid), nil
}

func (h *handler) listing(view lease.View, now moment, uid uint32) listing {
	l := listing{Listing{Host: h.host, Teams: []Team{}, Leases: []Lease{}}, now, uid, view}
	for _, team := range view.Teams {
		l.Teams = append(l.Teams, Team{team.Name, team.Leased, team.Available})
	}
	if view.Err != nil {
		l.Problem = view.Err.Error()
	}
	return l
}

// write sends an answer. Whoever does not take it gets none.
func write(w http.ResponseWriter, status int, body any) {
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	to := bufio.NewWriter(w)
	defer func() { _ = to.Flush() }()
	if l, is := body.(listing); is {
		l.write(to)
		return
	}
	_ = json.NewEncoder(to).Encode(body)
}

func (l *listing) write(to *bufio.Writer) {
	const end = `"leases":[]}`           // the last field
	around, _ := json.Marshal(l.Listing) // of types that all have a form in JSON
	_, _ = to.Write(around[:len(around)-len(end)])
	if len(l.view.Ended) > 0 {
		_, _ = to.WriteString(`"ended":[`)
		l.writeEach(to, l.view.Ended, func(*lease.Lease) string { return Ended })
		_, _ = to.WriteString(`],`)
	}
	_, _ = to.WriteString(`"leases":[`)
	l.writeEach(to, l.view.Leases, l.view.State)
	_, _ = to.WriteString("]}\n")
}

func (l *listing) writeEach(to *bufio.Writer, leases []lease.Lease, state func(*lease.Lease) string) {
	for n, kept := range leases {
		if n > 0 {
			_ = to.WriteByte(',')
		}
		shown := l.now.lease(kept, l.uid)
		shown.State = state(&kept)
		text, _ := json.Marshal(shown)
		if _, err := to.Write(text); err != nil {
			return
		}
	}
}
