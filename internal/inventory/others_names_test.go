package inventory

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/socket"
)

const (
	podUID      = "11111111-2222-3333-4444-555555555555"
	containerID = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

func TestANamespaceIsCalledAfterItsPodItsContainerOrItsRunName(t *testing.T) {
	h := newHost(t)
	for _, p := range []struct{ cgroup, runName string }{
		{cgroup: "/kubepods/burstable/pod" + podUID + "/" + containerID, runName: "cni-1"},
		{cgroup: "/docker/" + containerID, runName: "docker"},
		{cgroup: "/system.slice/ssh.service", runName: "blue"},
		{runName: "green"},
		{},
	} {
		pod := h.add(80)
		pod.found.RunName = p.runName
		if p.cgroup != "" {
			pod.inside(t, p.cgroup)
		}
	}
	s := h.scrape()
	wantError(t, s)
	wantSeen(t, s, podUID+" 80", containerID[:12]+" 80", "blue 80", "green 80", unknown(h.pods[4])+" 80")
}

func TestNoTwoNamespacesHaveTheSameName(t *testing.T) {
	h := newHost(t)
	first, second, third := h.add(80), h.add(80), h.add(80)
	for _, p := range []*pod{first, second} {
		p.inside(t, "/kubepods/pod"+podUID+"/"+containerID)
	}
	third.found.RunName = podUID
	suffix := func(p *pod) string { return fmt.Sprintf("%s-%d 80", podUID, p.found.Inode) }
	for range 2 {
		wantSeen(t, h.scrape(), podUID+" 80", suffix(second), suffix(third))
	}
	// The name lasts as long as the namespace, also where a shorter one is free.
	h.remove(first)
	wantSeen(t, h.scrape(), suffix(second), suffix(third))
	fourth := h.add(80)
	fourth.found.RunName = podUID
	wantSeen(t, h.scrape(), podUID+" 80", suffix(second), suffix(third))
}

func TestANameGoesToTheNamespaceThatWasThereFirst(t *testing.T) {
	h := newHost(t)
	nested, outer, third := h.add(80), h.add(80), h.add(80)
	for p, started := range map[*pod]uint64{nested: 300, outer: 100, third: 200} {
		p.inside(t, "/kubepods/pod"+podUID+"/"+containerID)
		p.found.Started = started
	}
	suffix := func(p *pod) string { return fmt.Sprintf("%s-%d 80", podUID, p.found.Inode) }
	wantSeen(t, h.scrape(), suffix(nested), podUID+" 80", suffix(third))
	// One that has a name keeps it, whatever claims it later.
	fourth := h.add(80)
	fourth.inside(t, "/kubepods/pod"+podUID+"/"+containerID)
	wantSeen(t, h.scrape(), suffix(nested), podUID+" 80", suffix(third), suffix(fourth))
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
			h := newHost(t)
			h.scrape()
			p := h.add(80)
			p.found.Young, p.found.RunName = test.young, test.runName
			p.inside(t, "/system.slice/crun.service")
			want := unknown(p)
			if test.runName != "" {
				want = test.runName
			}
			for range test.rounds {
				wantSeen(t, h.scrape(), want+" 80")
			}
			p.inside(t, "/kubepods/pod"+podUID+"/"+containerID)
			if test.renamed {
				want = podUID
			}
			for range 2 * renameRounds {
				s := h.scrape()
				wantSeen(t, s, want+" 80")
				if len(s.Gone) != 0 {
					t.Errorf("%v went", s.Gone)
				}
			}
			p.inside(t, "/docker/"+containerID)
			wantSeen(t, h.scrape(), want+" 80")
		})
	}
}

func TestANameLastsAsLongAsTheNamespace(t *testing.T) {
	h := newHost(t)
	p := h.add(80)
	p.inside(t, "/docker/"+containerID)
	wantSeen(t, h.scrape(), containerID[:12]+" 80")
	p.inside(t, "/kubepods/pod"+podUID+"/"+containerID)
	wantSeen(t, h.scrape(), containerID[:12]+" 80")
}

