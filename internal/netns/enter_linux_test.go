package netns

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// here returns the network namespace of the calling OS thread.
func here(tb testing.TB) string {
	link, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		tb.Error(err)
	}
	return link
}

// elsewhere returns a descriptor of a network namespace of a process that the test starts.
func elsewhere(t *testing.T) (fd int, process *child) {
	t.Helper()
	process = sleeper(t)
	fd, err := unix.Open(process.dir()+"/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd, process
}

func newThread(t *testing.T) *Thread {
	t.Helper()
	before := descriptors(t)
	thread := NewThread()
	t.Cleanup(func() {
		thread.Close()
		if after := descriptors(t); after > before {
			t.Errorf("%d descriptors were open before and %d after", before, after)
		}
	})
	return thread
}

func TestSocketsBelongToTheNamespaceThatTheyWereOpenedIn(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		namespace, process := elsewhere(t)
		thread := newThread(t)
		socket := -1
		if err := thread.In(namespace, func() (err error) {
			if want, err := os.Readlink(process.dir() + "/ns/net"); err != nil || here(t) != want {
				t.Errorf("in %s, want %s (%v)", here(t), want, err)
			}
			socket, err = netnstest.Listen("tcp", "0.0.0.0:4711")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(socket)
		for path, want := range map[string]bool{process.dir() + "/net/tcp": true, "/proc/self/net/tcp": false} {
			table, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Contains(string(table), "00000000:1267 "); got != want {
				t.Errorf("the listener is in %s: %t, want %t", path, got, want)
			}
		}
	})
}

func TestNoOtherGoroutineEverFindsItselfInTheNamespace(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		home := here(t)
		namespace, _ := elsewhere(t)
		thread := newThread(t)
		var others sync.WaitGroup
		var stop atomic.Bool
		var looks atomic.Int64
		for range 16 {
			others.Go(func() {
				for !stop.Load() {
					looks.Add(1)
					if now := here(t); now != home {
						t.Errorf("a goroutine is in %s, want %s", now, home)
						return
					}
					runtime.Gosched()
				}
			})
		}
		for n := range 1000 {
			err := thread.In(namespace, func() error {
				runtime.Gosched() // others may run, on other threads
				if here(t) == home {
					return errors.New("still at home")
				}
				if unix.Gettid() == unix.Getpid() {
					return errors.New("on the first thread, whose namespace /proc/self/net shows")
				}
				switch n % 100 {
				case 97:
					panic("on purpose")
				case 98:
					runtime.Goexit()
				}
				return nil
			})
			if wantErr := n%100 == 97 || n%100 == 98; wantErr != (err != nil) {
				t.Fatalf("visit %d: %v", n, err)
			}
		}
		stop.Store(true)
		others.Wait()
		t.Logf("%d looks", looks.Load())
	})
}

func TestNoNamespaceIsEnteredOnTheFirstThread(t *testing.T) {
	done := make(chan int)
	for range 200 {
		go onOwnThread(func() { done <- unix.Gettid() })
		if tid := <-done; tid == unix.Getpid() {
			t.Fatal("on the first thread")
		}
	}
}

func TestAThreadThatDoesNotComeBackIsDestroyed(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		home := here(t)
		namespace, _ := elsewhere(t)
		thread := newThread(t)
		broken := errors.New("broken on purpose")
		for name, test := range map[string]struct {
			do     func() error
			refuse bool
			want   string
			stays  bool
		}{
			"it comes back":                 {func() error { return nil }, false, "", true},
			"an error":                      {func() error { return broken }, false, "broken on purpose", true},
			"a panic":                       {func() error { panic(broken) }, false, "broken on purpose", true},
			"no way back":                   {func() error { return nil }, true, "leave a network namespace: operation not permitted", false},
			"an error and no way back":      {func() error { return broken }, true, "broken on purpose", false},
			"a panic and no way back":       {func() error { panic("in panic") }, true, "in panic", false},
			"the end of the goroutine":      {func() error { runtime.Goexit(); return nil }, false, errExited.Error(), false},
			"the goroutine and no way back": {func() error { runtime.Goexit(); return nil }, true, errExited.Error(), false},
		} {
			t.Run(name, func(t *testing.T) {
				calls := 0
				thread.setns = func(fd, kind int) error {
					if calls++; calls == 2 && test.refuse {
						return unix.EPERM
					}
					return unix.Setns(fd, kind)
				}
				tid := 0
				err := thread.In(namespace, func() error { tid = unix.Gettid(); return test.do() })
				if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
					t.Errorf("got the error %v, want %q", err, test.want)
				}
				task := fmt.Sprintf("/proc/self/task/%d", tid)
				if test.stays {
					if link, err := os.Readlink(task + "/ns/net"); err != nil || link != home {
						t.Errorf("the thread is in %s, want %s (%v)", link, home, err)
					}
					return
				}
				waitFor(t, "the thread is gone", func() bool { _, err := os.Stat(task); return errors.Is(err, os.ErrNotExist) })
				thread.setns = unix.Setns
				if err := thread.In(namespace, func() error { return nil }); err != nil {
					t.Errorf("the next one: %v", err)
				}
			})
		}
	})
}

func TestAVisitThatCannotBeginDoesNothing(t *testing.T) {
	thread := newThread(t)
	for range 2 {
		if err := thread.In(-1, func() error { t.Error("it began"); return nil }); !errors.Is(err, unix.EBADF) {
			t.Errorf("got %v", err)
		}
	}
	thread.Close()
	thread.Close()
	if err := thread.In(-1, func() error { return nil }); !errors.Is(err, errThreadClosed) {
		t.Errorf("after the end: %v", err)
	}
}

func TestWhoMayEnterNamespacesIsToldSo(t *testing.T) {
	onOwnHost(t, func(t *testing.T) {
		home := here(t)
		if err := CanEnter("/proc"); err != nil {
			t.Error(err)
		}
		if now := here(t); now != home {
			t.Errorf("in %s, want %s", now, home)
		}
	})
}

func TestWhatNobodyLacksToEnterNamespacesIsSaid(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, nil, func(t *testing.T) {
		if os.Geteuid() == 0 {
			return // see above
		}
		err := CanEnter("/proc")
		if !errors.Is(err, unix.EACCES) || !errors.Is(err, unix.EPERM) {
			t.Fatalf("got %v", err)
		}
		for _, want := range []string{"/proc/1/ns/net", "CAP_SYS_PTRACE", "CAP_SYS_ADMIN"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want it to tell %s", err, want)
			}
		}
	})
}

func TestAFoundNamespaceCanBeEntered(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		process := sleeper(t)
		f := newFinder(t, "/proc")
		o := other(t, f, process.Process.Pid)
		if o == nil {
			t.Fatal("it was not found")
		}
		namespace, err := o.OpenNS()
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(namespace)
		if err := newThread(t).In(namespace, func() error {
			interfaces, err := net.Interfaces()
			if err == nil && len(interfaces) > 0 && interfaces[0].Flags&net.FlagUp != 0 {
				return fmt.Errorf("it has %v, want a loopback interface that is down", interfaces)
			}
			return err
		}); err != nil {
			t.Error(err)
		}
		process.kill()
		if fd, err := o.OpenNS(); !errors.Is(err, unix.ESRCH) {
			unix.Close(fd)
			t.Errorf("of a dead process: %v", err)
		}
	})
}
