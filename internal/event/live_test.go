//go:build linux

package event

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/socket"
	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// open opens a source that the test's end closes. Where the kernel or the rights do not let it, the test is skipped.
func open(t *testing.T) *Source {
	t.Helper()
	source, err := Open(func() (string, error) { return host.CgroupRoot(t), nil })
	if err != nil {
		t.Skipf("events cannot be had: %v", err)
	}
	t.Cleanup(func() {
		if err := source.Close(); err != nil {
			t.Error(err)
		}
	})
	return source
}

// ownNetns returns the number of the network namespace of the calling thread.
func ownNetns(t *testing.T) uint32 {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &stat); err != nil {
		t.Fatal(err)
	}
	return uint32(stat.Ino)
}

// watcher reads the events of one namespace: those of the machine's other processes are in the same ring.
type watcher struct {
	source *Source
	netns  uint32
	ended  chan struct{}

	mu      sync.Mutex
	events  []Event
	flushed chan struct{}
}

// watch reads the source in a goroutine until it is closed.
func watch(t *testing.T, source *Source, netns uint32) *watcher {
	t.Helper()
	w := &watcher{source: source, netns: netns, flushed: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(w.ended)
		var buffer []Event
		for {
			var err error
			buffer, err = source.Read(buffer[:0])
			w.mu.Lock()
			for _, e := range buffer {
				if e.Netns == netns {
					w.events = append(w.events, e)
				}
			}
			w.mu.Unlock()
			switch {
			case errors.Is(err, ErrFlushed):
				w.flushed <- struct{}{}
			case errors.Is(err, os.ErrClosed):
				return
			case err != nil:
				t.Errorf("read: %v", err)
				return
			}
		}
	}()
	return w
}

// take returns the events since the last call.
func (w *watcher) take() []Event {
	w.source.Flush()
	select {
	case <-w.flushed:
	case <-w.ended:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	events := w.events
	w.events = nil
	return events
}

func listen(t *testing.T, proto, address string, options ...netnstest.Option) (fd int) {
	t.Helper()
	fd, err := netnstest.Listen(proto, address, options...)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// closeFD closes a descriptor: unlike os.File it has no finalizer that does so before.
func closeFD(t *testing.T, fd int) {
	t.Helper()
	if err := unix.Close(fd); err != nil {
		t.Fatal(err)
	}
}

func index(t *testing.T, device string) uint32 {
	t.Helper()
	found, err := net.InterfaceByName(device)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(found.Index)
}

// sinceBoot is the clock of the events.
func sinceBoot(t *testing.T) time.Duration {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		t.Fatal(err)
	}
	return time.Duration(now.Nano())
}

func TestEachListenerIsReportedWhenItOpensAndCloses(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		source := open(t)
		netns := ownNetns(t)
		w := watch(t, source, netns)
		for name, test := range map[string]struct {
			proto, address string
			options        []netnstest.Option
			device         string
		}{
			"v4":               {proto: "tcp", address: "0.0.0.0:80"},
			"v4 loopback":      {proto: "tcp", address: "127.0.0.1:80"},
			"v6":               {proto: "tcp", address: "[fd00::1]:80"},
			"dual-stack":       {proto: "tcp", address: "[::]:80"},
			"v6 only":          {proto: "tcp", address: "[::]:80", options: []netnstest.Option{netnstest.IPv6Only()}},
			"v4-mapped":        {proto: "tcp", address: "[::ffff:127.0.0.1]:80"},
			"device":           {proto: "tcp", address: "0.0.0.0:80", options: []netnstest.Option{netnstest.ToDevice(netnstest.Device)}, device: netnstest.Device},
			"link-local":       {proto: "tcp", address: "[fe80::1%" + netnstest.Device + "]:80", device: netnstest.Device},
			"UDP v4":           {proto: "udp", address: "0.0.0.0:53"},
			"UDP v4 specific":  {proto: "udp", address: "10.0.0.1:53"},
			"UDP v6":           {proto: "udp", address: "[fd00::1]:53"},
			"UDP dual-stack":   {proto: "udp", address: "[::]:53"},
			"UDP v4-mapped":    {proto: "udp", address: "[::ffff:127.0.0.1]:53"},
			"UDP device":       {proto: "udp", address: "[::]:53", options: []netnstest.Option{netnstest.ToDevice(netnstest.Device)}, device: netnstest.Device},
			"TCP bound to any": {proto: "tcp", address: "0.0.0.0:0"},
		} {
			t.Run(name, func(t *testing.T) {
				if test.proto == "udp" && source.WithoutUDP() != nil {
					t.Skip(source.WithoutUDP())
				}
				before := sinceBoot(t)
				fd := listen(t, test.proto, test.address, test.options...)
				between := sinceBoot(t)
				local := localEnd(t, fd)
				closeFD(t, fd)
				after := sinceBoot(t)
				want := Event{
					Kind:  Opened,
					Place: Place{Proto: socket.TCP, Netns: netns, Addr: local},
					PID:   uint32(os.Getpid()), Comm: netnstest.OwnName(t),
				}
				if test.proto == "udp" {
					want.Proto = socket.UDP
				}
				if test.device != "" {
					want.Interface = index(t, test.device)
				}
				closed := want
				closed.Kind = Closed
				got := w.take()
				if diff := cmp.Diff([]Event{want, closed}, got, cmpopts.EquateComparable(netip.AddrPort{}),
					cmpopts.IgnoreFields(Event{}, "Time", "Opened", "Cgroup")); diff != "" {
					t.Fatalf("-want +got:\n%s", diff)
				}
				opened, end := got[0], got[1]
				if opened.Time < before || opened.Time > between || end.Opened != opened.Time || end.Time < between || end.Time > after {
					t.Errorf("opened at %v, want %v to %v; closed at %v, want up to %v, and opened at %v", opened.Time, before, between, end.Time,
						after, end.Opened)
				}
				if opened.Cgroup == 0 || end.Cgroup != opened.Cgroup {
					t.Errorf("cgroups %d and %d", opened.Cgroup, end.Cgroup)
				}
			})
		}
	})
}

