// Package kernels is the init of the virtual machines in which the program is tried on other kernels. It opens a known
// table of listeners, has the program read them, and reports on the console what holds.
//
// Everywhere else it has nothing to do. The script that boots the machines is .ci/kernels, behind make test-kernels.
package kernels

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// bootVariable is what the kernel's command line sets: with, to load the modules of sock_diag, or without, not to.
const bootVariable = "LISTEN_EXPORTER_DIAG_MODULES"

// Where the initramfs has its files.
const (
	programFile = "/listen_exporter"
	moduleDir   = "/modules"
)

func TestMain(m *testing.M) {
	boot := os.Getenv(bootVariable)
	if os.Getpid() != 1 || boot == "" {
		os.Exit(m.Run())
	}
	if err := runGuest(boot == "with"); err != nil {
		fmt.Println("not ok -", err)
	}
	unix.Sync()
	// The emulator ends with its machine. If it does not, the return of init makes the kernel panic, which ends it too.
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// guest is the machine as the checks find it.
type guest struct {
	release  string // as uname -r
	modules  bool   // those of sock_diag are loaded or built in
	mptcp    bool   // the kernel has MPTCP
	table    *table
	programs []*program // started by the first check, ended by the last
	facts    []string   // what the kernel gives, for the last line
}

func (g *guest) fact(format string, values ...any) {
	g.facts = append(g.facts, fmt.Sprintf(format, values...))
}

// check is one thing that must hold.
type check struct {
	name string
	run  func(*guest) error
}

// runGuest runs all checks and reports in the form of the Test Anything Protocol: the plan, a line a check, and a last line
// that says what the kernel gives. Without that line a machine has not come to its end.
func runGuest(modules bool) error {
	g := &guest{modules: modules}
	if err := g.prepare(); err != nil {
		return fmt.Errorf("prepare the machine: %w", err)
	}
	checks := commonChecks
	if modules {
		checks = append(checks, checksWithModules...)
	} else {
		checks = append(checks, checksWithoutModules...)
	}
	fmt.Printf("\n1..%d\n", len(checks))
	passed := 0
	for n, c := range checks {
		if err := runCheck(g, c); err != nil {
			fmt.Printf("not ok %d - %s\n%s\n", n+1, c.name, comment(err.Error()))
			continue
		}
		passed++
		fmt.Printf("ok %d - %s\n", n+1, c.name)
	}
	fmt.Printf("# end: Linux %s: %d of %d; %s\n", g.release, passed, len(checks), strings.Join(g.facts, ", "))
	return nil
}

// runCheck makes a panic a check that does not hold: the others are still worth knowing.
func runCheck(g *guest, c check) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return c.run(g)
}

// comment puts a mark before each line.
func comment(text string) string {
	return "#   " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n#   ")
}

// prepare makes a kernel that has just booted a machine: file systems, modules, loopback, and the table of listeners.
func (g *guest) prepare() error {
	for _, mount := range []struct{ kind, at string }{
		{"devtmpfs", "/dev"},
		{"proc", "/proc"},
		{"tmpfs", "/tmp"},
	} {
		if err := errors.Join(
			os.MkdirAll(mount.at, 0o755),
			unix.Mount(mount.kind, mount.at, mount.kind, 0, ""),
		); err != nil {
			return fmt.Errorf("mount %s: %w", mount.at, err)
		}
	}
	var uname unix.Utsname
	if err := unix.Uname(&uname); err != nil {
		return fmt.Errorf("uname: %w", err)
	}
	g.release = unix.ByteSliceToString(uname.Release[:])
	if err := raiseLoopback(); err != nil {
		return fmt.Errorf("raise the loopback interface: %w", err)
	}
	if g.modules {
		if err := loadModules("inet_diag", "tcp_diag", "udp_diag", "mptcp_diag"); err != nil {
			return err
		}
	}
	g.mptcp = hasMPTCP()
	// A kernel that has the module has the protocol: MPTCP is not passed over by mistake.
	if _, err := os.Stat(filepath.Join(moduleDir, "mptcp_diag.ko")); err == nil && !g.mptcp {
		return errors.New("the kernel has the module mptcp_diag, but opens no MPTCP socket")
	}
	var err error
	g.table, err = openTable(g.mptcp)
	return err
}

// loadModules loads those of the modules that the initramfs has. Each must stand behind what it needs.
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
		return err
	}
	// ::1 may take a moment.
	for range 100 {
		if fd, err = listen("tcp", "[::1]:1", options{}); err == nil {
			return unix.Close(fd)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}
