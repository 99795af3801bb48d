package registry

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestAPipeInPlaceOfTheFileHoldsNobodyUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ports.yml")
	write(t, path, one("a"))
	w := watch(t, path)
	remove(t, path)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Check(time.Now()); !errors.Is(err, errNotRegular) || current(w) != "a" {
		t.Errorf("got %v and service %s", err, current(w))
	}
	if _, err := NewWatcher(path); !errors.Is(err, errNotRegular) {
		t.Errorf("got %v", err)
	}
}

// longRest is a rest that even a busy machine does not miss.
const longRest = 600 * time.Millisecond

func TestWhatIsStillBeingWrittenIsWaitedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ports.yml")
	write(t, path, one("a"))
	for _, test := range []struct {
		name         string
		start, write func(f *os.File) error
	}{
		{
			"written in two parts, of which the first is a registry too",
			func(f *os.File) error { _, err := f.WriteString("services:\n  - {name: b, port: 22}\n"); return err },
			func(f *os.File) error { _, err := f.WriteString("  - {name: c, port: 23}\n"); return err },
		},
		{"emptied first", nil, func(f *os.File) error { _, err := f.WriteString(one("b")); return err }},
	} {
		w := watch(t, path)
		w.rest = longRest
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if test.start != nil {
			if err := test.start(f); err != nil {
				t.Fatal(err)
			}
		}
		timer := time.AfterFunc(longRest/10, func() {
			if err := test.write(f); err != nil {
				t.Error(err)
			}
		})
		changed, err := w.Check(time.Now())
		if timer.Stop() {
			t.Fatal("nothing was waited for")
		}
		if !changed || err != nil || current(w) != "b" || test.start != nil && w.Current().ServiceCount() != 2 {
			t.Errorf("%s: got %t, %v, service %s and %d services", test.name, changed, err, current(w), w.Current().ServiceCount())
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFileThatIsMovedAwayForAMomentIsNoTrouble(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ports.yml")
	write(t, path, one("a"))
	w := watch(t, path)
	w.rest = longRest
	remove(t, path)
	timer := time.AfterFunc(longRest/10, func() { write(t, path, one("b")) })
	defer timer.Stop()
	check(t, w, time.Now(), true, "b")
}

func TestAFileThatNeverComesToRestIsReadAllTheSame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ports.yml")
	write(t, path, one("a"))
	w := watch(t, path)
	done := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				// Its content stays, its time of change does not.
				if err := os.Chmod(path, 0o600); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Millisecond)
			}
		}
	})
	start := time.Now()
	if _, err := w.Check(start); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > maxTries*maxSettles*settleTime+10*time.Second {
		t.Errorf("it took %s", took)
	}
	close(done)
	writer.Wait()
}
