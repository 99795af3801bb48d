//go:build linux

package netns

import (
	"errors"
	"fmt"
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

// anotherNamespace returns a descriptor of a network namespace that a Finder finds.
func anotherNamespace(t *testing.T) (fd int) {
	t.Helper()
	fd, err := findWitness(t, newFinder(t, "/proc"), sleeper(t)).OpenNS()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// openHome returns the way home, and checks that visits leave no descriptor behind.
func openHome(t *testing.T) *os.File {
	t.Helper()
	before := descriptors(t)
	home, err := OpenHome("/proc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = home.Close()
		if after := descriptors(t); after > before {
			t.Errorf("%d descriptors were open before and %d after", before, after)
		}
	})
	return home
}

func TestNoOtherGoroutineEverFindsItselfInTheNamespace(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		home := here(t)
		namespace := anotherNamespace(t)
		back := openHome(t)
		var others sync.WaitGroup
		var stop atomic.Bool
		for range 16 {
			others.Go(func() {
				for !stop.Load() {
					if now := here(t); now != home {
						t.Errorf("a goroutine is in %s, want %s", now, home)
						return
					}
					runtime.Gosched()
				}
			})
		}
		for n := range 1000 {
			err := Visit(back, namespace, func() error {
				runtime.Gosched() // others may run, on other threads
				if here(t) == home {
					return errors.New("still at home")
				}
				if unix.Gettid() == unix.Getpid() {
					return errors.New("on the first thread, whose namespace /proc/self/net shows")
				}
				if n%100 == 97 {
					panic("on purpose")
				}
				return nil
			})
			if wantErr := n%100 == 97; wantErr != (err != nil) {
				t.Fatalf("call %d: %v", n, err)
			}
		}
		stop.Store(true)
		others.Wait()
	})
}

func TestAThreadThatCannotComeBackEnds(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		home := here(t)
		namespace := anotherNamespace(t)
		back := openHome(t)
		broken := errors.New("broken on purpose")
		loseRights := func() error {
			header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			return unix.Capset(&header, &make([]unix.CapUserData, 2)[0]) // of this thread only
		}
		for _, test := range []struct {
			name  string
			do    func() error
			want  string
			stays bool
		}{
			{"it comes back", func() error { return nil }, "", true},
			{"an error", func() error { return broken }, "broken on purpose", true},
			{"a panic", func() error { panic(broken) }, "broken on purpose", true},
			{"the end of the goroutine", func() error { runtime.Goexit(); return nil }, errExited.Error(), false},
			{"no way back", loseRights, "", false},
			{"an error and no way back", func() error { return errors.Join(loseRights(), broken) }, "broken on purpose", false},
			{"a panic and no way back", func() error { panic(errors.Join(loseRights(), broken)) }, "broken on purpose", false},
		} {
			t.Run(test.name, func(t *testing.T) {
				tid := 0
				err := errExited // unless Visit returns
				done := make(chan struct{})
				go func() {
					defer close(done)
					err = Visit(back, namespace, func() error { tid = unix.Gettid(); return test.do() })
				}()
				<-done
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
			})
		}
		if err := Visit(back, -1, func() error { t.Error("entered nothing"); return nil }); !errors.Is(err, unix.EBADF) {
			t.Errorf("a descriptor that is not open: %v", err)
		}
		if err := back.Close(); err != nil {
			t.Fatal(err)
		}
		if err := Visit(back, namespace, func() error { t.Error("no way back"); return nil }); !errors.Is(err, errNoHome) {
			t.Errorf("without a way back: %v", err)
		}
	})
}

// onFirstThread has what the process's first thread is to do.
var onFirstThread = make(chan func())

func init() { runtime.LockOSThread() } // the main goroutine, which is on the first thread

func TestMain(m *testing.M) {
	code := make(chan int)
	go func() { code <- m.Run() }()
	for {
		select {
		case do := <-onFirstThread:
			do()
		case c := <-code:
			os.Exit(c)
		}
	}
}

func TestAVisitFromTheFirstThreadIsOnAnother(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		home := here(t)
		namespace := anotherNamespace(t)
		back := openHome(t)
		done := make(chan struct{})
		onFirstThread <- func() {
			defer close(done)
			if unix.Gettid() != unix.Getpid() {
				t.Error("this is not the first thread")
			}
			if err := Visit(back, namespace, func() error {
				if unix.Gettid() == unix.Getpid() || here(t) == home {
					return errors.New("on the first thread, or at home")
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
			if err := Visit(back, namespace, func() error { runtime.Goexit(); return nil }); !errors.Is(err, errExited) {
				t.Errorf("the end of the goroutine: %v", err)
			}
		}
		<-done
	})
}
