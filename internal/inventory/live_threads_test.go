//go:build linux

package inventory_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// listenForGood opens a TCP port that stays open as long as the process lives.
func listenForGood(port int) error {
	_, err := netnstest.Listen("tcp", fmt.Sprintf("0.0.0.0:%d", port))
	return err
}

func TestANamespaceIsReportedAsLongAsAnyThreadIsInIt(t *testing.T) {
	netnstest.RunAsHostAndNobody(t, func(t *testing.T) {
		// One process has ended its first thread, and one of its other threads is in a namespace of its own.
		pid := netnstest.Hold(t, 0, func() {
			if err := listenForGood(80); err != nil {
				t.Fatal(err)
			}
			if _, _, err := netnstest.StayElsewhere(func() error { return listenForGood(81) }); err != nil {
				t.Fatal(err)
			}
			netnstest.EndFirstThread(t)
		})
		// A thread of a process whose first thread lives.
		alone, _, err := netnstest.StayElsewhere(func() error { return listenForGood(82) })
		if err != nil {
			t.Fatal(err)
		}
		names := make(map[uint64]bool)
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			var stat unix.Stat_t
			if err := unix.Stat(fmt.Sprintf("/proc/%d/task/%s/net/tcp", pid, task.Name()), &stat); err == nil {
				names[stat.Ino] = true
			}
		}
		var text []string
		for number := range names {
			text = append(text, fmt.Sprintf("unknown-%d", number))
		}
		if len(text) != 2 {
			t.Fatalf("its threads are in the namespaces %q, want two", text)
		}
		t.Setenv(namesVariable, strings.Join(append(text, fmt.Sprintf("unknown-%d", alone)), " "))
	}, func(t *testing.T) {
		names := strings.Fields(os.Getenv(namesVariable))
		eachWay(t, func(t *testing.T, source string) {
			i := openAll(t, source)
			var ports []int
			for range 3 {
				ports = nil
				s, listeners := read(t, i)
				for tries := 0; len(listeners) < 3 && tries < 100; tries++ {
					s, listeners = read(t, i)
				}
				for _, l := range s.Listeners {
					ports = append(ports, int(l.Addr.Port()))
					if at := strings.Index(strings.Join(names, " "), l.Netns); l.Netns == "" || at < 0 {
						t.Errorf("port %d is in %q, want one of %q", l.Addr.Port(), l.Netns, names)
					}
					if want := source == "auto" && os.Geteuid() == 0; l.Detailed != want {
						t.Errorf("port %d was read by netlink: %t, want %t", l.Addr.Port(), l.Detailed, want)
					}
				}
				if len(ports) != 3 {
					t.Fatalf("ports %v, want 80, 81 and 82", ports)
				}
			}
		})
	})
}

// procfsOf returns a procfs that shows what /proc shows, but for the process that is PID 1.
func procfsOf(t *testing.T, pid1 int) string {
	t.Helper()
	dir := host.OpenDir(t)
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		target := "/proc/" + entry.Name()
		if entry.Name() == "1" {
			target = fmt.Sprintf("/proc/%d", pid1)
		}
		if err := os.Symlink(target, filepath.Join(dir, entry.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestTheExportersOwnNamespaceIsReadByNetlinkAlsoIfItIsNotTheMainOne(t *testing.T) {
	const pidVariable = "LISTEN_EXPORTER_TEST_MAIN_PID"
	netnstest.RunAsHostAndNobody(t, func(t *testing.T) {
		pid := netnstest.Hold(t, 0, func() { listen(t, "tcp", "0.0.0.0:22") })
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("40000 50000"), 0); err != nil {
			t.Fatal(err)
		}
		serve(t, "demo", netnstest.NewCgroup(t, "demo.service"), 35000) // ephemeral by the kernel's default
		t.Setenv(pidVariable, strconv.Itoa(pid))
	}, func(t *testing.T) {
		pid, err := strconv.Atoi(os.Getenv(pidVariable))
		if err != nil {
			t.Fatal(err)
		}
		procfs := procfsOf(t, pid)
		own := nameOf(t, os.Getpid())
		for _, source := range []string{"auto", "procfs"} {
			t.Run("by_"+source, func(t *testing.T) {
				i := open(t, source, func(o *inventory.Options) { o.Netns, o.Procfs, o.Holders = "all", procfs, true })
				s := await(t, i, count{key("tcp", "0.0.0.0:22", "any", "privileged"): 1, podPort(own, 35000): 1})
				for _, l := range s.Listeners {
					if l.Netns == "" {
						continue
					}
					if want := source == "auto"; l.Detailed != want || want && l.AcceptQueueLimit != unix.SOMAXCONN {
						t.Errorf("read by netlink: %t, want %t; the limit is %d", l.Detailed, want, l.AcceptQueueLimit)
					}
					if byNobody := source == "procfs" && os.Geteuid() != 0; byNobody {
						continue
					}
					if len(l.Holders) != 1 || l.Holders[0].Process != "demo" || l.Holders[0].Unit != "demo.service" {
						t.Errorf("the holders are %+v, want demo of demo.service", l.Holders)
					}
				}
			})
		}
	})
}
