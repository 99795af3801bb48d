// Command bench measures the figures of BENCHMARKS.md. Run it in this directory: `go run . NAME`.
//
// A figure runs in a network, a PID and a mount namespace of its own, as their first process. When it ends, the kernel ends
// all that it started. Those of events see the host's PIDs.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// product is the program that is measured, and before an older version of it.
const (
	product = "listen_exporter"
	before  = "listen_exporter before"
)

// errMissed is the error of a figure that was measured, and misses what it must reach.
var errMissed = errors.New("missed")

// settings are what a run can be asked for.
type settings struct {
	small   bool
	lenient bool
	rounds  int
	length  time.Duration // of the soak
	before  string        // the path of an older version to compare with, or empty
	tools   string        // the directory with the product; set once the figure is in its namespaces
}

// size returns the size of a load: what the figure is about, or little.
func (s settings) size(full, small int) int {
	if s.small {
		return small
	}
	return full
}

// figure is one measurement.
type figure struct {
	name  string
	about string
	where where
	run   func(settings, io.Writer) error
}

// where is where a figure runs.
type where int

const (
	inNamespaces where = iota
	// withHostPIDs has a network and a mount namespace, and sees the PIDs that the kernel reports to everybody.
	withHostPIDs
	// outside needs neither the product nor namespaces.
	outside
)

func figures() []figure {
	return []figure{
		{"snapshot-million", "a netlink snapshot of 100 listeners, next to 0 and to 1 000 000 other sockets", inNamespaces, snapshotMillion},
		{"snapshot-limit", "netlink snapshots against a minimal receive loop", inNamespaces, snapshotLimit},
		{"scrape-million", "a scrape of 100 listeners, next to 0 and to 1 000 000 other sockets, and other programs", inNamespaces, scrapeMillion},
		{"scrape-10000", "a scrape of 10 000 listeners with their holders, against ss and other programs", inNamespaces, scrapeMany},
		{"slow-readers", "resident memory with 200 slow readers of 10 000 listeners, against one reader", inNamespaces, slowReaders},
		{"start", "from the start to the first complete answer, memory after it, and the size of the binary", inNamespaces, startUp},
		{"profile", "where the processor time of a scrape goes, by perf", inNamespaces, profile},
		{"watch", "processor time of the looks between scrapes, 100 listeners on an idle host", inNamespaces, watch},
		{"watch-million", "processor time of the looks between scrapes, next to 1 000 000 other sockets", inNamespaces, watchMillion},
		{"registry", "10 000 listeners judged by 3 000 services, and by 10 of 5 000, against a scrape", inNamespaces, registry},
		{"holders-million", "who holds 100 listeners, next to 1 000 000 open files of 2 000 processes, against ss and lsof", inNamespaces, holdersMillion},
		{"first-answer", "the first scrape next to 1 000 000 open files and 250 network namespaces, against its budget", inNamespaces, first},
		{"netns-250", "a scrape of 250 network namespaces, against the kernel's own time and ss in each", inNamespaces, netns},
		{"netns-nobody", "scrapes as nobody until a new pod's listener is shown, next to 300 namespaces and 200 000 sockets", inNamespaces, news},
		{"events-storm", "10 000 listeners of 16 µs to 1 ms from one process and from eight: how many are counted, and with whom", withHostPIDs, eventsStorm},
		{"events-peers", "what bpftrace, bcc, ss, netstat and lsof see of such a storm", withHostPIDs, eventsPeers},
		{"events-flood", "100 000 listeners a second for 30 s: memory, what is lost, and scrapes meanwhile", withHostPIDs, eventsFlood},
		{"events-flood-scrapes", "scrapes during such floods, with events on and off in turns", withHostPIDs, eventsFloodScrapes},
		{"events-cost", "throughput of a server that accepts connections as fast as it can, with events and without", withHostPIDs, eventsCost},
		{"events-memory", "resident memory with events off and on, after the start and after 20 scrapes", withHostPIDs, eventsMemory},
		{"events-soak", "a storm for as long as -length says: memory, open files, goroutines", withHostPIDs, eventsSoak},
		{"traffic-cost", "what a packet costs while --collector.traffic counts it", inNamespaces, trafficCost},
		{"leases", "leases taken, renewed and given back over the API, by one client and by 64, in a file and in etcd", inNamespaces, leases},
		{"leases-unused", "start and memory without leases, against a version that has none (-before)", inNamespaces, leasesUnused},
		{"fleet", "the shipped alert rules over two hours of 500, 1 667 and 5 000 hosts", outside, fleetRules},
	}
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 0 && args[0] == "helper" {
		return help(args[1:])
	}
	var s settings
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.BoolVar(&s.small, "small", false, "small loads and one round, to see that a figure runs; implies -lenient")
	flags.BoolVar(&s.lenient, "lenient", false, "a figure that misses its bound is no error")
	flags.IntVar(&s.rounds, "rounds", 7, "how often each side is measured, in turns")
	flags.DurationVar(&s.length, "length", time.Hour, "how long events-soak takes")
	flags.StringVar(&s.before, "before", "", "path of an older listen_exporter, which is measured in the same turns")
	flags.StringVar(&s.tools, "tools", "", "set by the program itself")
	flags.Usage = func() {
		_, _ = fmt.Fprintln(flags.Output(), "usage: go run . [flags] FIGURE|all")
		for _, f := range figures() {
			_, _ = fmt.Fprintf(flags.Output(), "  %-17s %s\n", f.name, f.about)
		}
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if s.before != "" {
		path, err := filepath.Abs(s.before)
		if err != nil {
			return err
		}
		s.before = path
	}
	if s.small {
		s.rounds, s.lenient = 1, true
	}
	var failed error
	found := false
	for _, f := range figures() {
		if flags.NArg() != 1 || flags.Arg(0) != f.name && flags.Arg(0) != "all" {
			continue
		}
		found = true
		err := start(f, s)
		if s.lenient && errors.Is(err, errMissed) {
			err = nil
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", f.name, err))
		}
	}
	if !found {
		flags.Usage()
		return errors.New("want a figure")
	}
	return failed
}

// start runs a figure: here, where it is in its namespaces already, or in another process.
func start(f figure, s settings) error {
	switch {
	case f.where == outside:
		return f.run(s, os.Stdout)
	case s.tools == "":
		return enter(f, s)
	}
	if err := errors.Join(
		syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""),
		syscall.Mount("proc", "/proc", "proc", 0, ""),
		prepareNetwork(),
	); err != nil {
		return fmt.Errorf("prepare the namespaces: %w", err)
	}
	return f.run(s, os.Stdout)
}

// enter builds the product and runs the figure in namespaces of its own.
func enter(f figure, s settings) error {
	tools, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tools) }()
	if err := os.Chmod(tools, 0o755); err != nil { // nobody must reach the product
		return err
	}
	build := exec.Command("go", "-C", "..", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(tools, product), ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(build.Args, " "), err)
	}
	cmd := exec.Command("/proc/self/exe", "-tools", tools, "-before", s.before, fmt.Sprintf("-rounds=%d", s.rounds),
		fmt.Sprintf("-lenient=%t", s.lenient), fmt.Sprintf("-small=%t", s.small), "-length="+s.length.String(), f.name)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	if f.where == inNamespaces {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWPID
	}
	return cmd.Run()
}
