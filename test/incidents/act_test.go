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

// watch is how long an act takes at least, even if all alerts have come: 10 minutes on a real host. An alert that must not fire waits
// at most 5 minutes, for what a window of 5 minutes shows.
const watch = 10 * time.Minute / speed

// incident is one thing that happens, and the alerts that it must bring.
type incident struct {
	host  *machine
	name  string
	at    string   // the port, such as tcp/80 or udp/ephemeral; empty for the whole host
	want  []string // the alerts, each with the service that it names
	late  bool     // the alerts come only when other incidents of the act have ended
	begin func() error
	end   func() error // may be nil
	got   []alert
	err   error
}

// concerns reports whether the incident brings an alert.
func (i *incident) concerns(a alert) bool {
	if a.Labels["job"] != jobName || a.Labels["instance"] != i.host.name {
		return false
	}
	if i.at == clients {
		port, err := strconv.Atoi(a.Labels["port"])
		return a.Labels["proto"] == "udp" && err == nil && port >= firstClientPort
	}
	return a.at() == i.at
}

const (
	// clients is all UDP ports that the kernel chooses.
	clients = "udp/ephemeral"
	// firstClientPort is the first of them (net.ipv4.ip_local_port_range).
	firstClientPort = 32768
)

// act begins incidents at the same time, ends them at the same time, and stores for each of them which alerts came. It returns
// the alerts that none of them brings.
func (w *world) act(number int, incidents []*incident) (stray []alert) {
	first := len(w.receiver.since(0))
	begun := time.Now()
	atOnce(incidents, func(i *incident) func() error { return i.begin })
	w.logf("act %d: %d incidents have begun", number, len(incidents))
	w.note(w.monitoring.seen(begun))

	w.note(await("each alert that must fire fires", func() (bool, error) {
		w.attribute(first, incidents)
		for _, i := range incidents {
			if !i.late && len(i.got) < len(i.want) {
				return false, nil
			}
		}
		evaluated, _, err := rules()
		return err == nil && evaluated.After(begun.Add(watch)), err
	}))
	atOnce(incidents, func(i *incident) func() error { return i.end })
	w.logf("act %d: they have ended", number)
	w.note(w.monitoring.seen(time.Now()))

	w.note(await("all alerts have ended", func() (bool, error) {
		stray = w.attribute(first, incidents)
		for _, i := range incidents {
			if i.err == nil && len(i.got) < len(i.want) || slices.ContainsFunc(i.got, isFiring) {
				return false, nil
			}
		}
		_, waiting, err := rules()
		return err == nil && len(waiting) == 0 && !slices.ContainsFunc(stray, isFiring), err
	}))
	w.logf("act %d: all is well again", number)
	return stray
}

func isFiring(a alert) bool { return a.Status == "firing" }

// attribute gives the alerts that were received after the first ones to the incidents that bring them, and returns the others.
func (w *world) attribute(first int, incidents []*incident) (stray []alert) {
	for _, i := range incidents {
		i.got = nil
	}
	for _, a := range w.receiver.since(first) {
		at := slices.IndexFunc(incidents, func(i *incident) bool { return i.concerns(a) })
		if at < 0 {
			stray = append(stray, a)
			continue
		}
		incidents[at].got = append(incidents[at].got, a)
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

// awaitAlert waits until Prometheus has seen a fault of a port, and an alert is pending, or fires if it must.
func (h *machine) awaitAlert(name, at string, fires bool) error {
	return await(fmt.Sprintf("%s of %s on %s is there, and fires: %t", name, at, h.name, fires), func() (bool, error) {
		_, alerts, err := rules()
		return slices.ContainsFunc(alerts, func(a alert) bool {
			return a.Labels["alertname"] == name && a.Labels["instance"] == h.name && a.at() == at && (isFiring(a) || !fires)
		}), err
	})
}

// awaitUp waits until Prometheus has seen that the host's exporter answers, 1, or that it does not, 0.
func (h *machine) awaitUp(up float64) error {
	return await(fmt.Sprintf("up of %s is %g", h.name, up), func() (bool, error) {
		samples, err := query(fmt.Sprintf(`up{instance=%q}`, h.name))
		return len(samples) == 1 && samples[0].value == up, err
	})
}

// awaitSource waits until the host's exporter reads by netlink or procfs.
func (h *machine) awaitSource(source string) error {
	return await(h.name+" is read by "+source, func() (bool, error) {
		samples, err := query(fmt.Sprintf(`host_listen_source_info{instance=%q,source=%q}`, h.name, source))
		return len(samples) == 1, err
	})
}

// check compares the alerts that were received with those that are expected.
func (i *incident) check() host.Check {
	name := i.host.name + " " + i.name
	if i.at != "" {
		name = i.host.name + " " + strings.Replace(i.at, "/", " ", 1) + " " + i.name
	}
	if len(i.want) > 0 {
		name += ": " + strings.Join(i.want, ", ")
	}
	var want, got []string
	for _, name := range i.want {
		want = append(want, name+", resolved")
	}
	for _, a := range i.got {
		got = append(got, a.String())
	}
	slices.Sort(want)
	slices.Sort(got)
	return host.Check{Name: name, Run: func() error { return errors.Join(i.err, host.Same(want, got)()) }}
}
