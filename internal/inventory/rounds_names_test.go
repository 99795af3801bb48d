//go:build linux

package inventory

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/socket"
)

const (
	podUID      = "11111111-2222-3333-4444-555555555555"
	containerID = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

	podCgroup       = "/kubepods/burstable/pod" + podUID + "/" + containerID
	containerCgroup = "/docker/" + containerID
)

// inode returns the listener on port 80 of a namespace whose name another one has.
func inode(name string, p *pod) string { return fmt.Sprintf("%s-%d 80", name, p.found.Inode) }

func TestANamespaceIsCalledAfterItsPodItsContainerOrItsRunName(t *testing.T) {
	withHost(t, func(t *testing.T, h *host) {
		for _, p := range []struct{ cgroup, runName string }{
			{podCgroup, "cni-1"}, {containerCgroup, "docker"}, {"/system.slice/ssh.service", "blue"}, {"", "green"}, {"", ""},
		} {
			pod := h.add(80)
			pod.found.RunName = p.runName
			if p.cgroup != "" {
				pod.inside(t, p.cgroup)
			}
		}
		wantSeen(t, h.Snapshot(), podUID+" 80", containerID[:12]+" 80", "blue 80", "green 80", unknown(h.pods[4], 80))
	})
}

func TestNoTwoNamespacesHaveTheSameNameAndEachKeepsItsOwn(t *testing.T) {
	withHost(t, func(t *testing.T, h *host) {
		first, second, third := h.add(80), h.add(80), h.add(80)
		first.inside(t, podCgroup)
		second.inside(t, podCgroup)
		third.found.RunName = podUID
		for range 2 {
			wantSeen(t, h.Snapshot(), podUID+" 80", inode(podUID, second), inode(podUID, third))
		}
		second.inside(t, containerCgroup)
		h.remove(first)
		wantSeen(t, h.Snapshot(), inode(podUID, second), inode(podUID, third))
		h.add(80).inside(t, podCgroup) // now the name is free
		wantSeen(t, h.Snapshot(), podUID+" 80", inode(podUID, second), inode(podUID, third))
	})
}

func TestNoTwoNamespacesHaveTheSameNameWhateverTheyAreCalled(t *testing.T) {
	const number = "4026532002" // of the second one
	for name, runNames := range map[string][]string{
		"with_the_number_of_another":       {"x", "x", "x-" + number},
		"the_number_first":                 {"x-" + number, "x", "x"},
		"twice_with_the_number":            {"x", "x", "x-" + number, "x-" + number + "-2", "x-" + number},
		"like_one_without_a_name":          {"unknown-" + number, "", "unknown-" + number + "-" + number},
		"like_another_without_a_name":      {"unknown-" + number, "", "unknown-4026532002", ""},
		"like_a_pod":                       {podUID, "", podUID + "-" + number},
		"like_the_number_of_a_third":       {"", "x", "unknown-4026532004", "", "unknown-4026532004-4026532004"},
		"not_utf8_and_therefore_the_same":  {"x\uFFFD", "x\uFFFD", "x\uFFFD-" + number},
		"a_number_that_the_third_may_need": {"x", "x-4026532003", "x", "x-4026532003-2", "x-4026532004"},
	} {
		for _, together := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s_at_once_%t", name, together), func(t *testing.T) {
				withHost(t, func(t *testing.T, h *host) {
					for _, runName := range runNames {
						p := h.add(80)
						p.found.RunName = runName
						if name == "like_a_pod" && runName == "" {
							p.inside(t, podCgroup)
						}
						if !together {
							h.Snapshot()
						}
					}
					names := seen(h.Snapshot())
					if unique := slices.Compact(slices.Clone(names)); len(unique) != len(runNames) {
						t.Errorf("the names are %q, want %d different ones", names, len(runNames))
					}
					for range 3 { // each keeps its own
						h.remove(h.pods[0])
						names := names
						for _, name := range seen(h.Snapshot()) {
							if !slices.Contains(names, name) {
								t.Errorf("%s is new, want only names of %q", name, names)
							}
						}
						if len(h.pods) == 0 {
							break
						}
					}
				})
			})
		}
	}
}

