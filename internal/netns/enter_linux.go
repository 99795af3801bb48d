package netns

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// Thread is an OS thread that enters other network namespaces and comes back. No other goroutine ever runs on it, so none finds
// itself in a namespace by accident. If it cannot come back, it ends, and the next call starts another one.
//
// It stays between calls. A thread for each call costs 50 µs, which would make a round over 64 namespaces slower by half.
//
// The zero value is ready to use, by one goroutine at a time.
type Thread struct {
	calls  chan func() (back bool) // nil while there is no thread
	home   int                     // a descriptor of its own namespace; 0 until it was opened
	closed bool
}

var (
	errThreadClosed = errors.New("enter a network namespace: the thread is closed")
	errExited       = errors.New("the function inside a network namespace ended its goroutine")
)

// In runs do in the network namespace of a descriptor, which the caller keeps open, and returns do's error. A panic in do is an
// error too. Sockets that do opens belong to that namespace for good.
//
// Entering needs CAP_SYS_ADMIN, also in the user namespace that owns the network namespace.
func (t *Thread) In(nsfd int, do func() error) error {
	if err := t.Open(); err != nil {
		return err
	}
	if t.calls == nil {
		calls := make(chan func() bool)
		t.calls = calls
		onOwnThread(func() {
			for call := range calls {
				if !call() {
					return
				}
			}
		})
	}
	err := errExited // unless do returns or panics
	done := make(chan bool, 1)
	t.calls <- func() (back bool) {
		defer func() { done <- back }()
		back, err = t.enter(nsfd, do)
		return back
	}
	if back := <-done; !back {
		t.calls = nil
	}
	return err
}

// InPlace does what [Thread.In] does, but on the OS thread of the calling goroutine: that saves two switches between threads, 10 µs
// each. If the thread cannot come back, the goroutine keeps it, and both end together. So it is for goroutines that end soon.
func (t *Thread) InPlace(nsfd int, do func() error) error {
	runtime.LockOSThread() // starts no thread from this one either
	if unix.Gettid() == unix.Getpid() {
		runtime.UnlockOSThread()
		return t.In(nsfd, do)
	}
	err := t.Open()
	back := true
	if err == nil {
		back, err = t.enter(nsfd, do)
	}
	if back {
		runtime.UnlockOSThread()
	}
	return err
}

// Close ends the thread. Later calls of In and InPlace fail.
func (t *Thread) Close() {
	t.closed = true
	if t.calls != nil {
		close(t.calls)
		t.calls = nil
	}
	if t.home != 0 {
		_ = unix.Close(t.home)
		t.home = 0
	}
}

// Open opens the way home, a descriptor that stays open until Close. In does that too, if it must.
func (t *Thread) Open() error {
	if t.closed {
		return errThreadClosed
	}
	if t.home == 0 {
		home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open /proc/thread-self/ns/net: %w", err)
		}
		t.home = home
	}
	return nil
}

// enter runs do with the calling thread in another network namespace, and reports whether the thread is back in its own.
func (t *Thread) enter(nsfd int, do func() error) (back bool, err error) {
	if err := unix.Setns(nsfd, unix.CLONE_NEWNET); err != nil {
		return true, fmt.Errorf("enter a network namespace: %w", err)
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic inside a network namespace: %v", p)
		}
		back = unix.Setns(t.home, unix.CLONE_NEWNET) == nil
	}()
	return false, do()
}

// onOwnThread calls run in a new goroutine that has an OS thread for itself. It never unlocks that thread, so the runtime ends
// the thread with the goroutine.
//
// It is never the process's first thread: the runtime cannot end that one, and /proc/self/net shows its namespace.
func onOwnThread(run func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			run()
			return
		}
		defer runtime.UnlockOSThread()
		started := make(chan struct{})
		onOwnThread(func() { close(started); run() }) // on another thread, as this goroutine holds the first
		<-started
	}()
}

// CanEnter returns nil if this process may enter network namespaces, and otherwise an error that names what it lacks to enter
// the one of PID 1 in a procfs. To find out, a thread enters the namespace that it is in already.
//
// Opening a namespace needs a right of its own, which may differ between namespaces: see [Namespace.OpenNS].
func CanEnter(procfs string) error {
	fd, err := unix.Open("/proc/self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a network namespace: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	var thread Thread
	defer thread.Close()
	err = thread.In(fd, func() error { return nil })
	if err == nil {
		return nil
	}
	err = withCapability("CAP_SYS_ADMIN", err)
	// The user wants to know about all missing rights at once.
	path := filepath.Join(procfs, "1/ns/net")
	hosts, openErr := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if openErr != nil {
		return fmt.Errorf("%w; %w", withCapability("CAP_SYS_PTRACE", fmt.Errorf("open %s: %w", path, openErr)), err)
	}
	_ = unix.Close(hosts)
	return err
}

// withCapability adds the needed capability to an error that is a refusal.
func withCapability(capability string, err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%w (needs %s)", err, capability)
	}
	return err
}
