//go:build linux

package inventory_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

func TestAnUnchangedSnapshotAllocatesTheSameHoweverManyListen(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, nil, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "ports.yml")
		const registry = "services: [{name: all, port: 1-65535, proto: [tcp, udp], bind: loopback}]\n"
		if err := os.WriteFile(file, []byte(registry), 0o600); err != nil {
			t.Fatal(err)
		}
		inventories := map[string]*inventory.Inventory{
			"without holders": open(t, "netlink"),
			"with holders":    open(t, "netlink", func(o *inventory.Options) { o.Holders = true }),
			"with a registry": open(t, "netlink", func(o *inventory.Options) { o.Holders, o.RegistryFiles = true, []string{file} }),
		}
		few := make(map[string]float64)
		listeners := 0
		for _, many := range []int{100, 10_000} {
			for ; listeners < many; listeners++ {
				proto := []string{"tcp", "udp"}[listeners%5/4]
				fd, err := netnstest.Listen(proto, fmt.Sprintf("127.0.0.1:%d", 10_000+listeners))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = unix.Close(fd) })
			}
			for name, i := range inventories {
				if _, found := read(t, i); len(found) != many {
					t.Fatalf("%s: %d listeners, want %d", name, len(found), many)
				}
				read(t, i) // to know the holders of the new ones
				least := least(func() { i.Snapshot(t.Context()) })
				if t.Logf("%s: %.0f allocations for %d listeners", name, least, many); many == 100 {
					few[name] = least
				} else if least > few[name] {
					t.Errorf("%s: %.0f allocations for %d listeners, %.0f for 100: want the same", name, least, many, few[name])
				}
			}
		}
	})
}

// least returns the fewest allocations of a call among many: what goes on in the background allocates too, but rests most of the time.
func least(do func()) float64 {
	least := testing.AllocsPerRun(1, do)
	for range 50 {
		least = min(least, testing.AllocsPerRun(1, do))
	}
	return least
}
