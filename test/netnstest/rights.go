package netnstest

import (
	"fmt"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Rights are the privileges of a [Reader].
type Rights int

// The rights that a reader can have.
const (
	// AsRoot has every capability that the test has.
	AsRoot Rights = iota
	// WithTwo is user 0 with only CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH.
	WithTwo
	// AsNobody has no capability and is in no group.
	AsNobody
)

// nobody is the user and the group of that name.
const nobody = 65534

// Reader runs functions on a thread of its own that has fewer rights than the test's process. Unlike a process with these rights, it
// still sees everything of its own process.
type Reader struct {
	work chan func()
	done chan struct{}
}

// NewReader starts a reader, which ends with the test.
func NewReader(t *testing.T, rights Rights) *Reader {
	t.Helper()
	r := &Reader{work: make(chan func()), done: make(chan struct{})}
	started := make(chan error)
	OnOwnThread(func() {
		err := rights.take()
		started <- err
		for err == nil {
			do, ok := <-r.work
			if !ok {
				return
			}
			do()
			r.done <- struct{}{}
		}
	})
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(r.work) })
	return r
}

// Do calls do on the reader's thread, and returns when it has. do must not end the test.
func (r *Reader) Do(do func()) {
	r.work <- do
	<-r.done
}

// OnOwnThread calls do in another goroutine, on a thread that ends when do returns, so do may change the thread's namespaces and
// rights. It is never the first thread of the process, which the Go runtime does not end, and whose namespaces and rights
// /proc/<pid> shows.
func OnOwnThread(do func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			do()
			return // locked: the thread ends
		}
		defer runtime.UnlockOSThread()
		started := make(chan struct{})
		OnOwnThread(func() { close(started); do() }) // on another thread, as this goroutine holds the first
		<-started
	}()
}

// take gives the calling thread these rights. The raw system calls change a thread, not the process.
func (r Rights) take() error {
	switch r {
	case AsNobody:
		for _, call := range [][4]uintptr{
			{unix.SYS_SETGROUPS}, {unix.SYS_SETRESGID, nobody, nobody, nobody}, {unix.SYS_SETRESUID, nobody, nobody, nobody},
		} {
			if _, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
				return fmt.Errorf("system call %d: %w", call[0], errno)
			}
		}
		return nil
	case WithTwo:
		const two = 1<<unix.CAP_SYS_PTRACE | 1<<unix.CAP_DAC_READ_SEARCH
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		data := [2]unix.CapUserData{{Effective: two, Permitted: two}}
		return unix.Capset(&header, &data[0])
	default:
		return nil
	}
}
