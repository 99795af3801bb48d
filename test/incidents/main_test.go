// Package incidents plays incidents in front of the real program, a real Prometheus with the shipped rules, and a real
// Alertmanager. It compares the alerts that Alertmanager sends with those that it must send.
//
// Three hosts are made of namespaces: web and db have a registry, plain has none. Each has its own processes, network, mounts
// and name, and an exporter. Prometheus and Alertmanager are on a fourth host, which has a cable to each of the others. Time
// runs faster than on real hosts: see [quicken].
package incidents

import (
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/common/model"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// The roles of a process.
const (
	roleWorld   = "world"   // Prometheus' host, which plays the incidents
	roleHost    = "host"    // PID 1 of one of the other hosts
	roleService = "service" // a program that listens
)

func TestMain(m *testing.M) {
	host.Main(m, map[string]func() error{
		roleWorld: play, roleHost: beHost, roleService: func() error { return beService(os.Args[1:]) },
	})
}

func TestIncidents(t *testing.T) {
	host.Program(t, "test-incidents")
	host.NeedRoot(t)
	host.NeedTools(t, "alertmanager", "ip", "prlimit", "prometheus", "unshare")
	host.Own(t, roleWorld, 10*time.Minute, false)
}

// speed is how much faster time runs: a minute of the rules is 3 seconds here. It leaves a busy machine some seconds before
// what is late counts as lost.
const speed = 20

var (
	// timed finds what has durations in a file of rules: windows, offsets, and the fields that are durations.
	timed    = regexp.MustCompile(`\[[^]\s"]*\]|\boffset -?\w+|\b(?:for|keep_firing_for|interval|query_offset): \w+`)
	duration = regexp.MustCompile(`\b(?:\d+(?:ms|[smhdwy]))+\b`)
)

// quicken returns the shipped rules with each duration divided by speed. Nothing else of them changes.
func quicken(rules string) string {
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
