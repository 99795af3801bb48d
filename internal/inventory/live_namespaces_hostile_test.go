//go:build linux

package inventory_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

func TestNoTwoLiveNamespacesHaveTheSameName(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil { // where ip netns keeps its names
			t.Fatal(err)
		}
		inside := func(name string) (pid int) {
			ip(t, "netns", "add", name)
			elsewhere(t, "/run/netns/"+name, func() error {
				netnstest.Configure(t)
				fd, err := netnstest.Listen("tcp", "0.0.0.0:80")
				if err != nil {
					return err
				}
				cmd, err := sleeper(t, fd)
				if err == nil {
					pid = cmd.Process.Pid
				}
				return err
			})
			return pid
		}
		inside("x\xfe") // both are shown as x and a replacement character
		second := inodeOf(t, inside("x\xff"))
		inside(fmt.Sprintf("x\uFFFD-%d", second))
		nameless := nameOf(t, pod(t, 80).Process.Pid)
		inside(nameless)
		eachWay(t, func(t *testing.T, source string) {
			i := openAll(t, source)
			first := make(map[string]bool)
			for round := range 5 {
				_, listeners := read(t, i) // none is in it twice
				if len(listeners) != 5 {
					t.Fatalf("%d listeners, want 5: %v", len(listeners), listeners)
				}
				for key := range listeners {
					if round == 0 {
						first[key.Netns] = true
					} else if !first[key.Netns] {
						t.Errorf("a namespace is called %q now, and the names were %v", key.Netns, first)
					}
				}
			}
		})
	})
}

func TestAHostileNamespaceDoesNotHideTheOthers(t *testing.T) {
	const variable = "LISTEN_EXPORTER_TEST_POD"
	netnstest.RunAsHostAndNobody(t, func(t *testing.T) {
		t.Setenv(variable, strconv.Itoa(pod(t, 80).Process.Pid))
	}, func(t *testing.T) {
		good, err := strconv.Atoi(os.Getenv(variable))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{"net/tcp", "net/udp6", "stat", "cgroup", "ns/net"} {
			for _, source := range []string{"auto", "procfs"} {
				t.Run(strings.ReplaceAll(file, "/", "_")+"_by_"+source, func(t *testing.T) {
					procfs := procfsOf(t, 1)
					hostile := filepath.Join(procfs, "40000")
					if err := errors.Join(
						os.MkdirAll(filepath.Join(hostile, "net"), 0o755), os.Mkdir(filepath.Join(hostile, "ns"), 0o755),
						os.WriteFile(filepath.Join(hostile, "net/tcp"), nil, 0o644),
						os.WriteFile(filepath.Join(hostile, "stat"), []byte("40000 (x) S "+strings.Repeat("1 ", 40)), 0o644),
					); err != nil {
						t.Fatal(err)
					}
					_ = os.Remove(filepath.Join(hostile, file))
					if err := unix.Mkfifo(filepath.Join(hostile, file), 0o644); err != nil {
						t.Fatal(err)
					}
					i := open(t, source, func(o *inventory.Options) { o.Netns, o.Procfs = "all", procfs })
					start := time.Now()
					for range 3 {
						s := i.Snapshot(t.Context())
						if len(s.Listeners) != 1 || s.Listeners[0].Netns != nameOf(t, good) {
							t.Errorf("the listeners are %v, want that of the other namespace", s.Listeners)
						}
						for _, r := range s.Reads {
							named := r.Err != nil && strings.Contains(r.Err.Error(), "network namespace unknown-")
							if found := file != "stat"; r.Collector == inventory.CollectorNetns && named != found {
								t.Errorf("the error is %v, want one that names the namespace: %t", r.Err, found)
							}
						}
					}
					if took := time.Since(start); took > 4*time.Second { // a reading that hangs takes longer
						t.Errorf("three snapshots took %s", took)
					}
				})
			}
		}
	})
}
