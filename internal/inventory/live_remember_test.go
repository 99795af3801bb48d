//go:build linux

package inventory_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

func TestWhatHappensToRealPortsIsRemembered(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, nil, func(t *testing.T) {
		eachSource(t, func(t *testing.T, source string) {
			listen(t, "tcp", "127.0.0.1:7000") // stays
			fd, err := netnstest.Listen("tcp", "127.0.0.1:7001")
			if err != nil {
				t.Fatal(err)
			}
			i := open(t, source, func(o *inventory.Options) { o.SettledAfter, o.Remember = 0, time.Hour })
			begin := time.Now()
			read(t, i)
			_ = unix.Close(fd)
			s, _ := read(t, i)
			var gone []uint16
			for _, p := range s.Memory.Gone {
				gone = append(gone, p.Port)
				if p.Since.Before(begin.Add(-time.Second)) || p.Since.After(s.Time.Add(time.Second)) || p.Proto != inventory.TCP || !slices.Equal(p.Last.Addresses, []string{"127.0.0.1"}) {
					t.Errorf("%+v", p)
				}
			}
			if diff := cmp.Diff([]uint16{7001}, gone); diff != "" {
				t.Errorf("ports that are gone (-want +got):\n%s", diff)
			}
			for range 4 { // it restarts between two looks
				if fd, err = netnstest.Listen("tcp", "127.0.0.1:7001"); err != nil {
					t.Fatal(err)
				}
				s, _ = read(t, i)
				_ = unix.Close(fd)
			}
			if len(s.Memory.Gone) > 0 {
				t.Errorf("the port is back: %+v", s.Memory.Gone)
			}
			if len(s.Memory.Flapping) != 1 || s.Memory.Flapping[0].Port != 7001 || s.Memory.Flapping[0].Openings != 4 {
				t.Errorf("flapping: %+v", s.Memory.Flapping)
			}
			if got := s.Memory.Changes[0]; got != (inventory.Changes{Proto: inventory.TCP, Opened: 4, Closed: 4}) {
				t.Errorf("openings and closings: %+v", got)
			}
		})
	})
}

func TestTheStartOfAFullQueueAndOfLostPacketsIsRemembered(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, nil, func(t *testing.T) {
		i := open(t, "netlink", func(o *inventory.Options) { o.Interval = 20 * time.Millisecond })
		listener, err := netnstest.Bind("tcp", "127.0.0.1:7100")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(listener) })
		if err := unix.Listen(listener, 1); err != nil {
			t.Fatal(err)
		}
		for range 2 { // more than the backlog
			connect(t, "tcp", "127.0.0.1:0", "127.0.0.1:7100")
		}
		receiver := bind(t, "udp", "127.0.0.1:7100")
		sender := connect(t, "udp", "127.0.0.1:0", "127.0.0.1:7100")
		if err := unix.SetsockoptInt(receiver, unix.SOL_SOCKET, unix.SO_RCVBUF, 2048); err != nil {
			t.Fatal(err)
		}
		read(t, i)
		for range 500 {
			_, _ = unix.Write(sender, make([]byte, 100))
		}
		tcp, udp := key("tcp", "127.0.0.1:7100", "loopback", "user"), key("udp", "127.0.0.1:7100", "loopback", "user")
		looked := func(looks int) (full, dropping bool) {
			for range looks {
				time.Sleep(20 * time.Millisecond)
				_, listeners := read(t, i)
				tcp, udp := listeners[tcp].Starts, listeners[udp].Starts
				full, dropping = tcp != nil && !tcp.Full.IsZero(), udp != nil && !udp.Dropping.IsZero()
			}
			return full, dropping
		}
		if full, dropping := looked(4); !full || !dropping {
			t.Errorf("full: %t, loses packets: %t", full, dropping)
		}
		for range 2 {
			accept(t, listener)
		}
		if full, _ := looked(2); full {
			t.Error("the queue is empty, and still full")
		}
	})
}

// A watcher and scrapes look at the same time.
func TestAWatcherSeesWhatNoScrapeDoes(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, nil, func(t *testing.T) {
		eachSource(t, func(t *testing.T, source string) {
			i := open(t, source, func(o *inventory.Options) { o.Interval, o.SettledAfter, o.Remember = 10*time.Millisecond, 0, time.Hour })
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				i.Watch(ctx, log.NewNopLogger())
			}()
			has := func(port uint16, gone bool) {
				t.Helper()
				for deadline := time.Now().Add(10 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
					if r := i.Remembered(); r != nil && slices.ContainsFunc(r.Ports, func(p inventory.RememberedPort) bool { return p.Port == port && p.Gone.IsZero() != gone }) {
						return
					}
					if time.Now().After(deadline) {
						t.Fatalf("port %d: not remembered: %+v", port, i.Remembered())
					}
				}
			}
			fd, err := netnstest.Listen("tcp", "127.0.0.1:7200")
			if err != nil {
				t.Fatal(err)
			}
			has(7200, false)
			_ = unix.Close(fd)
			has(7200, true)
			cancel()
			<-done
		})
	})
}
