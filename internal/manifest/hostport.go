package manifest

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// slot is what only one workload can have on a node. Each claim is noted in two: that of its address, and that of all.
type slot struct {
	protocol string
	port     uint16
	// address is a host IP, or one of the following two.
	address string
}

const (
	// wildcard is the address of claims on every address.
	wildcard = "*"
	// all has every claim on a port, whatever its address.
	all = ""
)

// claim is a host port that a document takes, and where.
type claim struct {
	*object
	file string
	line int
}

// holders are the first claim on a slot, and the first one of another object than that.
type holders struct{ first, second claim }

// other returns the first claim that is of another object than o.
func (h holders) other(o *object) claim {
	if h.first.object != nil && h.first.same(o) {
		return h.second
	}
	return h.first
}

// add returns h with one more claim.
func (h holders) add(c claim) holders {
	switch {
	case h.first.object == nil:
		h.first = c
	case h.second.object == nil && !h.first.same(c.object):
		h.second = c
	}
	return h
}

// claim notes that a workload takes a host port, and tells if that is taken already.
func (f *file) claim(o *object, at value, key string, port uint16, hostIP, protocol value, hostNetwork bool) {
	if filledIn(hostIP.text()) || filledIn(protocol.text()) {
		f.skipValue(at, "hostIP or protocol of %s %d of %s is filled in by a template: not compared with others", key, port, o)
		return
	}
	address, ok := addressOf(hostIP.text())
	if !ok {
		f.find(hostIP, "hostIP of %s is %s: want an IP address", o, shown(hostIP.text()))
		return
	}
	s := slot{protocol: strings.ToUpper(cmp.Or(protocol.text(), "TCP")), port: port, address: address}
	if !slices.Contains([]string{"", "TCP", "UDP", "SCTP"}, protocol.text()) {
		f.find(protocol, "protocol of %s is %s: want TCP, UDP or SCTP", o, shown(protocol.text()))
	}
	overlapping := []string{all}
	if s.address != wildcard {
		overlapping = []string{s.address, wildcard}
	}
	mine := claim{o, f.name, f.before + at.place().Line}
	var taken claim
	for _, address := range overlapping {
		where := slot{s.protocol, s.port, address}
		if taken.object == nil {
			taken = o.own[where]
		}
		if taken.object == nil {
			taken = f.taken[where].other(o)
		}
	}
	if taken.object != nil {
		by := taken.String()
		if taken.object == o {
			by = "the same pod"
		}
		networking := ""
		if hostNetwork {
			networking = " (host networking)"
		}
		f.find(at, "%s %s of %s%s is taken already by %s at %s:%d: want another port", key, s, o, networking, by, taken.file, taken.line)
	}
	for _, address := range []string{s.address, all} {
		where := slot{s.protocol, s.port, address}
		if _, known := o.own[where]; !known {
			o.own[where] = mine
		}
		f.taken[where] = f.taken[where].add(mine)
	}
}

// String returns "8080/TCP" or "10.0.0.1:8080/TCP".
func (s slot) String() string {
	if s.address == wildcard {
		return fmt.Sprintf("%d/%s", s.port, shown(s.protocol))
	}
	host := shown(s.address)
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return fmt.Sprintf("%s:%d/%s", host, s.port, shown(s.protocol))
}

// addressOf returns the one form of a hostIP, if it is an address.
func addressOf(hostIP string) (address string, ok bool) {
	if hostIP == "" {
		return wildcard, true
	}
	parsed, err := netip.ParseAddr(hostIP)
	switch {
	case err != nil:
		return "", false
	case parsed.Unmap().IsUnspecified():
		return wildcard, true
	}
	return parsed.Unmap().String(), true
}
