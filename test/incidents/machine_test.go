package incidents

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// nameVariable has the name of a host.
const nameVariable = "LISTEN_EXPORTER_INCIDENTS_HOST"

// machine is a host that is watched.
type machine struct {
	world    *world
	name     string
	number   int // of its network
	init     *host.Process
	services []*service
	exporter *exporter
	// namespaces is the process of a user who has made network namespaces.
	namespaces *host.Process
}

// address is that of the host, as Prometheus sees it.
func (h *machine) address() string { return fmt.Sprintf("10.77.%d.2", h.number) }

// boot makes the host and starts its services and its exporter.
func (h *machine) boot() error {
	cmd := host.Again(roleHost, os.Args[0])
	cmd.Env = append(cmd.Env, nameVariable+"="+h.name)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:   syscall.CLONE_NEWPID,
		Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS,
	}
	init, err := host.StartReady(cmd)
	if err != nil {
		return fmt.Errorf("boot %s: %w", h.name, err)
	}
	h.init = init
	if err := ip(fmt.Sprintf("link add %[1]s type veth peer name eth0 netns %[2]d\naddr add 10.77.%[3]d.1/30 dev %[1]s\nlink set %[1]s up\n",
		h.name, init.Cmd.Process.Pid, h.number)); err != nil {
		return err
	}
	if err := h.inside(func() error {
		return ip(fmt.Sprintf("link set lo up\naddr add %s/30 dev eth0\nlink set eth0 up\n", h.address()))
	}); err != nil {
		return err
	}
	for _, s := range h.services {
		if err := s.start(); err != nil {
			return err
		}
	}
	return h.exporter.start()
}

// die ends the host at once, with all its processes.
func (h *machine) die() error {
	h.init.Kill()
	h.exporter.process = nil
	for _, s := range h.services {
		s.process = nil
	}
	// Its end of the cable disappears with it, and then ours does, but not at once.
	return await(h.name+" is gone", func() (bool, error) {
		_, err := net.InterfaceByName(h.name)
		return err != nil, nil
	})
}

// beHost is PID 1 of a host: it mounts /proc, sets the name, and ends when its input does.
func beHost() error {
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := unix.Sethostname([]byte(os.Getenv(nameVariable))); err != nil {
		return fmt.Errorf("set the host's name: %w", err)
	}
	fmt.Println(host.Ready)
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// makeNamespaces has a process make so many network namespaces, which end with it.
func (h *machine) makeNamespaces(number int) error {
	return h.inside(func() (err error) {
		// The end of PID 1 of their own PID namespace ends the others.
		h.namespaces, err = host.Start(exec.Command("unshare", "--pid", "--fork", "--kill-child", "sh", "-c",
			fmt.Sprintf("for n in $(seq %d); do unshare --net sleep 1000 & done; wait", number)))
		return err
	})
}

// inside calls do on a thread that is on the host. Processes that do starts are processes of the host.
func (h *machine) inside(do func() error) error {
	if h.init == nil {
		return fmt.Errorf("%s is down", h.name)
	}
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread() // the first thread stays where it is
			result <- h.inside(do)
			return
		}
		err := enter(h.init.Cmd.Process.Pid)
		if err == nil {
			err = do()
		}
		result <- err
	}()
	return <-result
}

// enter moves the calling thread into the namespaces of a process. Processes that it starts are there too.
func enter(pid int) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // setns(2) wants it for a mount namespace
		return fmt.Errorf("unshare: %w", err)
	}
	for _, kind := range []struct {
		name string
		flag int
	}{{"net", unix.CLONE_NEWNET}, {"uts", unix.CLONE_NEWUTS}, {"pid", unix.CLONE_NEWPID}, {"mnt", unix.CLONE_NEWNS}} {
		fd, err := unix.Open(filepath.Join("/proc", strconv.Itoa(pid), "ns", kind.name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open a namespace of process %d: %w", pid, err)
		}
		err = unix.Setns(fd, kind.flag)
		_ = unix.Close(fd)
		if err != nil {
			return fmt.Errorf("enter the %s namespace of process %d: %w", kind.name, pid, err)
		}
	}
	return nil
}

// ip runs lines of ip(8) commands in the network namespace of the calling thread.
func ip(lines string) error {
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(lines)
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip -batch: %w\n%s%s", err, lines, output)
	}
	return nil
}
