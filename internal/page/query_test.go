//go:build linux

package page

import (
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

func TestAnAddressSortsByAnyColumnAndFiltersByAnyCount(t *testing.T) {
	s := sample()
	s.Reads = append(s.Reads, inventory.Read{Collector: inventory.CollectorNetns})
	s.Listeners[len(s.Listeners)-1].Netns = "blue"
	for query, want := range map[string]string{
		"":                "6379 4444 30007 5433 443 22 53 8000–8029 10190",
		"sort=-state":     "22 53 8000–8029 10190 443 5433 30007 4444 6379",
		"sort=service":    "10190 5433 6379 53 22 8000–8029 443 4444 30007",
		"sort=port":       "22 53 443 4444 5433 6379 8000–8029 10190 30007",
		"sort=-port":      "30007 10190 8000–8029 6379 5433 4444 443 53 22",
		"sort=address":    "22 6379 4444 5433 8000–8029 53 443 10190 30007",
		"sort=scope":      "22 443 6379 10190 4444 30007 53 5433 8000–8029",
		"sort=holder":     "4444 30007 10190 5433 443 8000–8029 6379 22 53",
		"sort=-since":     "4444 6379 22 53 443 5433 8000–8029 10190 30007",
		"sort=-queue":     "443 53 6379 22 4444 5433 8000–8029 10190 30007",
		"sort=-drops":     "53 22 443 4444 5433 6379 8000–8029 10190 30007",
		"sort=-namespace": "30007 22 53 443 4444 5433 6379 8000–8029 10190",
		"show=violations": "6379 4444 30007 5433",
		"show=full":       "443",
		"show=outside":    "6379 4444 443 22 10190",
		"show=new":        "4444",
		// Somebody's old link, or nonsense.
		"sort=%3Cscript%3E&show=all":      "6379 4444 30007 5433 443 22 53 8000–8029 10190",
		"show=violations&sort=port":       "4444 5433 6379 30007",
		"show=violations&sort=port&sort=": "4444 5433 6379 30007",
	} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		q := ParseQuery(values)
		v := newView(s, sampleOptions, q, sampleTime)
		var ports []string
		for i := range v.Rows {
			ports = append(ports, v.Rows[i].Port)
		}
		if got := strings.Join(ports, " "); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", query, got, want)
		}
		// Each link leads to what it says, also a second time.
		for _, h := range v.Headings {
			link := strings.TrimPrefix(h.Link, "?")
			values, err := url.ParseQuery(link)
			if again := ParseQuery(values); err != nil || again.Link() != h.Link || again.Show != q.Show {
				t.Errorf("%s: the link of %s is %s", query, h.Title, h.Link)
			}
		}
	}
}

func TestAFilterWithoutARowSaysSo(t *testing.T) {
	v := newView(calm(), sampleOptions, Query{Show: showViolations}, sampleTime)
	if diff := cmp.Diff([]string{"Violations", "None of the listeners."}, []string{v.Listed(), v.Empty}); diff != "" {
		t.Errorf("the heading and what follows (-want +got):\n%s", diff)
	}
	// What is not there any more is still a way back.
	for _, c := range v.Summary {
		if c.Current != (c.Text == "violations") || c.Text == "listeners" && c.Link != "?" {
			t.Errorf("%s: link %q, current %t", c.Text, c.Link, c.Current)
		}
	}
}
