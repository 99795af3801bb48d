package registry

import (
	"fmt"
	"io"
	"os"

	"go.yaml.in/yaml/v3"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// Load reads the registry file at path, which may be a pipe. Mistakes in its content are Faults.
func Load(path string) (*Registry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the registry: %w", err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read the registry: %w", err)
	}
	return Parse(path, data)
}

// Parse reads a registry from the content of a file. file is its name. The error is Faults: every mistake in it or, if it is not
// YAML, the first one.
func Parse(file string, data []byte) (*Registry, error) {
	p := &parser{report: report{file: file}, registry: &Registry{file: file}}
	if root := p.document(data); root != nil {
		p.unsupported(root)
		p.root(root)
		p.conflicts(p.registry.services, "", shareHost)
		p.overlaps(p.registry.reserved)
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	p.registry.finish()
	return p.registry, nil
}

// parser makes a registry of YAML nodes.
type parser struct {
	report
	registry *Registry
}

var (
	rootKeys     = keys{"services", "reserved"}
	serviceKeys  = keys{"name", "purpose", "port", "proto", "bind", "process", "unit", "required", "hosts"}
	reservedKeys = keys{"team", "ports", "namespaces"}
)

func (p *parser) root(n *yaml.Node) {
	if isNull(n) || n.Kind == yaml.MappingNode && len(n.Content) == 0 {
		p.at(n, noServices)
		return
	}
	fields, ok := p.mapping(n, rootKeys, "the file", `want "services:" with a list, or "reserved:" with a list`)
	if !ok {
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

// service reads an entry of services. names are the names of the entries before it.
func (p *parser) service(n *yaml.Node, names map[string]*yaml.Node) {
	fields, ok := p.mapping(n, serviceKeys, "a service", `want "name: ssh" and "port: 22"`)
	if !ok {
		return
	}
	s := &service{protos: [protocols]bool{tcp: true}, bind: anywhere}
	called := "this service"
	if name := fields["name"]; name == nil {
		p.at(n, `service without a name: want "name: ssh"`)
	} else if s.name, ok = p.name(name, "name", "ssh"); ok {
		called = "service " + wording.Quoted(s.name)
		if first := names[s.name]; first != nil {
			p.at(name, "duplicate %s: already on line %d: want another name", called, first.Line)
		} else {
			names[s.name] = name
		}
	}
	if port := fields["port"]; port == nil {
		p.at(n, `%s has no port: want "port: 22", %s`, called, portForms)
	} else {
		s.ports = p.ports(port, "port")
	}
	if purpose := fields["purpose"]; purpose != nil {
		s.purpose = p.prose(purpose, "purpose", `"remote administration"`)
	}
	if proto := fields["proto"]; proto != nil {
		s.protos = p.protos(proto)
	}
	if bind := fields["bind"]; bind != nil {
		s.bind, s.boundTo = p.bind(bind)
	}
	var written string
	if process := fields["process"]; process != nil {
		s.processes, written = p.holders(process, "process", "sshd", checkProcess, processPattern)
		s.heldBy = append(s.heldBy, "process "+written)
	}
	if unit := fields["unit"]; unit != nil {
		s.units, written = p.holders(unit, "unit", "ssh.service", checkUnit, unitPattern)
		s.heldBy = append(s.heldBy, "unit "+written)
	}
	if hosts := fields["hosts"]; hosts != nil {
		s.hosts = p.hosts(hosts)
	}
	s.required = p.required(fields["required"], s.ports)
	p.registry.services = append(p.registry.services, s)
}

// reservation reads an entry of reserved.
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
		called = "the reserved range of team " + wording.Quoted(r.team)
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
