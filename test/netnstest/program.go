//go:build linux

package netnstest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// firstSocket is the descriptor of the first socket that a program was given.
const firstSocket = 3

// Program is a program that holds sockets of the test.
type Program struct {
	// Name is the content of /proc/<pid>/comm: any 15 bytes but slashes and zeros.
	Name string
	// Cgroup is where it is started, or nil for the test's own cgroup.
	Cgroup *Cgroup
	// UID is the user who runs it.
	UID uint32
	// Sockets are passed to it. The caller's own descriptors stay open.
	Sockets []int
}

// Process is a running [Program].
type Process struct {
	PID int

	cmd    *exec.Cmd
	input  io.WriteCloser
	output *bufio.Reader
}

// Start starts a program, which runs until [Process.End] or the end of the test.
func Start(tb testing.TB, p Program) *Process {
	tb.Helper()
	// A shell takes commands, and a process has the name of the path that started it.
	shell, err := exec.LookPath("sh")
	if err != nil {
		tb.Skip("needs sh to hold sockets")
	}
	path := filepath.Join(host.OpenDir(tb), p.Name)
	if err := os.Symlink(shell, path); err != nil {
		tb.Fatal(err)
	}
	cmd := &exec.Cmd{Path: path, Args: []string{"sh"}, Stderr: os.Stderr, SysProcAttr: new(syscall.SysProcAttr)}
	if p.UID != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: p.UID, Gid: p.UID}
	}
	if p.Cgroup != nil {
		dir, err := os.Open(p.Cgroup.Dir)
		if err != nil {
			tb.Fatal(err)
		}
		defer func() { _ = dir.Close() }()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	}
	for _, fd := range p.Sockets {
		same, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			tb.Fatal(err)
		}
		file := os.NewFile(uintptr(same), "socket")
		defer func() { _ = file.Close() }()
		cmd.ExtraFiles = append(cmd.ExtraFiles, file)
	}
	input, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	process := &Process{PID: cmd.Process.Pid, cmd: cmd, input: input, output: bufio.NewReader(output)}
	tb.Cleanup(func() { process.End(tb) })
	return process
}

// HandOver starts a program and closes the test's own descriptors of its sockets.
func HandOver(tb testing.TB, p Program) *Process {
	tb.Helper()
	process := Start(tb, p)
	for _, fd := range p.Sockets {
		if err := unix.Close(fd); err != nil {
			tb.Fatal(err)
		}
	}
	return process
}

// Rename gives the process another name.
func (p *Process) Rename(tb testing.TB, name string) {
	tb.Helper()
	var octal strings.Builder
	for _, b := range []byte(name) {
		fmt.Fprintf(&octal, `\0%03o`, b)
	}
	p.run(tb, fmt.Sprintf("printf %%b '%s' >/proc/self/comm", &octal))
}

// CloseSocket has the process close the nth of the sockets that it was given, from 0.
func (p *Process) CloseSocket(tb testing.TB, n int) {
	tb.Helper()
	p.run(tb, fmt.Sprintf("exec %d<&-", firstSocket+n))
}

// PassOn starts a program with the sockets of this process, which keeps them too.
func (p *Process) PassOn(tb testing.TB, to Program) *Process {
	tb.Helper()
	own, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = unix.Close(own) }()
	for n := range p.cmd.ExtraFiles {
		fd, err := unix.PidfdGetfd(own, firstSocket+n, 0)
		if err != nil {
			tb.Fatal(err)
		}
		to.Sockets = append(to.Sockets, fd)
	}
	return HandOver(tb, to)
}

// run has the shell run a command.
func (p *Process) run(tb testing.TB, command string) {
	tb.Helper()
	if _, err := fmt.Fprintf(p.input, "%s && echo done\n", command); err != nil {
		tb.Fatal(err)
	}
	if said, err := p.output.ReadString('\n'); err != nil || said != "done\n" {
		tb.Fatalf("%s: %q, %v", command, said, err)
	}
}

// End ends the process and waits for that.
func (p *Process) End(tb testing.TB) {
	tb.Helper()
	if p.cmd.ProcessState != nil {
		return
	}
	_ = p.input.Close()
	if err := p.cmd.Wait(); err != nil {
		tb.Errorf("the process that held sockets: %v", err)
	}
}

// OwnName returns the name of the test's own process.
func OwnName(tb testing.TB) string {
	tb.Helper()
	name, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		tb.Fatal(err)
	}
	return strings.TrimSuffix(string(name), "\n")
}
