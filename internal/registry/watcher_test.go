//go:build linux

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

func write(t testing.TB, path, text string) {
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
	w, err := NewWatcher([]string{path}, "web-1", nil)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// current returns the name of the service on port 22.
func current(w *Watcher) string {
	return w.Current().Judge(on("tcp", "0.0.0.0:22")).Service
}

// check checks the files until they are settled, and fails if the result is not the wanted one.
func check(t *testing.T, w *Watcher, wantChanged bool, want string) {
	t.Helper()
	before := w.Current()
	err := errors.Join(w.Check(), w.Check())
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
			check(t, w, false, "a")
			// Within a tick of the clock: the times and the size stay the same.
			test.change(t, path)
			check(t, w, true, "b")
			check(t, w, false, "b")
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
	check(t, w, false, "a")
	link("..v2", filepath.Join(dir, "..data_tmp"))
	if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	check(t, w, true, "b")
}

func TestABadFileLeavesTheLastGoodRegistry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ports.yml")
	write(t, path, one("a"))
	w := watch(t, path)
	ok, loaded := w.LastReload()
	if !ok || time.Since(loaded) > time.Minute {
		t.Fatalf("got %t, %s", ok, loaded)
	}
	for _, test := range []struct {
		name string
		do   func()
		want string
	}{
		{"bad", func() { write(t, path, "services:\n  - {name: b, port: 0}\n") }, path + ":2:21: port 0: want a number from 1 to 65535"},
		{"bad in another way", func() { write(t, path, "") }, path + ":1:1: has no services: want at least services: or reserved:"},
		{"an empty directory", func() { remove(t, path); mkdir(t, path) }, "read the registry: open " + path + ": a directory without *.yml: want a registry in it, or the path of one"},
	} {
		test.do()
		for i, want := range []string{"<nil>", test.want, "<nil>"} {
			if err := w.Check(); fmt.Sprint(err) != want {
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
	check(t, w, true, "b")
	if _, success := w.LastReload(); !success.After(loaded) {
		t.Errorf("last loaded at %s, and before at %s", success, loaded)
	}
}

func TestAFileThatComesBackIsGoodAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ports.yml")
	write(t, path, one("a"))
	w := watch(t, path)
	_, loaded := w.LastReload()
	remove(t, path)
	if err := errors.Join(w.Check(), w.Check()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if ok, _ := w.LastReload(); ok {
		t.Error("a missing file counts as good")
	}
	write(t, path, one("a"))
	check(t, w, true, "a")
	before := w.Current()
	_, again := w.LastReload()
	if !again.After(loaded) {
		t.Errorf("last loaded at %s, and before at %s", again, loaded)
	}
	if err := w.Reload(); err != nil || w.Current() != before {
		t.Errorf("a reload of the same content: got %v, want the same registry", err)
	}
	if ok, success := w.LastReload(); !ok || !success.After(again) {
		t.Errorf("got last reload %t, %s, want the time of that reload", ok, success)
	}
}

func TestAFileIsNotJudgedWhileItIsBeingWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ports.yml")
	write(t, path, one("a"))
	w := watch(t, path)
	for name, change := range map[string]func(){
		"emptied":                   func() { write(t, path, "") },
		"written by half":           func() { write(t, path, "services:\n  - {name: b, por") },
		"written by half, but good": func() { write(t, path, one("b")) },
		"moved away":                func() { remove(t, path) },
	} {
		change()
		err := w.Check()
		if ok, _ := w.LastReload(); err != nil || !ok || current(w) != "a" {
			t.Errorf("%s: got %v, %t and service %s, want nothing to happen yet", name, err, ok, current(w))
		}
	}
	write(t, path, one("c"))
	check(t, w, true, "c")
}

func TestFilesTogetherAreOneRegistry(t *testing.T) {
	dir := t.TempDir()
	base, teams := filepath.Join(dir, "base.yml"), filepath.Join(dir, "teams")
	mkdir(t, teams)
	write(t, base, one("a"))
	team := func(name string) string { return filepath.Join(teams, name) }
	write(t, team("web.yml"), "services:\n  - {name: web, port: 80}\n")
	write(t, team("db.yaml"), "reserved:\n  - {team: db, ports: 5000-5009}\n")
	write(t, team(".web.yml.swp"), "{")
	write(t, team("README.md"), "{")
	w, err := NewWatcher([]string{base, teams, dir + "/./base.yml"}, "web-1", nil)
	if err != nil {
		t.Fatal(err)
	}
	count := func() int { return w.Current().ServiceCount() }
	if got := w.Current().Judge(on("tcp", "0.0.0.0:5001")); count() != 2 || got.Service != "db" {
		t.Errorf("%d services and verdict %v, want those of all files", count(), got)
	}
	for _, test := range []struct{ name, file, content, want string }{
		{"a fault in one file", "db.yaml", "reserved:\n  - {team: db}\n", ":2:5: the reserved range of team \"db\" has no ports"},
		{"a name twice", "db.yaml", "services:\n  - {name: web, port: 81}\n", ""},
		{"a port twice", "db.yaml", "services:\n  - name: db\n    port: 22\n", ":3:11: tcp port 22: taken by service \"a\" at " + base + ":2: "},
		{"an empty file", "db.yaml", "", ":1:1: has no services"},
	} {
		write(t, team(test.file), test.content)
		if test.want == "" {
			test.want = ":2:12: duplicate service \"web\": already at "
			remove(t, team("web.yml"))
			write(t, team("a.yml"), "services:\n  - {name: web, port: 80}\n")
		}
		err := errors.Join(w.Check(), w.Check())
		if ok, _ := w.LastReload(); ok || count() != 2 || err == nil || !strings.Contains(err.Error(), team(test.file)+test.want) {
			t.Errorf("%s: got %v and %d services, want %q and the last good registry", test.name, err, count(), test.want)
		}
	}
	remove(t, team("db.yaml"))
	check(t, w, true, "a")
	write(t, team("new.yml"), "services:\n  - {name: new, port: 81}\n")
	check(t, w, true, "a")
	if count() != 3 {
		t.Errorf("%d services, want those of the new file too", count())
	}
	remove(t, team("new.yml"))
	remove(t, team("a.yml"))
	const want = "a directory without *.yml"
	if err := w.Reload(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
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
	if err := errors.Join(w.Check(), w.Check()); !errors.Is(err, errNotRegular) || current(w) != "a" {
		t.Errorf("got %v and service %s", err, current(w))
	}
	if _, err := NewWatcher([]string{path}, "", nil); !errors.Is(err, errNotRegular) {
		t.Errorf("got %v", err)
	}
}

func TestServicesThatConflictOnThisHostAreAFault(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ports.yml")
	text := "services:\n  - {name: a, port: 22, hosts: ['web-*']}\n  - {name: b, port: 20-30, hosts: ['*-DB']}\n"
	write(t, path, text)
	want := path + `:3:21: tcp port 22: taken by service "a" on line 2 for host "web-db": want another port, or process, unit, bind or hosts that tell them apart`
	if _, err := NewWatcher([]string{path}, "Web-DB", nil); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	w := watch(t, path)
	if got := current(w); got != "a" {
		t.Errorf("got service %s", got)
	}
	write(t, path, text+"  - {name: c, port: 22, hosts: ['?eb-1']}\n")
	if err := w.Reload(); err == nil || !strings.Contains(err.Error(), `taken by service "a" on line 2 for host "web-1"`) || w.Current().ServiceCount()+w.Current().CountElsewhere() != 2 {
		t.Errorf("got %v and %d services", err, w.Current().ServiceCount())
	}
}
