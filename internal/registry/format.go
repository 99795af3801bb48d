//go:build linux

package registry

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// Format writes a registry that declares listeners as they are, for a person to edit. Parse accepts it, and every listener
// complies with it. Listeners of one holder are one service if they have the same addresses. Without listeners there is no
// service, which is a fault.
func Format(candidates []Candidate) []byte {
	var out bytes.Buffer
	out.WriteString("---\n# What listened on this host. Say what each service is for, and take out what should not be there.\n")
	drafts := draftsOf(candidates)
	if len(drafts) == 0 {
		out.WriteString("services: []\n")
		return out.Bytes()
	}
	out.WriteString("services:\n")
	names := make(map[string]bool, len(drafts))
	for _, d := range drafts {
		d.write(&out, d.name(names), "")
	}
	return out.Bytes()
}

// write writes the draft as a service, for one host only if host is not empty.
func (d draft) write(out *bytes.Buffer, name, host string) {
	fmt.Fprintf(out, "  - name: %s\n    purpose: \"\" # say what it is for\n", scalar(name))
	ports := make([]string, len(d.ports))
	for i, port := range d.ports {
		ports[i] = strconv.Itoa(int(port))
	}
	if d.anyPort {
		fmt.Fprintf(out, "    port: any # which the system may have chosen: %s\n", shortened(ports, ", "))
	} else {
		writeList(out, "port", ports)
	}
	switch {
	case d.protos[tcp] && d.protos[udp]:
		out.WriteString("    proto: [tcp, udp]\n")
	case d.protos[udp]:
		out.WriteString("    proto: udp\n")
	}
	if d.bind[0] != "any" {
		writeList(out, "bind", scalars(d.bind))
	}
	if len(d.processes) > 0 {
		writeList(out, "process", scalars(d.processes))
	}
	if len(d.units) > 0 {
		writeList(out, "unit", scalars(d.units))
	}
	if d.optional && !d.anyPort {
		fmt.Fprintf(out, "    required: false # %s\n", d.note)
	}
	if host != "" {
		writeList(out, "hosts", []string{scalar(host)})
	}
}

// maxLine is how long a list on the line of its key may be.
const maxLine = 100

func writeList(out *bytes.Buffer, key string, items []string) {
	line := strings.Join(items, ", ")
	switch {
	case len(items) == 1:
		fmt.Fprintf(out, "    %s: %s\n", key, line)
	case len(line) <= maxLine:
		fmt.Fprintf(out, "    %s: [%s]\n", key, line)
	default:
		fmt.Fprintf(out, "    %s:\n", key)
		for _, item := range items {
			fmt.Fprintf(out, "      - %s\n", item)
		}
	}
}

// plain is text that needs no quotes in YAML, unless it is a word: one for true, false or null, also of YAML 1.1.
var (
	plain = wording.Regexp(`^[A-Za-z][A-Za-z0-9_./@-]*$|^[0-9]+(\.[0-9]+){3}$`)
	word  = wording.Regexp(`^(?i:y|n|yes|no|on|off|true|false|null)$`)
)

func scalars(texts []string) []string {
	list := make([]string, len(texts))
	for i, text := range texts {
		list[i] = scalar(text)
	}
	return list
}

// scalar returns text as YAML, which has the escapes of Go.
func scalar(text string) string {
	if plain.Get().MatchString(text) && !word.Get().MatchString(text) {
		return text
	}
	return strconv.Quote(text)
}
