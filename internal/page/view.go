package page

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// view is the content of the page, in the words in which it is shown.
type view struct {
	Host    string
	Summary []count
	// Unread are the protocols that could not be read.
	Unread  []string
	Notices []notice
	// Missing are the services that should listen and do not.
	// MoreMissing is how many more there are than maxMissing.
	Missing     []missing
	MoreMissing int
	Rows        []row
	// Empty says in place of the rows why there are none.
	Empty string
	// NoRegistry tells that there is nothing to judge by.
	NoRegistry bool
	// Judged, Held and Spaces tell which columns there are beside those that always are.
	Judged, Held, Spaces bool
	// Remarks are what a reader should know, but not at first.
	Remarks []string
	Made    time.Time
	Options Options
}

// count is one of the figures under the heading.
type count struct {
	Number int
	// Text is what is counted.
	Text string
	// Bad tells that a person should look, and Least that not everything could be counted.
	Bad, Least bool
}

// notice is a line that stands above all else.
type notice struct {
	// Bad tells of what went wrong; else it is news.
	Bad          bool
	Text, Detail string
}

// missing is a service that should listen on a port.
type missing struct {
	Service, Purpose, Proto string
	Port                    uint16
	// Detail says how it is missing.
	Detail string
}

// newView returns what a snapshot says.
func newView(s *inventory.Snapshot, o Options, made time.Time) *view {
	v := &view{
		Host:       o.Host,
		NoRegistry: s.Compliance == nil,
		Judged:     s.Compliance != nil,
		Held:       s.Asked(inventory.CollectorHolder),
		Spaces:     s.Asked(inventory.CollectorNetns),
		Unread:     unread(s),
		Made:       made.UTC(),
		Options:    o,
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
	// What is wrong stands first. Below it, the listeners stay in the order of their ports.
	slices.SortStableFunc(v.Rows, func(a, b row) int { return a.Rank - b.Rank })
	if len(v.Rows) == 0 {
		v.Empty = "Nothing listens."
		if !s.Succeeded(inventory.TCP) || !s.Succeeded(inventory.UDP) {
			v.Empty = "Nothing listens on what could be read."
		}
	}
	v.Summary = summary(s, v)
	v.Remarks = remarks(s)
	return v
}

// manyRows is from how many rows on the browser leaves out what is out of sight. It then hides it from screen readers too,
// which is no price to pay for the few listeners of most hosts.
const manyRows = 1000

// Many tells whether there are so many rows.
func (v *view) Many() bool { return len(v.Rows) >= manyRows }

// Title is the title of the page: what a tab of the browser shows.
func (v *view) Title() string {
	var bad []string
	for _, proto := range v.Unread {
		bad = append(bad, proto+" unread")
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

// summary counts what the page shows. What is not judged is not counted either.
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
	add := func(n int, one, many string, bad bool) {
		counts = append(counts, count{n, plural(n, one, many), bad && n > 0, least})
	}
	if v.Judged {
		add(len(v.Missing)+v.MoreMissing, "missing service", "missing services", true)
		add(violations, "violation", "violations", true)
	}
	if full > 0 {
		add(full, "full queue", "full queues", true)
	}
	add(len(v.Rows), "listener", "listeners", false)
	add(outside, "reachable from outside", "reachable from outside", false)
	return counts
}

// unread are the protocols that could not be read, as people write them.
func unread(s *inventory.Snapshot) []string {
	var list []string
	for _, proto := range []string{inventory.TCP, inventory.UDP} {
		if s.Asked(proto) && !s.Succeeded(proto) {
			list = append(list, strings.ToUpper(proto))
		}
	}
	return list
}

// notices says what could not be read, first of all: nothing of it may look like an empty answer.
func notices(s *inventory.Snapshot) []notice {
	var list []notice
	for _, proto := range []string{inventory.TCP, inventory.UDP} {
		if !s.Asked(proto) {
			list = append(list, notice{Text: fmt.Sprintf("%s is not read: --no-collector.%s.", strings.ToUpper(proto), proto)})
		}
	}
	for _, read := range s.Reads {
		if read.Err == nil {
			continue
		}
		n := notice{Bad: true, Detail: printable(read.Err.Error())}
		switch read.Collector {
		case inventory.TCP, inventory.UDP:
			n.Text = strings.ToUpper(read.Collector) + " could not be read. Its listeners are not shown"
			if s.Compliance != nil {
				n.Text += ", and nobody knows which of its services are missing"
			}
			n.Text += "."
		case inventory.CollectorHolder:
			n.Text = "Who holds the listeners could not be read."
		case inventory.CollectorNetns:
			n.Text = "The other network namespaces could not be read."
		default:
			n.Text = "The " + read.Collector + " could not be read."
		}
		list = append(list, n)
	}
	if r := s.Compliance; r != nil && !r.Reloaded {
		list = append(list, notice{Bad: true, Text: "The registry's file is bad. What is shown is judged by what it said at " +
			r.ReloadedAt.UTC().Format(timeFormat) + "."})
	}
	if s.Omitted > 0 {
		list = append(list, notice{Bad: true, Text: fmt.Sprintf("%d more %s not shown: there are more than --collector.max-ports.",
			s.Omitted, plural(s.Omitted, "listener is", "listeners are"))})
	}
	if s.NamespacesOmitted > 0 {
		list = append(list, notice{Text: fmt.Sprintf("%d of %d network namespaces were not read this time. Their listeners are those of the last time.",
			s.NamespacesOmitted, s.Namespaces)})
	}
	return list
}

// maxMissing is how many missing services are shown at most: a registry may declare every port, and nobody reads so much.
const maxMissing = 1000

// missingServices are the services that are down, the first maxMissing of them, and how many more there are.
func missingServices(s *inventory.Snapshot) (list []missing, more int) {
	down := s.Missing()
	if len(down) > maxMissing {
		down, more = down[:maxMissing], len(down)-maxMissing
	}
	if len(down) == 0 {
		return nil, 0
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
			Service: printable(service.Name), Purpose: printable(service.Purpose),
			Proto: service.Proto, Port: service.Port, Detail: "nothing listens as declared",
		}
		if listens[place{service.Proto, service.Port}] {
			m.Detail = "the port listens, but not as declared"
		}
		if service.Assumed {
			m.Detail += " (assumed: it is not known whether :: takes IPv4)"
		}
		list = append(list, m)
	}
	return list, more
}

// remarks explains what the table leaves open.
func remarks(s *inventory.Snapshot) []string {
	list := []string{"Scope is how far the address reaches. A firewall may still stand before it."}
	if s.Succeeded(inventory.CollectorHolder) {
		if s.Unattributed > 0 {
			list = append(list, fmt.Sprintf("Nobody is known to hold %d of the listeners.", s.Unattributed))
		}
		var guessed int
		for i := range s.Listeners {
			if l := &s.Listeners[i]; !l.Exact && len(l.Holders) > 0 {
				guessed++
			}
		}
		if guessed > 0 {
			list = append(list, fmt.Sprintf("For %d of the listeners the holder is taken from the cgroup in which the socket was made.", guessed))
		}
	}
	if s.Asked(inventory.CollectorNetns) {
		list = append(list, fmt.Sprintf("There are %d network namespaces. Only the host's own is judged and counted as reachable.", s.Namespaces))
	}
	if s.Source != "" {
		list = append(list, "The sockets were read by "+s.Source+".")
	}
	return list
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
