//go:build linux

package incidents

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/common/model"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// speed is how much faster time runs: a minute of the rules is 3 seconds here. It leaves a busy machine some seconds before
// what is late counts as lost.
const speed = 20

var (
	// timed finds what has durations in a file of rules: windows, offsets, and the fields that are durations.
	timed    = regexp.MustCompile(`\[[^]\s"]*\]|\boffset -?\w+|\b(?:for|keep_firing_for|interval|query_offset): \w+`)
	duration = regexp.MustCompile(`\b(?:\d+(?:ms|[smhdwy]))+\b`)
	// ages finds the ages in seconds with which expressions compare.
	ages = regexp.MustCompile(`(?:host_time|read)\) - \d+\b`)
)

// quicken returns the shipped rules with each duration divided by speed. Nothing else of them changes.
func quicken(rules string) string {
	rules = ages.ReplaceAllStringFunc(rules, func(age string) string { return age + " / " + strconv.Itoa(speed) })
	return timed.ReplaceAllStringFunc(rules, func(found string) string {
		return duration.ReplaceAllStringFunc(found, func(text string) string {
			parsed, err := model.ParseDuration(text)
			if err != nil {
				return text
			}
			return promDuration(time.Duration(parsed) / speed)
		})
	})
}

// promDuration writes a duration as Prometheus reads it.
func promDuration(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) + "ms" }

// length finds a duration in the program.
const length = `(?:\b\d+ \* )?\btime\.(?:Millisecond|Second|Minute|Hour)\b`

// remembering are the files of the program with durations that no flag sets, and what finds these: how long a port flaps, how long
// a host boots, how often the state is written, which part of a CPU may be used, and so on.
var remembering = map[string]*regexp.Regexp{
	"internal/inventory/flapping.go": regexp.MustCompile(length),
	"internal/inventory/gone.go":     regexp.MustCompile(length),
	"internal/inventory/pressure.go": regexp.MustCompile(length),
	"internal/inventory/watch.go":    regexp.MustCompile(length + `|\bwatchShare = \d+`),
	"internal/state/state.go":        regexp.MustCompile(`\b(?:write|look)Interval = ` + length),
}

// buildQuick builds the program with each of these durations divided by speed, and nothing else changed. It returns its path.
func buildQuick(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs(host.Root)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	replaced := make(map[string]string)
	for name, times := range remembering {
		source := filepath.Join(root, name)
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		quick := times.ReplaceAll(text, []byte("${0} / "+strconv.Itoa(speed)))
		if bytes.Equal(quick, text) {
			t.Fatalf("%s has no durations: want the file that has them", name)
		}
		replaced[source] = filepath.Join(dir, strconv.Itoa(len(replaced))+".go")
		if err := os.WriteFile(replaced[source], quick, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "listen_exporter")
	cmd := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", program, ".")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the program with quicker times: %v\n%s", err, output)
	}
	return program
}
