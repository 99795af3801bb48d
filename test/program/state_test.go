//go:build linux

package program_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/program"
)

const (
	loadedGauge = "host_listen_state_loaded"
	savedGauge  = "host_listen_state_last_write_successful"
	goneGauge   = "host_listen_port_gone_timestamp_seconds"
)

// memoryHost is a host with a state file.
type memoryHost struct {
	t            *testing.T
	procfs, file string
	more         []string // arguments
}

func newMemoryHost(t *testing.T, more ...string) *memoryHost {
	h := &memoryHost{t: t, procfs: program.NewProcfs(t), file: filepath.Join(t.TempDir(), "state"), more: more}
	h.boot("first")
	return h
}

// boot gives the host the identity of another boot.
func (h *memoryHost) boot(id string) {
	h.t.Helper()
	file := filepath.Join(h.procfs, "sys/kernel/random/boot_id")
	must(h.t, os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(id+"\n"), 0o644))
}

func (h *memoryHost) start() *program.Exporter {
	h.t.Helper()
	return program.Start(h.t, append([]string{
		"--path.procfs=" + h.procfs, "--state.file=" + h.file, "--collector.settled-after=1s", "--collector.interval=100ms",
	}, h.more...)...)
}

// lose has the host lose its TCP ports of IPv4.
func (h *memoryHost) lose() { program.WriteTable(h.t, h.procfs, "tcp", program.TCPHeader) }

// goneTimes returns since when each port is gone.
func goneTimes(t *testing.T, page string) map[string]float64 {
	t.Helper()
	times := make(map[string]float64)
	for series, value := range program.Samples(t, page) {
		if strings.HasPrefix(series, goneGauge+"{") {
			at, err := strconv.ParseFloat(value, 64)
			must(t, err)
			times[program.Label(series, "port")] = at
		}
	}
	return times
}

// awaitGone waits until the ports that lose takes away are gone, and returns since when.
func awaitGone(t *testing.T, e *program.Exporter) (times map[string]float64) {
	t.Helper()
	e.Await("two ports that are gone", func() bool {
		times = goneTimes(t, e.Scrape())
		return len(times) == 2
	})
	return times
}

// awaitSaved waits until the state file has a text.
func (h *memoryHost) awaitSaved(e *program.Exporter, text string) {
	h.t.Helper()
	e.Await(text+" in the state file", func() bool {
		content, _ := os.ReadFile(h.file)
		return strings.Contains(string(content), text)
	})
}

const settledText = `"settled":true`

// A port that was there before the exporter or the host stopped, and is not there afterwards, is gone.
func TestAPortThatIsLostWhileNobodyWatchedIsGone(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(h *memoryHost, e *program.Exporter)
	}{
		{"SIGTERM", func(_ *memoryHost, e *program.Exporter) { e.Stop() }},
		{"SIGKILL", func(_ *memoryHost, e *program.Exporter) { must(t, e.Cmd.Process.Kill()); e.Wait() }},
		{"power cut", func(h *memoryHost, e *program.Exporter) {
			must(t, e.Cmd.Process.Kill())
			e.Wait()
			h.boot("second")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newMemoryHost(t)
			e := h.start()
			h.awaitSaved(e, settledText)
			if found := program.Samples(t, e.Scrape()); found[loadedGauge] != "0" || found[savedGauge] != "1" {
				t.Errorf("loaded %s, saved %s", found[loadedGauge], found[savedGauge])
			}
			test.end(h, e)
			h.lose()
			e = h.start()
			times := awaitGone(t, e)
			found := program.Samples(t, e.Scrape())
			if found[loadedGauge] != "1" || found[savedGauge] != "1" {
				t.Errorf("loaded %s, saved %s", found[loadedGauge], found[savedGauge])
			}
			if times["22"] == 0 || times["8080"] == 0 {
				t.Errorf("gone: %v, want 22 and 8080", times)
			}
			if lines := append(e.Warnings(), e.ErrorLines()...); len(lines) > 2 { // about the made-up procfs
				t.Errorf("logged %q", lines)
			}
			// Where it came back, it is forgotten.
			e.Stop()
			program.WriteTable(t, h.procfs, "tcp", program.TCPTable)
			e = h.start()
			e.AwaitReady()
			if times := goneTimes(t, e.Scrape()); len(times) > 0 {
				t.Errorf("gone: %v, although they are back", times)
			}
		})
	}
}

