package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"
)

// everyNamespace is the flag whose cost is measured.
const everyNamespace = "--collector.netns=all"

// costScrapes is how many scrapes are looked at one by one.
const costScrapes = 25

// namespaceTimeout is how long it may take until every namespace was read. A scrape reads a part of them.
const namespaceTimeout = 2 * time.Minute

// untilShown scrapes until a page shows so many listeners with a port outside of the main namespace, and returns how many scrapes
// it took.
func (e *exporter) untilShown(listeners int, port string) (scrapes int, err error) {
	labels := []string{`port="` + port + `"`, `netns="`}
	for deadline := time.Now().Add(namespaceTimeout); ; {
		p, err := e.page()
		if err != nil {
			return 0, err
		}
		scrapes++
		got := p.count("host_listen_port", labels...)
		if got == listeners {
			return scrapes, nil
		}
		if time.Now().After(deadline) {
			return 0, fmt.Errorf("%s shows port %s in %d namespaces after %d scrapes, want %d", e.name, port, got, scrapes, listeners)
		}
	}
}

// cost is what scrapes cost, and how many namespaces beside the main one they read and left out.
type cost struct {
	name          string
	took          []time.Duration // sorted
	used          processorTime
	read, omitted []float64 // sorted
}

// cost scrapes so often.
func (e *exporter) cost(scrapes int) (cost, error) {
	c := cost{name: e.name}
	before, err := e.processorTime()
	if err != nil {
		return c, err
	}
	for range scrapes {
		start := time.Now()
		p, err := e.page()
		if err != nil {
			return c, err
		}
		c.took = append(c.took, time.Since(start))
		namespaces, err := p.value("host_listen_namespaces")
		if err != nil {
			return c, err
		}
		omitted, err := p.value("host_listen_namespaces_omitted")
		if err != nil {
			return c, err
		}
		c.read, c.omitted = append(c.read, namespaces-1-omitted), append(c.omitted, omitted)
	}
	slices.Sort(c.took)
	slices.Sort(c.read)
	slices.Sort(c.omitted)
	after, err := e.processorTime()
	c.used = processorTime{user: after.user - before.user, kernel: after.kernel - before.kernel}
	return c, err
}

// reportCosts prints a line for each cost. Processor times are per scrape.
func reportCosts(out io.Writer, title string, costs ...cost) error {
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	_, _ = fmt.Fprintf(w, "%s\n\n| exporter\t| scrapes\t| median\t| longest\t| processor, user\t| processor, kernel\t| namespaces read\t| omitted\t|\n"+
		"| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t|\n", title)
	for _, c := range costs {
		scrapes := time.Duration(len(c.took))
		_, _ = fmt.Fprintf(w, "| %s\t| %d\t| %v\t| %v\t| %v\t| %v\t| %s\t| %s\t|\n", c.name, scrapes,
			short(median(c.took)), short(c.took[scrapes-1]),
			short(c.used.user/scrapes), short(c.used.kernel/scrapes), span(c.read), span(c.omitted))
	}
	_, _ = fmt.Fprintln(w)
	return w.Flush()
}

// span writes the lowest and the highest of sorted numbers.
func span(sorted []float64) string {
	lowest, highest := sorted[0], sorted[len(sorted)-1]
	if lowest == highest {
		return fmt.Sprint(lowest)
	}
	return fmt.Sprintf("%g to %g", lowest, highest)
}

// netnsSteady compares scrapes of many namespaces with scrapes of one, and with what the kernel itself needs for all.
func netnsSteady(s settings, out io.Writer) error {
	load, err := startNamespaces(benchNamespaces, processesPerNamespace)
	if err != nil {
		return err
	}
	open, err := openListeners(fewListeners)
	if err != nil {
		return err
	}
	defer open.hold()
	var sides []side
	var all []*exporter
	for _, one := range []struct {
		name  string
		start func(settings, ...string) (*exporter, error)
		flag  string
	}{
		{"scrape, --collector.netns=host", startProduct, "--collector.netns=host"},
		{"scrape, " + everyNamespace + ", root", startProduct, everyNamespace},
		{"scrape, " + everyNamespace + ", nobody", startProductAsNobody, everyNamespace},
	} {
		e, err := one.start(s, one.flag)
		if err != nil {
			return err
		}
		e.name = one.name
		if one.flag == everyNamespace {
			all = append(all, e)
			for _, port := range []int{namespaceTCPPort, namespaceUDPPort} {
				if _, err := e.untilShown(len(load.pids), strconv.Itoa(port)); err != nil {
					return err
				}
			}
		}
		scrape := e.scrape("identity")
		scrape.name = one.name
		sides = append(sides, batched(scrape, 5))
	}
	results, err := inTurns(s.rounds, append(sides,
		side{"kernel: enter each, four dumps", load.rawDumps(len(load.pids) * listenersPerNamespace)},
		side{"kernel: read four tables of each", load.rawReads()},
		load.inEach("ss", "-Htuln"))...)
	if err != nil {
		return err
	}
	var costs []cost
	for _, e := range all {
		c, err := e.cost(costScrapes)
		if err != nil {
			return err
		}
		costs = append(costs, c)
	}
	// atMost is what a scrape may cost. share is the part of the namespaces whose time counts.
	atMost := func(kernel result, share float64) result {
		name := fmt.Sprintf("(3 × host + %s)", kernel.name)
		if share < 1 {
			name = fmt.Sprintf("(3 × host + %.0f %% of %s)", 100*share, kernel.name)
		}
		return result{name, []time.Duration{3*results[0].median() + time.Duration(share*float64(kernel.median()))}}
	}
	shareRead := func(c cost) float64 { return median(c.read) / float64(len(load.pids)) }
	title := fmt.Sprintf("Scrape of %d namespaces of %d processes, and of 100 listeners in the main one", len(load.pids), processesPerNamespace)
	missed := report(out, title, results,
		ratio{of: results[1], to: atMost(results[3], 1), want: 1},
		ratio{of: results[2], to: atMost(results[4], 1), want: 1},
		// A scrape does not read them all.
		ratio{of: results[1], to: atMost(results[3], shareRead(costs[0])), noDemand: true},
		ratio{of: results[2], to: atMost(results[4], shareRead(costs[1])), noDemand: true},
		ratio{of: results[5], to: results[1], want: 1, atLeast: true},
		ratio{of: results[5], to: results[2], want: 1, atLeast: true})
	return errors.Join(missed, reportCosts(out, "Where that goes", costs...))
}
