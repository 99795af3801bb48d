// Command fleet measures what the shipped rules cost a Prometheus that watches a whole fleet. It writes two hours of what such a
// fleet's exporters say as a block of Prometheus' database, and has a real Prometheus evaluate the rules over it. It is a
// module of its own, because the library that writes the block is Prometheus' own.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// settings are what a run can be told.
type settings struct {
	hosts      []int
	rounds     int
	incidents  float64 // the share of the hosts where something is wrong
	head       bool    // the data are in memory, as in service, and not in a block
	rules      string
	prometheus string
	limit      time.Duration
}

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	s := settings{hosts: []int{500, 1667, 5000}}
	flags := flag.NewFlagSet("fleet", flag.ContinueOnError)
	flags.Func("hosts", "how many hosts there are; several sizes are separated by commas (default 500,1667,5000)", func(text string) error {
		var err error
		s.hosts, err = sizes(text)
		return err
	})
	flags.IntVar(&s.rounds, "rounds", 3, "how often each rule is evaluated")
	flags.Float64Var(&s.incidents, "incidents", 0.05, "the share of the hosts where something is wrong")
	flags.BoolVar(&s.head, "head", false, "have the data in Prometheus' memory, as in service, in place of a block on disk")
	flags.StringVar(&s.rules, "rules", "../../alerts/listen_exporter.rules.yml", "the rules")
	flags.StringVar(&s.prometheus, "prometheus", "prometheus", "the program of Prometheus")
	flags.DurationVar(&s.limit, "limit", 5*time.Second, "how long a group may take at the largest size; 0 is no limit")
	if err := flags.Parse(args); err != nil {
		return err
	}
	rules, err := readRules(s.rules)
	if err != nil {
		return err
	}
	var results []result
	for _, hosts := range s.hosts {
		r, err := measure(s, hosts, rules)
		if err != nil {
			return fmt.Errorf("%d hosts: %w", hosts, err)
		}
		results = append(results, r)
	}
	return report(out, s, rules, results)
}

func sizes(text string) ([]int, error) {
	var hosts []int
	for field := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(field)
		if err != nil {
			return nil, err
		}
		if n < 1 || len(hosts) > 0 && n <= hosts[len(hosts)-1] {
			return nil, errors.New("the sizes must rise, from 1")
		}
		hosts = append(hosts, n)
	}
	return hosts, nil
}

// result is what one size of the fleet comes to.
type result struct {
	hosts, listeners, series int
	managed                  []time.Duration // each rule by Prometheus' own rule manager, in the order of the file
	alerts                   []int           // that each rule made
	touched                  []touched       // by the query API, each rule by itself
	heap, resident           int64           // the most memory that Prometheus had for itself, and with the block; in bytes
}

// writeAhead is how much time is set aside to write the data, from a start and for each host. The newest scrape in it is of the
// moment when Prometheus starts.
const (
	writeAhead        = 4 * time.Second
	writeAheadPerHost = 8 * time.Millisecond
)

func measure(s settings, hosts int, rules []rule) (r result, err error) {
	dir, err := os.MkdirTemp("", "fleet-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(interrupted)

	end := time.Now().Add(writeAhead + time.Duration(hosts)*writeAheadPerHost).Truncate(time.Second)
	f := fleet{hosts: hosts, incidents: s.incidents, end: end}
	data := filepath.Join(dir, "data")
	r.hosts, r.listeners = hosts, hosts*listenersPerHost
	write := f.writeBlock
	if s.head {
		write = f.writeLog
	}
	if r.series, err = write(data); err != nil {
		return r, err
	}
	fmt.Fprintf(os.Stderr, "%d hosts: %d series written, %s to spare\n", hosts, r.series, time.Until(end).Round(time.Millisecond))
	select {
	case <-time.After(time.Until(end)):
	case <-interrupted:
		return r, errors.New("interrupted")
	}
	if err := r.byTheManager(s, dir, data, rules); err != nil {
		return r, err
	}
	return r, r.byTheAPI(s, dir, data, rules, end)
}
