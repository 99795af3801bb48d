// Command bench measures the figures of BENCHMARKS.md. Each figure makes its own load, in namespaces of its own that end with
// it: processes, network and mounts.
package main

import (
	"context"
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

// timeLimit ends a figure that hangs.
const timeLimit = time.Hour

// settings are what a run can be told.
type settings struct {
	rounds  int
	sockets int
	scrapes int
	profile string
	tools   string // the directory with the programs that are measured
}

// figure is one measurement.
type figure struct {
	name  string
	about string
	tools []string // what it needs of tools
	run   func(settings, io.Writer) error
}

func figures() []figure {
	return []figure{
		{"snapshot-million", "a netlink snapshot of 100 listeners, beside 0 and beside -sockets other sockets", nil, snapshotMillion},
		{"snapshot-limit", "a netlink snapshot of 100 and of 10000 listeners, against a minimal receive loop", nil, snapshotLimit},
		{"snapshot-udp", "a netlink snapshot beside 100000 connected UDP sockets, against a minimal receive loop", nil, snapshotUDP},
		{"scrape-million", "a scrape of 100 listeners beside -sockets other sockets, against other programs", []string{product, nodeExporter}, scrapeMillion},
		{"scrape-idle", "a scrape of 100 listeners on an idle host, against node_exporter", []string{product, nodeExporter}, scrapeIdle},
		{"scrape-10000", "a scrape of 10000 listeners, against ss, and where its time goes", []string{product}, scrapeMany},
		{"registry-65535", "10000 listeners judged by 65535 services, against a scrape", []string{product}, registryFigure},
		{"memory-million", "resident memory after -scrapes scrapes beside -sockets other sockets, against node_exporter", []string{product, nodeExporter}, memoryMillion},
		{"holders-million", "who holds 100 listeners, beside -sockets open files in 2000 processes, against ss and lsof", []string{product}, holdersMillion},
		{"netns-250", "a scrape of 250 network namespaces, against the kernel's own time and ss in each", []string{product}, netnsSteady},
		{"netns-huge", "scrapes of 300 network namespaces, one of them with 100000 sockets and more", []string{product}, netnsHuge},
	}
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 0 {
		// What a figure starts of this program itself.
		switch args[0] {
		case "load":
			return load(args[1:])
		case "listeners":
			return holdListeners(args[1:])
		case "judging":
			return serveJudging(args[1:], os.Stdin, os.Stdout)
		case "snapshots":
			return serveSnapshots(os.Stdin, os.Stdout)
		case "gopsutil":
			return serveGopsutil(os.Stdin, os.Stdout)
		}
	}
	var s settings
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&s.rounds, "rounds", 7, "how often each side is measured, in turns")
	flags.IntVar(&s.sockets, "sockets", 1_000_000, "how many other TCP sockets, or open files, there are")
	flags.IntVar(&s.scrapes, "scrapes", 1000, "how many scrapes come before memory is measured")
	flags.StringVar(&s.profile, "profile", "", "where scrape-10000 writes a CPU profile")
	flags.StringVar(&s.tools, "tools", "", "set by the program itself")
	flags.Usage = func() {
		_, _ = fmt.Fprintln(flags.Output(), "usage: go run . [flags] FIGURE")
		for _, f := range figures() {
			_, _ = fmt.Fprintf(flags.Output(), "  %-17s %s\n", f.name, f.about)
		}
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	for _, f := range figures() {
		if flags.NArg() != 1 || f.name != flags.Arg(0) {
			continue
		}
		if s.tools != "" {
			return inside(f, s)
		}
		return outside(f, args)
	}
	flags.Usage()
	return errors.New("want one figure")
}

// outside builds what the figure needs and runs it in namespaces of its own.
func outside(f figure, args []string) error {
	tools, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tools) }()
	for _, tool := range f.tools {
		if err := buildTool(tool, tools); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append([]string{"-tools", tools}, args...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	// The figure is process 1 of its namespace: when it ends, so do all that it started.
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	return cmd.Run()
}

// buildTool builds a program into a directory, in the module that it belongs to. The figures are run where this program stands.
func buildTool(tool, dir string) error {
	module := ".."
	if tool == nodeExporter {
		module = "node_exporter"
	}
	cmd := exec.Command("go", "-C", module, "build", "-trimpath", "-o", filepath.Join(dir, filepath.Base(tool)), tool)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return nil
}

// inside runs the figure where outside has put it.
func inside(f figure, s settings) error {
	if err := errors.Join(
		syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""),
		syscall.Mount("proc", "/proc", "proc", 0, ""),
		prepareNetwork(),
	); err != nil {
		return fmt.Errorf("prepare the namespaces: %w", err)
	}
	return f.run(s, os.Stdout)
}
