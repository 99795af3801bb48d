package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"time"
)

// The load of holders-million: so many services of so many processes each, the first of which has a listener.
const (
	benchServices       = 100
	processesPerService = 20
)

// The ports of the load are those from firstListenerPort on; those of the listeners that come later start here.
const firstNewPort = 12_000

// The names that the processes of the load give themselves.
const (
	holderName    = "bench-holder"
	newHolderName = "bench-new"
	idleName      = "bench-idle"
)

// holdersTimeout is how long the product may take at most to find all holders.
const holdersTimeout = time.Minute

// slowRounds is how often programs are measured that take seconds.
const slowRounds = 3

// holdersLoad is a host with many services and open files.
type holdersLoad struct {
	services services
	pids     []int
}

// startHoldersLoad opens so many files, at the same number in each process. close must be called.
func startHoldersLoad(files int) (load holdersLoad, err error) {
	if load.services, err = makeServices(benchServices); err != nil {
		return load, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, load.close())
		}
	}()
	for n, cgroup := range load.services.open {
		for i := range processesPerService {
			one := tiny{name: idleName, cgroup: cgroup, files: files / benchServices / processesPerService}
			if i == 0 {
				one.name, one.tcp = holderName, uint16(firstListenerPort+n)
				one.files-- // the listener is one
			}
			pid, err := one.start()
			if err != nil {
				return load, err
			}
			load.pids = append(load.pids, pid)
		}
	}
	return load, nil
}

func (l holdersLoad) close() error {
	if err := end(l.pids...); err != nil {
		return err
	}
	return l.services.remove()
}

// attributed tells whether the page names service and process of every listener of the load.
func (l holdersLoad) attributed(p page) bool {
	return p.count("host_listen_port_holder_info", `process="`+holderName+`"`, `unit="bench-`) == benchServices
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

// settle scrapes until several scrapes in a row are quick: a search through all processes goes on over many, a quarter of a
// second in each.
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

// another returns a sample of the scrape that is the first one after a new process listens, and that must name its unit and its
// process. The process is in one of the services or, outside, in none of them.
func (l holdersLoad) another(ours *exporter, outside bool) func() (time.Duration, error) {
	port := firstNewPort
	if outside {
		port += benchServices
	}
	return func() (took time.Duration, err error) {
		port++
		one := tiny{name: newHolderName, tcp: uint16(port), files: 10}
		labels := []string{`port="` + strconv.Itoa(port) + `"`, `process="` + newHolderName + `"`}
		if !outside {
			service := port % benchServices
			one.cgroup = l.services.open[service]
			labels = append(labels, `unit="`+l.services.names[service]+`"`)
		}
		if err := settle(ours); err != nil {
			return 0, err
		}
		pid, err := one.start()
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, end(pid)) }()
		start := time.Now()
		p, err := ours.page()
		took = time.Since(start)
		if err != nil {
			return 0, err
		}
		if p.count("host_listen_port_holder_info", labels...) != 1 {
			return 0, fmt.Errorf("the scrape after it does not name who listens on port %d", port)
		}
		return took, nil
	}
}

// naming is a command as a side whose output must name the holder of every listener of the load.
func naming(name string, args ...string) side {
	s := command(name, args...)
	s.sample = timed(func() error {
		output, err := exec.Command(name, args...).Output()
		if err != nil {
			return err
		}
		// lsof shows nine characters of a name.
		if got := bytes.Count(output, []byte(holderName[:9])); got < benchServices {
			return fmt.Errorf("%d holders are named", got)
		}
		return nil
	})
	return s
}

func holdersMillion(s settings, out io.Writer) (err error) {
	load, err := startHoldersLoad(s.sockets)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, load.close()) }()
	ours, err := startProduct(s)
	if err != nil {
		return err
	}
	without, err := startProduct(s, "--no-collector.holder")
	if err != nil {
		return err
	}
	if err := settle(ours); err != nil {
		return err
	}
	p, err := ours.page()
	if err != nil {
		return err
	}
	if !load.attributed(p) {
		return errors.New("not every holder is shown")
	}

	on, off := ours.scrape("identity"), without.scrape("identity")
	on.name, off.name = "scrape, --collector.holder", "scrape, --no-collector.holder"
	steady, err := inTurns(s.rounds*scrapeBatch, on, off)
	if err != nil {
		return err
	}
	missed := report(out, fmt.Sprintf("Scrape of %d listeners with their holders, which stay, beside %d open files", benchServices, s.sockets), steady,
		ratio{of: steady[0], to: steady[1], want: 1.1})

	results, err := inTurns(min(s.rounds, slowRounds),
		side{"the scrape that finds one new holder", load.another(ours, false)},
		side{"the same, outside of every service", load.another(ours, true)},
		side{fmt.Sprintf("from the start to the holders of all %d", benchServices), load.first(s)},
		naming("ss", "-Htulnp"),
		naming("lsof", "-nP", "-i"))
	if err != nil {
		return err
	}
	return errors.Join(missed, report(out, fmt.Sprintf("Who listens, beside %d open files of %d processes", s.sockets, len(load.pids)), results,
		ratio{of: results[3], to: results[0], want: 10, atLeast: true},
		ratio{of: results[4], to: results[0], noDemand: true},
		ratio{of: results[3], to: results[1], noDemand: true},
		ratio{of: results[3], to: results[2], noDemand: true},
		ratio{of: results[4], to: results[2], noDemand: true}))
}
