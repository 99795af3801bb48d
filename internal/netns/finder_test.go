//go:build linux

package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// fakeHost is a directory that a test makes look like a procfs.
type fakeHost struct {
	t   *testing.T
	dir string
}

// newFakeHost returns a host with a PID 1 in the namespace "main".
func newFakeHost(t *testing.T) fakeHost {
	t.Helper()
	h := fakeHost{t: t, dir: t.TempDir()}
	h.add(1, "main")
	return h
}

// add makes a process. The lower its pid the older it is.
func (h fakeHost) add(pid int, namespace string) {
	h.t.Helper()
	process := strconv.Itoa(pid)
	h.write(process+"/stat", fmt.Sprintf("%d (a ) b) S %s %d 0 0", pid, strings.Repeat("0 ", 18), pid))
	h.enter(process, namespace)
}

// enter moves a process to another namespace. Its net/tcp is a link to the namespace's file.
func (h fakeHost) enter(process, namespace string) {
	h.t.Helper()
	table := filepath.Join(h.dir, "namespaces", namespace)
	if _, err := os.Stat(table); err != nil {
		h.write("namespaces/"+namespace, "")
	}
	h.write(process+"/net/tcp", "")
	link := filepath.Join(h.dir, process, "net/tcp")
	if err := errors.Join(os.Remove(link), os.Link(table, link)); err != nil {
		h.t.Fatal(err)
	}
}

