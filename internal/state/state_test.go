//go:build linux

package state_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/state"
)

// here is the machine of the tests.
const here = "id 1"

// memory is what the tests remember.
type memory struct {
	Ports map[string]int `json:"ports"`
}

// logged is a log, for several goroutines.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

// take returns the lines since the last call.
func (l *logged) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.Split(strings.TrimSuffix(l.text.String(), "\n"), "\n")
	l.text.Reset()
	return slices.DeleteFunc(lines, func(line string) bool { return line == "" })
}

// open opens a state file.
func open(path, machine string) (*state.File, *memory, *logged) {
	lines, saved := new(logged), new(memory)
	f, loaded := state.Open(path, machine, saved, log.NewLogfmtLogger(lines))
	if !loaded {
		saved = nil
	}
	return f, saved, lines
}

// read reads a state file.
func read(path string) (*memory, error) {
	saved := new(memory)
	if _, err := state.Read(path, here, saved); err != nil {
		return nil, err
	}
	return saved, nil
}

// writeOnce writes content as at the end of a process.
func writeOnce(t *testing.T, f *state.File, content any) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f.Keep(ctx, func() any { return content })
}

// end frees the lock of a file, as the end of its process does.
func end(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path + ".lock"); err != nil {
		t.Fatal(err)
	}
}

// save has an exporter remember ports until it ends.
func save(t *testing.T, path, machine string, ports map[string]int) {
	t.Helper()
	f, _, lines := open(path, machine)
	writeOnce(t, f, &memory{ports})
	if !f.Written.Load() {
		t.Fatalf("not written: %q", lines.take())
	}
	end(t, path)
}

// ports returns what was remembered.
func ports(saved *memory) map[string]int {
	if saved == nil {
		return nil
	}
	return saved.Ports
}

// list returns the names and kinds of what is in the directory of a file.
func list(t *testing.T, path string) (entries []string) {
	t.Helper()
	found, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range found {
		entries = append(entries, e.Name())
	}
	return entries
}

func TestWhatIsSavedIsThereAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	want := map[string]int{"80": 1, "<&>\u2028\"\n": 2}
	before := time.Now()
	save(t, path, here, want)
	_, saved, lines := open(path, here)
	if diff := cmp.Diff(want, ports(saved)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if written, err := state.Read(path, here, new(memory)); err != nil || written.Before(before) || written.After(time.Now()) {
		t.Errorf("written at %s, %v", written, err)
	}
	if got := lines.take(); len(got) != 1 || !strings.Contains(got[0], "level=info") || !strings.Contains(got[0], path) {
		t.Errorf("logged %q, want one line that names the file", got)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v, want that only the exporter's user can read the file", info.Mode(), err)
	}
	if got := list(t, path); !slices.Equal(got, []string{"state", "state.lock"}) {
		t.Errorf("left %q", got)
	}
}

