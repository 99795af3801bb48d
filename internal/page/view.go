//go:build linux

package page

import (
	"fmt"
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

// project is where the documents are.
const project = "https://github.com/listen-exporter/listen_exporter/blob/main/"

// Documents returns links to what explains the page and the alerts.
func (*view) Documents() []Link {
	return []Link{{project + "docs/README.md", "Documentation"}, {project + "alerts/README.md", "Runbook"}}
}

// Words returns the address of what the words on the page mean.
func (*view) Words() string { return project + "docs/words.md" }

// view is the content of the page.
type view struct {
	Host    string
	Query   Query
	Summary []count
	// Unread has the protocols that could not be read.
	Unread  []string
	Notices []notice
	// Missing has the first maxMissing services that should listen and do not. MoreMissing is the number of others.
	Missing     []missing
	MoreMissing int
	// Leases are nil if no ports are leased.
	Leases   *leases
	Headings []heading
	Rows     []row
	// Listeners is how many listeners there are, shown or not.
	Listeners int
	// Empty is shown if there are no rows.
	Empty string
	// Judged reports whether there is a registry.
	Judged bool
	// ShowHolders and ShowNamespaces report whether holders and other namespaces are read, and so have columns.
	ShowHolders, ShowNamespaces bool
	// MarkGuessed reports whether to mark holders that are not known for certain: some are, and others are not.
	MarkGuessed bool
	// Remarks explain what is shown.
	Remarks []string
	Made    time.Time
	Options Options
}

// notice is a line above the tables.
type notice struct {
	// Bad reports whether something failed.
	Bad          bool
	Text, Detail string
}

// newView returns the page of a snapshot.
func newView(s *inventory.Snapshot, o Options, q Query, made time.Time) *view {
	v := &view{
		Host:           o.Host,
		Query:          q,
		Judged:         s.Compliance != nil,
		ShowHolders:    s.Asked(inventory.CollectorHolder),
		ShowNamespaces: s.Asked(inventory.CollectorNetns),
		Unread:         unread(s),
		Listeners:      len(s.Listeners),
		Made:           made.UTC(),
		Options:        o,
	}
	if v.Host == "" {
		v.Host = "this host"
	}
	v.Notices = notices(s)
	v.Missing, v.MoreMissing = missingServices(s, made)
	v.Leases = newLeases(s, made)
	v.Headings = headings(q, v.has)
	m := rows{processes: s.Processes, users: make(inventory.UserNames), judged: v.Judged, made: made}
	v.Rows = m.folded(m.all(v.shown(s)))
	sortRows(v.Rows, q)
	switch {
	case len(v.Rows) > 0:
	case q.Show != "" && v.Listeners > 0:
		v.Empty = "None of the listeners."
	case !s.Succeeded(inventory.TCP) || !s.Succeeded(inventory.UDP):
		v.Empty = "No listener was found, but not everything could be read."
	default:
		v.Empty = "Nothing listens."
	}
	v.Summary = v.summary(s)
	v.explain(s)
	return v
}

// has reports whether the page has a column.
func (v *view) has(column string) bool {
	switch column {
	case columnState, columnService:
		return v.Judged
	case columnHolder:
		return v.ShowHolders
	case columnNamespace:
		return v.ShowNamespaces
	}
	return true
}

// shown returns the listeners that the query asks for.
func (v *view) shown(s *inventory.Snapshot) []*inventory.Listener {
	list := make([]*inventory.Listener, 0, len(s.Listeners))
	for i := range s.Listeners {
		if l := &s.Listeners[i]; v.Query.Show == "" || filters[v.Query.Show](l, v.Made) {
			list = append(list, l)
		}
	}
	return list
}

// shownRow is a row on a page.
type shownRow struct {
	*row
	On *view
}

// Ago returns for how long the row has been open.
func (r shownRow) Ago() string { return span(r.On.Made.Sub(r.Since)) + " ago" }

// Moment returns since when it has been, at a glance.
func (r shownRow) Moment() string {
	if since := r.Since.UTC(); since.Format(time.DateOnly) != r.On.Made.Format(time.DateOnly) {
		return since.Format("2006-01-02 15:04")
	}
	return r.Since.UTC().Format(time.TimeOnly)
}

// Listed returns what the listeners on the page are.
func (v *view) Listed() string {
	switch v.Query.Show {
	case showViolations:
		return "Violations"
	case showFull:
		return "Full queues"
	case showOutside:
		return "Listeners reachable from outside"
	case showNew:
		return "Listeners opened in the last 24 hours"
	}
	return "Listeners"
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
	if s.Leases != nil && s.Leases.Err != nil {
		list = append(list, notice{
			Bad: true, Text: "The store of leases cannot be reached: nobody can lease a port or renew a lease. The leases are those that were last known.",
			Detail: wording.Printable(wording.Public(s.Leases.Err)),
		})
	}
	if s.Leases != nil && s.Leases.Err == nil && s.Leases.Unwritable != nil {
		list = append(list, notice{
			Bad: true, Text: "The store of leases cannot be written: nobody can lease a port.",
			Detail: wording.Printable(wording.Public(s.Leases.Unwritable)),
		})
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
