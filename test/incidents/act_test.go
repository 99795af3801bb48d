//go:build linux

package incidents

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// watch is how long an act takes at least, even if all alerts have come: 10 minutes on a real host. An alert that must not fire
// waits at most 5 minutes, for what a window of 5 minutes shows.
const watch = 10 * time.Minute / speed

// stage is hosts on which acts are played, one after the other. Stages are played at the same time.
type stage struct {
	name  string
	full  bool // every push cannot wait for it
	last  bool // it is played when all others have ended
	hosts []*machine
	acts  []act
}

// act is incidents that begin at the same time and end at the same time.
type act struct {
	incidents []*incident
	watch     time.Duration // how long it takes at least, if that is longer than usual
	then      func() error  // happens when all of them have begun; may be nil
}

// incident is one thing that happens, and the alerts that it must bring.
type incident struct {
	host  *machine
	name  string
	at    string   // the port, such as tcp/80 or udp/ephemeral; empty for the whole host
	want  []string // the alerts, each with the service that it names
	late  bool     // the alerts come only when other incidents of the act have ended
	begin func() error
	end   func() error // may be nil
	since time.Time    // alerts that began earlier are no concern of it
	got   []alert
	err   error
}

// concerns reports whether the incident brings an alert.
func (i *incident) concerns(a alert) bool {
	if !i.host.isIn(a) {
		return false
	}
	if i.at == clients {
		port, err := strconv.Atoi(a.Labels["port"])
		return a.Labels["proto"] == "udp" && err == nil && port >= firstClientPort
	}
	return a.at() == i.at
}

// isIn reports whether an alert is about the host, or about the hosts of its cluster.
func (h *machine) isIn(a alert) bool {
	instance := a.Labels["instance"]
	if instance == "" {
		return h.cluster != "" && a.Labels["cluster"] == h.cluster
	}
	return instance == h.name || strings.HasPrefix(instance, h.name+".") // its address in another form
}

const (
	// clients is all UDP ports that the kernel chooses.
	clients = "udp/ephemeral"
	// firstClientPort is the first of them (net.ipv4.ip_local_port_range).
	firstClientPort = 32768
)

// play plays the acts of a stage. Its errors belong to no incident.
func (s *stage) play(w *world) error {
	var all error
	for n, a := range s.acts {
		stray, err := s.act(w, n+1, a)
		all = errors.Join(all, err)
		for _, a := range stray {
			all = errors.Join(all, fmt.Errorf("an alert that no incident of act %d of %s brings: %s: %s at %s: %s",
				n+1, s.name, a.Labels[engineLabel], a.Labels["instance"], a.at(), a))
		}
	}
	return all
}

// act begins incidents, ends them, and stores for each of them which alerts came. It returns the alerts that none of them brings.
func (s *stage) act(w *world, number int, a act) (stray []alert, all error) {
	note := func(err error) {
		if err != nil {
			all = errors.Join(all, fmt.Errorf("act %d of %s: %w", number, s.name, err))
		}
	}
	first := len(w.receiver.since(0))
	begun := time.Now()
	atOnce(a.incidents, func(i *incident) func() error { return i.begin })
	w.logf("%s %d: %d incidents have begun", s.name, number, len(a.incidents))
	if a.then != nil {
		note(a.then())
	}
	note(w.monitoring.seen(begun, s.hosts))

	length := max(watch, a.watch)
	note(awaitFor(length+patience, "each alert that must fire fires", func() (bool, error) {
		s.attribute(w, first, a.incidents)
		for _, i := range a.incidents {
			if !i.late && len(i.got) < len(i.want)*len(w.monitoring.engines) {
				return false, nil
			}
		}
		return w.monitoring.evaluated(begun.Add(length))
	}))
	atOnce(a.incidents, func(i *incident) func() error { return i.end })
	w.logf("%s %d: they have ended", s.name, number)
	note(w.monitoring.seen(time.Now(), s.hosts))

	note(await("all alerts have ended", func() (bool, error) {
		stray = s.attribute(w, first, a.incidents)
		for _, i := range a.incidents {
			if i.err == nil && i.late && len(i.got) < len(i.want)*len(w.monitoring.engines) || slices.ContainsFunc(i.got, isFiring) {
				return false, nil
			}
		}
		if slices.ContainsFunc(stray, isFiring) {
			return false, nil
		}
		return w.monitoring.quiet(s.owns)
	}))
	w.logf("%s %d: all is well again", s.name, number)
	return stray, all
}