func TestAtTheStartANameGoesToTheOldestNamespace(t *testing.T) {
	withHost(t, func(t *testing.T, h *host) {
		nested, outer, third := h.add(80), h.add(80), h.add(80)
		for p, started := range map[*pod]uint64{nested: 300, outer: 100, third: 200} {
			p.inside(t, podCgroup)
			p.found.Started = started
		}
		wantSeen(t, h.Snapshot(), inode(podUID, nested), podUID+" 80", inode(podUID, third))
		fourth := h.add(80) // though it started before all
		fourth.inside(t, podCgroup)
		wantSeen(t, h.Snapshot(), inode(podUID, nested), podUID+" 80", inode(podUID, third), inode(podUID, fourth))
	})
}

func TestAYoungNamespaceThatHasNoNameYetMayGetOne(t *testing.T) {
	for name, test := range map[string]struct {
		young   bool
		runName string
		rounds  int // before it is moved into its cgroup
		renamed bool
	}{
		"at_the_next_round": {true, "", 1, true},
		"at_the_last_round": {true, "", renameRounds, true},
		"too_late":          {true, "", renameRounds + 1, false},
		"not_young":         {false, "", 1, false},
		"it_has_a_name":     {true, "blue", 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			withHost(t, func(t *testing.T, h *host) {
				h.Snapshot()
				p := h.add(80)
				p.found.Young, p.found.RunName = test.young, test.runName
				p.inside(t, "/system.slice/crun.service")
				want := unknown(p, 80)
				if test.runName != "" {
					want = test.runName + " 80"
				}
				for range test.rounds {
					wantSeen(t, h.Snapshot(), want)
				}
				p.inside(t, podCgroup)
				if test.renamed {
					want = podUID + " 80"
				}
				for range 2 * renameRounds {
					s := h.Snapshot()
					wantSeen(t, s, want)
					if len(s.Gone) != 0 {
						t.Errorf("%v is gone", s.Gone)
					}
				}
				p.inside(t, containerCgroup)
				wantSeen(t, h.Snapshot(), want)
			})
		})
	}
}

func TestANamespaceThatTakesTheNumberOfADeadOneInheritsNothing(t *testing.T) {
	for name, cgroups := range map[string][2]string{
		"named": {podCgroup, containerCgroup}, "named_and_then_not": {podCgroup, "/"}, "not_named_both_times": {"/", "/"},
	} {
		t.Run(name, func(t *testing.T) {
			withHost(t, func(t *testing.T, h *host) {
				dead := h.add()
				dead.inside(t, cgroups[0])
				dead.listen(socket.UDP, dropping(at("0.0.0.0:53", 7), 10))
				h.Snapshot()
				dead.listen(socket.UDP, dropping(at("0.0.0.0:53", 7), 110))
				if got := drops(h.Snapshot()); got != 100 {
					t.Fatalf("%d drops, want 100", got)
				}
				h.remove(dead)
				next := h.add()
				next.found.Inode = dead.found.Inode
				next.inside(t, cgroups[1])
				next.listen(socket.UDP, dropping(at("0.0.0.0:53", 7), 3)) // the socket's ID is the same too
				s := h.Snapshot()
				wantSeen(t, s, map[string]string{"/": unknown(next, 53), containerCgroup: containerID[:12] + " 53"}[cgroups[1]])
				if got := drops(s); got != 3 || len(s.Gone) != 0 {
					t.Errorf("%d drops, and %v is kept, want 3 and nothing", got, s.Gone)
				}
			})
		})
	}
}

// drops returns those of the listeners outside the main namespace.
func drops(s *Snapshot) (sum uint64) {
	for _, l := range s.Listeners {
		if l.Netns != "" {
			sum += l.Drops
		}
	}
	return sum
}

