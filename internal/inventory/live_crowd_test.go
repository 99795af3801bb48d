//go:build linux

package inventory_test

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// namespacesVariable says "full" for as many namespaces, and as many sockets in one of them, as the product promises. Without it
// there are fewer.
const namespacesVariable = "LISTEN_EXPORTER_NAMESPACES"

// crowdSize returns how many namespaces there are, how many processes hold the sockets of one of them, as a process has at most
// 20 000 descriptors, and how many connections each of those has, of two sockets.
func crowdSize() (namespaces, holders, each int) {
	if os.Getenv(namespacesVariable) == "full" {
		return 300, 6, 8_400
	}
	return 70, 1, 2_500
}

// The ports of the main namespace, of the namespace with many sockets, of the pods, and of the namespaces that come and go.
const (
	mainPort     = 22
	bigPort      = 7000
	podPorts     = 80
	fleetingPort = 9000
)

func holdCrowd(t *testing.T) {
	namespaces, holders, each := crowdSize()
	elsewhere(t, "", func() error { // first, as the holders run it too
		netnstest.HoldInside(t, holders+2, func(number int) {
			if number >= holders {
				go func() { panic(comeAndGoElsewhere()) }()
				return
			}
			if number == 0 {
				if _, err := netnstest.Listen("tcp", fmt.Sprintf("0.0.0.0:%d", bigPort)); err != nil {
					t.Fatal(err)
				}
			}
			if err := netnstest.ConnectMany(fmt.Sprintf("127.0.0.%d", 1+number), each); err != nil {
				t.Fatal(err)
			}
		})
		return nil
	})
	listen(t, "tcp", fmt.Sprintf("0.0.0.0:%d", mainPort))
	for range namespaces - 1 {
		pod(t, podPorts)
	}
}

// comeAndGoElsewhere makes one namespace with a listener after the other, without end, as fast as a thread can.
func comeAndGoElsewhere() error {
	runtime.LockOSThread()
	for n := 0; ; n++ {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		fd, err := netnstest.Listen("tcp", fmt.Sprintf("0.0.0.0:%d", fleetingPort))
		if err != nil {
			return err
		}
		file := os.NewFile(uintptr(fd), "socket")
		cmd := exec.Command("sleep", strconv.FormatFloat(float64(n%4)/100, 'f', -1, 64))
		cmd.ExtraFiles = []*os.File{file}
		err = cmd.Run()
		_ = file.Close()
		if err != nil {
			return err
		}
	}
}

// used is what a process has of what can leak.
type used struct{ descriptors, threads, goroutines int }

func usedNow(t *testing.T) used {
	t.Helper()
	entries := func(directory string) int {
		names, err := os.ReadDir(directory)
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	return used{entries("/proc/self/fd"), entries("/proc/self/task"), runtime.NumGoroutine()}
}

// within reports whether u is hardly more than before: namespaces that are there for the moment have descriptors, and the Go
// runtime starts threads when it likes.
func (u used) within(before used) bool {
	return u.descriptors <= before.descriptors+20 && u.threads <= before.threads+10 && u.goroutines <= before.goroutines+2
}

// One namespace has very many sockets, and others come and go as fast as they can.
func TestACrowdOfNamespacesKeepsNobodyWaitingAndHidesNone(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some 10 s. The rounds' own tests show the same by a clock")
	}
	netnstest.RunAsHostAndNobody(t, holdCrowd, func(t *testing.T) {
		eachWay(t, func(t *testing.T, source string) {
			namespaces, _, _ := crowdSize()
			pods := namespaces - 1
			i := openAll(t, source)
			var later time.Duration // the longest snapshot but the first
			passing := 0            // namespaces that came and went, in all snapshots
			take := func(n int) map[uint16]int {
				start := time.Now()
				s, _ := read(t, i)
				if n > 0 {
					later = max(later, time.Since(start))
				}
				ports := make(map[uint16]int) // how many listeners each has
				for _, l := range s.Listeners {
					ports[l.Addr.Port()]++
				}
				passing += s.Namespaces - 1 - namespaces
				if ports[mainPort] != 1 {
					t.Fatalf("snapshot %d lacks the listener of the main namespace", n)
				}
				return ports
			}
			n := 0
			for start := time.Now(); ; n++ {
				if ports := take(n); ports[podPorts] == pods && ports[bigPort] == 1 {
					break
				} else if time.Since(start) > time.Minute {
					t.Fatalf("after %d snapshots %d of %d pods and %d of the huge namespace", n, ports[podPorts], pods, ports[bigPort])
				}
			}
			all, before := n, usedNow(t)
			for start := time.Now(); n < all+20 || time.Since(start) < 2*time.Second; n++ {
				ports := take(n + 1)
				if ports[podPorts] != pods || ports[bigPort] != 1 {
					t.Errorf("snapshot %d: %d of %d pods and %d of the huge namespace", n, ports[podPorts], pods, ports[bigPort])
				}
			}
			t.Logf("all listeners were there after %d snapshots; any but the first took at most %s; %d times a namespace that came and went was found",
				all, later.Round(time.Millisecond), passing)
			if later > 3*time.Second || passing == 0 {
				t.Errorf("a snapshot took %s, and %d times a namespace that came and went was found", later, passing)
			}
			for deadline := time.Now().Add(10 * time.Second); !usedNow(t).within(before); time.Sleep(50 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("descriptors, threads and goroutines: %+v, before it was %+v", usedNow(t), before)
				}
				read(t, i) // closes what the one before used
			}
		})
	})
}
