package main

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// The namespaces of netns-250 have so many processes each, the first of which has two listeners, with the same ports everywhere.
const (
	processesPerNamespace = 20
	listenersPerNamespace = 2
	namespaceTCPPort      = 8080
	namespaceUDPPort      = 53
)

// everyNamespace is the flag whose cost is measured, and namespaceTimeout how long it may take until every namespace was read.
const (
	everyNamespace   = "--collector.netns=all"
	namespaceTimeout = 2 * time.Minute
)

// namespaces are network namespaces, each of a program of a load.
type namespaces []*exec.Cmd

func startNamespaces(n int) (made namespaces, err error) {
	for range n {
		one, err := program{
			name: holderName, newNet: true, tcp: namespaceTCPPort, udp: namespaceUDPPort, files: 10, children: processesPerNamespace - 1,
		}.start()
		if err != nil {
			return nil, err
		}
		made = append(made, one)
	}
	return made, nil
}

// path returns a file of /proc of each namespace's program.
func (n namespaces) path(i int, name string) string {
	return fmt.Sprintf("/proc/%d/%s", n[i].Process.Pid, name)
}

// rawDumps is the least that netlink dumps in all namespaces can cost: it enters each, opens a socket, dumps all four tables,
// and looks at none.
func (n namespaces) rawDumps() error {
	return visiting(func() error {
		got := 0
		for i := range n {
			namespace, err := unix.Open(n.path(i, "ns/net"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			if err := errors.Join(unix.Setns(namespace, unix.CLONE_NEWNET), unix.Close(namespace)); err != nil {
				return err
			}
			raw, err := openRawDump()
			if err != nil {
				return err
			}
			found, err := raw.all(unix.IPPROTO_TCP, unix.IPPROTO_UDP)
			if err := errors.Join(err, unix.Close(raw.fd)); err != nil {
				return err
			}
			got += found
		}
		if want := len(n) * listenersPerNamespace; got != want {
			return fmt.Errorf("%d sockets, want %d", got, want)
		}
		return nil
	})
}

// rawReads is the least that the tables in /proc of all namespaces can cost: it reads all four, and looks at none.
func (n namespaces) rawReads() error {
	buffer := make([]byte, 64<<10)
	for i := range n {
		for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
			fd, err := unix.Open(n.path(i, "net/"+table), unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			for length := 1; length > 0 && err == nil; {
				length, err = unix.Read(fd, buffer)
			}
			if err := errors.Join(err, unix.Close(fd)); err != nil {
				return err
			}
		}
	}
	return nil
}

// inEach runs a command in each namespace, one after another.
func (n namespaces) inEach(name string, args ...string) error {
	for i := range n {
		if err := exec.Command("nsenter", append([]string{"--net=" + n.path(i, "ns/net"), name}, args...)...).Run(); err != nil {
			return err
		}
	}
	return nil
}

// untilShown scrapes until a page shows so many listeners with a port outside of the main namespace.
func (e *exporter) untilShown(listeners, port int) error {
	for deadline := time.Now().Add(namespaceTimeout); ; {
		p, err := e.page()
		if err != nil {
			return err
		}
		got := p.count("host_listen_port", `port="`+strconv.Itoa(port)+`"`, `netns="`)
		if got == listeners {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s shows port %d in %d namespaces, want %d", e.name, port, got, listeners)
		}
	}
}

// namespacesRead returns how many namespaces besides the main one a scrape reads: the median of several.
func (e *exporter) namespacesRead() (float64, error) {
	var read []float64
	for range 25 {
		p, err := e.page()
		if err != nil {
			return 0, err
		}
		all, err := p.value("host_listen_namespaces")
		if err != nil {
			return 0, err
		}
		omitted, err := p.value("host_listen_namespaces_omitted")
		if err != nil {
			return 0, err
		}
		read = append(read, all-1-omitted)
	}
	slices.Sort(read)
	return median(read), nil
}

// round is the time that a round over the namespaces takes, finding them included, as a side.
func (e *exporter) round() side {
	return batched(side{"round, " + e.name, func() (time.Duration, error) {
		p, err := e.page()
		if err != nil {
			return 0, err
		}
		seconds, err := p.value(`host_listen_collector_duration_seconds{collector="netns"}`)
		return time.Duration(seconds * float64(time.Second)), err
	}}, 5)
}

// netns compares scrapes of many namespaces with scrapes of one, and with what the kernel itself needs for all.
func netns(s settings, out io.Writer) error {
	load, err := startNamespaces(s.size(250, 10))
	if err != nil {
		return err
	}
	open, err := openListeners(fewListeners)
	if err != nil {
		return err
	}
	defer open.hold()
	host, err := startProduct(s, "--collector.netns=host")
	if err != nil {
		return err
	}
	root, err := startProduct(s, everyNamespace)
	if err != nil {
		return err
	}
	nobody, err := startAsNobody(s, product, everyNamespace)
	if err != nil {
		return err
	}
	compared := []*exporter{root, nobody}
	if s.before != "" {
		older, err := startExporter(before, s.before, everyNamespace)
		if err != nil {
			return err
		}
		compared = append(compared, older)
	}
	for _, e := range compared {
		if err := errors.Join(e.untilShown(len(load), namespaceTCPPort), e.untilShown(len(load), namespaceUDPPort)); err != nil {
			return err
		}
	}
	scrape := func(name string, e *exporter) side { return batched(side{name, e.scrape("identity").sample}, 5) }
	sides := []side{
		scrape("scrape, --collector.netns=host", host),
		scrape("scrape, "+everyNamespace+", root", root),
		scrape("scrape, "+everyNamespace+", nobody", nobody),
		{"kernel: enter each, four dumps", timed(load.rawDumps)},
		{"kernel: read four tables of each", timed(load.rawReads)},
		{"ss -Htuln in each", timed(func() error { return load.inEach("ss", "-Htuln") })},
		root.round(),
	}
	for _, older := range compared[2:] {
		sides = append(sides, scrape("scrape, "+everyNamespace+", root, "+before, older), older.round())
	}
	results, err := inTurns(s.rounds, sides...)
	if err != nil {
		return err
	}
	ratios := []ratio{
		{of: results[5], to: results[1], want: 1, atLeast: true},
		{of: results[5], to: results[2], want: 1, atLeast: true},
	}
	// A scrape may cost three of the main namespace and the kernel's time. It does not read all namespaces, so the kernel's time
	// for those that it reads is compared as well, with the round that reads them.
	for n, e := range []*exporter{root, nobody} {
		read, err := e.namespacesRead()
		if err != nil {
			return err
		}
		kernel := results[3+n]
		for _, share := range []float64{1, read / float64(len(load))} {
			bound := 3*results[0].median() + time.Duration(share*float64(kernel.median()))
			name := fmt.Sprintf("(3 × host + %.0f %% of %s)", 100*share, kernel.name)
			ratios = append(ratios, ratio{of: results[1+n], to: result{name, []time.Duration{bound}}, want: 1, noDemand: share < 1})
		}
		if e != root {
			continue
		}
		bound := time.Duration(read / float64(len(load)) * float64(kernel.median()))
		to := result{fmt.Sprintf("(%.0f of %d of %s)", read, len(load), kernel.name), []time.Duration{bound}}
		ratios = append(ratios, ratio{of: results[6], to: to, want: 1.2})
		for at := 8; at < len(results); at += 2 {
			ratios = append(ratios, ratio{of: results[at], to: to, noDemand: true})
		}
	}
	title := fmt.Sprintf("Scrape of %d namespaces of %d processes, and of 100 listeners in the main one", len(load), processesPerNamespace)
	return report(out, title, results, ratios...)
}
