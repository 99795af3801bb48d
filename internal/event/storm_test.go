//go:build linux

package event

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

const (
	// stormListeners are opened by each storm, on ports of their own.
	stormListeners = 10_000
	stormPort      = 10_000
)

// storm opens and closes TCP listeners that live for up to a millisecond, with the ports from first to before end.
func storm(first, end int) error {
	for port := first; port < end; port++ {
		fd, err := netnstest.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return err
		}
		if port%2 == 0 { // the other ones are closed at once, after some 16 µs
			time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond)
		}
		if err := unix.Close(fd); err != nil {
			return err
		}
	}
	return nil
}

// checkStorm checks that each port was opened and closed once, by a process that may have it.
func checkStorm(t *testing.T, events []Event, comm string, may func(port, pid int) bool) {
	t.Helper()
	var seen [stormListeners][3]int
	bad := 0
	for _, e := range events {
		port := int(e.Addr.Port()) - stormPort
		if port < 0 || port >= stormListeners || e.Comm != comm || !may(port, int(e.PID)) || e.Kind == Closed && e.Opened == 0 {
			if bad++; bad < 10 {
				t.Errorf("unexpected: %+v", e)
			}
			continue
		}
		seen[port][e.Kind]++
	}
	lost := 0
	for _, n := range seen {
		if n != [3]int{0, 1, 1} {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d listeners were not reported once as opened and once as closed", lost, stormListeners)
	}
}

// lostIn returns what a source has lost.
func lostIn(t *testing.T, source *Source) uint64 {
	t.Helper()
	lost, err := source.Lost()
	if err != nil {
		t.Fatal(err)
	}
	return lost
}

func TestNoListenerEscapesHoweverShortItsLife(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		source := open(t)
		w := watch(t, source, ownNetns(t))
		start := time.Now()
		if err := storm(stormPort, stormPort+stormListeners); err != nil {
			t.Fatal(err)
		}
		took := time.Since(start)
		checkStorm(t, w.take(), netnstest.OwnName(t), func(_, pid int) bool { return pid == os.Getpid() })
		t.Logf("%d listeners in %v by %s, %d lost", stormListeners, took, source.Hooks(), lostIn(t, source))
	})
}

// stormDirectory holds the directory by which the processes of a storm start at once and report their end.
const stormDirectory = "LISTEN_EXPORTER_STORM"

func TestNoListenerEscapesOfManyProcesses(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		const processes, each = 8, stormListeners / 8
		var source *Source
		var w *watcher
		dir := os.Getenv(stormDirectory)
		if dir == "" {
			source = open(t)
			w = watch(t, source, ownNetns(t))
			dir = t.TempDir()
			t.Setenv(stormDirectory, dir)
		}
		netnstest.HoldInside(t, processes, func(number int) {
			go func() {
				for {
					if _, err := os.Stat(filepath.Join(dir, "go")); err == nil {
						break
					}
					time.Sleep(time.Millisecond)
				}
				result := strconv.Itoa(os.Getpid())
				if err := storm(stormPort+number*each, stormPort+(number+1)*each); err != nil {
					result = err.Error()
				}
				part := filepath.Join(dir, "part"+strconv.Itoa(number))
				_ = os.WriteFile(part, []byte(result), 0o600)
				_ = os.Rename(part, filepath.Join(dir, "done"+strconv.Itoa(number)))
			}()
		})
		if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		var pids [processes]int
		for number := range pids {
			var result []byte
			for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
				var err error
				if result, err = os.ReadFile(filepath.Join(dir, "done"+strconv.Itoa(number))); err == nil {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("process %d has not ended its part", number)
				}
			}
			var err error
			if pids[number], err = strconv.Atoi(string(result)); err != nil {
				t.Fatalf("process %d: %s", number, result)
			}
		}
		checkStorm(t, w.take(), netnstest.OwnName(t), func(port, pid int) bool { return pid == pids[port/each] })
		t.Logf("%d listeners of %d processes by %s, %d lost", stormListeners, processes, source.Hooks(), lostIn(t, source))
	})
}

func TestWhatIsLostIsCounted(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		source := open(t)
		const rounds = 2
		for range rounds {
			for port := stormPort; port < stormPort+stormListeners; port++ {
				fd, err := netnstest.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
				if err != nil {
					t.Fatal(err)
				}
				closeFD(t, fd)
			}
		}
		lost := lostIn(t, source)
		got := len(watch(t, source, ownNetns(t)).take())
		if want := rounds * 2 * stormListeners; got > want || got+int(lost) < want || got == 0 {
			t.Errorf("%d events read and %d lost, want at least %d together", got, lost, want)
		}
		t.Logf("%d events read, %d lost", got, lost)
	})
}
