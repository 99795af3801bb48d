package main

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/go-kit/log"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// audit holds what listens now against the registry, and tells whether it found something.
func audit(c *config, out *bytes.Buffer, logger log.Logger) (found bool, err error) {
	if c.inventory.RegistryFile == "" {
		return false, errors.New("audit needs a registry: make one with `" + program + " list --format=registry > ports.yml`, then `" +
			program + " audit --registry.file=ports.yml`")
	}
	if c.inventory.Netns == "all" {
		c.inventory.Netns = "host" // the registry judges the main namespace alone
	}
	snapshot, err := look(c, logger)
	if err != nil {
		return false, err
	}
	declared, violations := 0, 0
	for _, e := range entries(snapshot) {
		switch l := e.listener; {
		case l == nil:
			fmt.Fprintf(out, "%s %d: missing: %s does not listen as declared%s\n", e.proto(), e.port(), purposeOf(e.service.Name, e.service.Purpose), assumed(e.service))
		case isNoise(l):
		case l.Verdict.Reason == "":
			declared++
		default:
			violations++
			fmt.Fprintf(out, "%s %s: %s: %s\n", l.Proto, joinPort(l), l.Verdict.Reason, violation(l))
		}
	}
	absent := len(snapshot.Missing())
	for _, state := range snapshot.Compliance.Services {
		if state.Up && state.Assumed {
			fmt.Fprintf(out, "%s %d: assumed: %s listens on :: alone, which is taken to serve IPv4 too, as net.ipv6.bindv6only is 0\n",
				state.Proto, state.Port, visible(state.Name))
		}
	}
	fmt.Fprintf(out, "%s as declared, %s, %s\n", counted(declared, "listener"), counted(violations, "violation"), counted(absent, "missing service"))
	err = missing(snapshot)
	if snapshot.Omitted > 0 {
		omitted := counted(snapshot.Omitted, "listener") + " were"
		if snapshot.Omitted == 1 {
			omitted = "1 listener was"
		}
		err = errors.Join(err, fmt.Errorf("%s not judged: --collector.max-ports is less", omitted))
	}
	return violations+absent > 0, err
}

// violation says what is wrong with a listener.
func violation(l *inventory.Listener) string {
	name := purposeOf(l.Verdict.Service, l.Verdict.Purpose)
	declared := ""
	if l.Verdict.Declared != "" {
		declared = " (" + visible(l.Verdict.Declared) + ")"
	}
	heldBy := ""
	if holder := holderOf(l); holder != "" {
		heldBy = ", held by " + holder
	}
	switch l.Verdict.Reason {
	case inventory.ReasonUnregistered:
		return "no service declares the port" + heldBy
	case inventory.ReasonReserved:
		return "the port is reserved for " + name + heldBy
	case inventory.ReasonBind:
		return name + " listens wider or elsewhere than declared" + declared + heldBy
	case inventory.ReasonProcess:
		return name + " is not held as declared" + declared + heldBy
	default:
		return name + heldBy
	}
}

// purposeOf returns a service's name, and what it is for.
func purposeOf(name, purpose string) string {
	if purpose == "" {
		return visible(name)
	}
	return fmt.Sprintf("%s (%s)", visible(name), visible(purpose))
}

// assumed tells of a missing service that it may be there after all.
func assumed(s inventory.ServiceState) string {
	if !s.Assumed {
		return ""
	}
	return " (assumed: something listens on ::, which is taken not to serve IPv4, as net.ipv6.bindv6only is 1)"
}

// joinPort returns a listener's address and port.
func joinPort(l *inventory.Listener) string {
	if l.IsIPv6() {
		return fmt.Sprintf("[%s]:%d", addressOf(l), l.Addr.Port())
	}
	return fmt.Sprintf("%s:%d", addressOf(l), l.Addr.Port())
}