// evaluated reports whether every engine has evaluated all rules after a moment.
func (w *monitoring) evaluated(after time.Time) (bool, error) {
	for _, e := range w.engines {
		if at, _, err := e.rules(); err != nil || !at.After(after) {
			return false, err
		}
	}
	return true, nil
}

// quiet reports whether no alert waits or fires that is of some kind.
func (w *monitoring) quiet(kind func(alert) bool) (bool, error) {
	for _, e := range w.engines {
		if _, alerts, err := e.rules(); err != nil || slices.ContainsFunc(alerts, kind) {
			return false, err
		}
	}
	return true, nil
}

func isFiring(a alert) bool { return a.Status == "firing" }

// owns reports whether an alert is about the stage's hosts.
func (s *stage) owns(a alert) bool {
	return slices.ContainsFunc(s.hosts, func(h *machine) bool { return h.isIn(a) })
}

// attribute gives the alerts on the stage's hosts that were received after the first ones to the incidents that bring them, and
// returns the others.
func (s *stage) attribute(w *world, first int, incidents []*incident) (stray []alert) {
	for _, i := range incidents {
		i.got = nil
	}
	for _, a := range w.receiver.since(first) {
		if !s.owns(a) {
			continue
		}
		at := slices.IndexFunc(incidents, func(i *incident) bool { return i.concerns(a) })
		if at < 0 {
			stray = append(stray, a)
			continue
		}
		if !a.StartsAt.Before(incidents[at].since) {
			incidents[at].got = append(incidents[at].got, a)
		}
	}
	return stray
}

// atOnce runs a part of every incident at the same time.
func atOnce(incidents []*incident, part func(*incident) func() error) {
	var group sync.WaitGroup
	for _, i := range incidents {
		if do := part(i); do != nil {
			group.Go(func() { i.err = errors.Join(i.err, do()) })
		}
	}
	group.Wait()
}

// awaitAlert waits until every engine has seen a fault of a port, and an alert is pending, or fires if it must.
func (h *machine) awaitAlert(name, at string, fires bool) error {
	what := fmt.Sprintf("%s of %s on %s is there, and fires: %t", name, at, h.name, fires)
	return h.world.monitoring.awaitAll(what, func(e *engine) (bool, error) {
		_, alerts, err := e.rules()
		return slices.ContainsFunc(alerts, func(a alert) bool {
			return a.Labels["alertname"] == name && h.isIn(a) && a.at() == at && (isFiring(a) || !fires)
		}), err
	})
}

// awaitQuiet waits until no alert about a port is pending or fires.
func (h *machine) awaitQuiet(at string) error {
	return await(fmt.Sprintf("no alert about %s on %s", at, h.name), func() (bool, error) {
		return h.world.monitoring.quiet(func(a alert) bool { return h.isIn(a) && a.at() == at })
	})
}

// awaitUp waits until every engine has seen that the host's exporter answers, 1, or that it does not, 0.
func (h *machine) awaitUp(up float64) error {
	return h.world.monitoring.awaitAll(fmt.Sprintf("up of %s is %g", h.name, up), func(e *engine) (bool, error) {
		samples, err := e.query(fmt.Sprintf(`max(up{instance=%q})`, h.instance()))
		return len(samples) == 1 && samples[0].value == up, err
	})
}

// awaitSource waits until the host's exporter reads by netlink or procfs.
func (h *machine) awaitSource(source string) error {
	return h.world.monitoring.awaitAll(h.name+" is read by "+source, func(e *engine) (bool, error) {
		samples, err := e.query(fmt.Sprintf(`host_listen_source_info{instance=%q,source=%q}`, h.instance(), source))
		return len(samples) == 1, err
	})
}

// check compares the alerts that were received with those that are expected, of each engine.
func (i *incident) check(engines []*engine) host.Check {
	name := i.host.name + " " + i.name
	if i.at != "" {
		name = i.host.name + " " + strings.Replace(i.at, "/", " ", 1) + " " + i.name
	}
	if len(i.want) > 0 {
		name += ": " + strings.Join(i.want, ", ")
	}
	var want, got []string
	for _, e := range engines {
		for _, name := range i.want {
			want = append(want, e.program+": "+name+", resolved")
		}
	}
	for _, a := range i.got {
		got = append(got, a.Labels[engineLabel]+": "+a.String())
	}
	slices.Sort(want)
	slices.Sort(got)
	return host.Check{Name: name, Run: func() error { return errors.Join(i.err, host.Same(want, got)()) }}
}
