package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// one returns a registry with one service.
func one(name string) string { return "services:\n  - {name: " + name + ", port: 22}\n" }

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

func watch(t *testing.T, path string) *Watcher {
	t.Helper()
	w, err := NewWatcher(path, "web-1")
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// current returns the name of the service on port 22.
func current(w *Watcher) string {
	return w.Current().For("web-1").Judge(on("tcp", "0.0.0.0:22")).Service
}

// check checks the file, and fails if the result is not the wanted one.
func check(t *testing.T, w *Watcher, now time.Time, wantChanged bool, want string) {
	t.Helper()
	before := w.Current()
	err := w.Check(now)
	if changed := w.Current() != before; err != nil || changed != wantChanged || current(w) != want {
		t.Errorf("got %t, %v and service %s, want %t and %s", changed, err, current(w), wantChanged, want)
	}
	if ok, _ := w.LastReload(); !ok {
		t.Error("the last reload failed")
	}
}

func TestAChangeIsSeenHoweverItIsMade(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(t *testing.T, path string)
	}{
		{"written in place, the times set back", func(t *testing.T, path string) {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			write(t, path, one("b"))
			if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
				t.Fatal(err)
			}
		}},
		{"renamed over", func(t *testing.T, path string) {
			write(t, path+".new", one("b"))
			if err := os.Rename(path+".new", path); err != nil {
				t.Fatal(err)
			}
		}},
		{"turned into a link", func(t *testing.T, path string) {
			write(t, path+".new", one("b"))
			remove(t, path)
			if err := os.Symlink(filepath.Base(path)+".new", path); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ports.yml")
			write(t, path, one("a"))
			w := watch(t, path)
			check(t, w, time.Now(), false, "a")
			// Within a tick of the clock: the times and the size stay the same.
			test.change(t, path)
			check(t, w, time.Now(), true, "b")
			check(t, w, time.Now(), false, "b")
		})
	}
}

func TestAConfigMapIsSwappedByItsLink(t *testing.T) {
	dir := t.TempDir()
	for version, name := range map[string]string{"..v1": "a", "..v2": "b"} {
		mkdir(t, filepath.Join(dir, version))
		file := filepath.Join(dir, version, "ports.yml")
		write(t, file, one(name))
		// Both have the same size and time of modification.
		if err := os.Chtimes(file, time.Unix(1e9, 0), time.Unix(1e9, 0)); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, path string) {
		t.Helper()
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
	}
	link("..v1", filepath.Join(dir, "..data"))
	link("..data/ports.yml", filepath.Join(dir, "ports.yml"))
	w := watch(t, filepath.Join(dir, "ports.yml"))
	later := time.Now().Add(time.Minute)
	check(t, w, later, false, "a")
	link("..v2", filepath.Join(dir, "..data_tmp"))
	if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	check(t, w, later, true, "b")
}

func TestABadFileLeavesTheLastGoodRegistry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ports.yml")
	write(t, path, one("a"))
	w := watch(t, path)
	ok, loaded := w.LastReload()
	if !ok || time.Since(loaded) > time.Minute {
		t.Fatalf("got %t, %s", ok, loaded)
	}
	later := time.Now().Add(time.Minute)
	for _, test := range []struct {
		name string
		do   func()
		want string
	}{
		{"bad", func() { write(t, path, "services:\n  - {name: b, port: 0}\n") }, path + ":2:21: port 0: want a number from 1 to 65535"},
		{"bad in another way", func() { write(t, path, "") }, path + ":1:1: has no services: want at least services: or reserved:"},
		{"a directory", func() { remove(t, path); mkdir(t, path) }, "read the registry: open " + path + ": not a regular file: want one, which can be read again"},
	} {
		test.do()
		for i, want := range []string{test.want, "<nil>", "<nil>"} {
			if err := w.Check(later.Add(time.Duration(i) * time.Minute)); fmt.Sprint(err) != want {
				t.Errorf("%s, check %d: got %v, want %s", test.name, i+1, err, want)
			}
		}
		if err := w.Reload(); fmt.Sprint(err) != test.want {
			t.Errorf("%s, reload: got %v, want %s", test.name, err, test.want)
		}
		if current(w) != "a" {
			t.Errorf("%s: got service %s", test.name, current(w))
		}
		if ok, success := w.LastReload(); ok || success != loaded {
			t.Errorf("%s: got last reload %t, %s", test.name, ok, success)
		}
	}
	remove(t, path)
	write(t, path, one("b"))
	later = later.Add(time.Hour)
	check(t, w, later, true, "b")
	if ok, success := w.LastReload(); !ok || success != later {
		t.Errorf("got last reload %t, %s", ok, success)
	}
}

func TestAFileThatComesBackIsGoodAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ports.yml")
	write(t, path, one("a"))
	w := watch(t, path)
	now := time.Now()
	remove(t, path)
	check(t, w, now, false, "a")
	if err := w.Check(now.Add(patience)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if ok, _ := w.LastReload(); ok {
		t.Error("a missing file counts as good")
	}
	now = now.Add(time.Minute)
	write(t, path, one("a"))
	check(t, w, now, false, "a")
	if _, success := w.LastReload(); success != now {
		t.Errorf("got last success %s, want %s", success, now)
	}
	before := w.Current()
	if err := w.Reload(); err != nil || w.Current() != before {
		t.Errorf("a reload of the same content: got %v, want the same registry", err)
	}
	if ok, success := w.LastReload(); !ok || success.Equal(now) {
		t.Errorf("got last reload %t, %s, want the time of that reload", ok, success)
	}
}

func TestAFileIsNotBadWhileItIsBeingWritten(t *testing.T) {
	for name, begin := range map[string]func(t *testing.T, path string){
		"emptied":         func(t *testing.T, path string) { write(t, path, "") },
		"written by half": func(t *testing.T, path string) { write(t, path, "services:\n  - {name: b, por") },
		"moved away":      func(t *testing.T, path string) { remove(t, path) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ports.yml")
			write(t, path, one("a"))
			w := watch(t, path)
			begin(t, path)
			now := time.Now()
			check(t, w, now, false, "a")
			check(t, w, now.Add(patience/2), false, "a")
			write(t, path, one("b"))
			now = now.Add(patience / 2)
			check(t, w, now, true, "b")
			// The next time counts from its own beginning, and ends.
			begin(t, path)
			now = now.Add(time.Hour)
			if name == "moved away" {
				check(t, w, now, false, "b")
			}
			if err := w.Check(now.Add(patience)); err == nil {
				t.Error("it is never bad")
			}
		})
	}
}

func TestAPipeInPlaceOfTheFileHoldsNobodyUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ports.yml")
	write(t, path, one("a"))
	w := watch(t, path)
	remove(t, path)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.Check(time.Now()); !errors.Is(err, errNotRegular) || current(w) != "a" {
		t.Errorf("got %v and service %s", err, current(w))
	}
	if _, err := NewWatcher(path, ""); !errors.Is(err, errNotRegular) {
		t.Errorf("got %v", err)
	}
}

func TestServicesThatConflictOnThisHostAreAFault(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ports.yml")
	text := "services:\n  - {name: a, port: 22, hosts: ['web-*']}\n  - {name: b, port: 20-30, hosts: ['*-DB']}\n"
	write(t, path, text)
	want := path + `:3:21: tcp port 22: taken by service "a" on line 2 for host "web-db": want another port, or process, unit, bind or hosts that tell them apart`
	if _, err := NewWatcher(path, "Web-DB"); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	w := watch(t, path)
	if got := current(w); got != "a" {
		t.Errorf("got service %s", got)
	}
	write(t, path, text+"  - {name: c, port: 22, hosts: ['?eb-1']}\n")
	if err := w.Reload(); err == nil || !strings.Contains(err.Error(), `taken by service "a" on line 2 for host "web-1"`) || w.Current().ServiceCount() != 2 {
		t.Errorf("got %v and %d services", err, w.Current().ServiceCount())
	}
}
