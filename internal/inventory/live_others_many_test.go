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

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// namespacesVariable says "full" for as many namespaces, and as many sockets in one, as the product promises. Without it there
// are fewer.
const namespacesVariable = "LISTEN_EXPORTER_NAMESPACES"

// crowd is how many namespaces there are, and how many sockets one of them has.
type crowd struct {
	namespaces int
	holders    int // of the sockets of the one: a process has 20 000 descriptors at most
	each       int // connections of each, of two sockets
}

func newCrowd() crowd {
	if os.Getenv(namespacesVariable) == "full" {
		return crowd{namespaces: 300, holders: 6, each: 8_400}
	}
	return crowd{namespaces: 70, holders: 1, each: 2_500}
}

// mainPorts are what the main namespace listens on in these tests, and bigPort what the one with many sockets does.
const (
	mainPorts = 3
	bigPort   = 7000
)

func holdCrowd(t *testing.T) {
	c := newCrowd()
	elsewhere(t, "", func() error { // first, as the holders run it too
		netnstest.HoldInside(t, c.holders, func(number int) {
			if number == 0 {
				if _, err := netnstest.Listen("tcp", fmt.Sprintf("0.0.0.0:%d", bigPort)); err != nil {
					t.Fatal(err)
				}
			}
			if err := netnstest.ConnectMany(fmt.Sprintf("127.0.0.%d", 1+number), c.each); err != nil {
				t.Fatal(err)
			}
		})
		return nil
	})
	for n := range mainPorts {
		listen(t, "tcp", fmt.Sprintf("0.0.0.0:%d", 22+n))
	}
	for range c.namespaces - 1 {
		pod(t, 80, 8080)
	}
}

func TestOneHugeNamespaceAmongVeryManyKeepsNobodyWaiting(t *testing.T) {
	netnstest.RunAsHostAndNobody(t, holdCrowd, func(t *testing.T) {
		eachWay(t, func(t *testing.T, source string) {
			c := newCrowd()
			i := openAll(t, source)
			counts := func(s *inventory.Snapshot) (main, pods, big int) {
				for _, l := range s.Listeners {
					switch {
					case l.Netns == "":
						main++
					case l.Addr.Port() == 80, l.Addr.Port() == 8080:
						pods++
					case l.Addr.Port() == bigPort:
						big++
					}
				}
				return main, pods, big
			}
			var longest, later time.Duration
			snapshots, reads := 0, 0
			for start := time.Now(); ; snapshots++ {
				before := time.Now()
				s, _ := read(t, i)
				took := time.Since(before)
				longest = max(longest, took)
				if snapshots > 0 {
					later = max(later, took)
				}
				main, pods, big := counts(s)
				if main != mainPorts {
					t.Fatalf("snapshot %d: %d listeners in the main namespace, want %d", snapshots, main, mainPorts)
				}
				if s.Namespaces != 1+c.namespaces {
					t.Fatalf("snapshot %d: %d namespaces, want %d", snapshots, s.Namespaces, 1+c.namespaces)
				}
				reads += s.Namespaces - 1 - s.NamespacesOmitted
				if pods == 2*(c.namespaces-1) && big == 1 {
					break
				}
				if time.Since(start) > time.Minute {
					t.Fatalf("after %d snapshots %d listeners of pods and %d of the huge one, want %d and 1", snapshots, pods, big, 2*(c.namespaces-1))
				}
			}
			all := snapshots + 1
			// From then on each is there always.
			for range 10 {
				before := time.Now()
				s, _ := read(t, i)
				later = max(later, time.Since(before))
				snapshots++
				reads += s.Namespaces - 1 - s.NamespacesOmitted
				if main, pods, big := counts(s); main != mainPorts || pods != 2*(c.namespaces-1) || big != 1 {
					t.Errorf("snapshot %d: %d listeners in the main namespace, %d of pods, %d of the huge one", snapshots, main, pods, big)
				}
			}
			t.Logf("all listeners there after %d snapshots; the first or longest took %s, any later one %s at most; %d namespaces read in %d snapshots",
				all, longest.Round(time.Millisecond), later.Round(time.Millisecond), reads, snapshots+1)
			if later > 3*time.Second {
				t.Errorf("a snapshot took %s", later)
			}
		})
	})
}

// comeAndGoElsewhere makes a namespace with a listener after the other, without end, as fast as a thread can.
func comeAndGoElsewhere() error {
	runtime.LockOSThread()
	for n := 0; ; n++ {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		fd, err := netnstest.Listen("tcp", "0.0.0.0:9000")
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

// within tells whether u is hardly more than before: namespaces that are there for the moment have descriptors, and the Go
// runtime starts threads when it likes.
func (u used) within(before used) bool {
	return u.descriptors <= before.descriptors+20 && u.threads <= before.threads+10 && u.goroutines <= before.goroutines+2
}

func TestNamespacesThatComeAndGoDisturbNothing(t *testing.T) {
	netnstest.RunAsHostAndNobody(t, func(t *testing.T) {
		netnstest.HoldInside(t, 2, func(int) {
			go func() { panic(comeAndGoElsewhere()) }()
		})
		listen(t, "tcp", "0.0.0.0:22")
		for range 5 {
			pod(t, 80)
		}
	}, func(t *testing.T) {
		eachWay(t, func(t *testing.T, source string) {
			i := openAll(t, source)
			stable := func(s *inventory.Snapshot) (stable, fleeting int) {
				for _, l := range s.Listeners {
					switch l.Addr.Port() {
					case 22, 80:
						stable++
					case 9000:
						fleeting++
					}
				}
				return stable, fleeting
			}
			for start := time.Now(); ; {
				s, _ := read(t, i)
				if found, _ := stable(s); found == 6 {
					break
				}
				if time.Since(start) > 30*time.Second {
					t.Fatalf("after 30 s: %v", s.Listeners)
				}
			}
			before := usedNow(t)
			names := make(map[string]bool)
			fleeting := 0
			for start, n := time.Now(), 0; n < 100 || time.Since(start) < 2*time.Second; n++ {
				s, _ := read(t, i)
				found, others := stable(s)
				if found != 6 {
					t.Errorf("snapshot %d: %d of 6 stable listeners", n, found)
				}
				fleeting += others
				for _, l := range s.Listeners {
					names[l.Netns] = true
				}
				if len(s.Listeners) != found+others {
					t.Errorf("snapshot %d has %v", n, s.Listeners)
				}
			}
			t.Logf("%d times a listener of one that came and went, in %d namespaces", fleeting, len(names)-6)
			if fleeting == 0 {
				t.Error("none of those that came and went was ever seen")
			}
			var after used
			for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
				read(t, i) // closes what the one before had use of
				if after = usedNow(t); after.within(before) {
					return
				}
			}
			t.Errorf("descriptors, threads and goroutines: %+v, before it was %+v", after, before)
		})
	})
}
