//go:build linux

package program_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
	"github.com/listen-exporter/listen_exporter/test/program"
)

// trailOf returns the lines of a log about what opened and closed at a port, or at all ports.
func trailOf(e *program.Exporter, port string) (opened, closed []program.LogLine) {
	for _, text := range e.Stderr.Lines() {
		line, err := program.ParseLine(text)
		if err != nil || port != "" && line.Get("port") != port {
			continue
		}
		switch line.Get("msg") {
		case "listener opened":
			opened = append(opened, line)
		case "listener closed":
			closed = append(closed, line)
		}
	}
	return opened, closed
}

func TestTheTrailHasEachListenerThatOpensAndCloses(t *testing.T) {
	for _, format := range []string{"logfmt", "json"} {
		t.Run(format, func(t *testing.T) {
			netnstest.Run(t, func(t *testing.T) {
				program.Listen(t, "tcp", "127.0.0.1:22")
				registry := program.WriteFile(t, "ports.yml", "services: [{name: ssh, port: 22}]\nforbidden: [{port: 23, reason: telnet is not used here}]\n")
				e := program.StartLive(t, "--log.events", "--collector.netns=self", "--log.format="+format, "--collector.interval=1s", "--registry.file="+registry)
				e.AwaitReady()
				closeNow := program.Listen(t, "tcp", "127.0.0.1:23")
				e.Await("a line about an open port", func() bool { opened, _ := trailOf(e, "23"); return len(opened) > 0 })
				closeNow()
				e.Await("a line about its end", func() bool { _, closed := trailOf(e, "23"); return len(closed) > 0 })
				e.Stop()
				program.CheckLines(t, format, e.Stderr.String())
				opened, closed := trailOf(e, "")
				if len(opened) != 1 || len(closed) != 1 {
					t.Fatalf("%d opened and %d closed, want 1 and 1", len(opened), len(closed))
				}
				for _, line := range []program.LogLine{opened[0], closed[0]} {
					for key, want := range map[string]string{
						"level": "info", "exact": "false", "proto": "tcp", "address": "127.0.0.1", "port": "23", "scope": "loopback",
						"state": "forbidden", "pid": strconv.Itoa(os.Getpid()), "uid": strconv.Itoa(os.Getuid()),
					} {
						if got := line.Get(key); got != want {
							t.Errorf("%s is %q, want %q: %v", key, got, want, line)
						}
					}
					if line.Get("process") == "" || line.Get("executable") == "" {
						t.Errorf("the process is missing: %v", line)
					}
				}
				if opened[0].Get("lifetime") != "" || closed[0].Get("lifetime") == "" {
					t.Errorf("want a lifetime of what closed: %v, %v", opened[0], closed[0])
				}
			})
		})
	}
}

func TestTheTrailIsWholeAfterSIGTERM(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		const count = 500
		e := program.StartLive(t, "--log.events", "--collector.netns=self", "--collector.interval=1s")
		e.AwaitReady()
		for port := range count {
			program.Listen(t, "tcp", fmt.Sprintf("127.0.0.1:%d", 2000+port))
		}
		e.Await("lines up to the limit", func() bool { opened, _ := trailOf(e, ""); return len(opened) >= 200 })
		e.Scrape() // a look that has them all
		e.Stop()
		opened, _ := trailOf(e, "")
		sum := len(opened) // and what was left out
		for _, text := range e.Logged("left out") {
			line, err := program.ParseLine(text)
			must(t, err)
			left, err := strconv.Atoi(line.Get("opened"))
			must(t, err)
			sum += left
		}
		if sum != count || len(opened) == count {
			t.Errorf("%d lines, and with those that were left out %d, want %d", len(opened), sum, count)
		}
	})
}

func TestAProcessCannotForgeTheTrail(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		e := program.StartLive(t, "--log.events", "--collector.netns=self", "--collector.interval=1s")
		e.AwaitReady()
		for _, comm := range []string{"a\nlevel=info", `" state=ok x="`, "\x1b]0;x\a\u202e", "\xff\xfe"} {
			name := filepath.Join(t.TempDir(), comm)
			must(t, os.Symlink(program.Path(t), name))
			other := program.Launch(t, exec.Command(name, "--web.listen-address=127.0.0.1:0")).Listen()
			_, port, _ := strings.Cut(other.Address, ":")
			e.Await("a line about it", func() bool { opened, _ := trailOf(e, port); return len(opened) > 0 })
			opened, _ := trailOf(e, port)
			if line := opened[0]; line.Get("process") == "" || line.Get("state") != "" {
				t.Errorf("the process %q: %v", comm, line)
			}
		}
		e.Stop()
		program.CheckLines(t, "logfmt", e.Stderr.String())
		for _, text := range e.Stderr.Lines() {
			if slices.ContainsFunc([]rune(text), func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("a line that is not printable: %q", text)
			}
		}
	})
}
