//go:build linux

package server

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// notice is the line about dropped lines in these tests.
func notice(dropped uint64) []byte { return fmt.Appendf(nil, "dropped %d\n", dropped) }

// pipe returns the two ends of a pipe, which the test's end closes.
func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Close()
		w.Close()
	})
	return r, w
}

func TestABurstOfLinesIsLoggedInItsOrder(t *testing.T) {
	r, w := pipe(t)
	l := newLogWriter(w, notice)
	const count = 10_000
	go func() {
		for n := range count {
			_, _ = fmt.Fprintf(l, "%d %s\n", n, strings.Repeat("x", 200))
		}
	}()
	lines := bufio.NewScanner(r)
	for n := range count {
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), fmt.Sprintf("%d ", n)) {
			t.Fatalf("got %q, want line %d; %v", lines.Text(), n, lines.Err())
		}
	}
	if dropped := l.Dropped(); dropped != 0 {
		t.Errorf("%d lines dropped", dropped)
	}
}

// Every line is written or counted, and the notice is where they are missing.
func TestLinesThatNobodyReadsAreDroppedAndCounted(t *testing.T) {
	r, w := pipe(t)
	l := newLogWriter(w, notice)
	const count = 10_000
	for n := range count {
		_, _ = fmt.Fprintf(l, "%d %s\n", n, strings.Repeat("x", 200))
	}
	dropped := l.Dropped()
	if dropped == 0 || dropped == count {
		t.Fatalf("%d of %d lines dropped", dropped, count)
	}
	l.Flush(time.Millisecond) // for which it does not wait without an end

	next := 0
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		text := lines.Text()
		if after, is := strings.CutPrefix(text, "dropped "); is {
			if want := fmt.Sprint(dropped); after != want || next+int(dropped) != count {
				t.Errorf("after %d of %d lines %s are reported, want %s", next, count, after, want)
			}
			return
		}
		if !strings.HasPrefix(text, fmt.Sprintf("%d ", next)) {
			t.Fatalf("got %q, want line %d", text, next)
		}
		next++
	}
	t.Error("no line about what is missing")
}

// flaky is a file on a disk that is full for a time.
type flaky struct {
	mu   sync.Mutex
	full bool
	text strings.Builder
}

func (f *flaky) set(full bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.full = full
}

func (f *flaky) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.full {
		return 0, errors.New("no space left on device")
	}
	return f.text.Write(p)
}

func TestLinesThatCannotBeWrittenAreCounted(t *testing.T) {
	f := &flaky{full: true}
	l := newLogWriter(f, notice)
	for range 3 {
		_, _ = fmt.Fprint(l, "lost\n")
		l.Flush(time.Minute)
	}
	f.set(false)
	_, _ = fmt.Fprint(l, "kept\n")
	l.Flush(time.Minute)
	if got, want := f.text.String(), "dropped 3\nkept\n"; got != want || l.Dropped() != 3 {
		t.Errorf("wrote %q, want %q; %d dropped, want 3", got, want, l.Dropped())
	}
}
