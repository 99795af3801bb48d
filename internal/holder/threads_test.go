//go:build linux

package holder

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

func TestASocketInAThreadsDescriptorTableIsThatOfItsProcess(t *testing.T) {
	x := newFixture(t)
	x.process(100, "server")
	x.process(101, "exited")
	x.remove(x.fdDir(101))
	for file, inode := range map[string]int{"100/task/100/fd": 7, "100/task/105/fd": 1000, "101/task/101/fd": 0, "101/task/106/fd": 1001} {
		dir := filepath.Join(x.procfs, file)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if inode == 0 {
			continue
		}
		if err := os.Symlink(fmt.Sprintf("socket:[%d]", inode), dir+"/3"); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(x.fdDir(101), 0o755); err != nil { // the descriptors of a process whose first thread has exited
		t.Fatal(err)
	}
	x.write("100/task/105/cgroup", "0::/system.slice/a.service\n")
	x.write("101/task/106/cgroup", "0::/system.slice/b.service\n")
	sockets := []Socket{{ID: 1, Inode: 1000}, {ID: 2, Inode: 1001}}
	f := x.finder()
	x.patrol(f)
	x.find(f, sockets, false)
	x.want(f, sockets[1], Holder{Process: "exited", Unit: "b.service"})
	x.wantSoon(f, sockets, Holder{Process: "server", Unit: "a.service"})
	for range 8 {
		if x.find(f, sockets, true) {
			t.Error("nothing happened, but something changed")
		}
	}
}

// threadVariable says to a process of a test what to do with the socket that it is given.
const threadVariable = "LISTEN_EXPORTER_HOLDERTEST_THREAD"

func TestTheProcessOfAThreadThatHasASocketIsExact(t *testing.T) {
	if kind := os.Getenv(threadVariable); kind != "" {
		hideSocket(t, kind)
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	netnstest.RunAsHost(t, func(t *testing.T) {
		for _, kind := range []string{"the first thread has exited", "a table of its own"} {
			t.Run(kind, func(t *testing.T) {
				fds := pair(t)
				s := known(t, fds[0])
				file := os.NewFile(uintptr(fds[0]), "socket")
				cmd := exec.Command("/proc/self/exe", "-test.run=^TestTheProcessOfAThreadThatHasASocketIsExact$")
				cmd.Env = append(os.Environ(), threadVariable+"="+kind)
				cmd.ExtraFiles, cmd.Stderr = []*os.File{file}, os.Stderr
				end, err := cmd.StdinPipe()
				if err != nil {
					t.Fatal(err)
				}
				output, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = end.Close(); _ = cmd.Wait() })
				_ = file.Close()
				if line, err := bufio.NewReader(output).ReadString('\n'); line != "ready\n" {
					t.Fatalf("the process says %q: %v", line, err)
				}
				name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid))
				if err != nil {
					t.Fatal(err)
				}
				binary, err := os.Executable()
				if err != nil {
					t.Fatal(err)
				}
				f, err := New("/proc", "/sys")
				if err != nil {
					t.Logf("without cgroups: %v", err)
				}
				want := Holder{Process: strings.TrimSpace(string(name)), Executable: filepath.Base(binary)}
				wantHolders(t, f, s, want)
				if holders := f.Holders(s); len(holders) == 1 && holders[0].Executable != want.Executable {
					t.Errorf("executable %q, want %q", holders[0].Executable, want.Executable)
				}
				if !f.Exact(s) {
					t.Error("the holder is not exact")
				}
			})
		}
	})
}

// hideSocket hides the socket from /proc/<pid>/fd.
func hideSocket(t *testing.T, kind string) {
	const socket = 3
	hidden := make(chan error, 1)
	if kind == "a table of its own" {
		go func() {
			runtime.LockOSThread()
			hidden <- unix.Unshare(unix.CLONE_FILES)
			select {}
		}()
		if err := <-hidden; err != nil {
			t.Fatal(err)
		}
		if err := unix.Close(socket); err != nil {
			t.Fatal(err)
		}
		return
	}
	// Sooner or later one of these goroutines has the first thread, and then it has no other.
	for zombie := false; !zombie; time.Sleep(time.Millisecond) {
		go func() {
			runtime.LockOSThread()
			if unix.Gettid() == unix.Getpid() {
				_, _, _ = unix.Syscall(unix.SYS_EXIT, 0, 0, 0)
			}
			select {}
		}()
		stat, err := os.ReadFile("/proc/self/stat")
		zombie = err == nil && strings.Contains(string(stat), ") Z ")
	}
}

func TestTheProcessesOfAThreadedCgroupAreThoseWithThreadsInIt(t *testing.T) {
	if given := os.Getenv(groupVariable); given != "" {
		s, exact := Socket{ID: 1}, false
		if _, err := fmt.Sscan(given, &s.Inode, &s.Cgroup, &exact); err != nil {
			t.Fatal(err)
		}
		f, err := New("/proc", "/sys")
		if err != nil {
			t.Fatal(err)
		}
		wantHolders(t, f, s, Holder{Process: "qemu", Unit: "demo.service"})
		if f.Exact(s) != exact {
			t.Errorf("exact: %t", f.Exact(s))
		}
		return
	}
	netnstest.RunAsHost(t, func(t *testing.T) {
		group := netnstest.NewCgroup(t, "demo.service")
		threaded := group.Sibling(t, "demo.service/emulator")
		if err := os.WriteFile(threaded.Dir+"/cgroup.type", []byte("threaded"), 0o644); err != nil {
			t.Fatal(err)
		}
		fds := pair(t)
		inode := known(t, fds[0]).Inode
		process := netnstest.HandOver(t, netnstest.Program{Name: "qemu", Cgroup: group, UID: 4242, Sockets: fds})
		threaded.Add(t, process.PID)
		if _, err := os.ReadFile(threaded.Dir + "/cgroup.procs"); !errors.Is(err, unix.EOPNOTSUPP) {
			t.Fatalf("reading cgroup.procs: %v, want %v", err, unix.EOPNOTSUPP)
		}
		binary, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		for name, rights := range map[string]netnstest.Rights{"as root": netnstest.AsRoot, "as nobody": netnstest.AsNobody} {
			t.Run(name, func(t *testing.T) {
				cmd := rights.Command(t, binary, "-test.run=^TestTheProcessesOfAThreadedCgroupAreThoseWithThreadsInIt$")
				cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d %t", groupVariable, inode, threaded.ID, rights == netnstest.AsRoot))
				if output, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%v\n%s", err, output)
				}
			})
		}
	})
}
