//go:build linux

package kernels

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// Where the machine has its files.
const (
	programFile = "/listen_exporter"
	moduleDir   = "/modules"
	// guestUnit is the systemd unit that the machine's only cgroup looks like.
	guestUnit = "guest.service"
	guestDir  = "/sys/fs/cgroup/system.slice/" + guestUnit
)

// guest is the machine as the checks find it.
type guest struct {
	host.Report
	modules  bool // those of sock_diag are loaded or built in
	table    *table
	programs []*program // started by the first check, ended by the last
}

// beGuest is the init of a machine: it opens the table of listeners, has the program read it, and reports on the console.
func beGuest(modules bool) error {
	g := &guest{modules: modules}
	if err := g.prepare(); err != nil {
		return fmt.Errorf("prepare the machine: %w", err)
	}
	fmt.Println() // the firmware leaves no line end
	g.Check(g.checks()...)
	var uname unix.Utsname
	if err := unix.Uname(&uname); err != nil {
		return fmt.Errorf("uname: %w", err)
	}
	g.Note("Linux %s", unix.ByteSliceToString(uname.Release[:]))
	g.End()
	return nil
}

// prepare makes file systems, modules, loopback, and the table of listeners.
func (g *guest) prepare() error {
	for _, mount := range []struct{ kind, at string }{
		{"devtmpfs", "/dev"},
		{"proc", "/proc"},
		{"tmpfs", "/tmp"},
		{"sysfs", "/sys"},
		{"cgroup2", "/sys/fs/cgroup"},
	} {
		if err := errors.Join(
			os.MkdirAll(mount.at, 0o755),
			unix.Mount(mount.kind, mount.at, mount.kind, 0, ""),
		); err != nil {
			return fmt.Errorf("mount %s: %w", mount.at, err)
		}
	}
	if err := errors.Join(
		os.MkdirAll(guestDir, 0o755),
		os.WriteFile(filepath.Join(guestDir, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0),
		// The table has addresses that the machine does not have.
		os.WriteFile("/proc/sys/net/ipv4/ip_nonlocal_bind", []byte("1"), 0),
		os.WriteFile("/proc/sys/net/ipv6/ip_nonlocal_bind", []byte("1"), 0),
		raiseLoopback(),
		allowLockedMemory(),
	); err != nil {
		return err
	}
	if g.modules {
		if err := loadModules(modules...); err != nil {
			return err
		}
	}
	mptcp := hasMPTCP()
	// A kernel that has the module has the protocol: MPTCP is not left out by mistake.
	if _, err := os.Stat(filepath.Join(moduleDir, "mptcp_diag.ko")); err == nil && !mptcp {
		return errors.New("the kernel has the module mptcp_diag, but opens no MPTCP socket")
	}
	var err error
	g.table, err = openTable(mptcp)
	return err
}

// loadModules loads those of the modules that the initramfs has. Each must come after what it needs.
func loadModules(names ...string) error {
	for _, name := range names {
		file, err := os.Open(filepath.Join(moduleDir, name+".ko"))
		if errors.Is(err, fs.ErrNotExist) {
			continue // built in, or not made for this kernel
		}
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(file.Fd()), "", 0)
		_ = file.Close()
		if err != nil {
			return fmt.Errorf("load the module %s: %w", name, err)
		}
	}
	return nil
}

func raiseLoopback() error {
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
		return fmt.Errorf("raise the loopback interface: %w", err)
	}
	return host.Await(patience, func() error { // ::1 may take a moment
		listener, err := net.Listen("tcp", "[::1]:1")
		if err != nil {
			return err
		}
		return listener.Close()
	})
}
