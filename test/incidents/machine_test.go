//go:build linux

package incidents

import (
	"crypto/rand"
	"errors"
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
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// The environment of a host's PID 1.
const (
	nameVariable    = "LISTEN_EXPORTER_INCIDENTS_HOST"
	bootVariable    = "LISTEN_EXPORTER_INCIDENTS_BOOT"    // the file that is /proc/sys/kernel/random/boot_id
	machineVariable = "LISTEN_EXPORTER_INCIDENTS_MACHINE" // the file that is /etc/machine-id
)

// machine is a host that is watched.
type machine struct {
	world    *world
	name     string
	number   int // of its network
	init     *host.Process
	services []*service
	exporter *exporter
	// targets is as what Prometheus knows the host, each with the labels that it has besides. Normally it is one without.
	targets []map[string]string
	cluster string // a label of its targets, if it has one
	// proxy is between Prometheus and the exporter, and nil where nothing is.
	proxy     *proxy
	addresses map[*engine]string
	// uptime is that of the world when this host booted; 0 if it has always been up.
	uptime time.Duration
	// namespaces is the process of a user who has made network namespaces.
	namespaces *host.Process
}

// address is that of the host, as Prometheus sees it.
func (h *machine) address() string { return fmt.Sprintf("10.77.%d.2", h.number) }

// target is where an engine scrapes the host.
func (h *machine) target(e *engine) (string, error) {
	address := h.address() + ":10190"
	if h.proxy == nil {
		return address, nil
	}
	if h.addresses[e] == "" {
		proxied, err := h.proxy.listen(address)
		if err != nil {
			return "", err
		}
		h.addresses[e] = proxied
	}
	return h.addresses[e], nil
}

// instance is the label by which Prometheus knows the host.
func (h *machine) instance() string {
	for _, labels := range h.targets {
		if labels["instance"] != "" {
			return labels["instance"]
		}
	}
	return h.name
}

// file is one of the host's, outside of it.
func (h *machine) file(name string) string { return filepath.Join(h.world.dir, h.name+"-"+name) }

// boot makes the host and starts its services, in this order, and its exporter.
func (h *machine) boot() error { return h.bootWith(h.services...) }

// bootWith boots the host, whose other services do not start.
func (h *machine) bootWith(services ...*service) error {
	err := os.WriteFile(h.file("boot-id"), []byte(identity("-")+"\n"), 0o644)
	if _, known := os.Stat(h.file("machine-id")); known != nil {
		err = errors.Join(err, h.becomeAnother())
	}
	if err != nil {
		return err
	}
	cmd := host.Again(roleHost, os.Args[0])
	cmd.Env = append(cmd.Env, nameVariable+"="+h.name, bootVariable+"="+h.file("boot-id"), machineVariable+"="+h.file("machine-id"))
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
	for _, s := range services {
		if err := s.start(); err != nil {
			return err
		}
	}
	return h.exporter.start()
}

// becomeAnother gives the host another machine-id, which counts from its next boot on.
func (h *machine) becomeAnother() error {
	return os.WriteFile(h.file("machine-id"), []byte(identity("")+"\n"), 0o644)
}

// identity returns 32 random hexadecimal digits, as a UUID if they are separated.
func identity(separator string) string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return fmt.Sprintf("%x%[6]s%[2]x%[6]s%[3]x%[6]s%[4]x%[6]s%[5]x", b[:4], b[4:6], b[6:8], b[8:10], b[10:], separator)
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

// losePower ends the host, whose next boot is a new one.
func (h *machine) losePower() error {
	err := h.die()
	var now unix.Timespec
	err = errors.Join(err, unix.ClockGettime(unix.CLOCK_BOOTTIME, &now))
	h.uptime = time.Duration(now.Nano())
	return err
}

// beHost is PID 1 of a host: it mounts /proc, sets the name, and ends when its input does.
func beHost() error {
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := unix.Sethostname([]byte(os.Getenv(nameVariable))); err != nil {
		return fmt.Errorf("set the host's name: %w", err)
	}
	for variable, at := range map[string]string{bootVariable: "/proc/sys/kernel/random/boot_id", machineVariable: "/etc/machine-id"} {
		if err := unix.Mount(os.Getenv(variable), at, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount on %s: %w", at, err)
		}
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

// hideProcesses sets whether only root sees the processes of other users below /proc, as on a hardened host: 2 hides them, 0
// does not.
func (h *machine) hideProcesses(level int) error {
	return h.inside(func() error {
		return unix.Mount("proc", "/proc", "proc", unix.MS_REMOUNT|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, fmt.Sprintf("hidepid=%d", level))
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
