package netns

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkFind measures a call on a host of 250 network namespaces and 5 000 processes: the first one, one that looks at every
// process again, a usual one, and for comparison a listing of the processes.
func BenchmarkFind(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root to make network namespaces")
	}
	const namespaces, processes = 250, 5000
	const each = "i=1; while [ $i -lt 20 ]; do sleep 1000 & i=$((i+1)); done; read x; kill -9 0" // also when the test crashes
	for range namespaces {
		start(b, unix.CLONE_NEWNET, each)
	}
	root, err := os.Open("/proc")
	if err != nil {
		b.Fatal(err)
	}
	defer root.Close()
	waitFor(b, "all processes run", func() bool { return len(pidsIn(b, root)) >= processes })

	f := newFinder(b, "/proc")
	call := func(b *testing.B) {
		others, err := f.Find()
		if err != nil || len(others) < namespaces {
			b.Fatal(len(others), err)
		}
	}
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			f.Close()
			call(b)
		}
	})
	b.Run("whole", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			f.pids.first = nil // all are new
			call(b)
		}
	})
	for range newRounds {
		call(b)
	}
	b.Run("steady", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			call(b)
		}
	})
	b.Run("listing", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			pidsIn(b, root)
		}
	})
}

func pidsIn(tb testing.TB, root *os.File) []string {
	tb.Helper()
	if _, err := root.Seek(0, 0); err != nil {
		tb.Fatal(err)
	}
	names, err := root.Readdirnames(-1)
	if err != nil {
		tb.Fatal(err)
	}
	return names
}
