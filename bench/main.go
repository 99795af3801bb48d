// Command bench measures the figures of BENCHMARKS.md. Run it in this directory: `go run . NAME`.
//
// A figure runs in a network, a PID and a mount namespace of its own, as their first process. When it ends, the kernel ends
// all that it started.
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
	before  string // the path of an older version to compare with, or empty
	tools   string // the directory with the product; set once the figure is in its namespaces
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
	name    string
	about   string
	outside bool // it needs neither the product nor namespaces
	run     func(settings, io.Writer) error
}

func figures() []figure {
	return []figure{
		{"snapshot-million", "a netlink snapshot of 100 listeners, next to 0 and to 1 000 000 other sockets", false, snapshotMillion},
		{"snapshot-limit", "netlink snapshots against a minimal receive loop", false, snapshotLimit},
		{"scrape-million", "a scrape of 100 listeners, next to 0 and to 1 000 000 other sockets, and other programs", false, scrapeMillion},
		{"scrape-10000", "a scrape of 10 000 listeners with their holders, against ss and other programs", false, scrapeMany},
		{"slow-readers", "resident memory with 200 slow readers of 10 000 listeners, against one reader", false, slowReaders},
		{"start", "from the start to the first complete answer, memory after it, and the size of the binary", false, startUp},
		{"profile", "where the processor time of a scrape goes, by perf", false, profile},
		{"watch", "processor time of the looks between scrapes, 100 listeners on an idle host", false, watch},
		{"watch-million", "processor time of the looks between scrapes, next to 1 000 000 other sockets", false, watchMillion},
		{"registry", "10 000 listeners judged by 3 000 services, and by 10 of 5 000, against a scrape", false, registry},
		{"holders-million", "who holds 100 listeners, next to 1 000 000 open files of 2 000 processes, against ss and lsof", false, holdersMillion},
		{"first-answer", "the first scrape next to 1 000 000 open files and 250 network namespaces, against its budget", false, first},
		{"netns-250", "a scrape of 250 network namespaces, against the kernel's own time and ss in each", false, netns},
		{"netns-nobody", "scrapes as nobody until a new pod's listener is shown, next to 300 namespaces and 200 000 sockets", false, news},
		{"fleet", "the shipped alert rules over two hours of 500, 1 667 and 5 000 hosts", true, fleetRules},
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
	case f.outside:
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
		fmt.Sprintf("-lenient=%t", s.lenient), fmt.Sprintf("-small=%t", s.small), f.name)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	return cmd.Run()
}
