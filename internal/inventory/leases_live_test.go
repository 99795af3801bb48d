//go:build linux

package inventory_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

const liveRanges = `
services: [{name: web, port: 9001}]
reserved:
  - {team: ci, ports: 9000-9009, users: ["*"]}
  - {team: proxies, ports: 9010-9019, users: ["*"], any_user: true}
`

// tenant is a user who leases ports.
const tenant = 12345

// openLeased returns an inventory whose listeners are judged by the leases of a manager, which has its store in a file.
func openLeased(t *testing.T, source string) (*inventory.Inventory, *lease.Manager) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "ports.yml")
	if err := os.WriteFile(file, []byte(liveRanges), 0o600); err != nil {
		t.Fatal(err)
	}
	store, err := lease.OpenFile(filepath.Join(dir, "leases.db"), "web-1", lease.HostClock())
	if err != nil {
		t.Fatal(err)
	}
	manager, err := lease.NewManager(lease.Options{Store: store, Host: "web-1", MaxTTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	i := open(t, source, func(o *inventory.Options) {
		o.Leases, o.RegistryFiles, o.RegistryHost = manager, []string{file}, "web-1"
	})
	if !i.ObservesOwn() {
		t.Fatal("the namespace is not the exporter's own")
	}
	manager.Use(i.LeaseRules)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		manager.Run(t.Context())
	}()
	t.Cleanup(func() { <-ended })
	return i, manager
}

// heldFor has another program listen with sockets of users, on one address, and returns it.
func heldFor(t *testing.T, proto, address string, users ...int) *netnstest.Process {
	t.Helper()
	program := netnstest.Program{Name: "tenant"}
	for range users {
		fd, err := netnstest.Listen(proto, address, netnstest.ReusePort())
		if err != nil {
			t.Fatal(err)
		}
		program.Sockets = append(program.Sockets, fd)
	}
	for n, user := range users {
		if err := unix.Fchown(program.Sockets[n], user, user); err != nil {
			t.Fatal(err)
		}
	}
	return netnstest.HandOver(t, program)
}

// saidOf returns what is said of each listener, by its address.
func saidOf(s *inventory.Snapshot) map[string]string {
	said := make(map[string]string)
	for _, l := range s.Listeners {
		said[l.Proto+" "+l.Addr.String()] = l.State() + " " + l.Verdict.Service + " " + l.Verdict.Declared
	}
	return said
}

func TestRealSocketsAreJudgedByLeases(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		eachSource(t, func(t *testing.T, source string) {
			i, manager := openLeased(t, source)
			i.Snapshot(t.Context())
			take := func(r lease.Request) lease.Lease {
				t.Helper()
				r.UID = tenant
				l, _, err := manager.Take(t.Context(), r)
				if err != nil {
					t.Fatal(err)
				}
				return l
			}
			check := func(when string, want map[string]string) {
				t.Helper()
				got := saidOf(i.Snapshot(t.Context()))
				for end := time.Now().Add(time.Minute); !cmp.Equal(want, got) && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
					got = saidOf(i.Snapshot(t.Context()))
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", when, diff)
				}
			}
			preview := take(lease.Request{Team: "ci", Name: "preview", Count: 3})
			proxied := take(lease.Request{Team: "proxies", Name: "proxied"})
			any4 := func(port uint16) string { return fmt.Sprintf("0.0.0.0:%d", port) }
			brief := take(lease.Request{Team: "ci", Name: "brief", TTL: 3 * time.Second})
			over := heldFor(t, "tcp", any4(brief.Ports[0]), tenant) // before it expires
			heldFor(t, "tcp", any4(preview.Ports[0]), tenant)
			heldFor(t, "tcp", fmt.Sprintf("[::1]:%d", preview.Ports[1]), 0)
			both := heldFor(t, "tcp", any4(preview.Ports[2]), tenant, 0)
			heldFor(t, "tcp", any4(proxied.Ports[0]), 0)
			heldFor(t, "udp", any4(preview.Ports[0]), tenant)
			others := "reserved ci leased as preview by 12345, whose socket it is not"
			want := map[string]string{
				"tcp " + any4(preview.Ports[0]):               "leased preview ",
				"udp " + any4(preview.Ports[0]):               "reserved ci ",
				fmt.Sprintf("tcp [::1]:%d", preview.Ports[1]): others,
				"tcp " + any4(preview.Ports[2]):               others, // one of the sockets is root's
				"tcp " + any4(proxied.Ports[0]):               "leased proxied ",
				"tcp " + any4(brief.Ports[0]):                 "reserved ci leased as brief by 12345, whose lease has expired",
			}
			check("with leases, of which one is overstayed", want)
			s := i.Snapshot(t.Context())
			var leased []string
			for _, l := range s.Leases.Leases {
				leased = append(leased, fmt.Sprintf("%s %v %t", l.Name, l.Ports, l.Overstayed != 0))
			}
			t.Logf("leases: %v, teams %+v", leased, s.Leases.Teams)
			if len(leased) != 3 {
				t.Errorf("leases: %v", leased)
			}

			// It is removed when its port no longer listens.
			over.End(t)
			both.CloseSocket(t, 1)
			delete(want, "tcp "+any4(brief.Ports[0]))
			want["tcp "+any4(preview.Ports[2])] = "leased preview "
			check("without the socket of the overstayed lease", want)
			for end := time.Now().Add(time.Minute); len(manager.View().Leases) != 2 && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
				i.Snapshot(t.Context())
			}
			if n := len(manager.View().Leases); n != 2 {
				t.Errorf("%d leases where the port of a third no longer listens", n)
			}

			// A lease that is given back covers nothing.
			if _, err := manager.End(t.Context(), preview.ID, tenant); err != nil {
				t.Fatal(err)
			}
			for at := range want {
				want[at] = "reserved ci "
			}
			want["tcp "+any4(proxied.Ports[0])] = "leased proxied "
			check("after a lease was given back", want)
		})
	})
}
