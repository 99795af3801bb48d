//go:build linux

package page

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

func TestALeaseIsARow(t *testing.T) {
	at := sampleTime.Add
	want := &leases{
		Teams: []string{"ci: 6 ports leased, 993 available", "load-tests: 0 ports leased, 100 available"}, ShowHosts: true,
		Rows: []leaseRow{
			{
				State: state{levelBad, "overstayed", "it has expired, and something still listens"}, User: "alice", Host: sampleOptions.Host,
				Name: "preview-of-a-branch-with-a-very-long-name.shop.example.com", Team: "ci", Proto: "tcp", Ports: "20004", Expires: at(-7 * time.Minute), Span: "7 minutes ago",
			},
			{
				State: state{levelGood, "held", ""}, User: "gitlab-runner", Host: sampleOptions.Host,
				Name: "build-4711", Team: "ci", Proto: "tcp", Ports: "20000–20002, 20007", Expires: at(4 * time.Minute), Span: "in 4 minutes",
			},
			{State: state{levelGood, "held", ""}, User: "eve", Host: "ci-2.example.com", Name: "udp-echo", Team: "ci", Proto: "udp", Ports: "20003"},
			{
				State: state{levelNone, "expired", "its ports are free unless something listens"}, User: "bob", Host: sampleOptions.Host,
				Name: "smoke", Team: "ci", Proto: "tcp", Ports: "20005", Expires: at(-2 * time.Second), Span: "2 seconds ago",
			},
		},
	}
	if diff := cmp.Diff(want, newLeases(leasing(), sampleTime)); diff != "" {
		t.Errorf("the leases (-want +got):\n%s", diff)
	}
	if l := newLeases(sample(), sampleTime); l != nil {
		t.Errorf("an exporter without leases has %v", l)
	}
	many := leasing()
	many.Leases.Leases = slices.Repeat(many.Leases.Leases[:1], maxLeases+3)
	if l := newLeases(many, sampleTime); len(l.Rows) != maxLeases || l.More != 3 {
		t.Errorf("%d leases are shown, and %d are not, want %d and 3", len(l.Rows), l.More, maxLeases)
	}
}

// Nobody can renew a lease while the store is away: its listeners comply beyond its time, and the row says so.
func TestALeaseIsHeldBeyondItsTimeWhileTheStoreIsAway(t *testing.T) {
	away := leasing()
	away.Leases.Err = errors.New("the store of leases cannot be reached")
	for _, r := range newLeases(away, sampleTime).Rows {
		if want := (state{levelGood, "held", ""}); r.Name == "smoke" && (r.State != want || r.Span != "2 seconds ago") {
			t.Errorf("%+v, want %+v", r, want)
		}
	}
}

func TestThePageShowsLeases(t *testing.T) {
	away := leasing()
	away.Leases.Err = errors.New("the store of leases cannot be reached: etcd\x1b does not answer")
	full := leasing()
	full.Leases.Unwritable = errors.New("the store of leases cannot be reached: no space")
	for _, test := range []struct {
		name             string
		snapshot         *inventory.Snapshot
		has, doesNotHave []string
	}{
		{
			"with leases", leasing(),
			[]string{
				`<a href="?#leases"><b>4</b> leases</a>`, `<b>1</b> violation`, `<h2 id="leases-title">Leases</h2>`, "ci: 6 ports leased, 993 available",
				`<i aria-hidden="true">✓</i> leased <small>by gitlab-runner</small>`, "build-4711 <small>owner: ci</small>",
				`<b><i aria-hidden="true">✗</i> reserved</b>`, "by alice, whose lease has expired", `<b><i aria-hidden="true">✗</i> overstayed</b>`,
				`<time datetime="2026-03-04T05:10:07Z">in 4 minutes <small>2026-03-04 05:10:07</small></time>`, "ci-2.example.com",
			},
			[]string{"cannot be reached"},
		},
		{
			"while the store is away", away,
			[]string{`<p class="notice bad"><b>The store of leases cannot be reached`, `etcd\x1b does not answer`, "build-4711"},
			nil,
		},
		{"while the store is full", full, []string{`<p class="notice bad"><b>The store of leases cannot be written`, "no space", "build-4711"}, nil},
		{"without leases", sample(), nil, []string{"leases", "leased"}},
	} {
		content := get(t, pageOf(t, test.snapshot, sampleOptions)).Body.String()
		_, content, _ = strings.Cut(content, "</style>") // which has styles for all
		content, _, _ = strings.Cut(content, "<script>")
		for _, text := range test.has {
			if !strings.Contains(content, text) {
				t.Errorf("%s: the page does not have %s", test.name, text)
			}
		}
		for _, text := range test.doesNotHave {
			if strings.Contains(content, text) {
				t.Errorf("%s: the page has %s", test.name, text)
			}
		}
	}
}