func TestOnlyWhatWasThereAtTheStartHasNoFirstSeen(t *testing.T) {
	withHost(t, func(t *testing.T, h *host) {
		h.err = errors.New("not yet") // until they have been found once, none is new
		h.Snapshot()
		h.err = nil
		for range perRound + 10 {
			h.add(80)
		}
		h.add().listen(socket.UDP, dropping(at("0.0.0.0:53", 7), 1000))
		first := slices.Clone(h.pods)
		if got := drops(h.Snapshot()); got != 0 {
			t.Errorf("%d drops from before the start, want 0", got)
		}
		time.Sleep(time.Minute)
		appeared := time.Now()
		first[0].listen(socket.TCP, at("0.0.0.0:80", 1080), at("0.0.0.0:81", 81))
		later := h.add(80)
		later.listen(socket.UDP, dropping(at("0.0.0.0:53", 8), 5))
		h.Snapshot()
		s := h.Snapshot()
		if got, want := len(s.Listeners), 1+len(first)+3; got != want {
			t.Errorf("%d listeners, want %d", got, want)
		}
		if got := drops(s); got != 5 {
			t.Errorf("%d drops since the birth of a new namespace, want 5", got)
		}
		for _, l := range s.Listeners {
			want := time.Time{}
			if l.Netns+" 80" == unknown(later, 80) || l.Addr.Port() == 81 {
				want = appeared
			}
			if !l.FirstSeen.Equal(want) {
				t.Errorf("%s port %d: first seen %s, want %s", l.Netns, l.Addr.Port(), l.FirstSeen, want)
			}
		}
	})
}

func TestListenersOfOtherNamespacesAreLeftOutFirst(t *testing.T) {
	withHost(t, func(t *testing.T, h *host) {
		h.source.say(socket.TCP, has(at("0.0.0.0:8080", 1), at("0.0.0.0:9090", 2)))
		p := h.add(22, 23)
		s := h.Snapshot()
		wantPorts(t, s, "tcp 0.0.0.0:8080", "tcp 0.0.0.0:9090", "tcp 0.0.0.0:22")
		if got := seen(s); s.Omitted != 1 || len(got) != 1 || got[0] != unknown(p, 22) {
			t.Errorf("%d omitted, other namespaces: %v", s.Omitted, got)
		}
	}, func(o *Options) { o.MaxPorts = 3 })
}

func TestFiltersHoldInEveryNamespace(t *testing.T) {
	withHost(t, func(t *testing.T, h *host) {
		p := h.add()
		p.listen(socket.TCP, at("0.0.0.0:80", 1), at("127.0.0.1:81", 2), at("0.0.0.0:82", 3))
		p.listen(socket.UDP, at("0.0.0.0:53", 4), at("0.0.0.0:40000", 5))
		wantSeen(t, h.Snapshot(), unknown(p, 82), unknown(p, 53))
		time.Sleep(2 * time.Minute)
		wantSeen(t, h.Snapshot(), unknown(p, 82), unknown(p, 53), unknown(p, 40000))
	}, func(o *Options) { _ = errors.Join(o.PortExclude.Set("80"), o.ScopeExclude.Set("loopback")) })
}

func TestIfNothingChangedTheListenersAreTheSameOnes(t *testing.T) {
	for name, change := range map[string]func(h *host, a, b *pod){
		"a_queue": func(_ *host, _, b *pod) {
			b.listen(socket.TCP, socket.Socket{Addr: at("0.0.0.0:81", 0).Addr, ID: 81, Queue: 3})
		},
		"a_failure":              func(_ *host, _, b *pod) { b.fail(socket.TCP, errors.New("permission denied")) },
		"a_new_namespace":        func(h *host, _, _ *pod) { h.add(82) },
		"the_end_of_a_namespace": func(h *host, _, b *pod) { h.remove(b) },
	} {
		t.Run(name, func(t *testing.T) {
			withHost(t, func(t *testing.T, h *host) {
				h.source.say(socket.TCP, has(at("0.0.0.0:22", 1)), unchanged(at("0.0.0.0:22", 1)))
				h.source.say(socket.UDP, has(), unchanged())
				a, b := h.add(80), h.add(81)
				settled := func() *Snapshot {
					for range 2*goneAfter + 1 {
						h.Snapshot()
					}
					s := h.Snapshot()
					if next := h.Snapshot(); &next.Listeners[0] != &s.Listeners[0] {
						t.Error("nothing changed, and the listeners are others")
					}
					return s
				}
				before := settled()
				old := slices.Clone(before.Listeners)
				change(h, a, b)
				if next := h.Snapshot(); &next.Listeners[0] == &before.Listeners[0] {
					t.Error("a change, and the listeners are those of before")
				}
				b.fail(socket.TCP, nil)
				settled()
				if diff := cmp.Diff(old, before.Listeners, cmp.Comparer(func(a, b Key) bool { return a == b }), cmp.AllowUnexported(Listener{})); diff != "" {
					t.Errorf("an earlier snapshot has changed:\n%s", diff)
				}
			})
		})
	}
}
