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

// resident is a process that lives in a network namespace of its own. It runs a shell command, as soon as it is told to.
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

// tell lets the command go on.
func (r *resident) tell(t *testing.T) {
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

func openNamespaces(t *testing.T, source string) (o *Namespaces, why error) {
	t.Helper()
	return OpenNamespaces(Config{Procfs: "/proc", Netns: "all", Source: source, Protocols: []Protocol{TCP, UDP}})
}

// find returns the namespaces by their numbers.
func find(t *testing.T, o *Namespaces) map[uint64]Namespace {
	t.Helper()
	found, omitted, err := o.Find()
	if err != nil || omitted != 0 {
		t.Fatal(err, omitted)
	}
	others := make(map[uint64]Namespace)
	for _, other := range found {
		others[other.Inode] = other
	}
	if len(others) != len(found) {
		t.Errorf("%d namespaces, with %d numbers", len(found), len(others))
	}
	return others
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

func TestOtherNamespacesGiveTheSameByNetlinkAndByProcfs(t *testing.T) {
	worlds := [][]string{
		{"tcp 0.0.0.0:80", "tcp [::]:8080", "tcp 127.0.0.1:81", "udp 0.0.0.0:53", "udp [::1]:53"},
		{"tcp [::]:80", "udp [::ffff:127.0.0.1]:53"},
		{"tcp 127.0.0.1:22"},
		{},
	}
	netnstest.RunAsHostAndNobody(t, func(t *testing.T) {
		for _, open := range worlds {
			settle(t, "", "", open...)
		}
	}, func(t *testing.T) {
		want := make(map[string]int)
		for _, open := range worlds {
			for _, words := range open {
				want[words]++
			}
		}
		netlink := 0
		for _, source := range []string{"auto", "procfs", "netlink"} {
			o, why := openNamespaces(t, source)
			if refused := os.Geteuid() != 0 && source != "procfs"; (why != nil) != refused {
				t.Errorf("%s: they cannot be entered: %v, want %t", source, why, refused)
			}
			if why != nil && !strings.Contains(why.Error(), "CAP_SYS_ADMIN") {
				t.Errorf("%s: %v, want what it takes", source, why)
			}
			for range 3 {
				others, got := find(t, o), make(map[string]int)
				for _, other := range others {
					for address, sockets := range other.addresses(t) {
						got[address] += sockets
					}
					if other.Source.Name() == "netlink" {
						netlink++
					}
				}
				if diff := cmp.Diff(want, got); diff != "" || len(others) != len(worlds) {
					t.Errorf("%s: %d namespaces with (-want +got):\n%s", source, len(others), diff)
				}
			}
		}
		if want := map[bool]int{true: 2 * 3 * len(worlds)}[os.Geteuid() == 0]; netlink != want {
			t.Errorf("%d times a namespace was read by netlink, want %d", netlink, want)
		}
	})
}

func TestARunNameIsKnownWhereItMayBe(t *testing.T) {
	netnstest.RunAsHostAndNobody(t, func(t *testing.T) {
		if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		if output, err := exec.Command("ip", "netns", "add", "blue").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
		settle(t, "/run/netns/blue", "")
		settle(t, "", "")
	}, func(t *testing.T) {
		o, _ := openNamespaces(t, "auto")
		for range 2 {
			got := make(map[string]int)
			for _, other := range find(t, o) {
				got[other.RunName]++
			}
			want := map[string]int{"blue": 1, "": 1}
			if os.Geteuid() != 0 {
				want = map[string]int{"": 2}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
		}
	})
}

func TestANamespaceThatCannotBeEnteredIsReadThroughProcfs(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		first := settle(t, "", "", "tcp 0.0.0.0:80").inode(t)
		o, why := openNamespaces(t, "auto")
		if why != nil {
			t.Fatal(why)
		}
		if got := find(t, o)[first].Source.Name(); got != "netlink" {
			t.Errorf("the source is %s, want netlink", got)
		}
		o.thread.Close() // nothing can be entered from now on
		second := settle(t, "", "", "tcp 0.0.0.0:81").inode(t)
		other := find(t, o)[second]
		if got := other.Source.Name(); got != "procfs" {
			t.Errorf("the source is %s, want procfs", got)
		}
		if diff := cmp.Diff(map[string]int{"tcp 0.0.0.0:81": 1}, other.addresses(t)); diff != "" {
			t.Errorf("what listens (-want +got):\n%s", diff)
		}
	})
}

// Not what listens in the namespace that it has gone to, which is another one's.
func TestAProcessThatHasLeftSaysNothingOfTheNamespace(t *testing.T) {
	for _, source := range []string{"auto", "procfs"} {
		t.Run(source, func(t *testing.T) {
			netnstest.RunAsHost(t, func(t *testing.T) {
				if _, err := exec.LookPath("nsenter"); err != nil {
					t.Skip("needs nsenter, of util-linux")
				}
				openedSocket{address: "0.0.0.0:22"}.open(t, TCP)
				o, _ := openNamespaces(t, source)
				leaves := settle(t, "", "exec nsenter --net=/proc/1/ns/net sleep 1000", "tcp 0.0.0.0:80")
				inode := leaves.inode(t)
				other := find(t, o)[inode]
				if diff := cmp.Diff(map[string]int{"tcp 0.0.0.0:80": 1}, other.addresses(t)); diff != "" {
					t.Fatalf("what listens (-want +got):\n%s", diff)
				}
				leaves.tell(t)
				for deadline := time.Now().Add(time.Minute); leaves.inode(t) == inode; time.Sleep(time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatal("it does not leave")
					}
				}
				for _, proto := range []Protocol{TCP, UDP} {
					if sockets, _, err := other.Source.Read(proto); err == nil {
						t.Errorf("%s: it has %v, want an error", proto, sockets)
					}
				}
				other.Leave()
				if other.Lives() {
					t.Error("it lives though nobody is there")
				}
				if others := find(t, o); len(others) != 0 {
					t.Errorf("there is %v", others)
				}
			})
		})
	}
}

func TestANamespaceThatHasEndedIsAnErrorAndThenNotFound(t *testing.T) {
	for _, source := range []string{"auto", "procfs"} {
		t.Run(source, func(t *testing.T) {
			netnstest.RunAsHost(t, func(t *testing.T) {
				o, _ := openNamespaces(t, source)
				ends := settle(t, "", "", "tcp 0.0.0.0:80")
				other := find(t, o)[ends.inode(t)]
				other.addresses(t)
				ends.end()
				if _, _, err := other.Source.Read(TCP); err == nil {
					t.Error("no error")
				}
				other.Leave()
				if other.Lives() || len(other.Members()) != 0 {
					t.Errorf("it lives, in %v", other.Members())
				}
				if others := find(t, o); len(others) != 0 {
					t.Errorf("there is %v", others)
				}
			})
		})
	}
}

func TestLeavingANamespaceClosesWhatIsOpenInIt(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		o, why := openNamespaces(t, "auto")
		if why != nil {
			t.Fatal(why)
		}
		for range 10 {
			settle(t, "", "", "tcp 0.0.0.0:80")
		}
		descriptors := func() int {
			entries, err := os.ReadDir("/proc/self/fd")
			if err != nil {
				t.Fatal(err)
			}
			return len(entries)
		}
		others := find(t, o)
		before := descriptors()
		for range 3 {
			for _, other := range others {
				other.addresses(t)
				if got := descriptors(); got != before {
					t.Errorf("%d descriptors after a reading, before it was %d", got, before)
				}
				other.Leave() // once more does nothing
			}
		}
	})
}
