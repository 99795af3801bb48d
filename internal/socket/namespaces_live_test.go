//go:build linux

package socket

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// resident is a process that lives in a network namespace of its own. It runs a shell command when it may proceed.
type resident struct {
	*exec.Cmd
	input io.WriteCloser
}

// settle starts a process in a fresh network namespace, which listens on a TCP port there, after what prepares the namespace.
func settle(t *testing.T, port int, command string, prepare ...func() error) *resident {
	t.Helper()
	r := &resident{Cmd: exec.Command("sh", "-c", "read go; "+command)}
	if err := netnstest.Elsewhere("", func() error {
		for _, do := range prepare {
			if err := do(); err != nil {
				return err
			}
		}
		fd, err := netnstest.Listen("tcp", fmt.Sprintf("0.0.0.0:%d", port))
		if err != nil {
			return err
		}
		file := os.NewFile(uintptr(fd), "socket")
		defer file.Close() // the process has it
		r.ExtraFiles = []*os.File{file}
		if r.input, err = r.StdinPipe(); err != nil {
			return err
		}
		return r.Start()
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.end)
	return r
}

// proceed lets the command run.
func (r *resident) proceed(t *testing.T) {
	t.Helper()
	if _, err := io.WriteString(r.input, "\n"); err != nil {
		t.Fatal(err)
	}
}

// end may be called again.
func (r *resident) end() {
	if r.ProcessState == nil {
		_ = r.Process.Kill()
		_ = r.Wait()
	}
}

func (r *resident) inode(t *testing.T) uint64 {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/net/tcp", r.Process.Pid), &stat); err != nil {
		t.Fatal(err)
	}
	return stat.Ino
}

func openNamespaces(t *testing.T, source string) (n *Namespaces, notEntered error) {
	t.Helper()
	return OpenNamespaces(Config{Procfs: "/proc", Netns: "all", Source: source, Protocols: []Protocol{TCP, UDP}})
}

// find returns the namespaces by their numbers.
func find(t *testing.T, n *Namespaces) map[uint64]Namespace {
	t.Helper()
	found, omitted, err := n.Find()
	if err != nil || omitted != 0 {
		t.Fatal(err, omitted)
	}
	byInode := make(map[uint64]Namespace)
	for _, namespace := range found {
		byInode[namespace.Inode] = namespace
	}
	return byInode
}

// wantListener fails the test unless a TCP port is all that listens in a namespace.
func (n Namespace) wantListener(t *testing.T, port uint16) {
	t.Helper()
	defer n.Leave()
	if sockets := readLive(t, n.Source, TCP); len(sockets) != 1 || sockets[0].Addr.Port() != port {
		t.Fatalf("what listens is %+v, want port %d", sockets, port)
	}
	if sockets := readLive(t, n.Source, UDP); len(sockets) != 0 {
		t.Fatalf("what listens is %+v, want no UDP port", sockets)
	}
}

func TestANamespaceThatCannotBeEnteredIsReadThroughProcfs(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		first := settle(t, 80, "").inode(t)
		n, notEntered := openNamespaces(t, "auto")
		if notEntered != nil {
			t.Fatal(notEntered)
		}
		one := find(t, n)[first]
		one.wantListener(t, 80)
		if got := one.Source.Name(); got != "netlink" {
			t.Errorf("the source is %s, want netlink", got)
		}
		if err := n.home.Close(); err != nil { // nothing can be entered from now on
			t.Fatal(err)
		}
		second := settle(t, 81, "").inode(t)
		other := find(t, n)[second]
		other.wantListener(t, 81)
		if got := other.Source.Name(); got != "procfs" {
			t.Errorf("the source is %s, want procfs", got)
		}
	})
}

// A process that has left must not be asked: it shows what listens in the namespace that it has entered.
func TestANamespaceThatItsProcessLeavesOrEndsIsAnErrorAndThenNotFound(t *testing.T) {
	for _, source := range []string{"auto", "procfs"} {
		t.Run(source, func(t *testing.T) {
			netnstest.RunAsHost(t, func(t *testing.T) {
				if _, err := exec.LookPath("nsenter"); err != nil {
					t.Skip("needs nsenter, of util-linux")
				}
				openedSocket{address: "0.0.0.0:22"}.open(t, TCP)
				for _, leaves := range []bool{true, false} {
					n, _ := openNamespaces(t, source)
					process := settle(t, 80, "exec nsenter --net=/proc/1/ns/net sleep 1000")
					inode := process.inode(t)
					namespace := find(t, n)[inode]
					namespace.wantListener(t, 80)
					if leaves {
						process.proceed(t)
						for deadline := time.Now().Add(time.Minute); process.inode(t) == inode; time.Sleep(time.Millisecond) {
							if time.Now().After(deadline) {
								t.Fatal("it does not leave")
							}
						}
					} else {
						process.end()
					}
					for _, proto := range []Protocol{TCP, UDP} {
						if sockets, _, err := namespace.Source.Read(proto); err == nil {
							t.Errorf("%s: it has %v, want an error", proto, sockets)
						}
					}
					namespace.Leave()
					if namespace.Lives() || len(namespace.Members()) != 0 {
						t.Errorf("it lives, in %v", namespace.Members())
					}
					if found := find(t, n); len(found) != 0 {
						t.Errorf("found %v", found)
					}
				}
			})
		})
	}
}
