//go:build linux

package inventory_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

func TestWhoGetsAListenerLaterIsFoundAsAnAuditFindsIt(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute; internal/holder holds the same promise on a fixture")
	}
	netnstest.RunAsHost(t, func(t *testing.T) {
		group := netnstest.NewCgroup(t, "demo.service")
		rogue := netnstest.NewCgroup(t, "rogue.service")
		master := serve(t, "master", group, 8000)
		for name, rights := range map[string]netnstest.Rights{"as root": netnstest.AsRoot, "with two capabilities": netnstest.WithTwo} {
			t.Run(name, func(t *testing.T) {
				w := watch(t, usualView, rights)
				want := held("master", "demo.service")
				for range 3 {
					w.want(t, 8000, want...)
				}
				for _, later := range []netnstest.Program{
					{Name: "master", Cgroup: rogue, UID: serviceUser}, // only its unit differs
					{Name: "worker", Cgroup: group, UID: serviceUser},
				} {
					process := master.PassOn(t, later)
					defer process.End(t)
				}
				want = held("master", "demo.service", "master", "rogue.service", "worker", "demo.service")
				var got []inventory.Holder
				for end := time.Now().Add(3 * time.Minute); !cmp.Equal(want, got) && time.Now().Before(end); time.Sleep(time.Second) {
					got = holdersOf(t, w.snapshot(t), 8000).Holders
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("holders (-want +got):\n%s", diff)
				}
				watch(t, usualView, rights).want(t, 8000, want...) // as the first look of an audit
			})
		}
	})
}
