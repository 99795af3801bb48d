package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-kit/log"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/registry"
)

// The values of --format.
const (
	formatTable    = "table"
	formatJSON     = "json"
	formatRegistry = "registry"
)

// list shows what listens now.
func list(c *config, out *bytes.Buffer, screen screen, logger log.Logger) error {
	if c.format == formatRegistry && c.inventory.Netns == "all" {
		c.inventory.Netns = "host" // a registry is about the main namespace alone
	}
	snapshot, err := look(c, logger)
	if err != nil {
		return err
	}
	err = missing(snapshot)
	switch c.format {
	case formatJSON:
		return errors.Join(err, writeJSON(out, c, snapshot, time.Now()))
	case formatRegistry:
		return errors.Join(err, writeRegistry(out, c, snapshot))
	}
	listTable(snapshot, c.inventory.Netns == "all").write(out, screen)
	if screen.terminal {
		fmt.Fprintf(out, "\n%s\n", summary(snapshot))
	}
	return err
}

// entry is a line of the list: a listener, or a service that is missing.
type entry struct {
	listener *inventory.Listener
	service  inventory.ServiceState
}

func (e entry) order(other entry) int {
	return cmp.Or(cmp.Compare(e.netns(), other.netns()), cmp.Compare(e.port(), other.port()), cmp.Compare(e.proto(), other.proto()))
}

func (e entry) netns() string {
	if e.listener == nil {
		return ""
	}
	return e.listener.Netns
}

func (e entry) port() uint16 {
	if e.listener == nil {
		return e.service.Port
	}
	return e.listener.Addr.Port()
}

func (e entry) proto() string {
	if e.listener == nil {
		return e.service.Proto
	}
	return e.listener.Proto
}

// entries returns the lines of the list, in their order.
func entries(s *inventory.Snapshot) []entry {
	var all []entry
	for i := range s.Listeners {
		all = append(all, entry{listener: &s.Listeners[i]})
	}
	for _, state := range s.Missing() {
		all = append(all, entry{service: state})
	}
	slices.SortStableFunc(all, entry.order)
	return all
}

// The states of the list that are no reason of a violation.
const (
	stateOK        = "ok"
	stateMissing   = "missing"
	stateEphemeral = "ephemeral"
)

// stateOf returns the verdict on a listener in one word; empty if there is none.
func stateOf(l *inventory.Listener) string {
	switch {
	case isNoise(l):
		return stateEphemeral
	case !l.Judged:
		return ""
	case l.Verdict.Reason == "":
		return stateOK
	default:
		return l.Verdict.Reason
	}
}

// summary is the last line on a terminal.
func summary(s *inventory.Snapshot) string {
	text := counted(len(s.Listeners), "listener")
	if s.Compliance != nil {
		declared, violations, noise := 0, 0, 0
		for i := range s.Listeners {
			switch l := &s.Listeners[i]; {
			case isNoise(l):
				noise++
			case !l.Judged: // of another network namespace
			case l.Verdict.Reason == "":
				declared++
			default:
				violations++
			}
		}
		text += fmt.Sprintf(": %d as declared, %s", declared, counted(violations, "violation"))
		if noise > 0 {
			text += fmt.Sprintf(", %d ephemeral", noise)
		}
		text += "; " + counted(len(s.Missing()), "missing service")
	}
	if s.Unattributed > 0 && s.Succeeded(inventory.CollectorHolder) {
		text += fmt.Sprintf("\nwho holds %d of them cannot be seen", s.Unattributed)
		if os.Geteuid() != 0 {
			text += "; root sees more"
		}
	}
	return text
}

// writeRegistry writes a registry that declares what listens, and the exporter, which listens once it is started.
func writeRegistry(out *bytes.Buffer, c *config, s *inventory.Snapshot) error {
	var found []registry.Candidate
	for i := range s.Listeners {
		l := &s.Listeners[i]
		if isNoise(l) {
			continue
		}
		candidate := registry.Candidate{Listener: l.Input()}
		if l.Range == inventory.RangeEphemeral {
			candidate.Optional, candidate.Note = true, "the system may have chosen the port: it may be another at the next start"
		}
		found = append(found, candidate)
	}
	if at, ok := ownAddress(c); ok && !slices.ContainsFunc(found, func(other registry.Candidate) bool {
		return other.Proto == inventory.TCP && other.Addr.Port() == at.Port()
	}) {
		found = append(found, registry.Candidate{
			Listener: registry.Listener{Proto: inventory.TCP, Addr: at},
			Name:     program, Optional: true, Note: "the exporter itself, once it runs",
		})
	}
	out.Write(registry.Format(found))
	for _, read := range s.Reads {
		if read.Err != nil {
			fmt.Fprintf(out, "# This is not all: %s could not be read.\n", read.Collector)
		}
	}
	if len(found) == 0 {
		return errors.New("nothing listens that a registry could declare: it must have one service at least")
	}
	return nil
}

// ownAddress returns where the exporter listens by its flags, if they say so.
func ownAddress(c *config) (at netip.AddrPort, ok bool) {
	addresses := *c.web.WebListenAddresses
	if len(addresses) == 0 || *c.web.WebSystemdSocket {
		return netip.AddrPort{}, false
	}
	host, service, err := net.SplitHostPort(addresses[0])
	if err != nil {
		return netip.AddrPort{}, false
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil || port == 0 {
		return netip.AddrPort{}, false
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		addr = netip.IPv6Unspecified() // a name may stand for any address
	}
	return netip.AddrPortFrom(addr, uint16(port)), true
}

// holderOf names who holds a listener, for a person: "sshd(ssh.service)", without spaces. A process cannot pose as another's unit
// by its name.
func holderOf(l *inventory.Listener) string {
	names := make([]string, 0, len(l.Holders)+1)
	for _, h := range l.Holders {
		where := visible(h.Unit)
		switch {
		case h.PodUID != "":
			where = "pod:" + visible(h.PodUID[:min(len(h.PodUID), 8)])
		case h.ContainerID != "":
			where = "container:" + visible(h.ContainerID[:min(len(h.ContainerID), 12)])
		}
		name := strings.NewReplacer("(", `\x28`, ")", `\x29`, ",", `\x2c`).Replace(visible(h.Process))
		if where != "" {
			name += "(" + where + ")"
		}
		names = append(names, name)
	}
	if l.ManyHolders {
		names = append(names, "(many)")
	}
	return strings.Join(names, ",")
}
