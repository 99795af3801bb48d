//go:build linux

package netns

import (
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func openDir(t *testing.T, dir string) *os.File {
	t.Helper()
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root
}

func TestAListingOfNewProcessesLeadsToThatOfAll(t *testing.T) {
	root := openDir(t, "/proc")
	if lastGiven(int(root.Fd())) == 0 {
		t.Skip("this procfs is of another PID namespace")
	}
	var l listing
	update := func(whole bool) []int {
		begun, err := l.update(root, whole)
		if err != nil {
			t.Fatal(err)
		}
		return begun
	}
	for range 3 { // from the third on it knows two pids that were given last
		update(false)
	}
	if l.base < 0 {
		t.Errorf("the positions in /proc are not those of the pids")
	}
	var children []*child
	for n := range 20 {
		one := start(t, 0, "read x")
		children = append(children, one)
		if n%3 == 0 { // one that ends between two updates is in none
			gone := start(t, 0, "read x")
			gone.kill()
			children = append(children, gone)
		}
		for range 2 { // a process may be listed a moment after its pid was given
			if begun := update(false); !slices.Contains(begun, one.Process.Pid) {
				t.Fatalf("process %d began, and %v are new", one.Process.Pid, begun)
			}
		}
		all, err := ListPIDs(root)
		if err != nil || !slices.IsSorted(l.pids) {
			t.Fatal(l.pids, err)
		}
		for _, c := range children {
			if pid := c.Process.Pid; slices.Contains(all, pid) != slices.Contains(l.pids, pid) {
				t.Errorf("process %d: of all %t, listed %t", pid, slices.Contains(all, pid), slices.Contains(l.pids, pid))
			}
		}
	}
	children[0].kill()
	update(true)
	if slices.Contains(l.pids, children[0].Process.Pid) {
		t.Error("a process that ended is in a list of all")
	}
}

func TestWhereTheLastPidIsUnknownAllProcessesAreListed(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"no_loadavg":            {"self/status": "Name:\tx\nNSpid:\t7\nx:\t1\n"},
		"another_pid_namespace": {"self/status": "Name:\tx\nNSpid:\t7\t1\nx:\t1\n", "loadavg": "0.00 0.00 0.00 1/100 9\n"},
		"an_old_kernel":         {"self/status": "Name:\tx\n", "loadavg": "0.00 0.00 0.00 1/100 9\n"},
		"no_self":               {"loadavg": "0.00 0.00 0.00 1/100 9\n"},
		"pids_begin_again":      {"self/status": "Name:\tx\nNSpid:\t7\nx:\t1\n", "loadavg": "0.00 0.00 0.00 1/100 1\n"},
		"other_positions":       {"self/status": "Name:\tx\nNSpid:\t7\nx:\t1\n", "loadavg": "0.00 0.00 0.00 1/100 40\n"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newFakeHost(t)
			for path, content := range files {
				h.write(path, content)
			}
			root := openDir(t, h.dir)
			var l listing
			want := []int{1}
			for _, pid := range []int{40, 7, 30, 9, 20} {
				h.add(pid, "main")
				want = append(want, pid)
				slices.Sort(want)
				if begun, err := l.update(root, false); err != nil || begun != nil {
					t.Fatal(begun, err)
				}
				if diff := cmp.Diff(want, l.pids); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestAProcessWhoseBeginningIsSeenIsNewWhateverItsPidWasBefore(t *testing.T) {
	var listed []int
	for n := range 10 * maxKnown {
		listed = append(listed, 2+n)
	}
	var p pids
	for range newRounds + 1 {
		p.next(listed, false)
	}
	p.renew(77)
	p.renew(20 * maxKnown) // it is in no list yet
	for round := range newRounds {
		if looked := p.next(listed, false); looked[0] != 77 {
			t.Errorf("round %d: %d is looked at first, want 77", round, looked[0])
		}
	}
	if looked := p.next(listed, false); len(looked) > maxKnown {
		t.Errorf("%d are looked at, want %d at most", len(looked), maxKnown)
	}
}
