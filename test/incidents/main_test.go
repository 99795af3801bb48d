//go:build linux

// Package incidents plays incidents in front of the real program, a real Prometheus of an older and of the newest major version
// with the shipped rules, and a real Alertmanager. It compares the alerts that Alertmanager sends with those that it must send.
//
// Hosts are made of namespaces. Each has its own processes, network, mounts and name, and an exporter. Both Prometheus and
// Alertmanager are on a host of their own, which has a cable to each of the others. Time runs faster than on real hosts: see
// [quicken].
package incidents

import (
	"os"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// The roles of a process.
const (
	roleWorld   = "world"   // Prometheus' host, which plays the incidents
	roleHost    = "host"    // PID 1 of one of the other hosts
	roleService = "service" // a program that listens
)

const (
	// fullVariable is set where all incidents are played, not only those that one push can wait for.
	fullVariable = "LISTEN_EXPORTER_INCIDENTS_FULL"
	// stagesVariable is a regular expression for the stages that are played; empty for all.
	stagesVariable = "LISTEN_EXPORTER_INCIDENTS_STAGES"
)

func TestMain(m *testing.M) {
	host.Main(m, map[string]func() error{
		roleWorld: play, roleHost: beHost, roleService: func() error { return beService(os.Args[1:]) },
	})
}

func TestIncidents(t *testing.T) {
	host.Program(t, "test-incidents")
	host.NeedRoot(t)
	host.NeedTools(t, "alertmanager", "go", "ip", "prlimit", "prometheus", "prometheus3", "unshare")
	program := buildQuick(t)
	host.Own(t, roleWorld, 40*time.Minute, false, host.Variable+"="+program)
}
