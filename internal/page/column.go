//go:build linux

package page

import (
	"cmp"
	"slices"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// column is a column of the listeners.
type column struct {
	// Key names the column in an address, Class in the style sheet, and Title on the page.
	Key, Class, Title string
	// compare orders rows from the smallest to the largest. Rows of which that is not known come last in either order.
	compare func(a, b *row) int
	known   func(r *row) bool // nil if it always is
	// largestFirst reports that people ask for the largest first.
	largestFirst bool
}

// columns are all columns. A page leaves out those of what is not read.
var columns = []column{
	{Key: columnState, Class: "st", Title: "State", compare: func(a, b *row) int { return a.Rank - b.Rank }},
	{
		Key: columnService, Class: "sv", Title: "Service",
		compare: func(a, b *row) int { return cmp.Compare(a.Service, b.Service) }, known: func(r *row) bool { return r.Service != "" },
	},
	{
		Key: "port", Class: "po", Title: "Port",
		compare: func(a, b *row) int { return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.Proto, b.Proto)) },
	},
	{
		Key: "address", Class: "ad", Title: "Address",
		compare: func(a, b *row) int { return a.addr().Compare(b.addr()) },
	},
	{Key: "scope", Class: "sc", Title: "Scope", compare: func(a, b *row) int { return a.reach - b.reach }},
	{
		Key: columnHolder, Class: "ho", Title: "Holder", known: func(r *row) bool { return len(r.Holders) > 0 },
		compare: func(a, b *row) int {
			x, y := a.Holders[0], b.Holders[0]
			return cmp.Or(cmp.Compare(x.Process, y.Process), cmp.Compare(x.Unit, y.Unit), cmp.Compare(x.PodUID, y.PodUID), cmp.Compare(x.ContainerID, y.ContainerID))
		},
	},
	{
		Key: "since", Class: "si", Title: "Open since", largestFirst: true,
		compare: func(a, b *row) int { return a.Since.Compare(b.Since) }, known: func(r *row) bool { return !r.Since.IsZero() },
	},
	{
		Key: "queue", Class: "qu", Title: "Queue", largestFirst: true,
		compare: func(a, b *row) int { return cmp.Compare(a.Queue.filled, b.Queue.filled) }, known: func(r *row) bool { return r.Queue.known },
	},
	{
		Key: "drops", Class: "dr", Title: "Drops", largestFirst: true,
		compare: func(a, b *row) int { return cmp.Compare(a.dropped, b.dropped) }, known: func(r *row) bool { return r.Drops != notKnown },
	},
	{Key: columnNamespace, Class: "ns", Title: "Namespace", compare: func(a, b *row) int { return cmp.Compare(a.netns, b.netns) }},
}

// The columns that not every page has.
const (
	columnState     = "state"
	columnService   = "service"
	columnHolder    = "holder"
	columnNamespace = "namespace"
)

// notKnown stands for what is not known.
const notKnown = "–"

// reaches are the scopes, from the farthest reach to the nearest.
var reaches = []inventory.Scope{
	inventory.ScopeAny, inventory.ScopePublic, inventory.ScopeMulticast, inventory.ScopePrivate, inventory.ScopeLinkLocal, inventory.ScopeLoopback,
}

// sortRows sorts rows, which are in the order of their ports. Problems come first unless another order is asked for.
func sortRows(rows []row, q Query) {
	n := max(0, slices.IndexFunc(columns, func(c column) bool { return c.Key == q.Sort }))
	c := columns[n]
	unknown := func(r *row) int {
		if c.known == nil || c.known(r) {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(rows, func(a, b row) int {
		switch last := unknown(&a) - unknown(&b); {
		case last != 0 || unknown(&a) == 1:
			return last
		case q.Descending:
			return c.compare(&b, &a)
		default:
			return c.compare(&a, &b)
		}
	})
}

// heading is the head of a column.
type heading struct {
	Class, Title string
	// Link leads to the page sorted by the column, and the other way round if it is.
	Link string
	// Order is ascending or descending if the rows are sorted by the column, or empty.
	Order string
}

// headings returns the heads of the columns that a page has.
func headings(q Query, has func(key string) bool) (list []heading) {
	for _, c := range columns {
		if !has(c.Key) {
			continue
		}
		h := heading{Class: c.Class, Title: c.Title, Link: q.sortedBy(c.Key, c.largestFirst).Link()}
		if q.Sort == c.Key || q.Sort == "" && c.Key == columnState {
			h.Order, h.Link = "ascending", q.sortedBy(c.Key, !q.Descending).Link()
			if q.Descending {
				h.Order = "descending"
			}
		}
		list = append(list, h)
	}
	return list
}
