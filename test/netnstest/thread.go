//go:build linux

package netnstest

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// EndFirstThread ends the first thread of the test's process, as pthread_exit(3) in main does. The process goes on.
func EndFirstThread(tb testing.TB) {
	tb.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile("/proc/self/stat")
		if err == nil && strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("the first thread has not ended: %q, %v", stat, err)
		}
		// Sooner or later one of these goroutines has the first thread, and then it has no other.
		go func() {
			runtime.LockOSThread()
			if unix.Gettid() == unix.Getpid() {
				_, _, _ = unix.Syscall(unix.SYS_EXIT, 0, 0, 0) // unlike a raw call, it leaves its processor to other threads
			}
			select {}
		}()
	}
}

// StayElsewhere moves a thread of the test's process to a fresh network namespace, where it calls do and stays for as long as the
// process lives. It returns the number of the namespace and the thread.
func StayElsewhere(do func() error) (inode uint64, tid int, err error) {
	result := make(chan error)
	OnOwnThread(func() {
		err := unix.Unshare(unix.CLONE_NEWNET)
		var stat unix.Stat_t
		if err == nil {
			err = errors.Join(unix.Stat("/proc/thread-self/net/tcp", &stat), do())
		}
		inode, tid = stat.Ino, unix.Gettid()
		result <- err
		if err == nil {
			select {}
		}
	})
	err = <-result
	return inode, tid, err
}
