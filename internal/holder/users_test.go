//go:build linux

package holder

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// wantUIDVariable has what a process in a user namespace should know of the owner of descriptor 3.
const wantUIDVariable = "LISTEN_EXPORTER_HOLDERTEST_UID"

func TestAUserWithoutANumberInTheReadersNamespaceIsNotKnown(t *testing.T) {
	if want := os.Getenv(wantUIDVariable); want != "" {
		s := known(t, 3)
		f, err := New("/proc", "/sys")
		if err != nil {
			t.Logf("without cgroups: %v", err)
		}
		for round := 0; round == 0 || f.search != nil; round++ {
			if _, err := f.Find([]Socket{s}, round > 0); err != nil {
				t.Fatal(err)
			}
		}
		for _, h := range f.Holders(s) {
			if got := fmt.Sprintf("%d %t", h.UID, h.UIDUnknown); got != want {
				t.Errorf("of a socket of user %d: %s, want %s", s.UID, got, want)
			}
		}
		if len(f.Holders(s)) == 0 {
			t.Error("the socket has no holder")
		}
		return
	}
	netnstest.RunAsHost(t, func(t *testing.T) {
		const all = math.MaxUint32
		for _, c := range []struct {
			name      string
			owner     int
			mapped    uint32 // users from 0
			namespace bool
			want      string
		}{
			{"a user of the namespace", 42, 1000, true, "42 false"},
			{"a user outside of it", 4242, 1000, true, "0 true"},
			{"nobody outside of it", 65534, 1000, true, "0 true"},
			{"nobody inside, who may be anybody outside", 65534, 65536, true, "0 true"},
			{"a user inside next to nobody", 42, 65536, true, "42 false"},
			{"nobody where the namespace has all users", 65534, all, true, "65534 false"},
			{"nobody in the first namespace", 65534, 0, false, "65534 false"},
		} {
			t.Run(c.name, func(t *testing.T) {
				fds := pair(t)
				if err := unix.Fchown(fds[0], c.owner, -1); err != nil {
					t.Fatal(err)
				}
				file := os.NewFile(uintptr(fds[0]), "socket")
				cmd := exec.Command("/proc/self/exe", "-test.run=^TestAUserWithoutANumberInTheReadersNamespaceIsNotKnown$")
				cmd.Env = append(os.Environ(), wantUIDVariable+"="+c.want)
				cmd.ExtraFiles = []*os.File{file}
				if c.namespace {
					cmd.SysProcAttr = &syscall.SysProcAttr{
						Cloneflags:  syscall.CLONE_NEWUSER,
						UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: int(c.mapped)}},
						GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
					}
				}
				if output, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%v\n%s", err, output)
				}
				_ = file.Close()
			})
		}
	})
}
