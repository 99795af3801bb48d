package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// connectionsPerProcess keeps a process of the load below 20000 open files.
const connectionsPerProcess = 9900

// loadersAtOnce is how many processes of the load open their sockets at the same time.
const loadersAtOnce = 2

// startLoad opens so many sockets in processes of their own: connected pairs for TCP, which are no listeners, and connected
// sockets for UDP. They end with this process, which is the first of its namespace.
func startLoad(proto string, sockets int) error {
	perProcess := 2 * connectionsPerProcess
	var starting []*bufio.Reader
	for n := 0; sockets > 0; n++ {
		cmd := exec.Command("/proc/self/exe", "load", proto, strconv.Itoa(n), strconv.Itoa(min(sockets, perProcess)))
		sockets -= perProcess
		cmd.Stderr = os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		starting = append(starting, bufio.NewReader(stdout))
		if len(starting) == loadersAtOnce || sockets <= 0 {
			for _, one := range starting {
				if _, err := one.ReadString('\n'); err != nil {
					return fmt.Errorf("a process of the load ended: %w", err)
				}
			}
			starting = starting[:0]
		}
	}
	return nil
}

// startListeners opens so many listeners in a process of its own, which ends with this process.
func startListeners(n int) error {
	holder, err := startHelper(0, "listeners", strconv.Itoa(n))
	if err != nil {
		return err
	}
	if _, err := holder.stdout.ReadString('\n'); err != nil {
		return fmt.Errorf("the process of the listeners ended: %w", err)
	}
	return nil
}

// holdListeners is the process of the listeners: how many.
func holdListeners(args []string) error {
	if len(args) != 1 {
		return errors.New("listeners: want a number")
	}
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	open, err := openListeners(n)
	if err != nil {
		return fmt.Errorf("listeners: %w", err)
	}
	defer open.hold()
	return waitForever()
}

// waitForever says that this process is ready, and returns only with an error.
func waitForever() error {
	fmt.Println("ready")
	for {
		if err := unix.Pause(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// load is a process of the load: its protocol, its number and how many sockets it opens.
func load(args []string) error {
	if len(args) != 3 {
		return errors.New("load: want PROTO NUMBER SOCKETS")
	}
	number, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	sockets, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	open := connectPairs
	if args[0] == "udp" {
		open = connectUDP
	}
	if err := open(number, sockets); err != nil {
		return fmt.Errorf("load: %w", err)
	}
	return waitForever()
}

// connectPairs opens TCP connections and both their ends.
func connectPairs(number, sockets int) error {
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	server := &unix.SockaddrInet4{Addr: [4]byte{127, 1, byte(number + 1), 1}, Port: loadListenPort}
	client := &unix.SockaddrInet4{Addr: [4]byte{127, 2, byte(number + 1), 1}}
	if err := errors.Join(unix.Bind(listener, server), unix.Listen(listener, 16)); err != nil {
		return err
	}
	for range sockets / 2 {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err := errors.Join(
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
			unix.Bind(fd, client),
			unix.Connect(fd, server),
		); err != nil {
			return err
		}
		if _, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC); err != nil {
			return err
		}
	}
	return unix.Close(listener)
}

// connectUDP opens connected UDP sockets. Nobody need be at the other end.
func connectUDP(number, sockets int) error {
	server := &unix.SockaddrInet4{Addr: [4]byte{127, 1, byte(number + 1), 1}, Port: loadListenPort}
	client := &unix.SockaddrInet4{Addr: [4]byte{127, 2, byte(number + 1), 1}}
	for range sockets {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err := errors.Join(unix.Bind(fd, client), unix.Connect(fd, server)); err != nil {
			return err
		}
	}
	return nil
}
