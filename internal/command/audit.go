package command

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// Audit compares the current listeners with the registry and returns the exit code.
func Audit(o inventory.Options, s Streams) int {
	var out bytes.Buffer
	found, unknown, err := audit(o, &out, s)
	return s.finish(&out, found, err, unknown)
}

// audit writes what it finds. It also returns what it could not check.
func audit(o inventory.Options, out *bytes.Buffer, s Streams) (found bool, unknown []string, err error) {
	if err := refuseFilters(o, "audit covers every listener"); err != nil {
		return false, nil, err
	}
	if len(o.RegistryFiles) == 0 {
		return false, nil, errors.New("audit needs a registry: make one with `" + wording.Program + " list --format=registry > ports.yml`, then `" +
			wording.Program + " audit --registry.file=ports.yml`")
	}
	snapshot, err := read(mainNamespace(o), s.Logger)
	if err != nil {
		return false, nil, err
	}
	all := entries(snapshot)
	for _, e := range all {
		switch e.state {
		case "", inventory.StateOK, inventory.StateClient:
		case stateMissing:
			assumption := ""
			if e.service.Assumed {
				assumption = " (assumed: something listens on ::, which is assumed not to accept IPv4 because net.ipv6.bindv6only is 1)"
			}
			fmt.Fprintf(out, "%s %s: missing: %s does not listen as declared%s\n",
				e.proto, e.ports(), serviceName(e.service.Name, e.service.Purpose, e.service.Owner), assumption)
		default:
			fmt.Fprintf(out, "%s %s: %s: %s\n", e.proto, addressAndPort(e.listener), e.state, violation(e.listener))
		}
	}
	declared, violations, _, missing := tally(all)
	for _, state := range snapshot.Compliance.Services {
		switch {
		case state.Up && state.Assumed:
			fmt.Fprintf(out, "%s %s: assumed: %s listens only on ::, which is assumed to accept IPv4 (net.ipv6.bindv6only is 0 or not known)\n",
				state.Proto, state.Ports, wording.Printable(state.Name))
		case !state.Up && state.OneHost:
			fmt.Fprintf(out, "%s %s: not here: %s must listen on one of its hosts\n", state.Proto, state.Ports, wording.Printable(state.Name))
		}
	}
	fmt.Fprintf(out, "%s as declared, %s, %s\n",
		wording.Count(declared, "listener"), wording.Count(violations, "violation"), wording.Count(missing, "missing service"))
	err = incomplete(snapshot)
	if snapshot.Omitted > 0 {
		err = errors.Join(err, fmt.Errorf("%s not judged: there are more than --collector.max-ports", wording.Count(snapshot.Omitted, "listener")))
	}
	return violations+missing > 0, unchecked(o, snapshot), err
}

// violation returns why a listener violates the registry, and who holds it.
func violation(l *inventory.Listener) string {
	text := wording.Violation(l.Verdict.Reason, l.Verdict.Service, l.Verdict.Declared)
	switch l.Verdict.Reason {
	case inventory.ReasonBind, inventory.ReasonProcess:
		text = serviceName(l.Verdict.Service, l.Verdict.Purpose, l.Verdict.Owner) + " " + text
	}
	if holders := holdersOf(l); holders != "" {
		text += ", held by " + holders
	}
	return text
}

// serviceName returns the name of a service, its purpose and its owner.
func serviceName(name, purpose, owner string) string {
	var about []string
	if purpose != "" {
		about = append(about, wording.Printable(purpose))
	}
	if owner != "" {
		about = append(about, "owner: "+wording.Printable(owner))
	}
	name = wording.Printable(name)
	if len(about) > 0 {
		name += " (" + strings.Join(about, "; ") + ")"
	}
	return name
}
