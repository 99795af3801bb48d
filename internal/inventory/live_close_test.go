//go:build linux

package inventory_test

import (
	"testing"

	"github.com/go-kit/log"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// Whoever opens one inventory after the other, as list --watch does, does not run out of descriptors.
func TestAnInventoryThatIsClosedOrNotOpenedHasNothingOpen(t *testing.T) {
	hold := func(t *testing.T) {
		listen(t, "tcp", "127.0.0.1:22")
		pod(t, 80)
		pod(t, 81)
	}
	netnstest.RunAsHostAndNobody(t, hold, func(t *testing.T) {
		once := func() {
			i := openAll(t, "auto")
			if s, found := read(t, i); s.Namespaces != 3 || len(found) != 3 {
				t.Errorf("%d namespaces with %d listeners, want 3 with 3", s.Namespaces, len(found))
			}
			i.Close()
			o := optionsOf("auto")
			o.RegistryFiles = []string{"/does/not/exist"}
			if _, err := inventory.Open(o, log.NewNopLogger()); err == nil {
				t.Error("opened without its registry")
			}
		}
		once()
		before := usedNow(t).descriptors
		for range 5 {
			once()
		}
		if after := usedNow(t).descriptors; after > before {
			t.Errorf("%d descriptors are open, %d before", after, before)
		}
	})
}
