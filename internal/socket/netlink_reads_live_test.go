//go:build linux

package socket

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

func TestAnUnchangedReadAllocatesNothingHoweverManyListen(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, nil, func(t *testing.T) {
		n := liveNetlink(t)
		const listeners = 1000
		for _, proto := range []Protocol{TCP, UDP} {
			for port := range listeners {
				openedSocket{address: fmt.Sprintf("127.0.0.1:%d", 1024+port)}.open(t, proto)
			}
			if got := len(readLive(t, n, proto)); got != listeners {
				t.Errorf("%d %s sockets, want %d", got, proto, listeners)
			}
			allocations := testing.AllocsPerRun(20, func() {
				if _, same, err := n.Read(proto); err != nil || !same {
					t.Fatal(same, err)
				}
			})
			if allocations != 0 {
				t.Errorf("a read of %d %s sockets makes %.0f allocations, want 0", listeners, proto, allocations)
			}
		}
	})
}

func TestADatagramThatDoesNotFitIsAFailedRead(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, nil, func(t *testing.T) {
		n := liveNetlink(t)
		for port := range 100 {
			openedSocket{address: fmt.Sprintf("127.0.0.1:%d", 9000+port)}.open(t, TCP)
		}
		want := readLive(t, n, TCP)
		row := headerLength + len(n.tables[TCP].readings[0].last.reply(0))
		buffer := n.buffer
		// The last ends where a row ends: what does fit is whole.
		for _, size := range []int{0, headerLength, row - 1, 7 * row} {
			n.buffer = buffer[:size]
			sockets, same, err := n.Read(TCP)
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("does not fit into %d", size)) {
				t.Errorf("with a buffer of %d bytes: %d sockets, same %t, %v", size, len(sockets), same, err)
			}
			n.buffer = buffer
			sockets, same, err = n.Read(TCP)
			if err != nil || same || !slices.Equal(sockets, want) {
				t.Errorf("after that: %d sockets, same %t, %v", len(sockets), same, err)
			}
		}
	})
}

// Whoever may send to other netlink sockets can say what the kernel does, but not from the kernel's address.
func TestWhatAnotherProcessSaysIsNotTakenForTheKernels(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		n := liveNetlink(t)
		openedSocket{address: "127.0.0.1:9000"}.open(t, TCP)
		want := readLive(t, n, TCP)
		other, err := dialSockDiag()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Close(other) }()
		for range 3 {
			next := exchange{sequence: n.sequence + 1, port: n.port}
			lie := messageOf(next, headerLength+4, unix.NLMSG_DONE, 0, code(0))
			if err := unix.Sendto(other, lie, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: n.port}); err != nil {
				t.Fatal(err)
			}
			if got := readLive(t, n, TCP); !slices.Equal(got, want) {
				t.Errorf("a read gives %+v, want %+v", got, want)
			}
		}
	})
}
