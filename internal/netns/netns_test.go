//go:build linux

package netns

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeProc makes a procfs with the given process directories. Processes that name the same namespace share it.
func fakeProc(t *testing.T, processes map[string]string) string {
	t.Helper()
	h := fakeHost{t: t, dir: t.TempDir()}
	for process, namespace := range processes {
		h.enter(process, namespace)
	}
	return h.dir
}

// linkPIDNamespace makes self a member of a PID namespace.
func linkPIDNamespace(t *testing.T, procfs, link string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(procfs, "self/ns"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(link, filepath.Join(procfs, "self/ns/pid")); err != nil {
		t.Fatal(err)
	}
}

func TestFindNamesTheObservedNamespace(t *testing.T) {
	onHost := fakeProc(t, map[string]string{"1": "host", "self": "host"})
	linkPIDNamespace(t, onHost, initialPIDNamespace)
	inNamespace := fakeProc(t, map[string]string{"1": "host", "self": "mine"})
	linkPIDNamespace(t, inNamespace, initialPIDNamespace)
	inContainer := fakeProc(t, map[string]string{"1": "container", "self": "container"})
	linkPIDNamespace(t, inContainer, "pid:[4026532201]")
	pid1Hidden := fakeProc(t, map[string]string{"self": "host"})
	elsewhere := fakeProc(t, map[string]string{"1": "host"})

	for name, test := range map[string]struct {
		procfs, own string
		self        bool
		wantPID     string
		wantOwn     bool
		wantWarning string
	}{
		"host on a host":                      {onHost, onHost, false, "1", true, ""},
		"self on a host":                      {onHost, onHost, true, "self", true, ""},
		"host from another network namespace": {inNamespace, inNamespace, false, "1", false, "not the exporter's own"},
		"self in another network namespace":   {inNamespace, inNamespace, true, "self", true, ""},
		"host in a container":                 {inContainer, inContainer, false, "1", true, `"host" is this container`},
		"host where PID 1 is hidden":          {pid1Hidden, pid1Hidden, false, "self", true, "PID 1 cannot be seen"},
		"the host's procfs elsewhere":         {elsewhere, inContainer, false, "1", false, "not the exporter's own"},
		"PID 1 hidden elsewhere":              {pid1Hidden, inContainer, false, "1", false, "nothing can be read until it can"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := find(test.procfs, test.own, test.self)
			if err != nil {
				t.Fatal(err)
			}
			if want := filepath.Join(test.procfs, test.wantPID); got.Dir != want {
				t.Errorf("observes %s, want %s", got.Dir, want)
			}
			if got.Own != test.wantOwn {
				t.Errorf("own = %t, want %t", got.Own, test.wantOwn)
			}
			warnings := strings.Join(got.Warnings, "\n")
			if (warnings == "") != (test.wantWarning == "") || !strings.Contains(warnings, test.wantWarning) {
				t.Errorf("warnings %q, want %q", warnings, test.wantWarning)
			}
		})
	}
}

func TestFindFailsWhereThereIsNoProcfs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, procfs := range []string{filepath.Join(t.TempDir(), "missing"), file} {
		if _, err := Find(procfs, false); err == nil || !strings.Contains(err.Error(), procfs) {
			t.Errorf("%s: got %v", procfs, err)
		}
	}
}

func TestFindKnowsTheRealHost(t *testing.T) {
	self, err := Find("/proc", true)
	if err != nil {
		t.Fatal(err)
	}
	if !self.Own || self.Dir != "/proc/self" || len(self.Warnings) != 0 {
		t.Errorf("got %+v", self)
	}
}

func TestANamespaceHasTheNumberThatItsProcessesShow(t *testing.T) {
	link, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, main := range []Main{{Dir: "/proc/1/does/not/matter", Own: true}, {Dir: "/proc/self"}} {
		number, err := main.Number()
		if got := fmt.Sprintf("net:[%d]", number); err != nil || got != link {
			t.Errorf("%+v: got %s (%v), want %s", main, got, err, link)
		}
	}
	missing := filepath.Join(t.TempDir(), "1")
	if _, err := (Main{Dir: missing}).Number(); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("a process that is gone: %v", err)
	}
}
