//go:build linux

package command

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/program"
)

// What it would always say wrongly is not there: counters that begin again at each read, and what began just now.
func TestMetricsForTheTextfileCollectorAreThoseOfOneRead(t *testing.T) {
	procfs, file := program.NewProcfs(t), program.WriteFile(t, "ports.yml", commandRegistry)
	code, stdout, stderr := program.Run(t, "list", "--format=prometheus", "--path.procfs="+procfs, "--registry.file="+file)
	if code != ExitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	want := []string{"tcp 22", "tcp 443", "tcp 8080", "udp 53", "udp 546"} // not 40000, which is a client
	if diff := cmp.Diff(want, program.Ports(t, stdout)); diff != "" {
		t.Errorf("ports (-want +got):\n%s", diff)
	}
	for name, has := range map[string]bool{
		"host_listen_port_registered{": true, "host_listen_port_violation{": true, "host_listen_service_up{": true, "host_listen_time_seconds": true,
		"_total": false, "host_listen_service_down_start": false, "host_listen_state_loaded": false,
		"\nlisten_exporter_build_info{": true, "go_": false, "process_": false, "promhttp_": false, // node_exporter has its own
	} {
		if strings.Contains(stdout, name) != has {
			t.Errorf("%q: %t, want %t, in:\n%s", name, !has, has, stdout)
		}
	}
}

func TestAFileOfMetricsIsReplacedInOneStepOrKept(t *testing.T) {
	procfs, dir := program.NewProcfs(t), t.TempDir()
	file := filepath.Join(dir, "listen.prom")
	write := func(want int, args ...string) (content, stderr string) {
		code, stdout, stderr := program.Run(t, append(args, "list", "--format=prometheus", "--output="+file, "--log.level=error")...)
		if code != want || stdout != "" {
			t.Errorf("%q: exit code %d, want %d: %s%s", args, code, want, stdout, stderr)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if entries, _ := os.ReadDir(dir); len(entries) != 1 {
			t.Errorf("%q left %v", args, entries)
		}
		return string(text), stderr
	}
	if content, _ := write(0, "--path.procfs="+procfs); !strings.Contains(content, "\nhost_listen_port{") {
		t.Errorf("got %s", content)
	}
	before, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	if content, _ := write(0, "--path.procfs="+procfs, "--collector.port-include=443"); strings.Count(content, "\nhost_listen_port{") != 1 {
		t.Errorf("not replaced: %s", content)
	}
	old, _ := before.Stat()
	if now, err := os.Stat(file); err != nil || os.SameFile(old, now) || now.Mode().Perm() != 0o644 {
		t.Errorf("a reader of the old file saw it change: %v %v", now, err)
	}
	if content, _ := write(2, "--path.procfs=/does/not/exist"); strings.Count(content, "\nhost_listen_port{") != 1 {
		t.Errorf("a failure did not keep the last answer: %s", content)
	}
	program.WriteTable(t, procfs, "udp", "not a table\n  1: bad\n")
	if content, _ := write(2, "--path.procfs="+procfs); !strings.Contains(content, `host_listen_collector_success{collector="udp"} 0`) {
		t.Errorf("a failed read does not show: %s", content)
	}
}

// A file that cannot be written leaves the old one, and the exit code differs from that of a port on which nothing listens.
func TestAFileThatCannotBeWrittenStaysAsItWas(t *testing.T) {
	procfs, dir := program.NewProcfs(t), t.TempDir()
	file, link := filepath.Join(dir, "listen.prom"), filepath.Join(dir, "link.prom")
	if err := errors.Join(os.WriteFile(file, []byte("old\n"), 0o600), os.Symlink("listen.prom", link)); err != nil {
		t.Fatal(err)
	}
	for output, want := range map[string]string{
		file:                          "file too large",
		"/dev/null":                   "not a regular file",
		link:                          "not a regular file: want the path of a file to write or to replace",
		dir:                           "not a regular file",
		filepath.Join(dir, "no/file"): "no such file or directory",
		filepath.Join(file, "file"):   "not a directory",
	} {
		cmd := program.Command(t, "list", "--format=prometheus", "--output="+output, "--path.procfs="+procfs)
		cmd.Args = append([]string{"sh", "-c", `ulimit -f 1 && exec "$@"`, "sh", cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
		e := program.Launch(t, cmd)
		if code, stderr := e.Wait(), e.Stderr.String(); code != ExitTrouble || !strings.Contains(stderr, "--output="+output+": ") || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d, want %d, and %q in %s", output, code, ExitTrouble, want, stderr)
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "old\n" {
		t.Errorf("the file is now %q: %v", text, err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 2 {
		t.Errorf("left over: %v", entries)
	}
}
