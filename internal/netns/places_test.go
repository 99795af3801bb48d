//go:build linux

package netns

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// own makes a process in a namespace of its own, and says whose it is.
func (h fakeHost) own(pid int, cgroup string, uid int) {
	h.t.Helper()
	h.write(fmt.Sprintf("%d/cgroup", pid), "1:net_cls:/other\n0::"+cgroup+"\n")
	h.write(fmt.Sprintf("%d/status", pid), fmt.Sprintf("Name:\tx\nUid:\t%d\t0\t0\t0\n", uid))
	h.add(pid, strconv.Itoa(pid))
}

const (
	alice   = "/user.slice/user-1000.slice/"
	bob     = "/user.slice/user-1001.slice/"
	web     = "/system.slice/web.service"
	cron    = "/system.slice/cron.service"
	kubePod = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod11111111_2222_3333_4444_555555555555.slice"
)

func TestPlacesAreSharedFairlyBetweenCgroupsAndThenUsers(t *testing.T) {
	type namespaces struct {
		cgroup string
		uid    int
		count  int
	}
	for name, test := range map[string]struct {
		arrive []namespaces // one after the other
		want   []int        // how many of each are kept, of 12
	}{
		"a_user_and_a_service":        {[]namespaces{{alice + "session-1.scope", 1000, 30}, {web, 33, 1}}, []int{11, 1}},
		"a_user_and_three_others":     {[]namespaces{{alice + "session-1.scope", 1000, 30}, {web, 33, 2}, {kubePod + "/cri-containerd-x.scope", 0, 1}, {bob + "session-2.scope", 1001, 2}}, []int{7, 2, 1, 2}},
		"all_want_many":               {[]namespaces{{alice + "session-1.scope", 1000, 30}, {bob + "session-2.scope", 1001, 30}, {web, 33, 30}}, []int{4, 4, 4}},
		"delegated_cgroups_are_one":   {[]namespaces{{alice + "user@1000.service/a.service", 1000, 10}, {alice + "user@1000.service/pod11111111-2222-3333-4444-555555555555", 1000, 10}, {bob + "session-2.scope", 1001, 6}}, []int{6, 0, 6}},
		"the_first_come_stays":        {[]namespaces{{web, 33, 12}, {web, 33, 10}}, []int{12, 0}},
		"users_of_a_service":          {[]namespaces{{cron, 1000, 30}, {cron, 1001, 2}, {cron, 0, 1}}, []int{9, 2, 1}},
		"users_after_services":        {[]namespaces{{cron, 1000, 30}, {cron, 1001, 30}, {web, 33, 30}}, []int{3, 3, 6}},
		"pods_are_each_one":           {[]namespaces{{kubePod + "/a", 0, 30}, {kubePod + "/b", 0, 30}, {strings.Replace(kubePod, "pod1", "pod2", 1), 0, 30}}, []int{6, 0, 6}},
		"few_of_each":                 {[]namespaces{{alice, 1000, 4}, {bob, 1001, 4}, {web, 33, 4}}, []int{4, 4, 4}},
		"an_exited_shares_nothing":    {[]namespaces{{alice, 1000, 12}, {bob, 1001, 0}}, []int{12, 0}},
		"a_group_smaller_by_only_one": {[]namespaces{{alice, 1000, 6}, {bob, 1001, 6}, {bob, 1002, 1}}, []int{6, 5, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newFakeHost(t)
			f := newFinder(t, h.dir)
			f.maxNamespaces = 12
			pid, all := 10, 0
			for n, these := range test.arrive {
				for range these.count {
					h.own(1000*n+pid, these.cgroup, these.uid)
					pid++
					all++
				}
				membersOf(t, f)
			}
			for round := range 3 { // nothing changes hands
				kept := make([]int, len(test.want))
				found := membersOf(t, f)
				for _, members := range found {
					kept[members[0]/1000]++
				}
				if diff := cmp.Diff(test.want, kept); diff != "" || f.Omitted() != all-len(found) {
					t.Errorf("round %d: %d of %d left out, kept (-want +got):\n%s", round, f.Omitted(), all, diff)
				}
			}
			before := membersOf(t, f)
			if diff := cmp.Diff(before, membersOf(t, f)); diff != "" {
				t.Errorf("nothing began or ended, and others are kept (-before +after):\n%s", diff)
			}
		})
	}
}

