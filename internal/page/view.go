//go:build linux

package page

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// timeFormat is how the page writes a time.
const timeFormat = "2006-01-02 15:04:05 UTC"

// Options are what the page shows besides the listeners.
type Options struct {
	// Host is the name of the host.
	Host string
	// Version is the exporter's.
	Version string
	// File is the name of the registry's file, or empty.
	File string
	// Links lead to what else the exporter serves.
	Links []Link
}

// Link is a link to another page.
type Link struct {
	Address, Text string
}

// view is the content of the page.
type view struct {
	Host    string
	Summary []count
	// Unread has the protocols that could not be read.
	Unread  []string
	Notices []notice
	// Missing has the first maxMissing services that should listen and do not. MoreMissing is the number of others.
	Missing     []missing
	MoreMissing int
	Rows        []row
	// Empty is shown if there are no rows.
	Empty string
	// Judged reports whether there is a registry.
	Judged bool
	// ShowHolders and ShowNamespaces report whether holders and other namespaces are read, and so have columns.
	ShowHolders, ShowNamespaces bool
	// Remarks explain what is shown.
	Remarks []string
	Made    time.Time
	Options Options
}

// count is a figure under the heading.
type count struct {
	Number int
	// Text is what is counted.
	Text string
	// Bad reports whether it is a problem, and Least whether not everything could be counted.
	Bad, Least bool
}

// notice is a line above the tables.
type notice struct {
	// Bad reports whether something failed.
	Bad          bool
	Text, Detail string
}

// missing is a service that should listen on a port.
type missing struct {
	Service, Purpose, Owner, Proto string
	// Ports are the port, or those of which one should listen.
	Ports string
	// Detail explains how it is missing.
	Detail string
}

// newView returns the page of a snapshot.
func newView(s *inventory.Snapshot, o Options, made time.Time) *view {
	v := &view{
		Host:           o.Host,
		Judged:         s.Compliance != nil,
		ShowHolders:    s.Asked(inventory.CollectorHolder),
		ShowNamespaces: s.Asked(inventory.CollectorNetns),
		Unread:         unread(s),
		Made:           made.UTC(),
		Options:        o,
	}
	if v.Host == "" {
		v.Host = "this host"
	}
	v.Notices = notices(s)
	v.Missing, v.MoreMissing = missingServices(s)
	v.Rows = make([]row, len(s.Listeners))
	for i := range s.Listeners {
		v.Rows[i] = newRow(&s.Listeners[i])
	}
	// Problems come first. Below them, the listeners stay in the order of their ports.
	slices.SortStableFunc(v.Rows, func(a, b row) int { return a.Rank - b.Rank })
	if len(v.Rows) == 0 {
		v.Empty = "Nothing listens."
		if !s.Succeeded(inventory.TCP) || !s.Succeeded(inventory.UDP) {
			v.Empty = "No listener was found, but not everything could be read."
		}
	}
	v.Summary = summary(s, v)
	v.Remarks = remarks(s)
	return v
}

// manyRows is from how many rows on the browser does not render rows out of sight. It then hides them from screen readers as
// well, so that fewer rows are all rendered.
const manyRows = 1000

// Many reports whether there are so many rows.
func (v *view) Many() bool { return len(v.Rows) >= manyRows }

// Title returns the title of the page, which the browser shows in its tab.
func (v *view) Title() string {
	var bad []string
	for _, proto := range v.Unread {
		bad = append(bad, proto+" not read")
	}
	for _, c := range v.Summary {
		if c.Bad {
			bad = append(bad, fmt.Sprintf("%d %s", c.Number, c.Text))
		}
	}
	if len(bad) == 0 {
		return v.Host
	}
	return strings.Join(bad, ", ") + ": " + v.Host
}

// summary returns the figures under the heading.
func summary(s *inventory.Snapshot, v *view) []count {
	var violations, full, outside int
	for i := range s.Listeners {
		l := &s.Listeners[i]
		if l.Verdict.Reason != "" {
			violations++
		}
		if l.Full() {
			full++
		}
		if l.Netns == "" && l.Scope != inventory.ScopeLoopback {
			outside++
		}
	}
	least := s.Omitted > 0 || len(v.Unread) > 0
	var counts []count
	add := func(n int, what string, bad bool) {
		counts = append(counts, count{n, what, bad && n > 0, least})
	}
	if v.Judged {
		absent := len(v.Missing) + v.MoreMissing
		add(absent, wording.Plural(absent, "missing service"), true)
		add(violations, wording.Plural(violations, "violation"), true)
	}
	if full > 0 {
		add(full, wording.Plural(full, "full queue"), true)
	}
	add(len(v.Rows), wording.Plural(len(v.Rows), "listener"), false)
	add(outside, "reachable from outside", false)
	return counts
}

