//go:build linux

package inventory_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// openAll returns an inventory of all the network namespaces of the test's own host.
func openAll(t *testing.T, source string) *inventory.Inventory {
	t.Helper()
	return open(t, source, func(o *inventory.Options) { o.Netns = "all" })
}

// eachWay runs a test once for each way of reading other namespaces: through netlink and through procfs. Nobody has the latter
// alone.
func eachWay(t *testing.T, body func(t *testing.T, source string)) {
	t.Helper()
	sources := []string{"auto", "procfs"}
	if os.Geteuid() != 0 {
		sources = sources[:1]
	}
	for _, source := range sources {
		t.Run("by_"+source, func(t *testing.T) { body(t, source) })
	}
}

// elsewhere calls do in a fresh network namespace, or in that with a path.
func elsewhere(t *testing.T, path string, do func() error) {
	t.Helper()
	if err := netnstest.Elsewhere(path, do); err != nil {
		t.Fatal(err)
	}
}

// sleeper starts a process in the network namespace of the calling thread, and hands sockets over to it. It lives as long as the
// test or until it is killed.
func sleeper(t *testing.T, sockets ...int) (*exec.Cmd, error) {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	for _, fd := range sockets {
		file := os.NewFile(uintptr(fd), "socket")
		defer file.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, file)
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	t.Cleanup(func() { kill(cmd) })
	return cmd, nil
}

// kill ends a process and waits for that. It may be called again.
func kill(cmd *exec.Cmd) {
	if cmd.ProcessState == nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// pod starts a process in a fresh network namespace that listens on TCP ports.
func pod(t *testing.T, ports ...int) *exec.Cmd {
	t.Helper()
	var cmd *exec.Cmd
	elsewhere(t, "", func() error {
		var sockets []int
		for _, port := range ports {
			fd, err := netnstest.Listen("tcp", fmt.Sprintf("0.0.0.0:%d", port))
			if err != nil {
				return err
			}
			sockets = append(sockets, fd)
		}
		var err error
		cmd, err = sleeper(t, sockets...)
		return err
	})
	return cmd
}

// podPort is a listener of a pod.
func podPort(netns string, port int) inventory.Key {
	ranged := inventory.Range("privileged")
	if port >= 1024 {
		ranged = "user"
	}
	k := key("tcp", fmt.Sprintf("0.0.0.0:%d", port), "any", ranged)
	k.Netns = netns
	return k
}

// nameOf returns the name of the namespace that a process lives in, if it has no other.
func nameOf(t *testing.T, pid int) string {
	t.Helper()
	return fmt.Sprintf("unknown-%d", inodeOf(t, pid))
}

// inodeOf returns the number of the namespace that a process lives in.
func inodeOf(t *testing.T, pid int) uint64 {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/net/tcp", pid), &stat); err != nil {
		t.Fatal(err)
	}
	return stat.Ino
}

// await takes snapshots until one has the listeners that are wanted. On a busy machine a round takes longer than a snapshot
// waits for its end.
func await(t *testing.T, i *inventory.Inventory, want count) *inventory.Snapshot {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		s, listeners := read(t, i)
		diff := cmp.Diff(want, counted(listeners), cmp.Comparer(sameAddress))
		if diff == "" {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("listeners (-opened +reported):\n%s", diff)
		}
	}
}

func ip(t *testing.T, arguments ...string) {
	t.Helper()
	if output, err := exec.Command("ip", arguments...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", strings.Join(arguments, " "), err, output)
	}
}

// namesVariable has the names of the namespaces in which openWorld's sockets are open, as nobody sees them. Root knows the last
// one as blue.
const namesVariable = "LISTEN_EXPORTER_NAMESPACE_NAMES"

// holdWorlds opens sockets of every kind in namespaces that have a name for each reason.
func holdWorlds(t *testing.T) {
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil { // where ip netns keeps its names
		t.Fatal(err)
	}
	openWorld(t)
	unique := fmt.Sprintf("%08x", uint32(time.Now().UnixNano()))
	uid := unique + "-1111-2222-3333-444444444444"
	id := func(c string) string { return unique + strings.Repeat(c, 56) }

	world := func(path string) (pid int) {
		elsewhere(t, path, func() error {
			netnstest.Configure(t)
			openWorld(t)
			cmd, err := sleeper(t)
			pid = cmd.Process.Pid
			return err
		})
		return pid
	}
	inCgroup := func(path string) (pid int) {
		cgroup := netnstest.NewCgroup(t, path) // before the process, which must have ended when it is removed
		pid = world("")
		cgroup.Add(t, pid)
		return pid
	}

	inCgroup("/kubepods/burstable/pod" + uid + "/" + id("a"))
	nested := inodeOf(t, inCgroup("/kubepods/burstable/pod"+uid+"/"+id("b")))
	inCgroup("/docker/" + id("c"))
	nameless := nameOf(t, world(""))
	ip(t, "netns", "add", "blue")
	blue := nameOf(t, world("/run/netns/blue"))
	t.Setenv(namesVariable, fmt.Sprintf("%s %s-%d %scccc %s %s", uid, uid, nested, unique, nameless, blue))
}

