package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// scrapeBatch is how many scrapes a round has where a scrape takes no more than milliseconds.
const scrapeBatch = 51

// scrapeMillion compares scrapes next to no other and to a million other sockets, and with other programs there.
func scrapeMillion(s settings, out io.Writer) error {
	idle, err := startHelper(syscall.CLONE_NEWNET, "scrapes", s.tools)
	if err != nil {
		return err
	}
	sockets := s.size(1_000_000, 10_000)
	if err := startLoad("tcp", sockets); err != nil {
		return err
	}
	open, err := openListeners(fewListeners)
	if err != nil {
		return err
	}
	defer open.hold()
	ours, err := startOurs(s, fewListeners+1)
	if err != nil {
		return err
	}
	sides := []side{
		{"scrape, no other socket", idle.sample},
		batched(ours.scrape("identity"), scrapeBatch),
		batched(ours.scrape("gzip"), scrapeBatch),
	}
	exporters := []*exporter{ours}
	for _, other := range []side{command("ss", "-Htuln"), command("netstat", "-tuln")} {
		if _, err := exec.LookPath(strings.Fields(other.name)[0]); err == nil {
			sides = append(sides, other)
		}
	}
	if path, err := exec.LookPath("node_exporter"); err == nil {
		theirs, err := startExporter("node_exporter, tcpstat only", path, "--collector.disable-defaults", "--collector.tcpstat")
		if err != nil {
			return err
		}
		sides, exporters = append(sides, theirs.scrape("identity")), append(exporters, theirs)
	}
	results, err := inTurns(s.rounds, sides...)
	if err != nil {
		return err
	}
	ratios := []ratio{{of: results[1], to: results[0], want: 5}}
	for _, other := range results[3:] {
		ratios = append(ratios, ratio{of: other, to: results[1], want: 1, atLeast: true})
	}
	missed := report(out, fmt.Sprintf("Scrape of 100 listeners next to %d other sockets", sockets), results, ratios...)
	for _, e := range exporters {
		memory, err := e.resident()
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(out, "resident memory of %s: %.1f MB\n\n", e.name, memory)
	}
	return missed
}

// scrapeMany compares the product, without and with its holders, with ss, which does not look for holders either.
func scrapeMany(s settings, out io.Writer) error {
	count := s.size(manyListeners, 500)
	open, err := openListeners(count)
	if err != nil {
		return err
	}
	defer open.hold()
	var missed error
	for _, of := range []struct {
		title string
		args  []string
		bound ratio
	}{
		{"without their holders", []string{"--no-collector.holder"}, ratio{want: 2}},
		{"with their holders", nil, ratio{noDemand: true}},
	} {
		ours, err := startOurs(s, count+1, of.args...)
		if err != nil {
			return err
		}
		results, err := inTurns(s.rounds*5, command("ss", "-Htuln"), ours.scrape("identity"), ours.scrape("gzip"))
		if err != nil {
			return err
		}
		ours.stop()
		ratios := []ratio{of.bound, of.bound}
		for n := range ratios {
			ratios[n].of, ratios[n].to = results[n+1], results[0]
		}
		missed = errors.Join(missed, report(out, fmt.Sprintf("Scrape of %d listeners %s", count, of.title), results, ratios...))
	}
	return missed
}

// registryServices are so many services of four ports each: more than there are listeners.
const registryServices = 3000

// registry measures what a registry adds to a scrape.
func registry(s settings, out io.Writer) error {
	count, services := s.size(manyListeners, 500), s.size(registryServices, 150)
	open, err := openListeners(count)
	if err != nil {
		return err
	}
	defer open.hold()
	var text strings.Builder
	text.WriteString("services:\n")
	for n := range services {
		first := firstListenerPort + 4*n
		fmt.Fprintf(&text, "  - {name: service-%d, purpose: a service, port: %d-%d, proto: [tcp, udp], process: server-%d}\n",
			n, first, first+3, n)
	}
	file := filepath.Join(s.tools, "ports.yml")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		return err
	}
	without, err := startProduct(s, "--no-collector.holder")
	if err != nil {
		return err
	}
	with, err := startProduct(s, "--no-collector.holder", "--registry.file="+file)
	if err != nil {
		return err
	}
	results, err := inTurns(s.rounds*11,
		side{"judging after a change", func() (time.Duration, error) { return judging(with, true) }},
		side{"judging without a change", func() (time.Duration, error) { return judging(with, false) }},
		without.scrape("identity"),
		with.scrape("identity"))
	if err != nil {
		return err
	}
	results[2].name, results[3].name = "scrape without a registry", "scrape with the registry"
	return report(out, fmt.Sprintf("%d listeners judged by %d services", count, services), results,
		ratio{of: results[0], to: results[2], want: 0.1},
		ratio{of: results[1], to: results[2], want: 0.1},
		ratio{of: results[3], to: results[2], noDemand: true})
}

// judging returns how long the product's last scrape judged. A change is one listener more than before.
func judging(ours *exporter, change bool) (time.Duration, error) {
	if change {
		one, err := net.Listen("tcp4", "0.0.0.0:1")
		if err != nil {
			return 0, err
		}
		defer func() { _ = one.Close() }()
	} else if _, err := ours.page(); err != nil { // the first one after a change is not steady yet
		return 0, err
	}
	p, err := ours.page()
	if err != nil {
		return 0, err
	}
	seconds, err := p.value(`host_listen_collector_duration_seconds{collector="registry"}`)
	return time.Duration(seconds * float64(time.Second)), err
}
