package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// The ports of a namespace. Those that the kernel gives out are for the load and for the exporters: a young UDP socket on one of
// them is not reported.
const (
	loadListenPort    = 1999
	firstListenerPort = 2000 // 10000 of them
	givenOutPorts     = "20000 65000"
)

// prepareNetwork brings up the loopback interface of a new network namespace and sets its sysctls.
func prepareNetwork() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("bring up the loopback interface: %w", err)
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte(givenOutPorts), 0)
}

// listeners are open listening sockets.
type listeners []io.Closer

// openListeners opens n listeners, each on a port of its own: 60 % TCP on IPv4, 20 % on IPv6, 15 % UDP on IPv4, 5 % on IPv6.
func openListeners(n int) (listeners, error) {
	var open listeners
	for i := range n {
		var one io.Closer
		var err error
		port := strconv.Itoa(firstListenerPort + i)
		switch i % 20 {
		default:
			one, err = net.Listen("tcp4", "0.0.0.0:"+port)
		case 3, 8, 13, 18:
			one, err = net.Listen("tcp6", "[::]:"+port)
		case 4, 9, 14:
			one, err = net.ListenPacket("udp4", "127.0.0.1:"+port)
		case 19:
			one, err = net.ListenPacket("udp6", "[::1]:"+port)
		}
		if err != nil {
			return nil, err
		}
		open = append(open, one)
	}
	return open, nil
}

// hold keeps the listeners open until here: the garbage collector closes what nobody refers to.
func (l listeners) hold() { runtime.KeepAlive(l) }

func (l listeners) close() {
	for _, one := range l {
		_ = one.Close()
	}
}
