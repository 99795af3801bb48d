//go:build linux

package socket

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/ports"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// setSysctls sets portRangeFiles of the network namespace that the calling thread is in.
func setSysctls(texts [len(portRangeFiles)]string) error {
	for i, name := range portRangeFiles {
		f, err := os.OpenFile(filepath.Join("/proc/sys/net/ipv4", name), os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(texts[i])
		_ = f.Close()
		if err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

func wantRanges(t *testing.T, s Source, want PortRanges) {
	t.Helper()
	got, err := s.PortRanges()
	if err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("port ranges by %s (-want +got):\n%s", s.Name(), diff)
	}
}

func TestPortRangesAreThoseThatTheKernelHas(t *testing.T) {
	// As many as the kernel takes at once, which is a page. Their text is longer than what is read at first.
	var many ports.Set
	for port := uint16(8125); len(many.String()) < 4000; port += 3 {
		many = append(many, ports.Range{First: port, Last: port + 1})
	}
	for _, test := range []struct {
		name  string
		texts [len(portRangeFiles)]string
		want  PortRanges
	}{
		{"few", [...]string{"80", "1025 65534", "8125,9000-9010,0"}, PortRanges{80, 1025, 65534, ports.Set{{First: 0, Last: 0}, {First: 8125, Last: 8125}, {First: 9000, Last: 9010}}}},
		{"many", [...]string{"0", "1024 65535", many.String()}, PortRanges{0, 1024, 65535, many}},
		{"all", [...]string{"1024", "1024 65535", "0-65535"}, PortRanges{1024, 1024, 65535, ports.Set{{First: 0, Last: 65535}}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			netnstest.RunAsRootAndNobody(t, func(t *testing.T) {
				wantRanges(t, liveNetlink(t), defaultPortRanges)
				if err := setSysctls(test.texts); err != nil {
					t.Fatal(err)
				}
			}, func(t *testing.T) {
				wantRanges(t, liveNetlink(t), test.want)
				wantRanges(t, NewProcfs("/proc/self", "/proc"), test.want)
			})
		})
	}
}

// A socket of a client never gets a reserved port: what is open there was asked for.
func TestTheKernelGivesNoReservedPortToAClient(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		if err := setSysctls([...]string{"1024", "9000 9010", "9001-9009"}); err != nil {
			t.Fatal(err)
		}
		n := liveNetlink(t)
		for range 2 {
			openedSocket{address: "0.0.0.0:0"}.open(t, UDP)
		}
		ranges, err := n.PortRanges()
		for _, s := range readLive(t, n, UDP) {
			if port := s.Addr.Port(); err != nil || ranges.Reserved.Contains(port) || port < 9000 || port > 9010 {
				t.Errorf("a client has port %d of %v, %v", port, ranges, err)
			}
		}
	})
}

// The sysctls that a path shows are those of the thread that opens it.
func TestANamespaceThatIsEnteredHasItsOwnPortRanges(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		if err := setSysctls([...]string{"80", "2000 3000", "2500"}); err != nil {
			t.Fatal(err)
		}
		own := liveNetlink(t)
		numbers := make(map[uint64]PortRanges)
		for first := 10_000; first < 13_000; first += 1000 {
			texts := [...]string{"443", fmt.Sprintf("%d %d", first, first+500), fmt.Sprint(first + 7)}
			process := settle(t, 80, "", func() error { return setSysctls(texts) })
			numbers[process.inode(t)] = PortRanges{443, first, first + 500, ports.Set{{First: uint16(first + 7), Last: uint16(first + 7)}}}
		}
		for source, entered := range map[string]bool{"auto": true, "procfs": false} {
			n, _ := openNamespaces(t, source)
			found := find(t, n)
			before := descriptors(t)
			for round := range 3 {
				for number, want := range numbers {
					if !entered {
						want = defaultPortRanges
					}
					namespace := found[number]
					wantRanges(t, namespace.Source, want)
					namespace.wantListener(t, 80)
					wantRanges(t, namespace.Source, want)
					namespace.Leave()
				}
				if after := descriptors(t); after > before { // the test itself may close one meanwhile
					t.Errorf("%s, round %d: %d descriptors, before %d", source, round, after, before)
				}
			}
			wantRanges(t, own, PortRanges{80, 2000, 3000, ports.Set{{First: 2500, Last: 2500}}})
		}
	})
}

// Which sysctls a namespace has says nothing about whether it can be read.
func TestANamespaceWhoseSysctlsCannotBeReadHasTheKernelsDefaults(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		process := settle(t, 80, "", func() error { return setSysctls([...]string{"443", "10000 11000", "10007"}) })
		n, _ := openNamespaces(t, "auto")
		namespace := find(t, n)[process.inode(t)]
		if err := unix.Mount("none", "/proc/sys", "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		if got, err := namespace.Source.PortRanges(); err == nil || !cmp.Equal(got, defaultPortRanges) {
			t.Errorf("got %v, %v, want an error and the kernel's defaults", got, err)
		}
		namespace.wantListener(t, 80)
	})
}