func TestAContainerThatWasMovedToItsCgroupIsNotGivenUpForItsRuntime(t *testing.T) {
	h := newFakeHost(t)
	f := newFinder(t, h.dir)
	f.maxNamespaces = 3
	for pid := 10; pid < 13; pid++ {
		h.own(pid, "/system.slice/runc.service", 0)
	}
	before := membersOf(t, f)
	h.own(13, "/system.slice/runc.service", 0)
	membersOf(t, f) // their owners are known now
	for pid := 10; pid < 13; pid++ {
		h.write(fmt.Sprintf("%d/cgroup", pid), fmt.Sprintf("0::/docker/%064x\n", pid))
	}
	h.own(14, web, 33)
	if diff := cmp.Diff(before, membersOf(t, f)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAGroupOfCgroupsIsWhatItsUsersCannotChoose(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	pod := "pod11111111-2222-3333-4444-555555555555"
	for path, want := range map[string]string{
		"/":           "",
		"/init.scope": "init.scope",
		"/user.slice/user-1000.slice/session-3.scope":                            "user.slice/user-1000.slice",
		"/user.slice/user-1000.slice/user@1000.service/app.slice/x.slice/" + pod: "user.slice/user-1000.slice",
		"/user.slice/user-1000.slice":                                            "user.slice/user-1000.slice",
		"/user.slice":                                                            "user.slice",
		"/system.slice/ssh.service":                                              "system.slice/ssh.service",
		"/system.slice/runner.service/kubepods/" + pod + "/" + id:                "system.slice/runner.service",
		"/system.slice/system-getty.slice/getty@tty1.service":                    "system.slice/system-getty.slice/getty@tty1.service",
		"/system.slice/docker-" + id + ".scope/init/x":                           "system.slice/docker-" + id + ".scope",
		"/docker/" + id + "/x/y":                                                 "docker/" + id,
		"/machine.slice/libpod-" + id + ".scope/container":                       "machine.slice/libpod-" + id + ".scope",
		"/kubepods/burstable/" + pod + "/" + id:                                  "kubepods/burstable/" + pod,
		"/kubepods/" + pod + "/" + id:                                            "kubepods/" + pod,
		"/kubelet/kubepods/besteffort/" + pod + "/" + id:                         "kubelet/kubepods/besteffort/" + pod,
		kubePod + "/cri-containerd-" + id + ".scope":                             strings.TrimPrefix(kubePod, "/"),
		"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-" + strings.ReplaceAll(pod, "-", "_") + ".slice/x": "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-" + strings.ReplaceAll(pod, "-", "_") + ".slice",
		"/system.slice/k3s.service/kubepods/" + pod + "/" + id:                                                     "system.slice/k3s.service/kubepods/" + pod,
		"/lxc.payload.web/system.slice/nginx.service":                                                              "lxc.payload.web",
		"/lxc/web/system.slice/nginx.service":                                                                      "lxc/web",
		"/../../" + "docker/" + id:                                                                                 "docker/" + id,
	} {
		if got := groupOf(path); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
}

func TestAUserWithManyNamespacesDoesNotHideThatOfAnother(t *testing.T) {
	const many, variable = 20, "LISTEN_EXPORTER_TEST_OTHER_NAMESPACE"
	netnstest.RunAsHostAndNobody(t, func(t *testing.T) {
		user := netnstest.NewCgroup(t, "/user.slice/user-4242.slice/session-1.scope")
		pid := netnstest.Hold(t, 0, func() {
			for range many {
				if _, _, err := netnstest.StayElsewhere(func() error { return nil }); err != nil {
					t.Fatal(err)
				}
			}
		})
		user.Add(t, pid)
		f := newFinder(t, "/proc")
		f.maxNamespaces = many / 2
		for range 3 {
			membersOf(t, f)
		}
		service := netnstest.NewCgroup(t, "other.service") // before the process, which must have ended when it is removed
		other := sleeper(t)
		service.Add(t, other.Process.Pid)
		t.Setenv(variable, strconv.FormatUint(other.inode(t), 10))
		if findWitness(t, f, other); f.Omitted() != many+2-f.maxNamespaces {
			t.Errorf("%d left out, want %d", f.Omitted(), many+2-f.maxNamespaces)
		}
	}, func(t *testing.T) {
		want := os.Getenv(variable)
		f := newFinder(t, "/proc")
		f.maxNamespaces = many / 2
		for range 3 {
			others, err := f.Find()
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, o := range others {
				found = found || strconv.FormatUint(o.Inode, 10) == want
			}
			if !found || len(others) != f.maxNamespaces {
				t.Errorf("%d namespaces, the other one is among them: %t, want %d", len(others), found, f.maxNamespaces)
			}
		}
	})
}
