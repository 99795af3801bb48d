//go:build linux

package docs

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
	"github.com/listen-exporter/listen_exporter/test/program"
)

// TestTheCommandsOfTheDocumentGetLeases runs what docs/leases.md has for a first lease, and for the API, on a host of the test's own.
func TestTheCommandsOfTheDocumentGetLeases(t *testing.T) {
	for _, name := range []string{"bash", "curl", "jq"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip("needs ", name)
		}
	}
	netnstest.RunAsHost(t, func(t *testing.T) {
		t.Setenv("PATH", filepath.Dir(program.Path(t))+":"+os.Getenv("PATH"))
		if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
			t.Fatal(err)
		}
		t.Run("the first lease", func(t *testing.T) {
			commands := blockOf(t, "sh", "## One minute to the first lease")
			// A slow machine needs more.
			started := strings.Replace(commands, "\nsleep 2\n", "\nfor n in {1..600}; do [ -S lease.sock ] || sleep 0.1; done\n", 1)
			if started == commands {
				t.Error("nothing waits for the exporter")
			}
			if output := bash(t, "trap 'kill $(jobs -p)' EXIT\n"+started); !regexp.MustCompile(`(?m)^My port is 2\d{4}$`).MatchString(output) {
				t.Errorf("the output is %q", output)
			}
		})
		t.Run("the API", func(t *testing.T) {
			registry := program.WriteFile(t, "ports.yml", blockOf(t, "yaml", "## One minute to the first lease"))
			program.Start(t, "--registry.file="+registry, "--lease.enable", "--lease.file="+filepath.Join(t.TempDir(), "leases.db"))
			answers := json.NewDecoder(strings.NewReader(bash(t, blockOf(t, "sh", "## The API, by curl"))))
			var ids []string
			for {
				var answer struct {
					ID     string
					Leases []struct{ ID, Name, TTL string }
				}
				if err := answers.Decode(&answer); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
				for _, l := range answer.Leases {
					if l.Name != "shop-test" || l.TTL != "10m" {
						t.Errorf("the lease is %+v", l)
					}
					ids = append(ids, l.ID)
				}
				if answer.Leases == nil {
					ids = append(ids, answer.ID)
				}
			}
			if len(ids) != 3 || ids[0] == "" || ids[1] != ids[0] || ids[2] != ids[0] {
				t.Errorf("what is listed, renewed and ended is %q, want the same lease", ids)
			}
		})
	})
}

// blockOf returns the first block of a language below a heading of docs/leases.md.
func blockOf(t *testing.T, language, heading string) string {
	t.Helper()
	_, section, _ := strings.Cut(read(t, "docs/leases.md"), "\n"+heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	_, block, _ := strings.Cut(section, "\n```"+language+"\n")
	block, _, found := strings.Cut(block, "```")
	if !found {
		t.Fatalf("docs/leases.md has no %s below %q", language, heading)
	}
	return block
}

// bash runs commands in a directory of their own, and returns what they print.
func bash(t *testing.T, commands string) string {
	t.Helper()
	var stderr strings.Builder
	cmd := exec.Command("bash", "-e", "-c", commands)
	cmd.Dir, cmd.Stderr = t.TempDir(), &stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, output, stderr.String())
	}
	return string(output)
}