func TestWhatIsRememberedStaysTheSameOverAHundredRestarts(t *testing.T) {
	restarts := 100
	if testing.Short() {
		restarts = 5
	}
	h := newMemoryHost(t)
	e := h.start()
	h.awaitSaved(e, settledText)
	h.lose()
	want := awaitGone(t, e)
	for n := range restarts {
		if n%2 == 0 {
			e.Stop() // writes at its end
		} else {
			must(t, e.Cmd.Process.Kill())
			e.Wait()
		}
		e = h.start()
		e.AwaitReady()
		if diff := cmp.Diff(want, goneTimes(t, e.Scrape())); diff != "" {
			t.Fatalf("after restart %d (-want +got):\n%s", n, diff)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(h.file))
	must(t, err)
	if len(entries) > 3 {
		t.Errorf("%d files in the directory, want the file, its lock, and perhaps its next version", len(entries))
	}
}

func TestASecondExporterOnTheHostRunsWithoutMemoryAndSaysSo(t *testing.T) {
	h := newMemoryHost(t)
	first := h.start()
	h.awaitSaved(first, settledText)
	second := h.start()
	second.AwaitReady()
	found := program.Samples(t, second.Scrape())
	lines := second.Logged("state file")
	if found[loadedGauge] != "0" || found[savedGauge] != "0" || len(lines) != 1 || !strings.Contains(lines[0], "another exporter has it open") {
		t.Errorf("loaded %s, saved %s, logged %q", found[loadedGauge], found[savedGauge], lines)
	}
	second.Stop()
	if saved := program.Samples(t, first.Scrape())[savedGauge]; saved != "1" {
		t.Errorf("the first one: saved %s", saved)
	}
	first.Stop()
	if lines := first.Logged("state file cannot"); len(lines) > 0 {
		t.Errorf("the first one logged %q", lines)
	}
}

// A file of a wrong kind stops nothing: one line, the gauges, and everything else as without it.
func TestAStateFileThatCannotBeUsedStopsNothing(t *testing.T) {
	h := newMemoryHost(t)
	must(t, os.Mkdir(h.file, 0o755))
	e := h.start()
	e.AwaitReady()
	found := program.Samples(t, e.Scrape())
	lines := e.Logged("state file")
	if found[loadedGauge] != "0" || found[savedGauge] != "0" || len(lines) != 1 || !strings.Contains(lines[0], "is a directory: want") {
		t.Errorf("loaded %s, saved %s, logged %q", found[loadedGauge], found[savedGauge], lines)
	}
	must(t, os.Remove(h.file))
	e.Await("the gauge 1", func() bool { return program.Samples(t, e.Scrape())[savedGauge] == "1" })
	e.Stop()
	if lines := e.Logged("state file"); len(lines) != 2 || !strings.Contains(lines[1], "written again") {
		t.Errorf("logged %q", lines)
	}
}

// A registry that is broken while the exporter does not run leaves it with the last good one, as one that is broken while it runs.
func TestABadRegistryAtTheStartLeavesTheLastGoodOneOfTheStateFile(t *testing.T) {
	registry := program.WriteFile(t, "ports.yml", registryA)
	h := newMemoryHost(t, "--registry.file="+registry, "--registry.host=web-1")
	e := h.start()
	h.awaitSaved(e, `"registry":`)
	at := program.Samples(t, e.Scrape())[reloadedAtGauge]
	e.Stop()
	put(t, registry, twoFaults)
	for range 2 {
		e = h.start()
		e.AwaitReady()
		found := program.Samples(t, e.Scrape())
		if diff := cmp.Diff(verdictsA, verdicts(found)); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if found[reloadedGauge] != "0" || found[reloadedAtGauge] != at || found[registrySuccess] != "1" {
			t.Errorf("reloaded %s at %s, success %s, want 0, %s and 1", found[reloadedGauge], found[reloadedAtGauge], found[registrySuccess], at)
		}
		if diff := cmp.Diff(faultsIn(registry), loggedErrors(t, e)); diff != "" {
			t.Errorf("in the log (-want +got):\n%s", diff)
		}
		e.Stop()
	}
	e = h.start()
	put(t, registry, registryB)
	e.Await("the mended registry", func() bool {
		found := program.Samples(t, e.Scrape())
		return found[reloadedGauge] == "1" && cmp.Equal(verdictsB, verdicts(found))
	})
	e.Stop()
	// Another file has no last good content.
	other := program.WriteFile(t, "other.yml", twoFaults)
	code, _, _ := program.Run(t, "--path.procfs="+h.procfs, "--state.file="+h.file, "--registry.file="+other, "--web.listen-address=127.0.0.1:0")
	if code != 1 {
		t.Errorf("exit code %d with another file, want 1", code)
	}
}