func (h fakeHost) write(path, content string) {
	h.t.Helper()
	path = filepath.Join(h.dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

// kill ends a process.
func (h fakeHost) kill(pid int) {
	h.t.Helper()
	if err := os.RemoveAll(filepath.Join(h.dir, strconv.Itoa(pid))); err != nil {
		h.t.Fatal(err)
	}
}

// newFinder returns a Finder that leaves no descriptor behind.
func newFinder(tb testing.TB, procfs string) *Finder {
	tb.Helper()
	before := descriptors(tb)
	f := NewFinder(procfs)
	tb.Cleanup(func() {
		for _, o := range slices.Clone(f.namespaces) {
			f.end(o)
		}
		if after := descriptors(tb); after > before {
			tb.Errorf("%d descriptors were open before and %d after", before, after)
		}
	})
	return f
}

func descriptors(tb testing.TB) int {
	tb.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		tb.Fatal(err)
	}
	return len(entries)
}

// membersOf calls Find, and returns the members of each namespace by its serial.
func membersOf(tb testing.TB, f *Finder) map[uint64][]int {
	tb.Helper()
	others, err := f.Find()
	if err != nil {
		tb.Fatal(err)
	}
	members := make(map[uint64][]int)
	for _, o := range others {
		members[o.Serial] = o.Members()
	}
	return members
}

// viewOf returns a view of a namespace until the end of the test.
func viewOf(t *testing.T, o *Namespace) View {
	t.Helper()
	view, err := o.View()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(view.Close)
	return view
}

func TestEachNamespaceButTheMainOneIsFoundOnce(t *testing.T) {
	h := newFakeHost(t)
	h.add(2, "main")
	for _, pid := range []int{30, 20, 40, 50} {
		h.add(pid, "pod")
	}
	h.add(60, "another")
	f := newFinder(t, h.dir)
	found, err := f.Find()
	if err != nil || len(found) != 2 {
		t.Fatalf("got %v, %v, want two namespaces", found, err)
	}
	for _, o := range found {
		oldest := o.Members()[0]
		view := viewOf(t, o)
		if got, want := view.DirForPeople, filepath.Join(h.dir, strconv.Itoa(oldest)); got != want {
			t.Errorf("it is called %s, want %s", got, want)
		}
		byDir, err := inode(view.Dir)
		byName, nameErr := inode(view.DirForPeople)
		if err != nil || nameErr != nil || byDir != o.Inode || byName != o.Inode || !o.Alive() || !view.Stays() {
			t.Errorf("%s and %s do not lead to %d", view.Dir, view.DirForPeople, o.Inode)
		}
		if !slices.IsSorted(o.Members()) || o.Started() != uint64(oldest) {
			t.Errorf("members %v, the oldest from %d, want the oldest first", o.Members(), o.Started())
		}
	}
}

func TestALifeLastsWhileAKnownProcessOfItLives(t *testing.T) {
	for name, test := range map[string]struct {
		happens func(h fakeHost)
		want    map[uint64][]int
	}{
		"nothing":                                {func(fakeHost) {}, map[uint64][]int{1: {10, 11, 12}}},
		"the witness dies":                       {func(h fakeHost) { h.kill(10) }, map[uint64][]int{1: {11, 12}}},
		"another one joins":                      {func(h fakeHost) { h.add(13, "pod") }, map[uint64][]int{1: {10, 11, 12}}},
		"the witness dies and another one joins": {func(h fakeHost) { h.kill(10); h.add(13, "pod") }, map[uint64][]int{1: {11, 12, 13}}},
		"all die":                                {func(h fakeHost) { h.kill(10); h.kill(11); h.kill(12) }, map[uint64][]int{}},
		"all die and another takes number and pid": {func(h fakeHost) {
			h.kill(10)
			h.kill(11)
			h.kill(12)
			h.add(10, "pod")
		}, map[uint64][]int{2: {10}}},
		"the witness goes elsewhere": {func(h fakeHost) { h.enter("10", "elsewhere") }, map[uint64][]int{1: {11, 12}, 2: {10}}},
		"the witness goes home":      {func(h fakeHost) { h.enter("10", "main") }, map[uint64][]int{1: {11, 12}}},
		"all go elsewhere": {func(h fakeHost) {
			h.enter("10", "elsewhere")
			h.enter("11", "elsewhere")
			h.enter("12", "elsewhere")
		}, map[uint64][]int{2: {10, 11, 12}}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newFakeHost(t)
			for pid := 10; pid <= 12; pid++ {
				h.add(pid, "pod")
			}
			f := newFinder(t, h.dir)
			if diff := cmp.Diff(map[uint64][]int{1: {10, 11, 12}}, membersOf(t, f)); diff != "" {
				t.Fatalf("before (-want +got):\n%s", diff)
			}
			test.happens(h)
			if diff := cmp.Diff(test.want, membersOf(t, f)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestANamespaceThatLosesAllItsWitnessesAtOnceIsFoundThroughAnOlderProcess(t *testing.T) {
	h, f := crowd(t, 3*maxKnown)
	last := 0
	for n := range maxWitnesses + 1 {
		h.add(10_000+n, "pod")
		last += 10_000 + n
	}
	witnesses := membersOf(t, f)[1]
	if len(witnesses) != maxWitnesses {
		t.Fatalf("the witnesses are %v", witnesses)
	}
	for range newRounds { // then none of them is new anymore
		membersOf(t, f)
	}
	for _, pid := range witnesses {
		last -= pid
		h.kill(pid)
	}
	for range 2 {
		if diff := cmp.Diff(map[uint64][]int{2: {last}}, membersOf(t, f)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestANamespaceThatEndedLeadsNowhere(t *testing.T) {
	h := newFakeHost(t)
	h.add(10, "pod")
	f := newFinder(t, h.dir)
	others, err := f.Find()
	if err != nil || len(others) != 1 {
		t.Fatal(others, err)
	}
	o := others[0]
	view := viewOf(t, o)
	h.kill(10)
	h.add(10, "pod")
	if _, err := os.Stat(filepath.Join(view.Dir, "net/tcp")); err == nil || view.Stays() {
		t.Errorf("%s leads to another process", view.Dir)
	}
	if o.Alive() || len(o.Members()) != 0 {
		t.Errorf("it lives on in %v", o.Members())
	}
	if _, err := o.OpenNS(); err == nil {
		t.Error("it could be opened")
	}
	if _, err := o.View(); err == nil {
		t.Error("it could be looked into")
	}
	// The path stays what it is, and means no other file, until it is closed.
	membersOf(t, f)
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if fd := strconv.Itoa(int(file.Fd())); fd == filepath.Base(view.Dir) {
		t.Errorf("descriptor %s was given to another file", fd)
	}
}

func TestAFailedReadIsAnErrorAndChangesNothing(t *testing.T) {
	h := newFakeHost(t)
	h.add(10, "pod")
	f := newFinder(t, h.dir)
	for range 2 {
		if diff := cmp.Diff(map[uint64][]int{1: {10}}, membersOf(t, f)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		h.kill(1)
		if _, err := f.Find(); err == nil || !strings.Contains(err.Error(), filepath.Join(h.dir, "1/net/tcp")) {
			t.Errorf("PID 1 is invisible, and the error is %v", err)
		}
		h.add(1, "main")
	}
	dir := filepath.Join(h.dir, "missing")
	missing := newFinder(t, dir)
	for range 2 {
		if _, err := missing.Find(); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("there is no procfs, and the error is %v", err)
		}
	}
}

func TestTheOldestNamespacesStayWhereThereAreTooMany(t *testing.T) {
	h := newFakeHost(t)
	f := newFinder(t, h.dir)
	f.maxNamespaces = 2
	h.add(10, "a")
	h.add(20, "b")
	membersOf(t, f)
	h.add(5, "c")
	h.add(6, "c")
	h.add(7, "d")
	if got := membersOf(t, f); len(got) != 2 || got[1] == nil || got[2] == nil {
		t.Errorf("got %v, want the first two", got)
	}
	if got := f.Omitted(); got != 2 {
		t.Errorf("%d left out, want 2", got)
	}
	h.kill(10)
	if got := membersOf(t, f); len(got) != 2 || got[3] == nil {
		t.Error("the third did not take the place of the one that ended")
	}
	if got := f.Omitted(); got != 1 {
		t.Errorf("%d left out, want 1", got)
	}
	h.kill(20)
	membersOf(t, f)
	if got := f.Omitted(); got != 0 {
		t.Errorf("%d left out, want none", got)
	}
}

func TestWitnessesTakeNoMoreThanTheirShareOfTheDescriptors(t *testing.T) {
	var usual unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &usual); err != nil {
		t.Fatal(err)
	}
	for limit, want := range map[uint64]int{512: 85, 1 << 20: keptNamespaces} {
		if limit > usual.Max {
			continue
		}
		few := unix.Rlimit{Cur: limit, Max: usual.Max}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
			t.Fatal(err)
		}
		got := NewFinder("/proc").maxNamespaces
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &usual); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%d namespaces with %d descriptors, want %d", got, limit, want)
		}
	}
}
