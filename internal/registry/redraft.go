//go:build linux

package registry

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// Present is what a host has now, and what a registry says of that.
type Present struct {
	Host string
	// Candidates are the listeners, each with its verdict.
	Candidates []Candidate
	// Missing are the required services that do not listen, where no verdict says why.
	Missing []ServiceState
}

// The marks of a draft, each on a line of its own.
const (
	goneMark     = "# Gone on "
	violatedMark = "# Violated on "
	unknownMark  = "# Unknown on "
	newMark      = "# New on "
	// IncompleteMark begins the lines that say what a draft lacks.
	IncompleteMark = "# Incomplete"
)

// Redraft returns a registry as it is written in its only file, with what is new on a host added, and marks where a service has gone or
// is violated. The rest of the text stays. Of several files it returns what is new, for a file of its own, and the marks.
//
// It declares no listener that violates the registry otherwise than by being new, or whose port is leased: a person has to decide which of
// both is wrong. If what is new conflicts with the registry, it returns the draft and its Faults.
func Redraft(sources []Source, now Present) ([]byte, error) {
	r, err := ParseAll(sources)
	if err != nil {
		return nil, err
	}
	d := redraft{registry: r, now: now, host: wording.Printable(strings.ToLower(now.Host)), marks: make(map[string][]string)}
	d.compare()
	var text []byte
	if len(sources) == 1 {
		text, err = d.within(sources[0])
		sources = nil
	} else {
		text = d.apart()
	}
	if err == nil && (sources == nil || len(d.added) > 0) {
		_, err = ParseAll(append(slices.Clone(sources), Source{theDraft, text}))
	}
	return text, err
}

// theDraft is the name of a draft in its faults, which a person has to mend.
const theDraft = "the draft"

// redraft compares a registry with a host.
type redraft struct {
	registry *Registry
	now      Present
	host     string              // as marks name it
	marks    map[string][]string // of each service, by its name
	others   []string            // of no service
	added    []draft
}

// compare fills in what is marked and what is added.
func (d *redraft) compare() {
	table := d.registry.For(d.now.Host)
	var found []Candidate
	for _, c := range d.now.Candidates {
		verdict := c.Verdict
		at := fmt.Sprintf("%s: %s %s", d.host, c.Proto, c.Addr)
		why := wording.Violation(verdict.Reason, verdict.Service, verdict.Declared)
		switch verdict.Reason {
		case "":
		case ReasonUnregistered, ReasonReserved:
			if c.Leased || mayChoose(table, &c) {
				d.others = append(d.others, unknownMark+at+": "+why)
				continue
			}
			found = append(found, c)
		case ReasonForbidden:
			d.others = append(d.others, violatedMark+at+": "+why)
		default:
			d.marks[verdict.Service] = append(d.marks[verdict.Service], violatedMark+at+" "+why)
		}
	}
	d.add(table, found)
	gone := make(map[string][]string)
	for _, state := range d.now.Missing {
		gone[state.Name] = append(gone[state.Name], state.Proto+" "+state.Ports)
	}
	for name, ports := range gone {
		d.marks[name] = append(d.marks[name], goneMark+d.host+": nothing listens on "+strings.Join(ports, ", "))
	}
}

// add drafts what was found, and marks listeners whose services would conflict with those of the registry.
func (d *redraft) add(table *Table, found []Candidate) {
	for {
		d.added = draftsOf(found)
		taken := make(map[portKey]string)
		for i := range d.added {
			d.added[i].conflicts(table, taken)
		}
		if len(taken) == 0 {
			return
		}
		var rest []Candidate
		for _, c := range found {
			by, is := taken[portKey{protoOf(c.Proto), c.Addr.Port()}]
			if !is {
				rest = append(rest, c)
				continue
			}
			why := wording.Violation(c.Verdict.Reason, c.Verdict.Service, c.Verdict.Declared)
			if c.Verdict.Declared == "" {
				why += ", and a service for it would conflict with " + wording.Quoted(by)
			}
			d.others = append(d.others, fmt.Sprintf("%s%s: %s %s: %s", unknownMark, d.host, c.Proto, c.Addr, why))
		}
		found = rest
	}
}

// conflicts adds the ports that a service of the registry has, from which nothing tells the draft apart, with that one's name.
func (d *draft) conflicts(table *Table, taken map[portKey]string) {
	s := d.service()
	for proto, declared := range d.protos {
		for i := 0; declared && i < len(d.ports); i++ {
			for at := range table.claims(proto, d.ports[i]) {
				if at.anyPort == d.anyPort && at.bind.overlaps(&s.bind) && !toldApart(at.service, s) {
					taken[portKey{proto, d.ports[i]}] = at.name
				}
			}
		}
	}
}

// mayChoose reports whether a service with any port may be the holder of a listener, as far as its holders are known.
func mayChoose(t *Table, c *Candidate) bool {
	proto := protoOf(c.Proto)
	return proto >= 0 && c.someUnknown() && slices.ContainsFunc(t.anyPort[proto], func(at portEntry) bool {
		return len(c.Guessed) == 0 || slices.ContainsFunc(c.Guessed, at.declares)
	})
}

// newServices returns the services to be added. Each key is indented by two more than indent.
func (d *redraft) newServices(indent string) string {
	if len(d.added) == 0 {
		return ""
	}
	taken := make(map[string]bool)
	someHosts := false
	for _, s := range d.registry.services {
		taken[s.name] = true
		someHosts = someHosts || s.hosts.some()
	}
	host := ""
	if someHosts && neverHost(d.now.Host) == "" {
		host = d.now.Host
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "  %s%s: say what each service is for, and take out what should not be there.\n", newMark, d.host)
	for _, one := range d.added {
		one.write(&out, one.name(taken), host)
	}
	var text strings.Builder
	for line := range strings.Lines(out.String()) {
		text.WriteString(indent + strings.TrimPrefix(line, "  "))
	}
	return text.String()
}

