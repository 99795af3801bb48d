//go:build linux

package program_test

import (
	"bytes"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/listen-exporter/listen_exporter/test/program"
)

// Output that cannot be written is one line and exit code 1, whatever the program prints.
func TestOutputThatCannotBeWrittenIsAnError(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	must(t, err)
	defer func() { _ = full.Close() }()
	reader, pipe, err := os.Pipe()
	must(t, err, reader.Close())
	defer func() { _ = pipe.Close() }()
	good := program.WriteFile(t, "ports.yml", registryA)
	bad := program.WriteFile(t, "bad.yml", twoFaults)
	manifests := program.WriteFile(t, "service.yml", "apiVersion: v1\nkind: Service\n")
	procfs := program.NewProcfs(t)
	for stdout, reason := range map[*os.File]error{full: syscall.ENOSPC, pipe: syscall.EPIPE} {
		for _, args := range [][]string{
			{"--help"},
			{"-h"},
			{"help", "audit"},
			{"list", "--help"},
			{"--help-long"},
			{"--help-man"},
			{"--version"},
			{"--completion-script-bash"},
			{"--completion-script-zsh"},
			{"--completion-script-fish"},
			{"--completion-bash", "--log."},
			{"list"},
			{"list", "--format=json"},
			{"list", "--format=registry"},
			{"list", "--format=prometheus"},
			{"audit", "--registry.file=" + good},
			{"check", good},
			{"check", bad},
			{"check", "--manifests=" + manifests},
		} {
			switch args[0] {
			case "list", "audit":
				if args[len(args)-1] != "--help" {
					args = append(args, "--path.procfs="+procfs, "--log.level=error")
				}
			}
			cmd := program.Command(t, args...)
			var stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = stdout, &stderr
			_ = cmd.Run()
			want := "write the output: write /dev/stdout: " + reason.Error()
			if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(stderr.String(), want) || strings.Count(stderr.String(), "\n") != 1 {
				t.Errorf("%q: exit code %d, want 1; on stderr %q, want one line with %q", args, code, &stderr, want)
			}
		}
	}
}