// localEnd returns the address of a socket, without a zone.
func localEnd(t *testing.T, fd int) netip.AddrPort {
	t.Helper()
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(name.Addr), uint16(name.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(name.Addr), uint16(name.Port))
	}
	t.Fatalf("a socket of %T", name)
	return netip.AddrPort{}
}

// kinds are the events in short.
func kinds(events []Event) []string {
	var short []string
	for _, e := range events {
		short = append(short, e.Kind.String()+" "+e.Proto.String()+" "+e.Addr.String())
	}
	return short
}

func TestWhatIsNoListenerOrWasOneBeforeIsReportedAsSuch(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		before := listen(t, "tcp", "127.0.0.1:81")
		source := open(t)
		w := watch(t, source, ownNetns(t))

		closeFD(t, before)
		got := w.take()
		if !slices.Equal(kinds(got), []string{"closed tcp 127.0.0.1:81"}) || got[0].Opened != 0 || got[0].PID != 0 || got[0].Comm != "" {
			t.Errorf("a listener that was there before: %+v", got)
		}

		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.Listen(fd, 1)
		}
		if err != nil {
			t.Fatal(err)
		}
		chosen := localEnd(t, fd).String()
		closeFD(t, fd)
		if got := kinds(w.take()); !slices.Equal(got, []string{"opened tcp " + chosen, "closed tcp " + chosen}) {
			t.Errorf("a listener without a bind(): %q", got)
		}

		bound, err := netnstest.Bind("tcp", "127.0.0.1:82")
		if err != nil {
			t.Fatal(err)
		}
		closeFD(t, bound)
		if got := w.take(); len(got) != 0 {
			t.Errorf("a socket that is only bound: %+v", got)
		}

		first := listen(t, "tcp", "127.0.0.1:83", netnstest.ReusePort())
		second := listen(t, "tcp", "127.0.0.1:83", netnstest.ReusePort())
		if err := unix.Listen(first, 7); err != nil { // only another backlog
			t.Fatal(err)
		}
		same, err := unix.Dup(second)
		if err != nil {
			t.Fatal(err)
		}
		closeFD(t, second)
		const opened, closed = "opened tcp 127.0.0.1:83", "closed tcp 127.0.0.1:83"
		if got := kinds(w.take()); !slices.Equal(got, []string{opened, opened}) {
			t.Errorf("two listeners that share a port: %q", got)
		}
		closeFD(t, same)
		closeFD(t, first)
		if got := kinds(w.take()); !slices.Equal(got, []string{closed, closed}) {
			t.Errorf("their ends: %q", got)
		}

		if err := netnstest.ConnectMany("127.0.0.1", 3); err != nil {
			t.Fatal(err)
		}
		got = w.take()
		if len(got) != 1 || got[0].Kind != Opened {
			t.Errorf("a listener with three connections: %q", kinds(got))
		}
	})
}