func TestEachNamespaceIsReportedOnceUnderItsName(t *testing.T) {
	netnstest.RunAsHostAndNobody(t, holdWorlds, func(t *testing.T) {
		asRoot, others := os.Geteuid() == 0, strings.Fields(os.Getenv(namesVariable))
		if asRoot {
			others[len(others)-1] = "blue"
		}
		want := expected()
		for key, sockets := range expected() {
			for _, key.Netns = range others {
				want[key] = sockets
			}
		}
		eachWay(t, func(t *testing.T, source string) {
			i := openAll(t, source)
			for range 3 {
				s := await(t, i, want)
				if s.Namespaces != 1+len(others) {
					t.Errorf("%d namespaces, want %d", s.Namespaces, 1+len(others))
				}
				for _, l := range s.Listeners {
					if byNetlink := source == "auto" && (asRoot || l.Netns == ""); l.Detailed != byNetlink {
						t.Fatalf("%v was read by netlink: %t, want %t", l.Key, l.Detailed, byNetlink)
					}
				}
			}
		})
	})
}

func TestNoNamespaceIsKeptFromItsEnd(t *testing.T) {
	eachWay(t, func(t *testing.T, source string) {
		netnstest.RunAsHost(t, func(t *testing.T) {
			i := openAll(t, source)
			for range 3 {
				ends, stays := pod(t, 80), pod(t, 81)
				gone, there := podPort(nameOf(t, ends.Process.Pid), 80), podPort(nameOf(t, stays.Process.Pid), 81)
				// Of a veth pair both ends go with the namespace of one.
				ip(t, "link", "add", "outside", "type", "veth", "peer", "name", "inside", "netns", strconv.Itoa(ends.Process.Pid))
				for range 5 {
					await(t, i, count{gone: 1, there: 1})
				}
				kill(ends)
				for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
					await(t, i, count{there: 1})
					if _, err := net.InterfaceByName("outside"); err != nil {
						break
					}
					if time.Now().After(deadline) {
						t.Fatal("the namespace is there still")
					}
				}
				kill(stays)
				await(t, i, count{})
			}
		})
	})
}

func TestWhatOpensInANamespaceAndWhatANewNamespaceListensOnIsNew(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		pid := pod(t, 80).Process.Pid
		name, path := nameOf(t, pid), fmt.Sprintf("/proc/%d/ns/net", pid)
		eachWay(t, func(t *testing.T, source string) {
			i := openAll(t, source)
			await(t, i, count{podPort(name, 80): 1})
			var fd int
			elsewhere(t, path, func() (err error) {
				fd, err = netnstest.Listen("tcp", "0.0.0.0:8000")
				return err
			})
			for range 10 {
				cmd := pod(t, 81) // it may get the number of the one before
				want := count{podPort(name, 80): 1, podPort(name, 8000): 1, podPort(nameOf(t, cmd.Process.Pid), 81): 1}
				for _, l := range await(t, i, want).Listeners {
					if isNew := l.Addr.Port() != 80; isNew == l.FirstSeen.IsZero() {
						t.Errorf("%v is new: %t, first seen: %s", l.Key, isNew, l.FirstSeen)
					}
				}
				kill(cmd)
				await(t, i, count{podPort(name, 80): 1, podPort(name, 8000): 1})
			}
			_ = unix.Close(fd)
			await(t, i, count{podPort(name, 80): 1})
		})
	})
}

func TestWherePID1LivesInAnotherNamespaceTheExportersOwnIsOneOfTheOthers(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		if os.Getpid() == 1 {
			listen(t, "tcp", "0.0.0.0:80")
		}
		netnstest.Hold(t, 0, func() {
			listen(t, "tcp", "0.0.0.0:81")
			own := nameOf(t, os.Getpid())
			for _, source := range []string{"auto", "procfs"} {
				i := openAll(t, source)
				for range 3 {
					s := await(t, i, count{podPort("", 80): 1, podPort(own, 81): 1})
					if s.Namespaces != 2 || s.Source != "procfs" {
						t.Errorf("%d namespaces, the main one by %s, want 2 and procfs", s.Namespaces, s.Source)
					}
				}
			}
		})
	})
}
