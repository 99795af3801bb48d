//go:build linux

package registry

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestAWatcherGoesOnFromTheLastGoodFiles: a registry that was broken while the exporter did not run is in force as it was before.
func TestAWatcherGoesOnFromTheLastGoodFiles(t *testing.T) {
	before := time.Now().Add(-time.Hour)
	for _, test := range []struct {
		name, file string // file is empty where there is none
		last       func(path string) *Good
		want       string // the service in force, or none if there is no watcher
		err        string // in the error
		same       bool   // what is in force was loaded before the start
	}{
		{name: "the file is bad", file: "services: [\n", want: "a", err: "ports.yml", same: true},
		{name: "the file is missing", want: "a", err: "no such file", same: true},
		{name: "the file is the same", file: one("a"), want: "a"},
		{name: "the file is another good one", file: one("b"), want: "b"},
		{
			name: "the last good ones were other files", file: "services: [\n", err: "ports.yml",
			last: func(path string) *Good {
				return &Good{[]string{path + "x"}, []Source{{path, []byte(one("a"))}}, before}
			},
		},
		{
			name: "the last good one is not good any more", file: "services: [\n", err: "ports.yml",
			last: func(path string) *Good {
				return &Good{[]string{path}, []Source{{path, []byte("services: {}\n")}}, before}
			},
		},
		{name: "there is none", file: "services: [\n", err: "ports.yml", last: func(string) *Good { return nil }},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ports.yml")
			if test.file != "" {
				write(t, path, test.file)
			}
			last := &Good{[]string{path}, []Source{{path, []byte(one("a"))}}, before}
			if test.last != nil {
				last = test.last(path)
			}
			w, err := NewWatcher([]string{path}, "web-1", last)
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("got the error %v, want %q in it", err, test.err)
			}
			if (w == nil) != (test.want == "") {
				t.Fatalf("a watcher: %t, want the service %q", w != nil, test.want)
			}
			if w == nil {
				return
			}
			ok, loaded := w.LastReload()
			if current(w) != test.want || ok != (test.err == "") || loaded.Equal(before) != test.same {
				t.Errorf("service %s, success %t, loaded at %s", current(w), ok, loaded)
			}
			if good := w.Good(); string(good.Files[0].Data) != one(test.want) || good != w.Good() {
				t.Errorf("to be kept: %+v", good)
			}
			write(t, path, one("c"))
			if err := w.Reload(); err != nil || current(w) != "c" || string(w.Good().Files[0].Data) != one("c") {
				t.Errorf("after a good file: service %s, %v", current(w), err)
			}
		})
	}
}
