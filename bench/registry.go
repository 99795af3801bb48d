package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// writeRegistry writes a registry that declares every port there is, in a service of its own, and returns its file. required
// says whether each of them must listen.
func writeRegistry(directory string, required bool) (file string, err error) {
	var text strings.Builder
	text.WriteString("services:\n")
	for port := 1; port <= 65535; port++ {
		fmt.Fprintf(&text, "  - {name: service-%d, purpose: a service of its own, port: %[1]d, proto: [tcp, udp], bind: [any], process: server-%[1]d, required: %[2]t}\n", port, required)
	}
	file = filepath.Join(directory, fmt.Sprintf("required-%t.yml", required))
	return file, os.WriteFile(file, []byte(text.String()), 0o600)
}

// judgedListeners are the many listeners, and the ports of the exporters that judging is held against.
const judgedListeners = manyListeners + 2

// judgingOf returns a sample of what judging costs in a snapshot, which must have so many listeners.
func judgingOf(ports *inventory.Inventory, listeners int) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		snapshot := ports.Snapshot()
		at := slices.IndexFunc(snapshot.Reads, func(r inventory.Read) bool { return r.Collector == inventory.CollectorRegistry })
		if got := len(snapshot.Listeners); got != listeners || at < 0 {
			return 0, fmt.Errorf("%d listeners, want %d: %+v", got, listeners, snapshot.Reads)
		}
		return snapshot.Reads[at].Duration, nil
	}
}

// afterChange returns a sample in a snapshot that finds a listener more than the one before.
func afterChange(ports *inventory.Inventory) func() (time.Duration, error) {
	more, less := judgingOf(ports, judgedListeners+1), judgingOf(ports, judgedListeners)
	return func() (time.Duration, error) {
		one, err := net.Listen("tcp4", "0.0.0.0:1")
		if err != nil {
			return 0, err
		}
		took, err := more()
		if err := errors.Join(err, one.Close()); err != nil {
			return 0, err
		}
		_, err = less()
		return took, err
	}
}

// withoutChange returns a sample in a snapshot that finds what the one before did.
func withoutChange(ports *inventory.Inventory) func() (time.Duration, error) {
	sample := judgingOf(ports, judgedListeners)
	return func() (time.Duration, error) {
		if _, err := sample(); err != nil { // the first one after a change is not steady yet
			return 0, err
		}
		return sample()
	}
}

// serveJudging is a helper that judges by a registry.
func serveJudging(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 2 {
		return errors.New("judging: want SAMPLE FILE")
	}
	runtime.GOMAXPROCS(1) // the product's default
	ports, err := openInventory(true, func(o *inventory.Options) { o.RegistryFile = args[1] })
	if err != nil {
		return err
	}
	sample := withoutChange(ports)
	if args[0] == "change" {
		sample = afterChange(ports)
	}
	return answer(in, out, sample)
}

func registryFigure(s settings, out io.Writer) error {
	directory, err := os.MkdirTemp("", "bench-registry-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(directory) }()
	if err := startListeners(manyListeners); err != nil {
		return err
	}
	unjudged, err := startProduct(s, "--no-collector.holder")
	if err != nil {
		return err
	}
	defer unjudged.stop()
	var missed error
	for _, required := range []bool{true, false} {
		file, err := writeRegistry(directory, required)
		if err != nil {
			return err
		}
		missed = errors.Join(missed, judging(s, out, file, required, unjudged))
	}
	return missed
}

// judging measures what a registry adds to a scrape. Each side is a process of its own.
func judging(s settings, out io.Writer, file string, required bool, unjudged *exporter) error {
	var sides []side
	for _, of := range []struct{ name, sample string }{
		{"judging after a change", "change"},
		{"judging without a change", "steady"},
	} {
		one, err := startHelper(0, "judging", of.sample, file)
		if err != nil {
			return err
		}
		defer func() { _ = one.stop() }()
		sides = append(sides, side{of.name, one.sample})
	}
	judged, err := startProduct(s, "--no-collector.holder", "--registry.file="+file)
	if err != nil {
		return err
	}
	defer judged.stop()
	sides = append(sides,
		side{"scrape without a registry", unjudged.scrape("identity").sample},
		side{"scrape with the registry", judged.scrape("identity").sample})
	const size = 11
	results, err := inTurns(s.rounds*size, sides...)
	if err != nil {
		return err
	}
	must := "may"
	if required {
		must = "must"
	}
	return report(out, fmt.Sprintf("%d listeners judged by 65535 services that %s listen", manyListeners, must), results,
		ratio{of: results[0], to: results[2], want: 0.1},
		ratio{of: results[1], to: results[2], want: 0.1},
		ratio{of: results[3], to: results[2], noDemand: true})
}