// apart returns what is new as a registry of its own.
func (d *redraft) apart() []byte {
	var out bytes.Buffer
	out.WriteString("---\n")
	for _, s := range d.registry.services {
		for _, mark := range d.marks[s.name] {
			fmt.Fprintf(&out, "%s (%s at %s:%d)\n", mark, wording.Quoted(s.name), wording.Path(s.file), s.line)
		}
		delete(d.marks, s.name)
	}
	for _, mark := range d.others {
		fmt.Fprintln(&out, mark)
	}
	if len(d.added) == 0 {
		fmt.Fprintf(&out, "# Nothing is new on %s.\n", d.host)
		return out.Bytes()
	}
	return append(out.Bytes(), "services:\n"+d.newServices("  ")...)
}

// within returns the text of the file with marks and additions.
func (d *redraft) within(source Source) ([]byte, error) {
	text, eol := d.withoutMarks(string(source.Data)), "\n"
	if strings.Contains(text, "\r\n") {
		text, eol = strings.ReplaceAll(text, "\r\n", "\n"), "\r\n"
	}
	root, services, next := sections(text)
	if len(d.added) > 0 && (root.Style&yaml.FlowStyle != 0 || services != nil && services.Style&yaml.FlowStyle != 0) {
		var err error
		if text, err = asBlocks(text); err != nil {
			return nil, err
		}
		_, services, next = sections(text)
	}
	written, err := Parse(source.Name, []byte(text)) // whose places are those of this text
	if err != nil {
		return nil, err
	}
	if !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	lines := slices.Collect(strings.Lines(text))
	end := len(lines)
	if i := slices.Index(lines, "...\n"); i >= 0 {
		end = i
	}
	before := make(map[int]string) // what goes before a line, which counts from 0
	for _, mark := range d.others {
		before[end] += mark + "\n"
	}
	switch {
	case services == nil && len(d.added) > 0:
		before[end] += "services:\n" + d.newServices("  ")
	case services == nil:
	case services.Kind != yaml.SequenceNode && len(d.added)+len(d.marks) > 0:
		return nil, Faults{{source.Name, services.Line, services.Column, "services is an alias, to which nothing can be added: want the list itself", ""}}
	default:
		d.placeMarks(written, services, lines, before)
		if next > 0 {
			// Comments above the next section belong to that.
			end = next - 1
			for end > 0 && (strings.HasPrefix(lines[end-1], "#") || strings.TrimSpace(lines[end-1]) == "") {
				end--
			}
		}
		before[end] += d.newServices(strings.Repeat(" ", services.Column-1))
	}
	var out strings.Builder
	for i := range len(lines) + 1 {
		out.WriteString(before[i])
		if i < len(lines) {
			out.WriteString(lines[i])
		}
	}
	return []byte(strings.ReplaceAll(out.String(), "\n", eol)), nil
}

// withoutMarks returns a text without the marks of an earlier draft for this host.
func (d *redraft) withoutMarks(text string) string {
	var kept strings.Builder
	for line := range strings.Lines(text) {
		if !slices.ContainsFunc([]string{goneMark + d.host, violatedMark + d.host, unknownMark + d.host, newMark + d.host, IncompleteMark}, func(mark string) bool {
			return strings.HasPrefix(strings.TrimLeft(line, " "), mark+": ")
		}) {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// placeMarks puts the marks of each service for the host above it.
func (d *redraft) placeMarks(written *Registry, services *yaml.Node, lines []string, before map[int]string) {
	for _, s := range written.For(d.now.Host).services {
		// The last entry that does not begin after the name.
		var entry *yaml.Node
		for _, item := range services.Content {
			if item.Line < s.line || item.Line == s.line && item.Column <= s.column {
				entry = item
			}
		}
		for _, mark := range d.marks[s.name] {
			at := entry.Line - 1
			indent := len(lines[at]) - len(strings.TrimLeft(lines[at], " "))
			before[at] += lines[at][:indent] + mark + "\n"
		}
	}
}

// sections returns the root of a text, its services, or nil, and the line on which the next section begins, or 0.
func sections(text string) (root, services *yaml.Node, next int) {
	first, _, err := decode([]byte(text))
	if err != nil { // which ParseAll would have found
		return nil, nil, 0
	}
	root = first.Content[0]
	for i := 0; i+1 < len(root.Content); i += 2 {
		switch key := root.Content[i]; {
		case services != nil:
			return root, services, key.Line
		case key.Value == "services":
			services = root.Content[i+1]
		}
	}
	return root, services, 0
}

// asBlocks returns a text whose sections and services are on lines of their own, as those that are added.
func asBlocks(text string) (string, error) {
	first, _, err := decode([]byte(text))
	if err != nil {
		return "", err
	}
	root := first.Content[0]
	root.Style &^= yaml.FlowStyle
	for i := 0; i+1 < len(root.Content); i += 2 {
		if key, value := root.Content[i], root.Content[i+1]; key.Value == "services" {
			value.Style &^= yaml.FlowStyle
			key.HeadComment = strings.Trim(key.HeadComment+"\n"+value.LineComment, "\n") // which a block would lose
			value.LineComment = ""
		}
	}
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(first); err != nil {
		return "", err
	}
	return out.String(), encoder.Close()
}
