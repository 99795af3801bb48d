package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The ports of a namespace. Those that the kernel gives out are for connections and for the exporters: a young UDP socket on
// one of them is not reported.
const (
	loadListenPort    = 1999
	firstListenerPort = 2000 // 10 000 of them
	givenOutPorts     = "20000 65000"
)

// connectionsPerProcess keeps a process of the load below 20 000 open files.
const connectionsPerProcess = 9900

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

// startLoad opens so many sockets in processes of their own: connected pairs for TCP, which are no listeners, and connected
// sockets for UDP.
func startLoad(proto string, sockets int) error {
	var starting []*helper
	for n := 0; sockets > 0; n++ {
		one, err := startHelper(0, "load", proto, strconv.Itoa(n), strconv.Itoa(min(sockets, 2*connectionsPerProcess)))
		if err != nil {
			return err
		}
		sockets -= 2 * connectionsPerProcess
		starting = append(starting, one)
	}
	for _, one := range starting {
		if _, err := one.stdout.ReadString('\n'); err != nil {
			return fmt.Errorf("a process of the load ended: %w", err)
		}
	}
	return nil
}

// load is a process of the load: its protocol, its number and how many sockets it opens.
func load(args []string) error {
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
	server := &unix.SockaddrInet4{Addr: [4]byte{127, 1, byte(number + 1), 1}, Port: loadListenPort}
	client := &unix.SockaddrInet4{Addr: [4]byte{127, 2, byte(number + 1), 1}}
	if err := open(server, client, sockets); err != nil {
		return fmt.Errorf("load: %w", err)
	}
	fmt.Println("ready")
	for {
		if err := unix.Pause(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// connectPairs opens TCP connections and both their ends.
func connectPairs(server, client *unix.SockaddrInet4, sockets int) error {
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
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
func connectUDP(server, client *unix.SockaddrInet4, sockets int) error {
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

// program is a shell that holds listeners and files, and its children, which hold the same files. A thousand of them are cheap.
type program struct {
	name     string
	cgroup   int  // an open directory of the cgroup2 hierarchy; 0: that of this program
	newNet   bool // it has a network namespace of its own
	tcp, udp int  // the ports it listens on, on every IPv4 address; 0: none
	files    int  // how often it opens /dev/null
	children int
}

// start starts the program and returns once it holds everything. The listeners are descriptors 3 and 4 of the shell only.
func (p program) start() (cmd *exec.Cmd, err error) {
	cmd = exec.Command("bash", "-c", fmt.Sprintf(`echo -n %s >/proc/$$/comm
		for ((i = 0; i < %d; i++)); do exec {fd}</dev/null; done
		for ((i = 0; i < %d; i++)); do sleep infinity 3<&- 4<&- >/dev/null & done
		echo ready
		read`, p.name, p.files, p.children))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, UseCgroupFD: p.cgroup != 0, CgroupFD: p.cgroup}
	if _, err := cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	err = visiting(func() error {
		if p.newNet {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
		}
		defer func() {
			for _, file := range cmd.ExtraFiles {
				_ = file.Close()
			}
		}()
		if err := p.listen(cmd); err != nil {
			return err
		}
		return cmd.Start()
	})
	if err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if strings.TrimSpace(line) != "ready" {
		return nil, fmt.Errorf("a program of the load says %q: %w", line, err)
	}
	return cmd, nil
}

// listen opens the listeners in the thread's network namespace.
func (p program) listen(cmd *exec.Cmd) error {
	if p.tcp != 0 {
		listener, err := net.ListenTCP("tcp4", &net.TCPAddr{Port: p.tcp})
		if err != nil {
			return err
		}
		defer func() { _ = listener.Close() }()
		file, err := listener.File()
		if err != nil {
			return err
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, file)
	}
	if p.udp != 0 {
		socket, err := net.ListenUDP("udp4", &net.UDPAddr{Port: p.udp})
		if err != nil {
			return err
		}
		defer func() { _ = socket.Close() }()
		file, err := socket.File()
		if err != nil {
			return err
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, file)
	}
	return nil
}

// end ends programs and their children.
func end(programs ...*exec.Cmd) error {
	for _, p := range programs {
		if err := unix.Kill(-p.Process.Pid, unix.SIGKILL); err != nil {
			return err
		}
	}
	for _, p := range programs {
		_ = p.Wait() // returns that it was killed
	}
	return nil
}

// visiting calls do, which may change this thread's network namespace, and goes back after it.
func visiting(do func() error) error {
	runtime.LockOSThread()
	own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(do(), unix.Setns(own, unix.CLONE_NEWNET), unix.Close(own)); err != nil {
		return err // and keep the thread, which may be in the wrong namespace
	}
	runtime.UnlockOSThread()
	return nil
}
