//go:build linux

package inventory_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// inhabitants are processes of a network namespace, the first of which listens.
var inhabitants = []struct {
	name      string
	processes [][2]string // name and cgroup
	want      []inventory.Holder
	exact     inventory.Holder
}{
	{
		name:      "one container",
		processes: [][2]string{{"web", "docker-A.scope"}, {"web", "docker-A.scope/worker"}},
		want:      []inventory.Holder{{Process: "web", ContainerID: containerA}},
		exact:     inventory.Holder{Process: "web", ContainerID: containerA},
	},
	{
		name:      "a container of several programs",
		processes: [][2]string{{"web", "docker-A.scope"}, {"db", "docker-A.scope"}, {"log", "docker-A.scope"}, {"cron", "docker-A.scope"}},
		want:      []inventory.Holder{{ContainerID: containerA}},
		exact:     inventory.Holder{Process: "web", ContainerID: containerA},
	},
	{
		name:      "a pod of several containers",
		processes: [][2]string{{"web", podSlice + "/cri-containerd-A.scope"}, {"pause", podSlice + "/cri-containerd-B.scope"}},
		want:      []inventory.Holder{{PodUID: podID}},
		exact:     inventory.Holder{Process: "web", ContainerID: containerA, PodUID: podID},
	},
	{
		name:      "a container in a service",
		processes: [][2]string{{"web", "web.service/libpod-payload-A"}},
		want:      []inventory.Holder{{Process: "web", Unit: "web.service", ContainerID: containerA}},
		exact:     inventory.Holder{Process: "web", Unit: "web.service", ContainerID: containerA},
	},
	{
		name:      "LXC",
		processes: [][2]string{{"web", "lxc.payload.shop/system.slice/web.service"}, {"sshd", "lxc.payload.shop/system.slice/ssh.service"}},
		want:      []inventory.Holder{{ContainerID: "shop"}},
		exact:     inventory.Holder{Process: "web", ContainerID: "shop"},
	},
	{
		name:      "systemd-nspawn",
		processes: [][2]string{{"web", "machine.slice/machine-shop.scope/payload"}, {"web", "machine.slice/machine-shop.scope/supervisor"}},
		want:      []inventory.Holder{{Process: "web", Unit: "machine-shop.scope"}},
		exact:     inventory.Holder{Process: "web", Unit: "machine-shop.scope"},
	},
	{
		name: "a fourth process is elsewhere",
		processes: [][2]string{
			{"web", "docker-A.scope"}, {"web", "docker-A.scope"}, {"web", "docker-A.scope"}, {"web", "docker-A.scope"}, {"web", "other.service"},
		},
		exact: inventory.Holder{Process: "web", ContainerID: containerA},
	},
	{
		name:      "no container",
		processes: [][2]string{{"web", "web.service"}},
		exact:     inventory.Holder{Process: "web", Unit: "web.service"},
	},
}

const (
	podID    = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	podSlice = "kubepods.slice/kubepods-pod6ba7b810_9dad_11d1_80b4_00c04fd430c8.slice"
)

var (
	containerA = strings.Repeat("a1", 32)
	containerB = strings.Repeat("b2", 32)
)

func TestTheContainerOfAllProcessesOfANamespaceHoldsItsSockets(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		const first = 7000
		var inFirst int // a process of the first namespace
		for n, c := range inhabitants {
			groups := make(map[string]*netnstest.Cgroup)
			elsewhere(t, "", func() error {
				fd, err := netnstest.Listen("tcp", fmt.Sprintf("0.0.0.0:%d", first+n))
				if err != nil {
					return err
				}
				for number, p := range c.processes {
					cgroup := strings.NewReplacer("A", containerA, "B", containerB).Replace(p[1])
					if groups[cgroup] == nil {
						groups[cgroup] = netnstest.NewCgroup(t, cgroup)
					}
					program := netnstest.Program{Name: p[0], Cgroup: groups[cgroup], UID: serviceUser}
					if number == 0 {
						program.Sockets = []int{fd}
						if pid := netnstest.HandOver(t, program).PID; n == 0 {
							inFirst = pid
						}
						continue
					}
					netnstest.Start(t, program)
				}
				return nil
			})
		}
		for name, rights := range map[string]netnstest.Rights{"as root": netnstest.AsRoot, "as nobody": netnstest.AsNobody} {
			t.Run(name, func(t *testing.T) {
				reader := startReader(t, rights, task{Options: optionsOf("procfs", func(o *inventory.Options) { o.Netns, o.Holders = "all", true })})
				s := reader.snapshot(t)
				defer withdrawn(t, rights, reader, inFirst, first)
				for n, c := range inhabitants {
					want := c.want
					if rights == netnstest.AsRoot {
						want = []inventory.Holder{c.exact}
					}
					l := holdersOf(t, s, uint16(first+n))
					if diff := cmp.Diff(want, l.Holders); diff != "" {
						t.Errorf("%s (-want +got):\n%s", c.name, diff)
					}
					if l.Exact != (rights == netnstest.AsRoot) {
						t.Errorf("%s: exact: %t", c.name, l.Exact)
					}
				}
			})
		}
	})
}

// withdrawn fails the test unless a container is no longer known to hold a port, once a process of another one is in the namespace.
func withdrawn(t *testing.T, rights netnstest.Rights, reader *reader, inNamespace int, port uint16) {
	t.Helper()
	if rights == netnstest.AsRoot {
		return
	}
	var intruder *netnstest.Process
	elsewhere(t, fmt.Sprintf("/proc/%d/ns/net", inNamespace), func() error {
		intruder = netnstest.Start(t, netnstest.Program{Name: "web", Cgroup: netnstest.NewCgroup(t, "intruder.service"), UID: serviceUser})
		return nil
	})
	holders := func(expected func([]inventory.Holder) bool) (got []inventory.Holder) {
		for range 20 { // a busy machine may show a process of the namespace only at a later look
			if got = holdersOf(t, reader.snapshot(t), port).Holders; expected(got) {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		return got
	}
	if got := holders(func(got []inventory.Holder) bool { return len(got) == 0 }); len(got) != 0 {
		t.Errorf("with a process of another unit in the namespace: %+v, want none", got)
	}
	intruder.End(t)
	known := func(got []inventory.Holder) bool { return len(got) == 1 && got[0].ContainerID == containerA }
	if got := holders(known); !known(got) {
		t.Errorf("when it has ended: %+v, want the container", got)
	}
}
