//go:build linux

package command

import (
	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// unknown returns what list could not find out of the listeners, a clause each, and what that needs. details is what it shows only
// by netlink.
func unknown(o inventory.Options, s *inventory.Snapshot, details string) []string {
	clauses := []string{}
	if n := count(s, func(l *inventory.Listener) bool { return !l.Exact }); n > 0 && s.Succeeded(inventory.CollectorHolder) {
		if needed := o.NeededForHolders(); needed != "" {
			clauses = append(clauses, "the processes of "+wording.Count(n, "listener")+" are not known for certain: that needs "+needed)
		}
	}
	if n := count(s, func(l *inventory.Listener) bool { return !l.Detailed }); n > 0 {
		clauses = append(clauses, "the "+details+" of "+wording.Count(n, "listener")+" are not known: that needs "+neededForDetails(s))
	}
	return addUnknownLeases(clauses, s)
}

// addUnknownLeases adds what is not known of the leases, unless that makes the answer incomplete.
func addUnknownLeases(clauses []string, s *inventory.Snapshot) []string {
	if clause, matters := leasesUnknown(s); clause != "" && !matters {
		clauses = append(clauses, clause)
	}
	return clauses
}

// unchecked returns what audit did not check, a clause each, and what that needs.
func unchecked(o inventory.Options, s *inventory.Snapshot) []string {
	var clauses []string
	if n := count(s, func(l *inventory.Listener) bool { return l.Verdict.HolderUnchecked }); n > 0 {
		text := "the processes of " + wording.Count(n, "listener") + " were not checked: that needs "
		switch needed := o.NeededForHolders(); {
		case !s.Asked(inventory.CollectorHolder):
			clauses = append(clauses, text+"--collector.holder")
		case needed != "" && s.Succeeded(inventory.CollectorHolder):
			clauses = append(clauses, text+needed)
		}
	}
	if n := count(s, func(l *inventory.Listener) bool { return l.Verdict.DeviceUnchecked }); n > 0 {
		clauses = append(clauses, "the interfaces of "+wording.Count(n, "listener")+" were not checked: that needs "+neededForDetails(s))
	}
	return addUnknownLeases(clauses, s)
}

func count(s *inventory.Snapshot, is func(*inventory.Listener) bool) int {
	n := 0
	for i := range s.Listeners {
		if is(&s.Listeners[i]) {
			n++
		}
	}
	return n
}

// neededForDetails returns what it takes to know what only netlink shows.
func neededForDetails(s *inventory.Snapshot) string {
	if s.Source == "netlink" { // only other network namespaces are read through procfs
		return "CAP_SYS_ADMIN and CAP_SYS_PTRACE, to enter their network namespaces"
	}
	return "netlink"
}