func TestANamespaceThatTakesTheNumberOfADeadOneInheritsNothing(t *testing.T) {
	for name, cgroups := range map[string][2]string{
		"named":               {"/kubepods/pod" + podUID + "/" + containerID, "/docker/" + containerID},
		"named_and_then_not":  {"/kubepods/pod" + podUID + "/" + containerID, "/"},
		"not_named_both_ways": {"/", "/"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			dead := h.add()
			dead.inside(t, cgroups[0])
			dead.listen(socket.UDP, dropping(at("0.0.0.0:53", 7), 10))
			h.scrape()
			dead.listen(socket.UDP, dropping(at("0.0.0.0:53", 7), 110))
			if got := drops(h.scrape()); got != 100 {
				t.Fatalf("%d drops, want 100", got)
			}
			h.remove(dead)
			next := h.add()
			next.found.Inode = dead.found.Inode
			next.inside(t, cgroups[1])
			next.listen(socket.UDP, dropping(at("0.0.0.0:53", 7), 3)) // the ID too is the same
			s := h.scrape()
			want := map[string]string{
				"/": unknown(next) + " 53", "/docker/" + containerID: containerID[:12] + " 53",
			}[cgroups[1]]
			wantSeen(t, s, want)
			if got := drops(s); got != 3 || len(s.Gone) != 0 {
				t.Errorf("%d drops, and %v is kept, want 3 and nothing", got, s.Gone)
			}
		})
	}
}

// drops returns those of the listeners beside the main namespace.
func drops(s *Snapshot) (sum uint64) {
	for _, l := range s.Listeners {
		if l.Netns != "" {
			sum += l.Drops
		}
	}
	return sum
}

func TestOnlyWhatWasThereAtTheStartHasNoFirstSeen(t *testing.T) {
	h := newHost(t)
	h.err = errors.New("not yet") // until they have been found once, none is new
	h.scrape()
	h.err = nil
	for range perRound + 10 { // some are read in the second round only
		h.add(80)
	}
	first := slices.Clone(h.pods)
	h.scrape()
	h.scrape()
	h.pass(time.Minute)
	appeared := h.now()
	first[0].listen(socket.TCP, at("0.0.0.0:80", 1080), at("0.0.0.0:81", 81))
	later := h.add(80)
	var s *Snapshot
	for range 3 {
		s = h.scrape()
	}
	if got, want := len(s.Listeners), 1+len(first)+2; got != want {
		t.Errorf("%d listeners, want %d", got, want)
	}
	for _, l := range s.Listeners {
		want := time.Time{}
		if l.Netns == unknown(later) || l.Addr.Port() == 81 {
			want = appeared
		}
		if !l.FirstSeen.Equal(want) {
			t.Errorf("%s port %d: first seen %s, want %s", l.Netns, l.Addr.Port(), l.FirstSeen, want)
		}
	}
}

func TestDropsOfANewNamespaceCountFromItsBirth(t *testing.T) {
	h := newHost(t)
	h.add().listen(socket.UDP, dropping(at("0.0.0.0:53", 7), 1000))
	if got := drops(h.scrape()); got != 0 {
		t.Errorf("%d drops of what was there at the start, want 0", got)
	}
	h.add().listen(socket.UDP, dropping(at("0.0.0.0:53", 8), 5))
	if got := drops(h.scrape()); got != 5 {
		t.Errorf("%d drops, want 5", got)
	}
}

func TestListenersOfOtherNamespacesAreLeftOutFirst(t *testing.T) {
	h := newHost(t, func(o *Options) { o.MaxPorts = 3 })
	h.source.say(socket.TCP, has(at("0.0.0.0:8080", 1), at("0.0.0.0:9090", 2)))
	h.add(22, 23)
	s := h.scrape()
	if s.Omitted != 1 {
		t.Errorf("%d omitted, want 1", s.Omitted)
	}
	wantPorts(t, s, "tcp 0.0.0.0:8080", "tcp 0.0.0.0:9090", "tcp 0.0.0.0:22")
	if got := s.Listeners[2].Netns; got != unknown(h.pods[0]) {
		t.Errorf("the last one is in %q", got)
	}
	h.source.say(socket.TCP, has(at("0.0.0.0:8080", 1), at("0.0.0.0:9090", 2), at("0.0.0.0:9091", 3), at("0.0.0.0:9092", 4)))
	s = h.scrape()
	wantPorts(t, s, "tcp 0.0.0.0:8080", "tcp 0.0.0.0:9090", "tcp 0.0.0.0:9091")
	if s.Omitted != 3 {
		t.Errorf("%d omitted, want 3", s.Omitted)
	}
}

