//go:build linux

package command

import (
	"errors"
	"fmt"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// Audit compares the current listeners with the registry, writes what it finds in a format, and returns the exit code.
func Audit(o inventory.Options, format string, s Streams) int {
	r := &report{about: &jsonAudit{Host: o.RegistryHost, Registry: append([]string{}, o.RegistryFiles...)}}
	err := audit(o, r, s)
	return s.finishReport(r, format, err)
}

func audit(o inventory.Options, r *report, s Streams) error {
	if err := refuseFilters(o, "audit covers every listener"); err != nil {
		return err
	}
	if len(o.RegistryFiles) == 0 {
		return errors.New("audit needs a registry: make one with `" + wording.Program + " list --format=registry > ports.yml`, then `" +
			wording.Program + " audit --registry.file=ports.yml`")
	}
	snapshot, err := read(mainNamespace(o), s.Logger)
	if err != nil {
		return err
	}
	found := func(list *[]finding, e *entry, message string) {
		*list = append(*list, finding{rule: e.state, message: message, file: firstFile(o.RegistryFiles), entry: e})
		fmt.Fprintf(&r.text, "%s: %s: %s\n", e.subject(), e.state, message)
	}
	all := entries(snapshot)
	for i := range all {
		switch e := &all[i]; e.state {
		case "", inventory.StateOK, inventory.StateLeased, inventory.StateClient:
		case stateMissing:
			assumption := ""
			if e.service.Assumed {
				assumption = " (assumed: something listens on ::, which is assumed not to accept IPv4 because net.ipv6.bindv6only is 1)"
			}
			found(&r.findings, e, serviceName(e.service.Name, e.service.Purpose, e.service.Owner)+" does not listen as declared"+assumption)
		default:
			found(&r.findings, e, violation(e.listener))
		}
	}
	for _, state := range snapshot.Compliance.Services {
		switch name := wording.Printable(state.Name); {
		case state.Up && state.Assumed:
			found(&r.notes, serviceEntry(state, noteAssumed), name+" listens only on ::, which is assumed to accept IPv4 (net.ipv6.bindv6only is 0 or not known)")
		case !state.Up && state.OneHost:
			found(&r.notes, serviceEntry(state, noteElsewhere), name+" must listen on one of its hosts")
		}
	}
	declared, violations, _, missing := tally(all)
	r.about.AsDeclared, r.about.Violations, r.about.Missing = declared, violations, missing
	fmt.Fprintf(&r.text, "%s as declared, %s, %s\n",
		wording.Count(declared, "listener"), wording.Count(violations, "violation"), wording.Count(missing, "missing service"))
	r.unknown = unchecked(o, snapshot)
	err = incomplete(snapshot)
	if snapshot.Omitted > 0 {
		err = errors.Join(err, fmt.Errorf("%s not judged: there are more than --collector.max-ports", wording.Count(snapshot.Omitted, "listener")))
	}
	return err
}

// The states of what audit notes without finding fault.
const (
	noteAssumed   = "assumed"
	noteElsewhere = "not here"
)

// violation returns why a listener violates the registry, and who holds it.
func violation(l *inventory.Listener) string {
	text := whyViolated(l)
	if holders := holdersOf(l); holders != "" {
		text += ", held by " + holders
	}
	return text
}

// whyViolated returns why a listener violates the registry.
func whyViolated(l *inventory.Listener) string {
	text := wording.Violation(l.Verdict.Reason, l.Verdict.Service, l.Verdict.Declared)
	switch l.Verdict.Reason {
	case inventory.ReasonBind, inventory.ReasonProcess:
		text = serviceName(l.Verdict.Service, l.Verdict.Purpose, l.Verdict.Owner) + " " + text
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
