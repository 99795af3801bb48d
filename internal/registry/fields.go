//go:build linux

package registry

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/listen-exporter/listen_exporter/internal/ports"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// portForms are the forms of ports, for errors.
const portForms = `a range such as "8000-8010", or a list of them`

// ports returns the ports of a value that is a port, a range, or a list of them: sorted, each once, without those that the list
// leaves out.
func (r *report) ports(n *yaml.Node, key string) []portRange {
	var found, left []portRange
	for _, item := range r.items(n, key, "want a port, "+portForms) {
		text, leavesOut := strings.CutPrefix(item.Value, "!")
		parsed, problem := parsePorts(text)
		switch p := (portRange{parsed, r.placeOf(item)}); {
		case problem != "":
			r.at(item, "%s", problem)
		case leavesOut:
			left = append(left, p)
		default:
			found = append(found, p)
		}
	}
	slices.SortStableFunc(found, func(a, b portRange) int { return cmp.Compare(a.First, b.First) })
	var kept []portRange
	for _, p := range found {
		if len(kept) == 0 || p.First > kept[len(kept)-1].Last {
			kept = append(kept, p)
			continue
		}
		previous := &kept[len(kept)-1]
		later := p
		if cmp.Or(cmp.Compare(p.line, previous.line), cmp.Compare(p.column, previous.column)) < 0 {
			later = *previous
		}
		r.addAt(later.place, "%s: already in this list: want each port once", later)
		previous.Last = max(previous.Last, p.Last)
	}
	return r.leaveOut(kept, left)
}

// leaveOut returns sorted ports without those of holes.
func (r *report) leaveOut(all, holes []portRange) (rest []portRange) {
	if len(all) == 0 && len(holes) > 0 {
		holes = holes[:1] // each would have the same fault
	}
	slices.SortStableFunc(holes, func(a, b portRange) int { return cmp.Compare(a.First, b.First) })
	good := true
	for _, hole := range holes {
		left := 0
		for len(all) > 0 && all[0].First <= hole.Last {
			p := all[0]
			if p.First < hole.First {
				before := p
				before.Last = min(p.Last, hole.First-1)
				rest = append(rest, before)
			}
			first, last := max(p.First, hole.First), min(p.Last, hole.Last)
			left += max(0, int(last)-int(first)+1)
			if last == p.Last {
				all = all[1:]
			} else {
				all[0].First = last + 1
			}
		}
		if left != hole.Size() {
			good = false
			r.addAt(hole.place, `!%s leaves out more than this list has: want only ports of it after the "!"`, hole.Range)
		}
	}
	if rest = append(rest, all...); good && len(rest) == 0 && len(holes) > 0 {
		hole := holes[len(holes)-1]
		r.addAt(hole.place, `!%s leaves nothing of this list: want the ports that are left`, hole.Range)
	}
	return rest
}

// parsePorts parses "22" or "8000-8010".
func parsePorts(text string) (r ports.Range, problem string) {
	if parts := strings.FieldsFunc(text, func(c rune) bool { return c == ',' || c == ' ' }); len(parts) > 1 && !strings.Contains(text, " - ") {
		if set, err := ports.ParseSet(strings.Join(parts, ",")); err == nil {
			return r, fmt.Sprintf("%s is not a port: want a list: [%s]", wording.Quoted(text), strings.ReplaceAll(set.String(), ",", ", "))
		}
	}
	for _, end := range strings.SplitN(text, "-", 2) {
		end = strings.TrimSpace(end)
		if end == "" || strings.Trim(end, "0123456789") != "" {
			return r, wording.Quoted(text) + " is not a port: want a number from 1 to 65535, " + portForms
		}
		number, err := strconv.ParseUint(end, 10, 16)
		shown := end[:min(len(end), 20)]
		switch {
		case err != nil || number == 0:
			return r, "port " + shown + ": want a number from 1 to 65535"
		case end[0] == '0':
			return r, "port " + shown + " could be read as an octal number: want " + strconv.Itoa(int(number))
		}
	}
	r, err := ports.ParseRange(text)
	if err != nil {
		return r, err.Error()
	}
	return r, ""
}

func (r *report) protos(n *yaml.Node) (protos [protocols]bool) {
	const want = "want tcp, udp, or a list of both"
	for _, item := range r.items(n, "proto", want) {
		switch proto := protoOf(item.Value); {
		case proto < 0 && protoOf(strings.ToLower(item.Value)) >= 0:
			r.at(item, "unknown proto %s: want %q", wording.Quoted(item.Value), strings.ToLower(item.Value))
		case proto < 0:
			r.at(item, "unknown proto %s: %s", wording.Quoted(item.Value), own(want))
		case protos[proto]:
			r.at(item, "proto %s is already in this list: want it once", item.Value)
		default:
			protos[proto] = true
		}
	}
	return protos
}

// maxShown is how many bytes of a list are shown where it is violated.
const maxShown = 100

// shortened returns the first of the items as text.
func shortened(items []string, separator string) string {
	text := strings.Join(items, separator)
	if len(items) == 0 {
		return ""
	}
	if len(text) <= maxShown || len(items) == 1 {
		return text
	}
	end := max(strings.LastIndex(text[:maxShown], separator), len(items[0]))
	return text[:end] + separator + "…"
}

