package manifest

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// slot is what only one workload can have on a node. Each claim is in two slots: the one of its address, and the one of all
// addresses.
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

// claim is a host port of a document, and where it is.
type claim struct {
	*owner
	file string
	line int
}

// hostPort is a host port that a container takes.
type hostPort struct {
	owner *owner
	// at is the value of key that has the port.
	at               value
	key              string
	port             uint16
	hostIP, protocol value
	hostNetwork      bool
}

// hostPorts has the claims of all documents: for each slot the first one, and the first one of another object.
type hostPorts map[slot][]claim

// claim adds a host port, and finds whether it is already taken. own has those of the same document, of which no two may be the
// same.
func (h hostPorts) claim(r *report, own map[slot]claim, p hostPort) {
	if filledIn(p.hostIP.text) || filledIn(p.protocol.text) {
		r.skip(p.at.line, "hostIP or protocol of %s %d of %s comes from a template: not compared with others", p.key, p.port, p.owner)
		return
	}
	address, ok := addressOf(p.hostIP.text)
	if !ok {
		r.find(p.hostIP.place, "hostIP of %s is %s: want an IP address", p.owner, wording.Name(p.hostIP.text))
		return
	}
	if !slices.Contains([]string{"", "TCP", "UDP", "SCTP"}, p.protocol.text) {
		r.find(p.protocol.place, "protocol of %s is %s: want TCP, UDP or SCTP", p.owner, wording.Name(p.protocol.text))
	}
	s := slot{protocol: strings.ToUpper(cmp.Or(p.protocol.text, "TCP")), port: p.port, address: address}
	if taken := h.overlapping(own, s, p.owner); taken.owner != nil {
		by := taken.String()
		if taken.owner == p.owner {
			by = "the same pod"
		}
		networking := ""
		if p.hostNetwork {
			networking = " (host networking)"
		}
		r.find(p.at.place, "%s %s of %s%s is already taken by %s at %s:%d: want another port",
			p.key, s, p.owner, networking, by, taken.file, taken.line)
	}
	mine := claim{p.owner, r.file, p.at.line}
	for _, address := range []string{address, all} {
		s.address = address
		if _, known := own[s]; !known {
			own[s] = mine
		}
		if len(h[s]) < 2 && !slices.ContainsFunc(h[s], func(c claim) bool { return c.same(p.owner) }) {
			h[s] = append(h[s], mine)
		}
	}
}

// overlapping returns a claim of the same document or of another object that s overlaps, if there is one.
func (h hostPorts) overlapping(own map[slot]claim, s slot, o *owner) claim {
	addresses := []string{all}
	if s.address != wildcard {
		addresses = []string{s.address, wildcard}
	}
	for _, s.address = range addresses {
		if taken := own[s]; taken.owner != nil {
			return taken
		}
		for _, taken := range h[s] {
			if !taken.same(o) {
				return taken
			}
		}
	}
	return claim{}
}

// String returns "8080/TCP" or "10.0.0.1:8080/TCP".
func (s slot) String() string {
	port := fmt.Sprintf("%d/%s", s.port, wording.Name(s.protocol))
	if s.address == wildcard {
		return port
	}
	host := wording.Name(s.address) // an IPv6 zone may be any text
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + port
}

// addressOf returns the normal form of a hostIP, if it is an address.
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