// stateFile returns the content of a state file.
func stateFile(t *testing.T, machine string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state")
	save(t, path, machine, map[string]int{"22": 1})
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Each of these is one line of the log that names the file. The exporter has an empty memory then, and goes on.
func TestAFileThatCannotBeUsedBeginsAnEmptyMemory(t *testing.T) {
	good := string(stateFile(t, here))
	content := func(text string) func(string) error {
		return func(path string) error { return os.WriteFile(path, []byte(text), 0o600) }
	}
	for _, test := range []struct {
		name string
		make func(path string) error
		line []string // all in the line
		kept bool     // the file is FILE.old afterwards
		left bool     // the file stays, and nothing is written
	}{
		{name: "missing", make: func(string) error { return nil }, line: []string{"level=info", "no state file yet"}},
		{name: "empty", make: content(""), line: []string{"level=warn", "err=empty"}},
		{name: "truncated", make: content(good[:len(good)-2]), line: []string{"damaged", "state.old"}, kept: true},
		{name: "truncated in its first line", make: content(good[:10]), line: []string{"damaged"}, kept: true},
		{name: "zeros, as after a power cut", make: content(strings.Repeat("\x00", 4096)), line: []string{"damaged"}, kept: true},
		{name: "changed by a byte", make: content(strings.Replace(good, "22", "23", 1)), line: []string{"damaged"}, kept: true},
		{
			name: "with other content", line: []string{"damaged"}, kept: true,
			make: func(path string) error {
				f, _, _ := open(path, here)
				writeOnce(t, f, &[]string{"22"})
				return os.Remove(path + ".lock")
			},
		},
		{name: "newer", make: content("listen_exporter state 2 sum\n\x00\x01"), line: []string{"version 2", "newer", "state.old"}, kept: true},
		{name: "of another machine", make: content(string(stateFile(t, "id 2"))), line: []string{"another machine"}, kept: true},
		{
			name: "larger than any", line: []string{"damaged"}, kept: true,
			make: func(path string) error {
				return os.WriteFile(path, append([]byte(good), bytes.Repeat([]byte(" "), 25<<20)...), 0o600)
			},
		},
		{
			name: "foreign and huge", line: []string{"not a state file", "want another --state.file"}, left: true,
			make: func(path string) error {
				err := os.WriteFile(path, []byte("root:x:0:0\n"), 0o600)
				if err == nil {
					err = os.Truncate(path, 1<<40)
				}
				return err
			},
		},
		{name: "foreign", make: content("services:\n"), line: []string{"level=warn", "not a state file"}, left: true},
		{name: "foreign, with an empty line first", make: content("\nservices:\n"), line: []string{"not a state file"}, left: true},
		{name: "directory", make: func(path string) error { return os.Mkdir(path, 0o755) }, line: []string{"a directory", "want the path"}, left: true},
		{name: "FIFO", make: func(path string) error { return syscall.Mkfifo(path, 0o600) }, line: []string{"not a regular file"}, left: true},
		{name: "symbolic link", make: func(path string) error { return os.Symlink("/etc/passwd", path) }, line: []string{"a symbolic link"}, left: true},
		{name: "link to itself", make: func(path string) error { return os.Symlink("state", path) }, line: []string{"a symbolic link"}, left: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state")
			if err := test.make(path); err != nil {
				t.Fatal(err)
			}
			was, _ := os.Lstat(path)
			f, saved, lines := open(path, here)
			writeOnce(t, f, &memory{map[string]int{"80": 1}})
			got := lines.take()
			if saved != nil || len(got) != 1 || !strings.Contains(got[0], path) {
				t.Fatalf("saved is %v, and logged is %q, want one line that names the file", saved, got)
			}
			for _, want := range test.line {
				if !strings.Contains(got[0], want) {
					t.Errorf("%q does not say %q", got[0], want)
				}
			}
			if f.Written.Load() == test.left {
				t.Errorf("written: %t", f.Written.Load())
			}
			if test.left {
				if now, err := os.Lstat(path); err != nil || !os.SameFile(was, now) || len(list(t, path)) != 1 {
					t.Errorf("left %q, want what was there: %v", list(t, path), err)
				}
				// It ends without a restart.
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
				writeOnce(t, f, &memory{map[string]int{"80": 1}})
				if got := lines.take(); !f.Written.Load() || len(got) != 1 || !strings.Contains(got[0], "written again") {
					t.Errorf("written: %t, logged %q", f.Written.Load(), got)
				}
			}
			kept, err := os.Lstat(path + ".old")
			if test.kept != (err == nil) || test.kept && !os.SameFile(was, kept) {
				t.Errorf("%s.old: %v, want it: %t", path, err, test.kept)
			}
			end(t, path)
			_, saved, _ = open(path, here)
			if diff := cmp.Diff(map[string]int{"80": 1}, ports(saved)); diff != "" {
				t.Errorf("after the write (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNoPartOfAFileIsTakenForTheWhole(t *testing.T) {
	good := stateFile(t, here)
	path := filepath.Join(t.TempDir(), "state")
	for size := range good {
		if err := os.WriteFile(path, good[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		if saved, err := read(path); saved != nil || err == nil {
			t.Fatalf("the first %d of %d bytes: %+v", size, len(good), saved)
		}
	}
}

func TestASecondExporterRunsWithoutMemory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	save(t, path, here, map[string]int{"22": 1})
	first, _, _ := open(path, here)
	second, saved, lines := open(path, here)
	for range 2 {
		writeOnce(t, second, &memory{map[string]int{"80": 1}})
	}
	got := lines.take()
	if saved != nil || second.Written.Load() || len(got) != 1 || !strings.Contains(got[0], "another exporter has it open: want ") {
		t.Errorf("saved is %v, written %t, logged %q", saved, second.Written.Load(), got)
	}
	writeOnce(t, first, &memory{map[string]int{"443": 1}})
	if !first.Written.Load() {
		t.Error("the first one cannot write")
	}
	// What it has not seen it may not replace, even when it could.
	end(t, path)
	writeOnce(t, second, &memory{map[string]int{"80": 1}})
	saved, err := read(path)
	if err != nil || !cmp.Equal(ports(saved), map[string]int{"443": 1}) {
		t.Errorf("the file has %+v, %v, want what the first one wrote", saved, err)
	}
}

func TestTheFileIsWrittenWhenSomethingChangesAndNotOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "state")
		f, _, _ := open(path, here)
		start := time.Now()
		content := new(memory)
		ctx, cancel := context.WithCancel(t.Context())
		kept := make(chan struct{})
		go func() {
			defer close(kept)
			f.Keep(ctx, func() any {
				switch elapsed := time.Since(start); {
				case elapsed < 10*time.Second:
					return nil // the first read goes on
				case elapsed < 70*time.Second:
					content = new(memory) // at each look
				}
				return content
			})
		}()
		var writes []string
		var last fs.FileInfo
		for range 100 {
			time.Sleep(time.Second)
			synctest.Wait()
			if info, err := os.Stat(path); err == nil && (last == nil || !os.SameFile(last, info)) {
				last = info
				writes = append(writes, time.Since(start).String())
			}
		}
		if len(writes) != 12 || writes[0] != "10s" || writes[1] != "15s" || writes[11] != "1m5s" {
			t.Errorf("written at %q, want at once and then each 5 s while there is a change", writes)
		}
		content = new(memory)
		time.Sleep(time.Millisecond)
		cancel()
		<-kept
		if info, err := os.Stat(path); err != nil || os.SameFile(last, info) {
			t.Errorf("the last change is not written at the end: %v", err)
		}
	})
}

func TestWhatIsTooMuchToKeepIsNotWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	save(t, path, here, map[string]int{"22": 1})
	f, _, lines := open(path, here)
	lines.take()
	large := strings.Repeat("x", 25<<20)
	writeOnce(t, f, &large)
	if got := lines.take(); f.Written.Load() || len(got) != 1 || !strings.Contains(got[0], "25 MiB to remember, at most 24 are kept: want ") {
		t.Errorf("written: %t, logged %q", f.Written.Load(), got)
	}
	if saved, err := read(path); err != nil || len(ports(saved)) != 1 {
		t.Errorf("the file of before: %v", err)
	}
}

func TestTheMachineIsKnownByItsIDAndWithoutOneByItsName(t *testing.T) {
	one, other := state.Machine("node-1"), state.Machine("node-2")
	id, _ := os.ReadFile("/etc/machine-id")
	if text := strings.TrimSpace(string(id)); len(text) == 32 {
		if one != other || strings.Contains(one, text) {
			t.Errorf("%s and %s, want one identity that does not show the machine-id", one, other)
		}
	} else if one == other || !strings.Contains(one, "node-1") {
		t.Errorf("%s and %s, want two identities", one, other)
	}
}

func FuzzRead(f *testing.F) {
	good := filepath.Join(f.TempDir(), "good")
	file, _, _ := open(good, here)
	ctx, cancel := context.WithCancel(f.Context())
	cancel()
	file.Keep(ctx, func() any { return &memory{map[string]int{"22": 1}} })
	data, err := os.ReadFile(good)
	if err != nil {
		f.Fatal(err)
	}
	_, body, _ := bytes.Cut(data, []byte("\n"))
	f.Add(data)
	for _, seed := range [][]byte{
		nil,
		{0},
		data[:30], body, []byte("listen_exporter state 2 x\n"), []byte("listen_exporter state -1 x\n{}"),
		[]byte("listen_exporter state 99999999999999999999 \n"), []byte("listen_exporter state"), []byte("\n"), bytes.Repeat(data, 2),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		var content json.RawMessage
		if _, err := state.Read(path, here, &content); err == nil && !json.Valid(content) {
			t.Errorf("%q is read as %q", data, content)
		}
	})
}