func TestAListenerHasTheNumberOfItsNamespace(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		source := open(t)
		var elsewhere uint32
		var fd int
		if err := netnstest.Elsewhere("", func() (err error) {
			elsewhere = ownNetns(t)
			fd, err = netnstest.Listen("tcp", "127.0.0.1:84")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		w := watch(t, source, elsewhere)
		closeFD(t, fd)
		if got := kinds(w.take()); !slices.Equal(got, []string{"opened tcp 127.0.0.1:84", "closed tcp 127.0.0.1:84"}) {
			t.Errorf("got %q", got)
		}
		if elsewhere == ownNetns(t) {
			t.Error("both namespaces have one number")
		}
	})
}

func TestCloseEndsReadAndLeavesNothingBehind(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		var descriptors, goroutines int
		for round := range 10 {
			source, err := Open(func() (string, error) { return host.CgroupRoot(t), nil })
			if err != nil {
				t.Skipf("events cannot be had: %v", err)
			}
			w := watch(t, source, ownNetns(t))
			if err := errors.Join(source.Close(), source.Close()); err != nil {
				t.Fatal(err)
			}
			select {
			case <-w.ended:
			case <-time.After(time.Minute):
				t.Fatal("Read goes on after Close")
			}
			_, lost := source.Lost()
			for _, err := range []error{
				lost, source.Watch(Place{}, 1), source.Forget(Place{}), source.Connections(func(Place, Connections) {}),
			} {
				if !errors.Is(err, os.ErrClosed) {
					t.Errorf("after Close: %v", err)
				}
			}
			source.Flush()
			runtime.GC()
			open, err := os.ReadDir("/proc/self/fd")
			if err != nil {
				t.Fatal(err)
			}
			if round == 1 {
				descriptors, goroutines = len(open), runtime.NumGoroutine()
			} else if round > 1 && (len(open) > descriptors || runtime.NumGoroutine() > goroutines) {
				t.Fatalf("round %d: %d descriptors and %d goroutines, want at most %d and %d", round, len(open), runtime.NumGoroutine(),
					descriptors, goroutines)
			}
		}
	})
}

func TestTheCgroupIsThatOfTheProcess(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		source := open(t)
		w := watch(t, source, ownNetns(t))
		cgroup := netnstest.NewCgroup(t, "opens.service")
		closeFD(t, cgroup.Listen(t, "tcp", "127.0.0.1:85"))
		got := w.take()
		if len(got) != 2 || got[0].Cgroup != cgroup.ID || got[1].Cgroup != cgroup.ID {
			t.Errorf("got %+v, want the cgroup %d", got, cgroup.ID)
		}
	})
}

func TestTheHooksHaveAName(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		source := open(t)
		if err := source.WithoutUDP(); err != nil && strings.Count(err.Error(), "\n") > 0 {
			t.Errorf("more than a line: %v", err)
		}
		if hooks := source.Hooks(); hooks != hooksFunctions && hooks != hooksTracepoint {
			t.Errorf("hooks %q", hooks)
		}
		t.Logf("hooks: %s; without UDP: %v", source.Hooks(), source.WithoutUDP())
	})
}
