package registry

import (
	"errors"
	"io"

	"go.yaml.in/yaml/v3"
)

// maxSize is how many bytes a file may have: 65 535 services with a purpose each need about 8 MiB.
const maxSize = 10 << 20

// Parse reads a registry from the content of the file that is called name. The error is Faults: everything that is wrong in
// it, as far as it is YAML.
func Parse(name string, data []byte) (*Registry, error) {
	p := &parser{report: report{file: name}, registry: &Registry{file: name}}
	if root := p.document(data); root != nil {
		p.supported(root)
		p.root(root)
		p.conflicts()
		p.overlaps()
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	p.registry.finish()
	return p.registry, nil
}

// parser makes a registry from YAML nodes.
type parser struct {
	report
	registry *Registry
}

// keys are the keys of a mapping, in the order in which they are told.
type keys []string

var (
	rootKeys     = keys{"services", "reserved"}
	serviceKeys  = keys{"name", "purpose", "port", "proto", "bind", "process", "unit", "required", "hosts"}
	reservedKeys = keys{"team", "ports", "namespaces"}
)

const nothingDeclared = "has no services: want at least services: or reserved:"

func (p *parser) root(n *yaml.Node) {
	if isNull(n) {
		p.at(n, nothingDeclared)
		return
	}
	fields, ok := p.mapping(n, rootKeys, "the file", `want "services:" with a list, or "reserved:" with a list`)
	if !ok {
		return
	}
	if fields["services"] == nil && fields["reserved"] == nil {
		if len(n.Content) == 0 {
			p.at(n, nothingDeclared)
		}
		return
	}
	if list := fields["services"]; list != nil {
		names := make(map[string]*yaml.Node)
		for _, item := range p.list(list, "services", `want a list of services ("- name: ssh")`) {
			p.service(item, names)
		}
	}
	if list := fields["reserved"]; list != nil {
		for _, item := range p.list(list, "reserved", `want a list of ranges ("- team: alpha")`) {
			p.reservation(item)
		}
	}
}

func (p *parser) service(n *yaml.Node, names map[string]*yaml.Node) {
	fields, ok := p.mapping(n, serviceKeys, "a service", `want "name: ssh" and "port: 22"`)
	if !ok {
		return
	}
	s := &service{line: n.Line, required: true, protos: [protocols]bool{tcp: true}, bind: anywhere}
	called := "this service"
	if name := fields["name"]; name == nil {
		p.at(n, `service without a name: want "name: ssh"`)
	} else if s.name, ok = p.name(name, "name", "ssh"); ok {
		called = "service " + quoted(s.name)
		if first := names[s.name]; first != nil {
			p.at(name, "duplicate %s: it stands on line %d already", called, first.Line)
		} else {
			names[s.name] = name
		}
	}
	if port := fields["port"]; port == nil {
		p.at(n, `%s has no port: want "port: 22", a range such as "8000-8010", or a list of them`, called)
	} else {
		s.ports = p.ports(port, "port")
	}
	if purpose := fields["purpose"]; purpose != nil {
		s.purpose = p.prose(purpose, "purpose")
	}
	if proto := fields["proto"]; proto != nil {
		s.protos = p.protos(proto)
	}
	if bind := fields["bind"]; bind != nil {
		s.bind, s.boundTo = p.binds(bind)
	}
	if process := fields["process"]; process != nil {
		s.process = p.process(process)
	}
	if unit := fields["unit"]; unit != nil {
		s.unit = p.unit(unit)
	}
	s.heldAs = s.holder()
	if hosts := fields["hosts"]; hosts != nil {
		s.hosts = p.hosts(hosts)
	}
	s.required = p.required(fields["required"], s.ports)
	p.registry.services = append(p.registry.services, s)
}

// required returns the value of required, or its default: a service with a range need not listen on every port of it.
func (p *parser) required(n *yaml.Node, ports []portSpan) bool {
	size, ranges := 0, false
	for _, s := range ports {
		size += s.size()
		ranges = ranges || s.first != s.last
	}
	if n == nil {
		return !ranges
	}
	required, ok := p.boolean(n, "required")
	if ok && required && size > maxRequired {
		p.at(n, "required: true over %d ports, each of which would be a series: want at most %d, or required: false", size, maxRequired)
	}
	return required
}

func (p *parser) reservation(n *yaml.Node) {
	fields, ok := p.mapping(n, reservedKeys, "a reserved range", `want "team: alpha" and "ports: 30000-30999"`)
	if !ok {
		return
	}
	r := &reservation{}
	called := "this reserved range"
	if team := fields["team"]; team == nil {
		p.at(n, `reserved range without a team: want "team: alpha"`)
	} else if r.team, ok = p.name(team, "team", "alpha"); ok {
		called = "the reserved range of team " + quoted(r.team)
	}
	if ports := fields["ports"]; ports == nil {
		p.at(n, `%s has no ports: want "ports: 30000-30999", a port, or a list of them`, called)
	} else {
		r.ports = p.ports(ports, "ports")
	}
	if namespaces := fields["namespaces"]; namespaces != nil {
		r.namespaces = p.namespaces(namespaces)
	}
	p.registry.reserved = append(p.registry.reserved, r)
}

// tooLarge notes a file of more than maxSize bytes, and tells whether it is one.
func (p *parser) tooLarge(data []byte) bool {
	if len(data) <= maxSize {
		return false
	}
	p.add(1, 1, "is larger than %d MiB, the most that is read: want a shorter file", maxSize>>20)
	return true
}

// document returns the root of the YAML document in data, or nil if it has none that can be looked at.
func (p *parser) document(data []byte) *yaml.Node {
	if p.tooLarge(data) || !p.plainText(data) || p.tooManyValues(data) {
		return nil
	}
	first, second, err := decode(data)
	switch {
	case errors.Is(err, io.EOF):
		p.add(1, 1, nothingDeclared)
		return nil
	case err != nil:
		return p.repaired(data, err)
	}
	p.single(second)
	root := first.Content[0]
	if isNull(root) {
		// Where nothing is has no place of its own.
		root.Line, root.Column = first.Line, first.Column
	}
	return root
}
