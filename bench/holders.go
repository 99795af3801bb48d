package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// processesPerService is how many processes a service of holders-million has. The first one has a listener.
const processesPerService = 20

// firstNewPort is the port of the first listener that comes later.
const firstNewPort = 12_000

// The names of the shells of the load. lsof shows nine characters of a name.
const (
	holderName    = "bench-holder"
	newHolderName = "bench-new"
)

// holdersTimeout is how long the product may take at most to find all holders.
const holdersTimeout = time.Minute

// holdersLoad is a host with many services and open files.
type holdersLoad struct {
	slice    string // the cgroup that holds the services
	cgroups  []int  // the services' open directories
	names    []string
	programs []*exec.Cmd
}

// startHoldersLoad starts so many services, which open so many files in all. close must be called, even after an error: the
// cgroups are in the host's hierarchy.
func startHoldersLoad(services, files int) (l holdersLoad, err error) {
	mounts, err := exec.Command("findmnt", "-nfo", "TARGET", "-t", "cgroup2").Output()
	if err != nil {
		return l, fmt.Errorf("find the cgroup2 hierarchy: %w", err)
	}
	if l.slice, err = os.MkdirTemp(strings.TrimSpace(string(mounts)), "listen_exporter_bench*.slice"); err != nil {
		return l, err
	}
	for n := range services {
		name := fmt.Sprintf("bench-%d.service", n)
		path := filepath.Join(l.slice, name)
		if err := os.Mkdir(path, 0o755); err != nil {
			return l, err
		}
		fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return l, err
		}
		l.names, l.cgroups = append(l.names, name), append(l.cgroups, fd)
		one, err := program{
			name: holderName, cgroup: fd, tcp: firstListenerPort + n,
			files: files / services / processesPerService, children: processesPerService - 1,
		}.start()
		if err != nil {
			return l, err
		}
		l.programs = append(l.programs, one)
	}
	return l, nil
}

func (l holdersLoad) close() error {
	err := end(l.programs...)
	for n, fd := range l.cgroups {
		err = errors.Join(err, unix.Close(fd), removeCgroup(filepath.Join(l.slice, l.names[n])))
	}
	if l.slice != "" {
		err = errors.Join(err, removeCgroup(l.slice))
	}
	return err
}

// removeCgroup removes an empty cgroup. The kernel may need a moment to see that it is empty.
func removeCgroup(dir string) error {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Rmdir(dir)
		if err == nil || !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return err
		}
	}
}

// attributed reports whether the page names service and process of every listener of the load.
func (l holdersLoad) attributed(p page) bool {
	return p.count("host_listen_port_holder_info", `process="`+holderName+`"`, `unit="bench-`) == len(l.names)
}

// first returns a sample of the time from the start of the product until a page shows every holder.
func (l holdersLoad) first(s settings) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		start := time.Now()
		ours, err := startProduct(s)
		if err != nil {
			return 0, err
		}
		defer ours.stop()
		for {
			p, err := ours.page()
			switch took := time.Since(start); {
			case err != nil:
				return 0, err
			case l.attributed(p):
				return took, nil
			case took > holdersTimeout:
				return 0, fmt.Errorf("after %v, not every holder is shown", took)
			}
		}
	}
}

// settle scrapes until several scrapes in a row are quick: a search through all processes goes on over many of them, for a
// quarter of a second in each.
func settle(ours *exporter) error {
	const enough, quick = 5, 100 * time.Millisecond
	start := time.Now()
	for inRow := 0; inRow < enough; {
		before := time.Now()
		if _, err := ours.page(); err != nil {
			return err
		}
		inRow++
		if time.Since(before) > quick {
			inRow = 0
		}
		if took := time.Since(start); took > holdersTimeout {
			return fmt.Errorf("after %v, scrapes are not quick yet", took)
		}
	}
	return nil
}

