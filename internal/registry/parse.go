//go:build linux

package registry

import (
	"math"
	"net/netip"

	"go.yaml.in/yaml/v3"

	"github.com/listen-exporter/listen_exporter/internal/ports"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// parser makes a registry of YAML nodes.
type parser struct {
	report
	registry *Registry
}

var (
	rootKeys      = keys{"services", "forbidden", "reserved"}
	serviceKeys   = keys{"name", "purpose", "owner", "port", "proto", "bind", "process", "unit", "required", "hosts"}
	forbiddenKeys = keys{"port", "reason", "proto", "bind", "hosts"}
	reservedKeys  = keys{"team", "ports", "namespaces", "hosts", "users", "any_user"}
)

func (p *parser) root(n *yaml.Node) {
	if isNull(n) || n.Kind == yaml.MappingNode && len(n.Content) == 0 {
		p.at(n, noServices)
		return
	}
	before := len(p.faults)
	fields, ok := p.mapping(n, rootKeys, "the file", `want "services:" with a list, or "reserved:" with a list`)
	if !ok {
		return
	}
	if len(fields) == 0 && len(p.faults) == before { // only keys of the user's own
		p.at(n, noServices)
	}
	for _, section := range []struct {
		key, want string
		read      func(*yaml.Node)
	}{
		{"services", `want a list of services ("- name: ssh")`, p.service},
		{"forbidden", `want a list of ports ("- port: 23")`, p.prohibition},
		{"reserved", `want a list of ranges ("- team: alpha")`, p.reservation},
	} {
		if list := fields.get(section.key); list != nil {
			for _, item := range p.list(list, section.key, section.want) {
				section.read(item)
			}
		}
	}
}

// service reads an entry of services.
func (p *parser) service(n *yaml.Node) {
	fields, ok := p.mapping(n, serviceKeys, "a service", `want "name: ssh" and "port: 22"`)
	if !ok {
		return
	}
	s := &service{place: p.placeOf(n), protos: [protocols]bool{tcp: true}, bind: anywhere()}
	if name := fields.get("name"); name == nil {
		p.at(n, `service without a name: want "name: ssh"`)
	} else if s.name, ok = p.name(name, "name", "ssh"); ok {
		s.place = p.placeOf(name)
	}
	switch port := fields.get("port"); {
	case port == nil:
		called := "this service"
		if s.name != "" {
			called = "service " + wording.Quoted(s.name)
		}
		p.at(n, `%s has no port: want "port: 22", %s, or any`, called, portForms)
	case port.Kind == yaml.ScalarNode && port.Value == "any":
		s.anyPort, s.ports = true, []portRange{{ports.Range{First: 1, Last: math.MaxUint16}, p.placeOf(port)}}
		if fields.get("process") == nil && fields.get("unit") == nil {
			p.at(port, "port any needs a process or a unit, by which the service is known: want one of them, or the ports")
		}
	default:
		s.ports = p.ports(port, "port")
	}
	if purpose := fields.get("purpose"); purpose != nil {
		s.purpose = p.prose(purpose, "purpose", `"remote administration"`)
	}
	if owner := fields.get("owner"); owner != nil {
		s.owner, _ = p.name(owner, "owner", "team mail")
	}
	if proto := fields.get("proto"); proto != nil {
		s.protos = p.protos(proto)
	}
	if bind := fields.get("bind"); bind != nil {
		s.bind, s.boundTo = p.bind(bind)
	}
	if process := fields.get("process"); process != nil {
		s.processes = p.holders(process, "process", "sshd", checkProcess, processPattern)
	}
	if unit := fields.get("unit"); unit != nil {
		s.units = p.holders(unit, "unit", "ssh.service", checkUnit, unitPattern)
	}
	if hosts := fields.get("hosts"); hosts != nil {
		s.hosts = p.hosts(hosts)
	}
	s.required = p.required(fields.get("required"), s)
	p.registry.services = append(p.registry.services, s)
}

// prohibition reads an entry of forbidden.
func (p *parser) prohibition(n *yaml.Node) {
	fields, ok := p.mapping(n, forbiddenKeys, "a forbidden port", `want "port: 23" and "reason: telnet is not used here"`)
	if !ok {
		return
	}
	f := &prohibition{place: p.placeOf(n), protos: [protocols]bool{tcp: true, udp: true}}
	if port := fields.get("port"); port == nil {
		p.at(n, `this forbidden port has no port: want "port: 23", %s`, portForms)
	} else {
		f.ports = p.ports(port, "port")
	}
	if reason := fields.get("reason"); reason == nil {
		p.at(n, `this forbidden port has no reason: want "reason: telnet is not used here"`)
	} else if f.reason = p.prose(reason, "reason", "telnet is not used here"); f.reason == "" && reason.Value == "" && reason.Tag == "!!str" {
		p.at(reason, "reason is empty: want text such as telnet is not used here")
	}
	if proto := fields.get("proto"); proto != nil {
		f.protos = p.protos(proto)
	}
	if bind := fields.get("bind"); bind != nil {
		if f.tolerated, _ = p.bind(bind); f.tolerated.permitsAddr(netip.IPv4Unspecified()) && f.tolerated.permitsAddr(netip.IPv6Unspecified()) {
			p.at(bind, "bind is where the port is tolerated after all, and this tolerates it everywhere: want less, such as loopback")
		}
	}
	if hosts := fields.get("hosts"); hosts != nil {
		f.hosts = p.hosts(hosts)
	}
	p.registry.forbidden = append(p.registry.forbidden, f)
}

// reservation reads an entry of reserved.
func (p *parser) reservation(n *yaml.Node) {
	fields, ok := p.mapping(n, reservedKeys, "a reserved range", `want "team: alpha" and "ports: 30000-30999"`)
	if !ok {
		return
	}
	r := &reservation{place: p.placeOf(n)}
	called := "this reserved range"
	if team := fields.get("team"); team == nil {
		p.at(n, `reserved range without a team: want "team: alpha"`)
	} else if r.team, ok = p.name(team, "team", "alpha"); ok {
		called = "the reserved range of team " + wording.Quoted(r.team)
	}
	if ports := fields.get("ports"); ports == nil {
		p.at(n, `%s has no ports: want "ports: 30000-30999", a port, or a list of them`, called)
	} else {
		r.ports = p.ports(ports, "ports")
	}
	if namespaces := fields.get("namespaces"); namespaces != nil {
		r.namespaces = p.namespaces(namespaces)
	}
	if hosts := fields.get("hosts"); hosts != nil {
		r.hosts = p.hosts(hosts)
	}
	if users := fields.get("users"); users != nil {
		r.users = p.users(users)
	}
	if anyUser := fields.get("any_user"); anyUser != nil {
		if r.anyUser = p.boolean(anyUser, "any_user", "want true or false"); fields.get("users") == nil {
			p.at(anyUser, "any_user is for ranges from which somebody may lease, and nobody may from this one: want users, or leave it out")
		}
	}
	p.registry.reserved = append(p.registry.reserved, r)
}