func TestFiltersHoldInEveryNamespace(t *testing.T) {
	h := newHost(t, func(o *Options) {
		if err := o.PortExclude.Set("80"); err != nil {
			t.Fatal(err)
		}
		if err := o.ScopeExclude.Set("loopback"); err != nil {
			t.Fatal(err)
		}
	})
	p := h.add()
	p.listen(socket.TCP, at("0.0.0.0:80", 1), at("127.0.0.1:81", 2), at("0.0.0.0:82", 3))
	p.listen(socket.UDP, at("0.0.0.0:53", 4), at("0.0.0.0:40000", 5))
	wantSeen(t, h.scrape(), unknown(p)+" 82", unknown(p)+" 53")
	h.pass(2 * time.Minute)
	wantSeen(t, h.scrape(), unknown(p)+" 82", unknown(p)+" 53", unknown(p)+" 40000")
}

func TestWhereNothingChangedTheListenersAreTheSameOnes(t *testing.T) {
	h := newHost(t)
	h.source.say(socket.TCP, answer{rows: []socket.Socket{at("0.0.0.0:22", 1)}}, answer{rows: []socket.Socket{at("0.0.0.0:22", 1)}, same: true})
	h.source.say(socket.UDP, answer{}, answer{same: true})
	a, b := h.add(80), h.add(81)
	for range 2*goneAfter + 1 {
		h.scrape()
	}
	shares := func(x, y *Snapshot) bool { return &x.Listeners[0] == &y.Listeners[0] }
	s := h.scrape()
	if next := h.scrape(); !shares(s, next) {
		t.Error("nothing changed, and the listeners are others")
	}
	for _, step := range []struct {
		name   string
		change func()
	}{
		{"a listener", func() { a.listen(socket.TCP, at("0.0.0.0:80", 80), at("0.0.0.0:88", 88)) }},
		{"a queue", func() { b.listen(socket.TCP, socket.Socket{Addr: at("0.0.0.0:81", 0).Addr, ID: 81, Queue: 3}) }},
		{"a failure", func() { b.fail(socket.TCP, errors.New("permission denied")) }},
		{"a new namespace", func() { h.add(82) }},
		{"the end of a namespace", func() { h.remove(h.pods[len(h.pods)-1]) }},
	} {
		t.Run(step.name, func(t *testing.T) {
			before := h.scrape()
			old := slices.Clone(before.Listeners)
			step.change()
			if next := h.scrape(); shares(before, next) {
				t.Error("a change, and the listeners are those of before")
			}
			b.fail(socket.TCP, nil)
			for range goneAfter + 2 {
				s = h.scrape()
			}
			if next := h.scrape(); !shares(s, next) {
				t.Error("nothing changes anymore, and the listeners are others")
			}
			if diff := cmp.Diff(old, before.Listeners, cmp.Comparer(func(a, b Key) bool { return a == b }), cmp.AllowUnexported(Listener{})); diff != "" {
				t.Errorf("a snapshot that was made before has changed:\n%s", diff)
			}
		})
	}
}

func TestSnapshotsAtTheSameTimeWhileNamespacesChange(t *testing.T) {
	h := newHost(t)
	h.troubles.logger = log.NewNopLogger()
	stable := h.add(80)
	stop := make(chan struct{})
	var changes, readers sync.WaitGroup
	changes.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			p := h.add(1000 + n%100)
			p.listen(socket.UDP, dropping(at("0.0.0.0:53", 7), uint32(n)))
			if n%7 == 0 {
				p.fail(socket.TCP, errors.New("no such process"))
			}
			h.pass(time.Millisecond)
			if n >= 100 {
				h.mu.Lock()
				oldest := h.pods[1]
				h.mu.Unlock()
				h.remove(oldest)
			}
			time.Sleep(100 * time.Microsecond)
		}
	})
	h.scrape()
	for range 20 {
		readers.Go(func() {
			for range 100 {
				s := h.Snapshot()
				if s.Listeners[0].Netns != "" {
					t.Errorf("the main namespace is missing: %v", portsOf(s))
				}
				if s.Namespaces > perRound {
					continue // a new one may wait for its turn
				}
				if !slices.Contains(seen(s), unknown(stable)+" 80") {
					t.Errorf("the stable one is missing: %v", seen(s))
				}
			}
		})
	}
	readers.Wait()
	close(stop)
	changes.Wait()
}