// another returns a sample of the first scrape after a new program listens, which must name its unit and its process. The
// program is in one of the services or, outside, in none of them.
func (l holdersLoad) another(ours *exporter, outside bool) func() (time.Duration, error) {
	port := firstNewPort
	if outside {
		port += 1000
	}
	return func() (took time.Duration, err error) {
		port++
		one := program{name: newHolderName, tcp: port, files: 10}
		labels := []string{`port="` + strconv.Itoa(port) + `"`, `process="` + newHolderName + `"`}
		if !outside {
			service := port % len(l.names)
			one.cgroup = l.cgroups[service]
			labels = append(labels, `unit="`+l.names[service]+`"`)
		}
		if err := settle(ours); err != nil {
			return 0, err
		}
		running, err := one.start()
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, end(running)) }()
		start := time.Now()
		p, err := ours.page()
		took = time.Since(start)
		if err == nil && p.count("host_listen_port_holder_info", labels...) != 1 {
			err = fmt.Errorf("the next scrape does not name who listens on port %d", port)
		}
		return took, err
	}
}

// naming is a command as a side whose output must name the holder of every listener of the load.
func (l holdersLoad) naming(name string, args ...string) side {
	s := command(name, args...)
	s.sample = timed(func() error {
		output, err := exec.Command(name, args...).Output()
		if err != nil {
			return err
		}
		if got := bytes.Count(output, []byte(holderName[:9])); got < len(l.names) {
			return fmt.Errorf("%d holders are named", got)
		}
		return nil
	})
	return s
}

func holdersMillion(s settings, out io.Writer) (err error) {
	files := s.size(1_000_000, 20_000)
	load, err := startHoldersLoad(s.size(100, 10), files)
	defer func() { err = errors.Join(err, load.close()) }()
	if err != nil {
		return err
	}
	ours, err := startProduct(s)
	if err != nil {
		return err
	}
	var sides []side
	var others []*exporter // which would only disturb what comes after
	for _, program := range s.programs() {
		on := ours
		if program != product {
			if on, err = startExporter(program, s.path(program)); err != nil {
				return err
			}
			others = append(others, on)
		}
		p, err := untilHeld(on, len(load.names))
		if err == nil && !load.attributed(p) {
			err = fmt.Errorf("%s does not show every holder", program)
		}
		if err := errors.Join(err, settle(on)); err != nil {
			return err
		}
		off, err := startExporter(program, s.path(program), "--no-collector.holder")
		if err != nil {
			return err
		}
		others = append(others, off)
		for _, encoding := range encodings {
			with, without := on.scrape(encoding), off.scrape(encoding)
			with.name += ", --collector.holder"
			without.name += ", --no-collector.holder"
			sides = append(sides, with, without)
		}
	}
	steady, err := inTurns(s.rounds*scrapeBatch, sides...)
	if err != nil {
		return err
	}
	for _, e := range others {
		e.stop()
	}
	var ratios []ratio
	for n := 0; n < len(steady); n += 2 {
		ratios = append(ratios, ratio{of: steady[n], to: steady[n+1], want: 1.1, noDemand: n >= 2*len(encodings)})
	}
	title := fmt.Sprintf("%d listeners with their holders, next to %d open files", len(load.names), files)
	missed := report(out, title+", nothing changes", steady, ratios...)

	results, err := inTurns(min(s.rounds, 3), // these take seconds
		side{"the scrape that finds one new holder", load.another(ours, false)},
		side{"the same, outside of every service", load.another(ours, true)},
		side{"from the start to the holders of all", load.first(s)},
		load.naming("ss", "-Htulnp"),
		load.naming("lsof", "-nP", "-i"))
	if err != nil {
		return err
	}
	return errors.Join(missed, report(out, title+", something does", results,
		ratio{of: results[3], to: results[0], want: 10, atLeast: true},
		ratio{of: results[3], to: results[1], noDemand: true},
		ratio{of: results[3], to: results[2], noDemand: true}))
}
