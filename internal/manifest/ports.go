//go:build linux

package manifest

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// use is a port that an object takes.
type use struct {
	*owner
	// at is the value of key that has the port.
	at   place
	key  string
	port uint16
	// protocol is TCP, UDP or SCTP. address is a host IP, or wildcard. Both are empty if something fills them in.
	protocol, address string
	pod               *podSpec // nil for a Service
	// init is the number of an init container that ends before the next one begins, or 0. A sidecar goes on.
	init    int
	sidecar bool
	order   int // among all uses
}

// podSpec is the pod in which a port is used.
type podSpec struct {
	nodes
	where string // nodes as text
	// label and value are by what the pod wants one node. Both are empty if it may run on several.
	label, value string
	hostNetwork  bool
}

// wildcard is the address of what listens at every address.
const wildcard = "*"

const (
	hostPort      = "hostPort"
	containerPort = "containerPort" // with host networking
	nodePort      = "nodePort"
	healthPort    = "healthCheckNodePort"
	externalPort  = "externalIP port"
	servicePort   = "port"
)

// onNode reports whether the port is one of every node, or of that on which the pod runs.
func (u *use) onNode() bool { return u.key != externalPort && u.key != servicePort }

// pod reads the ports of a pod's containers. Init containers count as well, as for the admission policies.
func (c *checker) pod(s *source, o *owner, spec *yaml.Node) {
	network := s.value(spec, "hostNetwork")
	if filledIn(network.text) {
		c.skip(s, network.line, "hostNetwork of %s comes from a template: assumed to be false", o)
	}
	if network.quoted && network.text != "" && !filledIn(network.text) {
		c.report.find(RuleValue, s.file, network.place, "hostNetwork of %s is %q in quotes: want true or false", o, network.text)
	}
	p := &podSpec{nodes: s.nodesOf(spec), hostNetwork: network.isTrue()}
	p.where = fmt.Sprint(p.nodes)
	for _, label := range nodeLabels {
		if its := p.nodes[label]; len(its.values) == 1 && !its.not {
			p.label, p.value = label, its.values[0]
			break
		}
	}
	for _, container := range s.list(spec, "containers") {
		c.container(s, use{owner: o, pod: p}, container)
	}
	for i, container := range s.list(spec, "initContainers") {
		u := use{owner: o, pod: p, init: i + 1}
		if s.value(container, "restartPolicy").text == "Always" {
			u.init, u.sidecar = 0, true
		}
		c.container(s, u, container)
	}
}

// container reads the ports of a container. Each is a copy of u.
func (c *checker) container(s *source, u use, container *yaml.Node) {
	o := u.owner
	for _, n := range s.list(container, "ports") {
		at, key := s.value(n, hostPort), hostPort
		port, ok := c.port(s, o, at, key)
		if u.pod.hostNetwork {
			inside := s.value(n, containerPort)
			number, known := c.port(s, o, inside, containerPort)
			if known && ok && number != port {
				c.report.find(RuleHostNetwork, s.file, at.place, "hostPort %d of %s differs from its containerPort %d, which host networking does not allow: "+
					"want hostPort: %[3]d, or none", port, o, number)
			}
			if known || !ok {
				at, key, port, ok = inside, containerPort, number, known
			}
		}
		if !ok {
			continue
		}
		u.at, u.key, u.port = at.place, key, port
		if !c.protocol(s, &u, s.value(n, "protocol")) || !c.address(s, &u, s.value(n, "hostIP")) {
			u.protocol = "" // not compared
		}
		c.uses = append(c.uses, u)
	}
}

