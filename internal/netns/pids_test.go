//go:build linux

package netns

import (
	"fmt"
	"strconv"
	"testing"
)

// crowd makes a fake host of so many processes in the main namespace, and a Finder for which none of them is new.
func crowd(t *testing.T, processes int) (fakeHost, *Finder) {
	t.Helper()
	h := newFakeHost(t)
	for pid := 2; pid <= processes; pid++ {
		h.add(pid, "main")
	}
	f := newFinder(t, h.dir)
	for range newRounds {
		membersOf(t, f)
	}
	return h, f
}

func TestTheNamespaceOfANewProcessIsFoundAtOnce(t *testing.T) {
	h, f := crowd(t, 2*maxKnown)
	pods := 0
	for _, pid := range []int{70_001, 70_002, 60_000} { // pids may begin again at any time
		h.add(pid, strconv.Itoa(pid))
		pods++
		if got := len(membersOf(t, f)); got != pods {
			t.Errorf("after process %d began: %d namespaces, want %d", pid, got, pods)
		}
	}
	// Whoever starts a container makes its namespace a moment after the process.
	h.add(80_000, "main")
	for range newRounds - 1 {
		membersOf(t, f)
	}
	h.enter("80000", "late")
	if got := len(membersOf(t, f)); got != pods+1 {
		t.Errorf("after a young process entered a new one: %d namespaces, want %d", got, pods+1)
	}
}

func TestANamespaceThatAnOldProcessEntersIsFoundInTurn(t *testing.T) {
	h, f := crowd(t, 3*maxKnown)
	for n := range 5 {
		h.enter(strconv.Itoa(100+n), fmt.Sprint("pod", n))
	}
	// A process that got the pid of another one is not known to be new either.
	h.kill(200)
	h.add(200, "reused")
	for range f.pids.turns {
		membersOf(t, f)
	}
	if got := len(membersOf(t, f)); got != 6 {
		t.Errorf("%d namespaces, want 6", got)
	}
}

func TestEveryProcessIsLookedAtInTurnAndFewInEachRound(t *testing.T) {
	const processes = 5000
	var listed []int
	for n := range processes {
		listed = append(listed, 2+n)
	}
	var p pids
	for range newRounds {
		if got := p.next(listed, false); len(got) != processes {
			t.Fatalf("%d of the new ones are looked at, want all", len(got))
		}
	}
	looked := make(map[int]bool)
	for range (processes + maxKnown - 1) / maxKnown {
		pids := p.next(listed, false)
		if len(pids) > maxKnown {
			t.Errorf("%d in a round, want %d at most", len(pids), maxKnown)
		}
		for _, pid := range pids {
			looked[pid] = true
		}
	}
	if len(looked) != processes {
		t.Errorf("%d looked at, want %d", len(looked), processes)
	}
}