// unread returns the protocols that could not be read, as people write them.
func unread(s *inventory.Snapshot) []string {
	var list []string
	for _, proto := range []string{inventory.TCP, inventory.UDP} {
		if s.Asked(proto) && !s.Succeeded(proto) {
			list = append(list, strings.ToUpper(proto))
		}
	}
	return list
}

// notices returns what could not be read and what is left out: neither may look like an empty answer.
func notices(s *inventory.Snapshot) []notice {
	var list []notice
	for _, proto := range []string{inventory.TCP, inventory.UDP} {
		if !s.Asked(proto) {
			list = append(list, notice{Text: fmt.Sprintf("%s is not read, because of --no-collector.%s.", strings.ToUpper(proto), proto)})
		}
	}
	for _, read := range s.Reads {
		if read.Err == nil {
			continue
		}
		n := notice{Bad: true, Detail: wording.Printable(wording.Public(read.Err))}
		switch read.Collector {
		case inventory.TCP, inventory.UDP:
			proto := strings.ToUpper(read.Collector)
			n.Text = proto + " could not be read. Its listeners are not shown."
			if s.Compliance != nil {
				n.Text += " Whether " + proto + " services are missing is not known."
			}
		case inventory.CollectorHolder:
			n.Text = "The holders of the listeners could not be read."
		case inventory.CollectorNetns:
			n.Text = "The other network namespaces could not be read."
		default:
			n.Text = "The " + read.Collector + " could not be read."
		}
		list = append(list, n)
	}
	if r := s.Compliance; r != nil && !r.Reloaded {
		list = append(list, notice{Bad: true, Text: "The last reload of the registry failed. Listeners are judged by the version of " +
			r.ReloadedAt.UTC().Format(timeFormat) + "."})
	}
	if s.Omitted > 0 {
		list = append(list, notice{Bad: true, Text: "Not shown: " +
			wording.Count(s.Omitted, "listener") + " above the limit of --collector.max-ports."})
	}
	if s.NamespacesNeverRead > 0 {
		list = append(list, notice{Bad: true, Text: fmt.Sprintf("%d of %d network namespaces have never been read. "+
			"Their listeners are missing.", s.NamespacesNeverRead, s.Namespaces)})
	}
	if s.NamespacesOmitted > 0 {
		list = append(list, notice{Text: fmt.Sprintf("%d of %d network namespaces were not read this time. "+
			"Their listeners are from an earlier read.", s.NamespacesOmitted, s.Namespaces)})
	}
	return list
}

// maxMissing is how many missing services are shown: a registry may declare every port, and nobody reads so much.
const maxMissing = 1000

// missingServices returns the first maxMissing services that do not listen, and how many more there are.
func missingServices(s *inventory.Snapshot) (list []missing, more int) {
	down := s.Missing()
	if len(down) > maxMissing {
		down, more = down[:maxMissing], len(down)-maxMissing
	}
	type place struct {
		proto string
		port  uint16
	}
	listens := make(map[place]bool)
	for i := range s.Listeners {
		if l := &s.Listeners[i]; l.Netns == "" {
			listens[place{l.Proto, l.Addr.Port()}] = true
		}
	}
	for _, service := range down {
		m := missing{
			Service: wording.Printable(service.Name), Purpose: wording.Printable(service.Purpose),
			Owner: wording.Printable(service.Owner), Proto: service.Proto, Ports: service.Ports, Detail: "nothing listens as declared",
		}
		if listens[place{service.Proto, service.Port}] {
			m.Detail = "the port is open, but not as declared"
		}
		if service.Assumed {
			m.Detail += " (assumed: whether :: also takes IPv4 is not known)"
		}
		list = append(list, m)
	}
	return list, more
}

// remarks returns what a reader of the table should know.
func remarks(s *inventory.Snapshot) []string {
	list := []string{
		"Scope is how far the address reaches. Firewalls are not considered.",
		"Queue is what waits in the fullest socket, and its limit: connections for TCP, bytes for UDP. Drops counts discarded packets.",
	}
	if s.Succeeded(inventory.CollectorHolder) {
		if s.Unattributed > 0 {
			list = append(list, "For "+wording.Count(s.Unattributed, "listener")+", no holder is known.")
		}
		var guessed int
		for i := range s.Listeners {
			if l := &s.Listeners[i]; !l.Exact && len(l.Holders) > 0 {
				guessed++
			}
		}
		if guessed > 0 {
			list = append(list, "For "+wording.Count(guessed, "listener")+", the holder is derived from the cgroup that created the socket.")
		}
	}
	if s.Compliance != nil && slices.ContainsFunc(s.Listeners, func(l inventory.Listener) bool { return l.Client }) {
		list = append(list, "Ephemeral is a UDP socket on an ephemeral port that no service declares: most often a client. It is not judged.")
	}
	if s.Asked(inventory.CollectorNetns) {
		list = append(list, "Only listeners of the main network namespace are judged and counted as reachable from outside. "+
			"This host has "+wording.Count(s.Namespaces, "namespace")+".")
	}
	return append(list, "Sockets are read by "+s.Source+".")
}
