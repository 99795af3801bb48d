package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// What a scrape with all holders may take of the time of ss, which looks for none.
var manyBounds = map[string]float64{identity: 0.6, gzip: 0.8}

// scrapeMany compares the product with ss.
func scrapeMany(s settings, out io.Writer) error {
	count := s.size(manyListeners, 500)
	open, err := openListeners(count)
	if err != nil {
		return err
	}
	defer open.hold()
	sides, bounds := []side{command("ss", "-Htuln")}, []ratio{{}}
	var exporters []*exporter
	for n, program := range s.programs() {
		e, err := startReporting(s, program, count+n+1)
		if err != nil {
			return err
		}
		p, err := untilHeld(e, count)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(out, "%s: %d samples\n", program, p.samples())
		exporters = append(exporters, e)
		for _, c := range []client{prometheus2, prometheus3} {
			for _, encoding := range encodings {
				sides = append(sides, e.scrapeAs(c, encoding))
				bounds = append(bounds, ratio{want: manyBounds[encoding], noDemand: program != product})
			}
		}
	}
	ours := exporters[0]
	least, err := leastSides(s, ours, count)
	if err != nil {
		return err
	}
	results, err := inTurns(s.rounds*5, append(sides, least...)...)
	if err != nil {
		return err
	}
	for n := range bounds {
		bounds[n].of, bounds[n].to = results[n], results[0]
	}
	dump, sent := results[len(sides)], results[len(sides)+1]
	sum := result{"(" + dump.name + " + " + sent.name + ")", []time.Duration{dump.median() + sent.median()}}
	bounds = append(bounds, ratio{of: results[3], to: sum, noDemand: true})
	title := fmt.Sprintf("Scrape of %d listeners with their holders", count)
	missed := report(out, title, results, bounds[1:]...)

	sides = append([]side{ours.scrape(identity)}, commands()...)
	for _, e := range exporters {
		sides = append(sides, e.scrapeAs(protobuf3, gzip))
	}
	libraries, err := startLibraries()
	if err != nil {
		return err
	}
	results, err = inTurns(s.rounds, append(sides, libraries...)...)
	if err != nil {
		return err
	}
	return errors.Join(missed, report(out, title+", and other programs", results, timesOf(results, ratio{noDemand: true})...))
}

// leastSides are what no exporter can do without: to receive the kernel's answer, and to send a page of this size from memory.
func leastSides(s settings, e *exporter, listeners int) ([]side, error) {
	p, err := e.page()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(s.tools, "page")
	if err := os.WriteFile(file, []byte(p), 0o600); err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	server, err := startHelper(0, "page", file, address)
	if err != nil {
		return nil, err
	}
	if _, err := server.stdout.ReadString('\n'); err != nil {
		return nil, err
	}
	raw, err := openRawDump()
	if err != nil {
		return nil, err
	}
	sent := &exporter{client: e.client, url: "http://" + address}
	return []side{
		{"minimal receive loop", timed(func() error {
			got, err := raw.all(unix.IPPROTO_TCP, unix.IPPROTO_UDP)
			if err == nil && got < listeners {
				err = fmt.Errorf("%d sockets, want %d", got, listeners)
			}
			return err
		})},
		{"the same page from memory", sent.scrapeAs(prometheus3, identity).sample},
	}, nil
}

// servePage serves a file as a page.
func servePage(file, address string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp4", address)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		_, _ = w.Write(content) // a client that hung up
	}))
}

// untilHeld scrapes until so many listeners have a holder.
func untilHeld(e *exporter, listeners int) (page, error) {
	for start := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		p, err := e.page()
		if err != nil || p.count("host_listen_port_holder_info") >= listeners {
			return p, err
		}
		if took := time.Since(start); took > holdersTimeout {
			return p, fmt.Errorf("after %v, %s does not show every holder", took, e.name)
		}
	}
}