// service reads the ports of a Service.
func (c *checker) service(s *source, o *owner, spec *yaml.Node) {
	type portKey struct {
		protocol string
		port     uint16
	}
	seen := make(map[portKey]place)
	kind := s.value(spec, "type").text
	allocates := kind == "NodePort" || kind == "LoadBalancer" && !s.value(spec, "allocateLoadBalancerNodePorts").isFalse()
	for _, n := range s.list(spec, "ports") {
		u := use{owner: o, address: wildcard}
		if !c.protocol(s, &u, s.value(n, "protocol")) {
			u.protocol = ""
		}
		at := s.value(n, "port")
		if port, ok := c.port(s, o, at, "port"); ok {
			u.at, u.key, u.port = at.place, servicePort, port
			if first, twice := seen[portKey{u.protocol, port}]; twice && u.protocol != "" {
				c.report.find(RuleTwice, s.file, at.place, "port %d/%s of %s is there twice, first in line %d: want another port, or another protocol",
					port, u.protocol, o, first.line)
			} else {
				seen[portKey{u.protocol, port}] = at.place
			}
			if c.options.ServicePorts && kind != "ExternalName" {
				c.uses = append(c.uses, u)
			}
			if ips := s.list(spec, "externalIPs"); len(ips) > 0 {
				u.key = externalPort
				c.uses = append(c.uses, u)
			}
		}
		c.nodePort(s, u, s.value(n, nodePort), at, kind, allocates)
	}
	health := s.value(spec, healthPort)
	local := kind == "LoadBalancer" && s.value(spec, "externalTrafficPolicy").text == "Local"
	u := use{owner: o, address: wildcard, protocol: "TCP", key: healthPort}
	c.nodePort(s, u, health, value{place: o.place}, kind, local)
}

// nodePort reads a nodePort or healthCheckNodePort. Without one, the API server may choose it: at is the place to report then.
func (c *checker) nodePort(s *source, u use, v, at value, kind string, allocates bool) {
	if u.key != healthPort {
		u.key = nodePort
	}
	port, ok := c.port(s, u.owner, v, u.key)
	switch {
	case ok && kind != "ExternalName":
		u.at, u.port = v.place, port
		c.uses = append(c.uses, u)
	case allocates && (!v.exists() || v.text == "0"):
		u.at, u.port = at.place, 0
		c.uses = append(c.uses, u)
	}
}

// protocol reads a protocol. It reports whether it is known.
func (c *checker) protocol(s *source, u *use, v value) bool {
	if filledIn(v.text) {
		c.skip(s, v.line, "hostIP or protocol of %s comes from a template: not compared with others", u.owner)
		return false
	}
	if !slices.Contains([]string{"", "TCP", "UDP", "SCTP"}, v.text) {
		c.report.find(RuleValue, s.file, v.place, "protocol of %s is %s: want TCP, UDP or SCTP", u.owner, wording.Name(v.text))
	}
	u.protocol = strings.ToUpper(cmp.Or(v.text, "TCP"))
	return true
}

// address reads a hostIP. It reports whether it is known.
func (c *checker) address(s *source, u *use, v value) bool {
	u.address = wildcard
	if filledIn(v.text) {
		c.skip(s, v.line, "hostIP or protocol of %s comes from a template: not compared with others", u.owner)
		return false
	}
	if v.text == "" {
		return true
	}
	parsed, err := netip.ParseAddr(v.text)
	if err != nil {
		c.report.find(RuleValue, s.file, v.place, "hostIP of %s is %s: want an IP address", u.owner, wording.Name(v.text))
		return false
	}
	if parsed = parsed.Unmap(); !parsed.IsUnspecified() {
		u.address = parsed.String()
	}
	return true
}

// port reads a port. 0 is none: it is how Kubernetes writes a port that is not set.
func (c *checker) port(s *source, o *owner, v value, key string) (port uint16, ok bool) {
	if !v.exists() {
		return 0, false
	}
	if placeholderName(v.text) {
		c.skip(s, v.line, "%s of %s comes from a template", key, o)
		return 0, false
	}
	// Base 0 has the forms of YAML 1.1, which Kubernetes reads: 0x1f90, 017620 and 8_080.
	number, err := strconv.ParseUint(v.text, 0, 16)
	if err != nil || v.tag != "!!int" {
		is := wording.Name(v.text)
		switch {
		case v.text == "":
			is = "not a number"
		case err == nil:
			is = "not a number but " + strconv.Quote(v.text)
		}
		c.report.find(RuleValue, s.file, v.place, "%s of %s is %s: want a number from 1 to 65535", key, o, is)
		return 0, false
	}
	return uint16(number), number != 0
}

// String returns "8080/TCP" or "10.0.0.1:8080/TCP".
func (u *use) String() string {
	port := strconv.Itoa(int(u.port)) + "/" + wording.Name(u.protocol)
	if u.address == wildcard {
		return port
	}
	host := wording.Name(u.address) // an IPv6 zone may be any text
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + port
}
