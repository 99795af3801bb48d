package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
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
	sockets := s.size(990_000, 10_000)
	if err := startLoad("tcp", sockets); err != nil {
		return err
	}
	open, err := openListeners(fewListeners)
	if err != nil {
		return err
	}
	defer open.hold()
	ours, err := startReporting(s, product, fewListeners+1)
	if err != nil {
		return err
	}
	exporters := []*exporter{ours}
	sides := []side{{"scrape, no other socket", idle.sample}}
	loadavg, err := startNodeExporter("loadavg")
	if err != nil {
		return err
	}
	if loadavg != nil {
		exporters = append(exporters, loadavg)
	}
	if s.before != "" {
		older, err := startReporting(s, before, fewListeners+len(exporters)+1)
		if err != nil {
			return err
		}
		exporters = append(exporters, older)
	}
	for _, e := range exporters {
		for _, encoding := range encodings {
			sides = append(sides, batched(e.scrape(encoding), scrapeBatch))
		}
	}
	quick, err := inTurns(s.rounds, sides...)
	if err != nil {
		return err
	}
	ratios := []ratio{{of: quick[1], to: quick[0], want: 5}}
	for n := 1; loadavg != nil && n < len(quick); n++ {
		if theirs := 3 + (n-1)%2; n != theirs { // with the same encoding
			ratios = append(ratios, ratio{of: quick[n], to: quick[theirs], want: 1.3, noDemand: n > theirs})
		}
	}
	title := fmt.Sprintf("Scrape of 100 listeners next to %d other sockets", sockets)
	missed := report(out, title, quick, ratios...)

	sides = append([]side{batched(ours.scrape(identity), scrapeBatch)}, commands()...)
	libraries, err := startLibraries()
	if err != nil {
		return err
	}
	sides = append(sides, libraries...)
	tcpstat, err := startNodeExporter("tcpstat")
	if err != nil {
		return err
	}
	if tcpstat != nil {
		sides, exporters = append(sides, tcpstat.scrape(identity)), append(exporters, tcpstat)
	}
	slow, err := inTurns(min(s.rounds, 2), sides...) // some take 20 seconds
	if err != nil {
		return err
	}
	missed = errors.Join(missed, report(out, title+", and other programs", slow, timesOf(slow, ratio{want: 1, atLeast: true})...))
	for _, e := range exporters {
		memory, err := e.resident()
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(out, "resident memory of %s: %.1f MB\n", e.name, memory)
	}
	_, _ = fmt.Fprintln(out)
	return missed
}

// timesOf returns how many times as long as the first side each other one takes, and what that must be.
func timesOf(results []result, bound ratio) (ratios []ratio) {
	for _, other := range results[1:] {
		bound.of, bound.to = other, results[0]
		ratios = append(ratios, bound)
	}
	return ratios
}

// registryServices are so many services of four ports each: more than there are listeners. fleetServices are those of a registry that many
// hosts share, of which hostServices are for one.
const (
	registryServices = 3000
	fleetServices    = 5000
	hostServices     = 10
)

// registry measures what a registry adds to a scrape, and what the services for other hosts do.
func registry(s settings, out io.Writer) error {
	count, services := s.size(manyListeners, 500), s.size(registryServices, 150)
	open, err := openListeners(count)
	if err != nil {
		return err
	}
	defer open.hold()
	judgedBy := func(name, services string) (*exporter, error) {
		file := filepath.Join(s.tools, name+".yml")
		if err := os.WriteFile(file, []byte("services:\n"+services), 0o600); err != nil {
			return nil, err
		}
		return startProduct(s, "--no-collector.holder", "--registry.file="+file)
	}
	var four, few, others strings.Builder
	for n := range services {
		first := firstListenerPort + 4*n
		fmt.Fprintf(&four, "  - {name: service-%d, purpose: a service, port: [%d, %d, %d, %d], proto: [tcp, udp], process: server-%d, required: false}\n",
			n, first, first+1, first+2, first+3, n)
	}
	for n := range hostServices {
		first := firstListenerPort + count/hostServices*n
		fmt.Fprintf(&few, "  - {name: few-%d, purpose: a service, port: %d-%d}\n", n, first, first+count/hostServices-1)
	}
	for n := range fleetServices - hostServices {
		fmt.Fprintf(&others, "  - {name: other-%d, purpose: a service, port: %d, proto: udp, unit: other-%d.service, hosts: ['other-%d-*']}\n",
			n, firstListenerPort+n, n, n)
	}
	var exporters []*exporter
	for _, start := range []func() (*exporter, error){
		func() (*exporter, error) { return startProduct(s, "--no-collector.holder") },
		func() (*exporter, error) { return judgedBy("four", four.String()) },
		func() (*exporter, error) { return judgedBy("few", few.String()) },
		func() (*exporter, error) { return judgedBy("fleet", few.String()+others.String()) },
	} {
		e, err := start()
		if err != nil {
			return err
		}
		exporters = append(exporters, e)
	}
	with := exporters[1]
	results, err := inTurns(s.rounds*11,
		side{"judging after a change", func() (time.Duration, error) { return judging(with, true) }},
		side{"judging without a change", func() (time.Duration, error) { return judging(with, false) }},
		exporters[0].scrape(identity), with.scrape(identity), exporters[2].scrape(identity), exporters[3].scrape(identity))
	if err != nil {
		return err
	}
	for n, name := range []string{
		"scrape without a registry", "scrape with the registry", fmt.Sprintf("scrape with %d services", hostServices),
		fmt.Sprintf("scrape with the same and %d for other hosts", fleetServices-hostServices),
	} {
		results[n+2].name = name
	}
	return report(out, fmt.Sprintf("%d listeners judged by %d services", count, services), results,
		ratio{of: results[0], to: results[2], noDemand: true},
		ratio{of: results[1], to: results[2], noDemand: true},
		ratio{of: results[3], to: results[2], noDemand: true},
		ratio{of: results[5], to: results[4], want: 1.1})
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
