package incidents

import (
	"cmp"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// speed is how much faster time runs: a minute of the rules is 3 seconds here. It leaves a busy machine some seconds before
// what is late counts as lost.
const speed = 20

const (
	rulesFile     = "../../alerts/listen_exporter.rules.yml"
	dashboardFile = "../../examples/grafana/listen_exporter.json"
)

// durationIn finds the durations of rules and of PromQL by what stands before them: a window, the step of a subquery, an
// offset, and the fields of a rule file that are durations.
var durationIn = regexp.MustCompile(`(\[(?:[^]\s"]*:)?|\boffset -?|\b(?:for|keep_firing_for|interval|query_offset): )((?:\d+(?:ms|[smhdwy]))+)`)

// quicken returns rules, or an expression, in which time runs faster. It is the one thing that is changed in the shipped rules:
// each duration is divided by speed.
func quicken(text string) string {
	for { // a subquery has two, of which the second is found when the first is no longer before it
		quickened := durationIn.ReplaceAllStringFunc(text, func(found string) string {
			parts := durationIn.FindStringSubmatch(found)
			return parts[1] + mark + promDuration(parseDuration(parts[2])/speed)
		})
		if quickened == text {
			return strings.ReplaceAll(text, mark, "")
		}
		text = quickened
	}
}

// mark stands before a duration that has been divided already.
const mark = "\x00"

// units are those of Prometheus, the largest first.
var units = []struct {
	name   string
	length time.Duration
}{
	{"y", 365 * 24 * time.Hour},
	{"w", 7 * 24 * time.Hour},
	{"d", 24 * time.Hour},
	{"h", time.Hour},
	{"m", time.Minute},
	{"s", time.Second},
	{"ms", time.Millisecond},
}

// parseDuration parses digits and units, such as 1h30m.
func parseDuration(text string) time.Duration {
	var sum time.Duration
	for _, part := range regexp.MustCompile(`(\d+)(ms|[smhdwy])`).FindAllStringSubmatch(text, -1) {
		number, _ := strconv.Atoi(part[1]) // digits, by the pattern
		for _, unit := range units {
			if unit.name == part[2] {
				sum += time.Duration(number) * unit.length
			}
		}
	}
	return sum
}

// promDuration writes a duration in seconds, or in milliseconds where seconds are too coarse.
func promDuration(d time.Duration) string {
	if d%time.Second != 0 {
		return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
	}
	return strconv.FormatInt(int64(d/time.Second), 10) + "s"
}

func TestADurationIsDividedWhereverOneMayStand(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"a window", "rate(x[5m])", "rate(x[15s])"},
		{"a window of hours", "rate(x[1h])", "rate(x[180s])"},
		{"a window of two units", "rate(x[1h30m])", "rate(x[270s])"},
		{"less than a second", "rate(x[30s])", "rate(x[1500ms])"},
		{"a subquery", "max_over_time(x[1h:1m])", "max_over_time(x[180s:3s])"},
		{"a subquery without a step", "max_over_time(x[1h:])", "max_over_time(x[180s:])"},
		{"a query in a template", `printf "x{a=%q}[1h:1m]" $x`, `printf "x{a=%q}[180s:3s]" $x`},
		{"an offset", "x offset 1h", "x offset 180s"},
		{"an offset into the future", "x offset -1d", "x offset -4320s"},
		{"how long to wait", "        for: 2m\n", "        for: 6s\n"},
		{"how long to go on", "        keep_firing_for: 5m\n", "        keep_firing_for: 15s\n"},
		{"the interval of a group", "    interval: 1m\n", "    interval: 3s\n"},
		{"a comment", "# wait for 2m, for 5 minutes", "# wait for 2m, for 5 minutes"},
		{"a pattern", `port=~"[1-9][0-9]{0,2}|10[01][0-9]|102[0-3]"`, `port=~"[1-9][0-9]{0,2}|10[01][0-9]|102[0-3]"`},
		{"a command", "journalctl --since -15min", "journalctl --since -15min"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := gocmp.Diff(tc.want, quicken(tc.text)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestNothingButDurationsChangesInTheShippedRules finds the durations in another way: whatever looks like one outside of the
// strings and comments of an expression, and the fields of a rule that Prometheus parses as durations.
func TestNothingButDurationsChangesInTheShippedRules(t *testing.T) {
	text, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	before, after := parseRules(t, string(text)), parseRules(t, quicken(string(text)))
	if len(before) == 0 || len(before) != len(after) {
		t.Fatalf("%d rules, and %d of them quickened", len(before), len(after))
	}
	for i, old := range before {
		name := cmp.Or(old["alert"], old["record"])
		for field, value := range old {
			was, is := []string{value}, []string{after[i][field]}
			if field != "for" && field != "keep_firing_for" {
				was, is = durationsOf(value, field == "expr"), durationsOf(after[i][field], field == "expr")
				if diff := gocmp.Diff(withoutDurations(value), withoutDurations(after[i][field])); diff != "" {
					t.Errorf("%s: %s differs in more than durations (-shipped +quickened):\n%s", name, field, diff)
				}
			}
			var want []string
			for _, duration := range was {
				want = append(want, promDuration(parseDuration(duration)/speed))
			}
			if diff := gocmp.Diff(want, is); diff != "" {
				t.Errorf("%s: the durations of %s (-want +got):\n%s", name, field, diff)
			}
		}
	}
	if strings.Contains(quicken(string(text)), mark) {
		t.Error("a mark is left")
	}
}

// parseRules returns the fields of each group and rule, and of their annotations.
func parseRules(t *testing.T, text string) []map[string]string {
	t.Helper()
	var content struct {
		Groups []struct {
			Interval string
			Rules    []struct {
				Alert, Record, Expr, For string
				KeepFiringFor            string `yaml:"keep_firing_for"`
				Annotations, Labels      map[string]string
			}
		}
	}
	if err := yaml.Unmarshal([]byte(text), &content); err != nil {
		t.Fatal(err)
	}
	var all []map[string]string
	for _, group := range content.Groups {
		for _, rule := range group.Rules {
			fields := map[string]string{"alert": rule.Alert, "record": rule.Record, "expr": rule.Expr}
			for name, value := range rule.Annotations {
				fields["annotation "+name] = value
			}
			for name, value := range rule.Labels {
				fields["label "+name] = value
			}
			for name, value := range map[string]string{"for": rule.For, "keep_firing_for": rule.KeepFiringFor} {
				if value != "" {
					fields[name] = value
				}
			}
			all = append(all, fields)
		}
	}
	return all
}

var (
	anyDuration    = regexp.MustCompile(`\b(?:\d+(?:ms|[smhdwy]))+\b`)
	windowDuration = regexp.MustCompile(`\[[^]\s"]*\]`)
	quoted         = regexp.MustCompile("\"(?:[^\"\\\\]|\\\\.)*\"|'(?:[^'\\\\]|\\\\.)*'|`[^`]*`")
	comment        = regexp.MustCompile(`(?m)#.*$`)
)

// durationsOf returns the durations of an expression or, of a text, those in the windows of the queries in it.
func durationsOf(text string, expression bool) []string {
	if expression {
		return anyDuration.FindAllString(quoted.ReplaceAllString(comment.ReplaceAllString(text, ""), ""), -1)
	}
	var found []string
	for _, window := range windowDuration.FindAllString(text, -1) {
		found = append(found, anyDuration.FindAllString(window, -1)...)
	}
	return found
}

func withoutDurations(text string) string { return anyDuration.ReplaceAllString(text, "DURATION") }
