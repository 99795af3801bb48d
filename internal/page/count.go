//go:build linux

package page

import (
	"time"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// count is a figure under the heading.
type count struct {
	Number int
	// Text is what is counted.
	Text string
	// Bad reports whether it is a problem, and Least whether not everything could be counted.
	Bad, Least bool
	// Link leads to what is counted, or is empty. Current reports that the page shows only that.
	Link    string
	Current bool
}

// news is how long a listener is new.
const news = 24 * time.Hour

// The filters, as addresses name them.
const (
	showViolations = "violations"
	showFull       = "full"
	showOutside    = "outside"
	showNew        = "new"
)

// filters report whether they show a listener.
var filters = map[string]func(l *inventory.Listener, now time.Time) bool{
	showViolations: func(l *inventory.Listener, _ time.Time) bool { return l.Verdict.Reason != "" },
	showFull:       func(l *inventory.Listener, _ time.Time) bool { return l.Full() },
	showOutside: func(l *inventory.Listener, _ time.Time) bool {
		return l.Netns == "" && l.Scope != inventory.ScopeLoopback
	},
	showNew: func(l *inventory.Listener, now time.Time) bool {
		return !l.FirstSeen.IsZero() && now.Sub(l.FirstSeen) < news
	},
}

// summary returns the figures under the heading.
func (v *view) summary(s *inventory.Snapshot) (counts []count) {
	least := s.Omitted > 0 || len(v.Unread) > 0
	add := func(n int, text string, bad bool, link string, current bool) {
		counts = append(counts, count{n, text, bad && n > 0, least, link, current})
	}
	addFilter := func(show, text string, plural, bad, always bool) {
		n := 0
		for i := range s.Listeners {
			if filters[show](&s.Listeners[i], v.Made) {
				n++
			}
		}
		if n == 0 && !always && v.Query.Show != show {
			return
		}
		if plural {
			text = wording.Plural(n, text)
		}
		link := ""
		if n > 0 || v.Query.Show == show {
			link = v.Query.showing(show).Link()
		}
		add(n, text, bad, link, v.Query.Show == show)
	}
	if v.Judged {
		absent, link := len(v.Missing)+v.MoreMissing, ""
		if absent > 0 {
			link = v.Query.showing("").Link() + "#missing"
		}
		add(absent, wording.Plural(absent, "missing service"), true, link, false)
		addFilter(showViolations, "violation", true, true, true)
	}
	if l := v.Leases; l != nil {
		n, link := len(l.Rows)+l.More, ""
		if n > 0 {
			link = v.Query.showing("").Link() + "#leases"
		}
		add(n, wording.Plural(n, "lease"), false, link, false)
	}
	addFilter(showFull, "full queue", true, true, false)
	add(v.Listeners, wording.Plural(v.Listeners, "listener"), false, v.Query.showing("").Link(), v.Query.Show == "")
	addFilter(showOutside, "reachable from outside", false, false, true)
	addFilter(showNew, "opened in the last 24 hours", false, false, false)
	return counts
}

// explain fills in what a reader of the table should know of it.
func (v *view) explain(s *inventory.Snapshot) {
	guessed := 0
	for i := range s.Listeners {
		if l := &s.Listeners[i]; !l.Exact && len(l.Holders) > 0 {
			guessed++
		}
	}
	v.MarkGuessed = guessed > 0 && guessed < len(s.Listeners)-s.Unattributed
	if guessed > 0 && !v.MarkGuessed {
		v.Remarks = append(v.Remarks, "The holders are probable ones: the exporter may not look into their processes.")
	}
	v.Remarks = append(v.Remarks, "Firewalls are not considered: they may shut what is counted as reachable from outside.")
	if s.Succeeded(inventory.CollectorHolder) && s.Unattributed > 0 {
		v.Remarks = append(v.Remarks, "The holders of "+wording.Count(s.Unattributed, "listener")+" are not known.")
	}
}
