//go:build linux

package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

var (
	errNoHome = errors.New("enter a network namespace: the exporter's own is not open")
	errExited = errors.New("the function inside a network namespace ended its goroutine")
)

// Visit runs do on the calling goroutine's OS thread, in the network namespace of a descriptor, and returns do's error. A panic in do is
// an error too. Then the thread comes back to home, which [OpenHome] returned. Sockets that do opens belong to that namespace for good.
//
// No other goroutine ever runs on the thread meanwhile, and no thread starts from it, so none finds itself in a namespace by accident.
// If the thread cannot come back, the goroutine keeps it, and both end together. So Visit is for goroutines that end soon.
//
// Entering needs CAP_SYS_ADMIN, also in the user namespace that owns the network namespace.
func Visit(home *os.File, nsfd int, do func() error) error {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The runtime cannot end the process's first thread, and /proc/self/net shows its namespace. As this goroutine holds it, another
		// one runs elsewhere.
		defer runtime.UnlockOSThread()
		done := make(chan error)
		go func() {
			err := errExited // unless do returns or panics
			defer func() { done <- err }()
			err = Visit(home, nsfd, do)
		}()
		return <-done
	}
	back, err := enter(int(home.Fd()), nsfd, do)
	if back {
		runtime.UnlockOSThread()
	}
	return err
}

// enter runs do with the calling thread in another network namespace, and reports whether the thread is back at home.
func enter(home, nsfd int, do func() error) (back bool, err error) {
	if home < 0 {
		return true, errNoHome
	}
	if err := unix.Setns(nsfd, unix.CLONE_NEWNET); err != nil {
		return true, fmt.Errorf("enter a network namespace: %w", err)
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic inside a network namespace: %v", p)
		}
		back = unix.Setns(home, unix.CLONE_NEWNET) == nil
	}()
	return false, do()
}

// OpenHome opens the network namespace of this process, for [Visit]. It fails if the process may not enter network namespaces: the error
// names what it lacks to enter the one of PID 1 in a procfs. To find out, a thread enters the namespace that it is in already.
//
// Opening a namespace needs a right of its own, which may differ between namespaces: see [Namespace.OpenNS].
func OpenHome(procfs string) (home *os.File, err error) {
	home, err = os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open a network namespace: %w", err)
	}
	err = Visit(home, int(home.Fd()), func() error { return nil })
	if err == nil {
		return home, nil
	}
	_ = home.Close()
	err = withCapability("CAP_SYS_ADMIN", err)
	// The user wants to know about all missing rights at once.
	path := filepath.Join(procfs, "1/ns/net")
	hosts, openErr := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if openErr != nil {
		return nil, fmt.Errorf("%w; %w", withCapability("CAP_SYS_PTRACE", fmt.Errorf("open %s: %w", path, openErr)), err)
	}
	_ = unix.Close(hosts)
	return nil, err
}

// withCapability adds the needed capability to an error that is a refusal.
func withCapability(capability string, err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%w (needs %s)", err, capability)
	}
	return err
}