// bind returns what a bind allows, and the bind as written.
func (r *report) bind(n *yaml.Node) (allowed bind, written string) {
	var items []string
	for _, item := range r.items(n, "bind", bindForms) {
		switch one, problem := parseBind(item.Value); {
		case problem != "":
			r.at(item, "bind %s %s", wording.Quoted(item.Value), problem)
		case slices.Contains(items, item.Value):
			r.at(item, "bind %s is already in this list: want it once", wording.Quoted(item.Value))
		default:
			allowed, items = allowed.and(one), append(items, item.Value)
		}
	}
	return allowed, shortened(items, ", ")
}

// holders returns the names of processes or units in which check finds nothing wrong.
func (r *report) holders(n *yaml.Node, key, example string, check func(string) string, parse func(string) pattern) (names []pattern) {
	for _, item := range r.items(n, key, "want text such as "+example+", or a list of them") {
		name, ok := r.name(item, key, example)
		if !ok {
			continue
		}
		switch problem := check(name); {
		case problem != "":
			r.at(item, "%s %s %s", own(key), wording.Quoted(name), problem)
		case slices.ContainsFunc(names, func(p pattern) bool { return p.text == name }):
			r.at(item, "%s %s is already in this list: want it once", own(key), wording.Quoted(name))
		default:
			names = append(names, parse(name))
		}
	}
	return names
}

func (r *report) hosts(n *yaml.Node) (all hosts) {
	var included []*yaml.Node
	seen := make(map[string]bool)
	for _, item := range r.items(n, "hosts", `want globs on the host name: ["web-*"]`) {
		text, ok := r.text(item, "a host", "web-*")
		if !ok {
			continue
		}
		name, excludes := strings.CutPrefix(text, "!")
		if problem := checkGlob(text[:len(text)-len(name)], name); problem != "" {
			r.at(item, "glob %s %s", wording.Quoted(text), problem)
			continue
		}
		lower := strings.ToLower(text)
		switch g := globOf(name); {
		case seen[lower]:
			r.at(item, "glob %s is already in this list: want it once", wording.Quoted(text))
		case excludes:
			all.exclude = append(all.exclude, g)
		default:
			all.include, included = append(all.include, g), append(included, item)
		}
		seen[lower] = true
	}
	for i, item := range included {
		if all.excludes(&all.include[i]) {
			r.at(item, "glob %s is left out by another glob of this list: want one of them", wording.Quoted(item.Value))
		}
	}
	if len(all.include) == 0 && all.excludes(&every[0]) {
		r.at(n, "hosts leaves out every host: want the hosts that are left")
	}
	return all
}

// maxRequired is how many ports one service may require: each is a series.
const maxRequired = 1000

// required returns the value of required for a service, or its default: true, but false for a service with a range.
func (r *report) required(n *yaml.Node, s *service) requirement {
	size, ranges := 0, false
	for _, p := range s.ports {
		size += p.Size()
		ranges = ranges || p.First != p.Last
	}
	switch {
	case n == nil && ranges:
		return optional
	case n == nil:
		return everyPort
	}
	required := map[string]requirement{"one-port": onePort, "one-host": oneHost}[n.Value]
	if required == optional && r.boolean(n, "required", "want true, false, one-port or one-host") {
		required = everyPort
	}
	single := len(s.hosts.include) == 1 && s.hosts.include[0].name
	switch {
	case required == optional:
	case s.anyPort:
		r.at(n, "required is %s, but a service with port any is never required: want false, or leave it out", n.Value)
	case required == onePort && size == 1:
		r.at(n, "required is one-port, but the service has only one port: want true, or more ports")
	case required == oneHost && single:
		r.at(n, "required is one-host, but the service has only one host: want true, or more hosts")
	case required != onePort && size > maxRequired:
		r.at(n, "required: %s over %d ports, each of which would be a series: want at most %d, one-port, or false", n.Value, size, maxRequired)
	}
	return required
}

// namespaceName is the form of the name of a Kubernetes namespace (RFC 1123, 2.1), with globs.
var namespaceName = wording.Regexp(`^([a-z0-9*?]|\[[!^]?[-a-z0-9]+\])(([-a-z0-9*?]|\[[!^]?[-a-z0-9]+\])*([a-z0-9*?]|\[[!^]?[-a-z0-9]+\]))?$`)

func (r *report) namespaces(n *yaml.Node) (globs []glob) {
	for _, item := range r.items(n, "namespaces", "want the names of Kubernetes namespaces: [team-alpha]") {
		name, ok := r.text(item, "a namespace", "team-alpha")
		if !ok {
			continue
		}
		_, err := path.Match(pathPattern(name), "")
		switch g := globOf(name); {
		case len(name) > 63 || err != nil || !namespaceName.Get().MatchString(name):
			r.at(item, "%s is not the name of a Kubernetes namespace: want at most 63 of a-z, 0-9 and -, such as team-alpha, or a glob such as \"alpha-*\"", wording.Quoted(name))
		case slices.Contains(globs, g):
			r.at(item, "namespace %s is already in this list: want it once", name)
		default:
			globs = append(globs, g)
		}
	}
	return globs
}
