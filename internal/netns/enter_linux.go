package netns

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Thread is an OS thread that can be sent into other network namespaces. No other goroutine ever runs on it, so that none
// finds itself in a namespace by accident: when it cannot come back it is destroyed, and the next call starts another one.
//
// It is never the process's first thread, because /proc/self/net is that thread's.
type Thread struct {
	setns func(fd, kind int) error // unix.Setns

	mu     sync.Mutex
	visits chan visit    // nil: there is no thread
	ended  chan struct{} // closed when the goroutine has ended
	closed bool
}

// visit is what a thread is sent for.
type visit struct {
	nsfd   int
	do     func() error
	result chan outcome // has room for one
}

// outcome is how a visit went.
type outcome struct {
	err  error
	home bool // the thread is back in the namespace it began in
}

var (
	errThreadClosed = errors.New("enter a network namespace: the thread has been closed")
	errExited       = errors.New("the function inside a network namespace ended its goroutine")
)

// NewThread returns a Thread, which starts at the first call of [Thread.In].
func NewThread() *Thread {
	return &Thread{setns: unix.Setns}
}

// In runs do in the network namespace of a descriptor, which the caller keeps open, and returns do's error. Sockets that do opens
// belong to the namespace for good. It takes CAP_SYS_ADMIN, in the namespace's own user namespace too.
//
// A panic in do is an error. Calls wait for each other, so do may not call In of the same Thread.
func (t *Thread) In(nsfd int, do func() error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return errThreadClosed
	}
	if t.visits == nil {
		if err := t.start(); err != nil {
			return err
		}
	}
	v := visit{nsfd: nsfd, do: do, result: make(chan outcome, 1)}
	t.visits <- v
	out := <-v.result
	if !out.home {
		<-t.ended
		t.visits = nil
	}
	return out.err
}

// Close ends the thread.
func (t *Thread) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if t.visits != nil {
		close(t.visits)
		<-t.ended
		t.visits = nil
	}
}

func (t *Thread) start() error {
	visits, ended, started := make(chan visit), make(chan struct{}), make(chan error, 1)
	onOwnThread(func() {
		defer close(ended)
		home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			started <- fmt.Errorf("open /proc/thread-self/ns/net: %w", err)
			return
		}
		defer func() { _ = unix.Close(home) }()
		started <- nil
		for v := range visits {
			if !t.visit(v, home) {
				return
			}
		}
	})
	if err := <-started; err != nil {
		return err
	}
	t.visits, t.ended = visits, ended
	return nil
}

// visit goes there and back. It returns false if the thread did not come back.
func (t *Thread) visit(v visit, home int) bool {
	if err := t.setns(v.nsfd, unix.CLONE_NEWNET); err != nil {
		v.result <- outcome{err: fmt.Errorf("enter a network namespace: %w", err), home: true}
		return true
	}
	// It stays so if do calls runtime.Goexit, which runs the deferred functions and ends the goroutine.
	out := outcome{err: errExited}
	defer func() { v.result <- out }()
	out.err = recovered(v.do)
	if err := t.setns(home, unix.CLONE_NEWNET); err != nil {
		out.err = errors.Join(out.err, fmt.Errorf("leave a network namespace: %w", err))
		return false
	}
	out.home = true
	return true
}

// recovered returns do's error, or its panic as an error.
func recovered(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic inside a network namespace: %v", p)
		}
	}()
	return do()
}

// onOwnThread starts a goroutine that has an OS thread for itself, and not the process's first one. It is never unlocked: the Go
// runtime destroys the thread with the goroutine.
func onOwnThread(run func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			run()
			return
		}
		// While this goroutine holds the first thread another one gets another.
		locked := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(locked)
			run()
		}()
		<-locked
		runtime.UnlockOSThread()
	}()
}

// CanEnter returns nil if this process may enter network namespaces, and else what it lacks to enter that of PID 1 in a procfs. A
// thread tries it with the namespace it is in, and ends.
//
// Each namespace takes a right of its own besides, to open it: see [Namespace.OpenNS].
func CanEnter(procfs string) error {
	fd, err := unix.Open("/proc/self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a network namespace: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	thread := NewThread()
	defer thread.Close()
	err = thread.In(fd, func() error { return nil })
	if err == nil {
		return nil
	}
	err = missing("CAP_SYS_ADMIN", err)
	// All that is missing is said at once.
	path := filepath.Join(procfs, "1/ns/net")
	hosts, openErr := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if openErr != nil {
		return fmt.Errorf("%w; %w", missing("CAP_SYS_PTRACE", fmt.Errorf("open %s: %w", path, openErr)), err)
	}
	_ = unix.Close(hosts)
	return err
}

// missing adds the capability that a refusal asks for.
func missing(capability string, err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%w (it takes %s)", err, capability)
	}
	return err
}
