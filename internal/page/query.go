//go:build linux

package page

import (
	"net/url"
	"slices"
	"strings"
)

// Query is how a request asks for the page. The zero Query is the page as it is first shown.
type Query struct {
	// Show is which listeners are shown, a key of a filter, or empty for all.
	Show string
	// Sort is the column by which rows are sorted, or empty for the usual order. Descending reports that the largest come first.
	Sort       string
	Descending bool
}

// ParseQuery returns the Query of an address. What it does not know is left out: a link that somebody kept still shows the page.
func ParseQuery(values url.Values) (q Query) {
	if show := values.Get("show"); filters[show] != nil {
		q.Show = show
	}
	sort, descending := strings.CutPrefix(values.Get("sort"), "-")
	if slices.ContainsFunc(columns, func(c column) bool { return c.Key == sort }) {
		q = q.sortedBy(sort, descending)
	}
	return q
}

// Link returns the relative address of the page that a query asks for.
func (q Query) Link() string {
	values := make(url.Values)
	if q.Show != "" {
		values.Set("show", q.Show)
	}
	if q.Sort != "" {
		values.Set("sort", q.Sort)
		if q.Descending {
			values.Set("sort", "-"+q.Sort)
		}
	}
	return "?" + values.Encode()
}

// showing returns the query with another filter, and sortedBy with another order.
func (q Query) showing(show string) Query {
	q.Show = show
	return q
}

func (q Query) sortedBy(key string, descending bool) Query {
	if q.Sort, q.Descending = key, descending; key == columnState && !descending {
		q.Sort = "" // the usual order
	}
	return q
}
