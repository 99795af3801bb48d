//go:build linux

package command

import (
	"cmp"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// entry is a line of list and audit: a listener, or a missing service.
type entry struct {
	netns, proto string
	port         uint16
	state        string
	listener     *inventory.Listener    // nil for a missing service
	processes    []inventory.Process    // its exact holders
	users        inventory.UserNames    // which all entries share
	service      inventory.ServiceState // if it is missing
}

// ports returns the port of the entry, or the ports of which one is missing.
func (e entry) ports() string {
	if e.listener == nil {
		return e.service.Ports
	}
	return strconv.Itoa(int(e.port))
}

// entries returns all listeners and missing services, by network namespace, port and protocol.
func entries(s *inventory.Snapshot) []entry { return entriesOf(s, s.Missing()) }

// entriesOf returns entries of listeners and of these missing services.
func entriesOf(s *inventory.Snapshot, missing []inventory.ServiceState) []entry {
	var all []entry
	users := make(inventory.UserNames)
	for i := range s.Listeners {
		l := &s.Listeners[i]
		all = append(all, entry{
			netns: l.Netns, proto: l.Proto, port: l.Addr.Port(), state: l.State(), listener: l, processes: s.Processes[l.Key], users: users,
		})
	}
	for _, service := range missing {
		all = append(all, entry{proto: service.Proto, port: service.Port, state: stateMissing, service: service})
	}
	slices.SortStableFunc(all, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.netns, b.netns), cmp.Compare(a.port, b.port), cmp.Compare(a.proto, b.proto))
	})
	return all
}

// stateMissing is the state of a missing service.
const stateMissing = "missing"

// tally counts entries by their state.
func tally(all []entry) (declared, violations, clients, missing int) {
	for _, e := range all {
		switch e.state {
		case "": // in another network namespace, or there is no registry
		case inventory.StateOK, inventory.StateLeased:
			declared++
		case inventory.StateClient:
			clients++
		case stateMissing:
			missing++
		default:
			violations++
		}
	}
	return declared, violations, clients, missing
}

// addressOf returns the address of a listener, with its interface written as ss does.
func addressOf(l *inventory.Listener) string {
	address := l.Addr.Addr().String()
	if l.Device != "" {
		address = l.Addr.Addr().WithZone("").String() + "%" + l.Device
	}
	return wording.Printable(address)
}

// addressAndPort returns the address and port of a listener, such as "[::1]:22".
func addressAndPort(l *inventory.Listener) string {
	return net.JoinHostPort(addressOf(l), strconv.Itoa(int(l.Addr.Port())))
}

// holdersOf returns the holders of a listener, such as "sshd(ssh.service),cat". Brackets and commas in the name of a process are
// escaped, so that no process can pose as one of another unit.
func holdersOf(l *inventory.Listener) string {
	names := make([]string, 0, len(l.Holders)+1)
	for _, h := range l.Holders {
		names = append(names, holderOf(h))
	}
	if l.ManyHolders {
		names = append(names, manyHolders)
	}
	return strings.Join(names, ",")
}

// manyHolders stands for the holders of a listener that has too many.
const manyHolders = "(many)"

// holderOf returns a holder, such as "sshd(ssh.service)".
func holderOf(h inventory.Holder) string {
	where := h.Unit
	switch {
	case h.PodUID != "":
		where = "pod:" + wording.ShortPod(h.PodUID)
	case h.ContainerID != "":
		where = "container:" + wording.ShortContainer(h.ContainerID)
	}
	name := strings.NewReplacer("(", `\x28`, ")", `\x29`, ",", `\x2c`).Replace(wording.Printable(h.Process))
	if where != "" {
		name += "(" + wording.Printable(where) + ")"
	}
	return name
}
