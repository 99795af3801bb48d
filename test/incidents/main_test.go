// Package incidents plays incidents before the real program, a real Prometheus with the shipped rules, and a real
// Alertmanager, and compares the alerts that Alertmanager sends with those that it must send.
//
// Three hosts are made of namespaces: web and db have a registry, plain has none. Each has its own processes, network, mounts
// and name, and an exporter. Prometheus and Alertmanager are on a fourth, which has a cable to each of them. Time runs faster
// than on real hosts: see [quicken].
//
// The package's tests are those of its own parts. The incidents are played by make test-incidents, as root.
package incidents

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

const (
	// runVariable names the program that is to be tried, and has the test binary play the incidents.
	runVariable = "LISTEN_EXPORTER_INCIDENTS"
	// dataVariable may name a directory, by an absolute path, in which Prometheus leaves its data, in prometheus/. While the
	// incidents are played, the file address there says how Prometheus is reached.
	dataVariable = "LISTEN_EXPORTER_INCIDENTS_DATA"
	// roleVariable tells a process that the test binary has started what it is.
	roleVariable = "LISTEN_EXPORTER_INCIDENTS_ROLE"
)

// The roles of a process. The first one has none.
const (
	roleWorld   = "world"   // Prometheus' host: plays the incidents, and is PID 1 of all that takes part
	roleHost    = "host"    // PID 1 of one of the hosts
	roleService = "service" // a program that listens
	roleSandbox = "sandbox" // runs a program that may not use netlink
)

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(roleVariable) {
	case roleWorld:
		err = play()
	case roleHost:
		err = beHost()
	case roleService:
		err = beService(os.Args[1:])
	case roleSandbox:
		err = beSandbox(os.Args[1:])
	default:
		if os.Getenv(runVariable) == "" {
			os.Exit(m.Run())
		}
		err = startWorld()
	}
	if err != nil && !errors.Is(err, errFailed) {
		fmt.Fprintln(os.Stderr, "incidents:", err)
	}
	if err != nil {
		os.Exit(1)
	}
}

// errFailed is the error of a process that has said why.
var errFailed = errors.New("failed")

// startWorld plays the incidents in namespaces of their own. All processes end with this one.
func startWorld() error {
	if os.Geteuid() != 0 {
		fmt.Println("0 passed, 1 failed")
		return errors.New("making network namespaces needs root")
	}
	runtime.LockOSThread() // the kernel tells the child of the end of the thread that started it
	cmd := again(roleWorld, os.Args[0])
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:   syscall.CLONE_NEWPID,
		Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS,
		Pdeathsig:    syscall.SIGKILL,
	}
	err := cmd.Start()
	if err == nil {
		err = errors.Join(tellAddress(cmd.Process.Pid), cmd.Wait())
	}
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		if exit.ExitCode() != 1 { // it has come to no count
			fmt.Println("0 passed, 1 failed")
			return err
		}
		return errFailed
	}
	return err
}

// tellAddress says how Prometheus is reached, where somebody wants to know: at which address, and in the network namespace of
// which process.
func tellAddress(pid int) error {
	dir := os.Getenv(dataVariable)
	if dir == "" {
		return nil
	}
	return os.WriteFile(filepath.Join(dir, "address"), fmt.Appendln(nil, prometheusURL, pid), 0o644)
}

// again returns a command that runs the test binary as something else. A process is called after the path by which it was
// started.
func again(role, path string, arguments ...string) *exec.Cmd {
	cmd := exec.Command(path, arguments...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	return cmd
}
