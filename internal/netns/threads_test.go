//go:build linux

package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// addThread makes a thread of a process. Its number is also when it started.
func (h fakeHost) addThread(pid, tid int, namespace string) {
	h.t.Helper()
	task := fmt.Sprintf("%d/task/%d", pid, tid)
	h.write(task+"/stat", fmt.Sprintf("%d (thread) S %s 0 %d 0 0", tid, "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0", tid))
	h.enter(task, namespace)
}

// endThread ends a thread, or the first one of a process that goes on.
func (h fakeHost) endThread(pid, tid int) {
	h.t.Helper()
	process := filepath.Join(h.dir, strconv.Itoa(pid))
	err := os.RemoveAll(filepath.Join(process, "task", strconv.Itoa(tid)))
	if pid == tid {
		err = errors.Join(err, os.RemoveAll(filepath.Join(process, "net")))
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

func TestANamespaceLivesWhileAnyThreadOfAKnownProcessIsInIt(t *testing.T) {
	for name, test := range map[string]struct {
		happens func(h fakeHost)
		want    map[uint64][]int
	}{
		"the_first_thread_ends":         {func(h fakeHost) { h.endThread(10, 10) }, map[uint64][]int{1: {11}}},
		"the_first_thread_leaves":       {func(h fakeHost) { h.enter("10", "main") }, map[uint64][]int{1: {11}}},
		"the_first_thread_goes_further": {func(h fakeHost) { h.enter("10", "further") }, map[uint64][]int{1: {11}, 2: {10}}},
		"two_threads_end":               {func(h fakeHost) { h.endThread(10, 10); h.endThread(10, 11) }, map[uint64][]int{1: {12}}},
		"all_threads_end":               {func(h fakeHost) { h.kill(10) }, map[uint64][]int{}},
		"another_thread_leaves":         {func(h fakeHost) { h.enter("10/task/12", "main") }, map[uint64][]int{1: {10}}},
		"one_alone_stays_elsewhere": {func(h fakeHost) {
			h.endThread(10, 10)
			h.enter("10/task/11", "further")
			h.enter("10/task/12", "further")
		}, map[uint64][]int{2: {11, 12}}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newFakeHost(t)
			h.add(10, "pod")
			f := newFinder(t, h.dir)
			membersOf(t, f)
			h.addThread(10, 10, "pod")
			h.addThread(10, 11, "pod")
			h.addThread(10, 12, "pod")
			test.happens(h)
			for range 2 {
				got := membersOf(t, f)
				for serial, members := range got { // more may have become witnesses
					if want := test.want[serial]; len(want) > 0 && slices.Contains(members, want[0]) {
						got[serial] = want
					}
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestAThreadThatTakesThePlaceOfAThreadKeepsTheNamespace(t *testing.T) {
	h := newFakeHost(t)
	h.addThread(10, 11, "pod")
	f := newFinder(t, h.dir)
	for tid := 12; tid < 20; tid++ {
		h.addThread(10, tid, "pod")
		h.endThread(10, tid-1)
		if tid == 12 {
			membersOf(t, f)
			continue
		}
		if got := membersOf(t, f); len(got) != 1 || got[1] == nil {
			t.Fatalf("thread %d: got %v, want the first namespace", tid, got)
		}
	}
	others, err := f.Find()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := viewOf(t, others[0]).DirForPeople, filepath.Join(h.dir, "10/task/19"); got != want {
		t.Errorf("it is called %s, want %s", got, want)
	}
}

func TestTheThreadsOfAProcessWhoseFirstOneHasEndedAreLookedAtAtOnce(t *testing.T) {
	h, f := crowd(t, 2*maxThreads)
	h.addThread(9999, 10_000, "main")
	h.addThread(9999, 10_001, "pod")
	h.addThread(9999, 10_002, "another")
	if got := membersOf(t, f); len(got) != 2 {
		t.Errorf("got %v, want two namespaces", got)
	}
}

func TestAThreadThatIsElsewhereByItselfIsFoundInTurn(t *testing.T) {
	h, f := crowd(t, maxThreads+10)
	for pid := 2; pid < 12; pid++ {
		for tid := range 40 {
			h.addThread(pid, 10_000+100*pid+tid, "main")
		}
	}
	h.addThread(7, 20_000, "pod")
	h.addThread(9, 20_001, "pod")
	rounds := 0
	for ; len(membersOf(t, f)) == 0; rounds++ {
		if rounds > 5 {
			t.Fatalf("it was not found after %d rounds", rounds)
		}
	}
	for range 10 { // and stays found, also if its thread goes and the other one stays
		membersOf(t, f)
	}
	h.endThread(7, 20_000)
	if got := membersOf(t, f); len(got) != 1 || got[1] == nil {
		t.Errorf("got %v, want the same namespace", got)
	}
}

func TestEveryThreadIsLookedAtInTurnAndFewInEachRound(t *testing.T) {
	h := newFakeHost(t)
	all := make(map[int]bool)
	for pid := 10; pid < 20; pid++ {
		for n := range 30 {
			all[pid*1000+n] = true
			h.addThread(pid, pid*1000+n, "main")
		}
	}
	root, err := os.Open(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	var walk threads
	for range 3 {
		left := len(all)
		seen := make(map[int]bool)
		for range 3 { // 300 threads and 11 processes
			looks := 0
			listed, err := ListPIDs(root)
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(listed)
			walk.next(int(root.Fd()), listed, func(_, tid int) { looks++; seen[tid] = true })
			if looks > maxThreads {
				t.Fatalf("%d looks in a round, want %d at most", looks, maxThreads)
			}
		}
		if left -= len(seen); left > 0 {
			t.Errorf("%d threads were not looked at", left)
		}
	}
}

func TestThreadsThatComeAndGoDoNotFillTheMemory(t *testing.T) {
	h := newFakeHost(t)
	h.add(10, "pod")
	f := newFinder(t, h.dir)
	var o *Namespace
	for pid := 11; pid < 11+3*fewResidents; pid++ {
		h.add(pid, "pod")
		others, err := f.Find()
		if err != nil || len(others) != 1 {
			t.Fatal(others, err)
		}
		o = others[0]
		if diff := cmp.Diff([]int{10, pid}, o.Residents()); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		h.kill(pid)
	}
	if got := len(o.residents); got > 2*fewResidents {
		t.Errorf("%d are remembered, want %d at most", got, 2*fewResidents)
	}
}
