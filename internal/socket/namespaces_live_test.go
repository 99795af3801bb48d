package socket

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// resident is a process that lives in a network namespace of its own. It runs a shell command when it may proceed.
type resident struct {
	*exec.Cmd
	input io.WriteCloser
}

// settle starts a process in a fresh network namespace, or in that with a path, after open has opened sockets there, which it then
// has.
func settle(t *testing.T, path, command string, open ...string) *resident {
	t.Helper()
	r := &resident{Cmd: exec.Command("sh", "-c", "read go; "+command)}
	if err := netnstest.Elsewhere(path, func() (err error) {
		for _, words := range open {
			proto, address, _ := strings.Cut(words, " ")
			fd, err := netnstest.Listen(proto, address)
			if err != nil {
				return err
			}
			file := os.NewFile(uintptr(fd), "socket")
			defer file.Close()
			r.ExtraFiles = append(r.ExtraFiles, file)
		}
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
	if len(byInode) != len(found) {
		t.Errorf("%d namespaces, with %d numbers", len(found), len(byInode))
	}
	return byInode
}

// addresses returns what listens in a namespace.
func (n Namespace) addresses(t *testing.T) map[string]int {
	t.Helper()
	defer n.Leave()
	addresses := make(map[string]int)
	for _, proto := range []Protocol{TCP, UDP} {
		sockets, _, err := n.Source.Read(proto)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range sockets {
			addresses[proto.String()+" "+s.Addr.String()]++
		}
	}
	return addresses
}

func TestANamespaceThatCannotBeEnteredIsReadThroughProcfs(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		first := settle(t, "", "", "tcp 0.0.0.0:80").inode(t)
		n, notEntered := openNamespaces(t, "auto")
		if notEntered != nil {
			t.Fatal(notEntered)
		}
		if got := find(t, n)[first].Source.Name(); got != "netlink" {
			t.Errorf("the source is %s, want netlink", got)
		}
		n.thread.Close() // nothing can be entered from now on
		second := settle(t, "", "", "tcp 0.0.0.0:81").inode(t)
		other := find(t, n)[second]
		if got := other.Source.Name(); got != "procfs" {
			t.Errorf("the source is %s, want procfs", got)
		}
		if diff := cmp.Diff(map[string]int{"tcp 0.0.0.0:81": 1}, other.addresses(t)); diff != "" {
			t.Errorf("what listens (-want +got):\n%s", diff)
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
					process := settle(t, "", "exec nsenter --net=/proc/1/ns/net sleep 1000", "tcp 0.0.0.0:80")
					inode := process.inode(t)
					namespace := find(t, n)[inode]
					if diff := cmp.Diff(map[string]int{"tcp 0.0.0.0:80": 1}, namespace.addresses(t)); diff != "" {
						t.Fatalf("what listens (-want +got):\n%s", diff)
					}
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
