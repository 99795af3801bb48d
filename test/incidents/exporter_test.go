package incidents

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// nobody is the user who runs the program, as in the shipped unit and DaemonSet, without any capability.
const nobody = 65534

// exporter is the program that is tested, on a host.
type exporter struct {
	host     *machine
	root     bool     // may see which process holds a port
	registry string   // at the start; empty for none
	flags    []string // of this exporter only
	// sandboxed is true if it may not use netlink, because a filter of its unit or of its container's runtime refuses it.
	sandboxed bool
	process   *host.Process
}

// file is the host's registry.
func (e *exporter) file() string { return filepath.Join(e.host.world.dir, e.host.name+"-ports.yml") }

// log is where the program writes its log.
func (e *exporter) log() string { return filepath.Join(e.host.world.dir, e.host.name+"-exporter.log") }

// start starts the program, and waits until it has read the sockets for the first time.
func (e *exporter) start(flags ...string) error {
	log, err := os.OpenFile(e.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	// 1m by default, and as much faster as the rules are.
	flags = append(flags, "--collector.udp.ephemeral-min-age="+promDuration(time.Minute/speed))
	if e.registry != "" {
		flags = append(flags, "--registry.file="+e.file())
	}
	cmd := exec.Command(e.host.world.exporter, append(flags, e.flags...)...)
	if e.sandboxed {
		cmd = host.Again(roleSandbox, e.host.world.self, cmd.Args...)
	}
	cmd.Stderr = log
	if !e.root {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	if err := e.host.inside(func() (err error) {
		e.process, err = host.Start(cmd)
		return err
	}); err != nil {
		return fmt.Errorf("start the exporter on %s: %w", e.host.name, err)
	}
	process := e.process
	return await("the exporter on "+e.host.name+" is ready", func() (bool, error) {
		_, err := host.Get("http://" + e.host.address() + ":10190/-/ready")
		return err == nil, process.Ended()
	})
}

// beSandbox becomes the program of its arguments, which may not open netlink sockets.
func beSandbox() error {
	// seccomp_data of include/uapi/linux/seccomp.h: nr is at 0, the first argument at 16.
	equal := func(value uint32, otherwise uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jf: otherwise}
	}
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	filter := []unix.SockFilter{
		load(0), equal(unix.SYS_SOCKET, 3), load(16), equal(unix.AF_NETLINK, 1),
		{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	runtime.LockOSThread() // a filter belongs to a thread
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
		return fmt.Errorf("forbid netlink: %w", err)
	}
	return unix.Exec(os.Args[1], os.Args[1:], os.Environ())
}

func (e *exporter) stop() error {
	err := e.process.Terminate()
	e.process = nil
	return err
}

// declare replaces the registry in one step.
func (e *exporter) declare(text string) error {
	if err := os.WriteFile(e.file()+".new", []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(e.file()+".new", e.file())
}
