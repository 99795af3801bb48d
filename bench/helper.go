package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// helper is a process of this program that takes samples at its parent's command.
type helper struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
}

// startHelper starts a helper, in new namespaces if flags say so. The first of args is what it does.
func startHelper(flags uintptr, args ...string) (*helper, error) {
	cmd := exec.Command("/proc/self/exe", append([]string{"helper"}, args...)...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Cloneflags: flags}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &helper{cmd: cmd, stdin: stdin, stdout: bufio.NewReader(stdout)}, nil
}

// sample asks for one sample.
func (h *helper) sample() (time.Duration, error) {
	if _, err := fmt.Fprintln(h.stdin); err != nil {
		return 0, err
	}
	line, err := h.stdout.ReadString('\n')
	if err != nil {
		return 0, err
	}
	nanoseconds, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	return time.Duration(nanoseconds), err
}

// help is the helper's end.
func help(args []string) error {
	switch args[0] {
	case "load":
		return load(args[1:])
	case "storm":
		return beStorm(args[1:])
	case "accept":
		return beServer(args[1], args[2])
	case "connect":
		return beClient(args[1])
	case "page":
		return servePage(args[1], args[2])
	case "library":
		return answer(timed(libraries[args[1]]))
	}
	if err := prepareNetwork(); err != nil {
		return err
	}
	open, err := openListeners(fewListeners)
	if err != nil {
		return err
	}
	defer open.hold()
	var sample func() (time.Duration, error)
	switch args[0] {
	case "snapshots":
		runtime.GOMAXPROCS(1) // the product's default
		ports, err := openInventory()
		if err != nil {
			return err
		}
		sample = batch(snapshotBatch, snapshotOf(ports, fewListeners))
	case "scrapes":
		ours, err := startReporting(settings{tools: args[1]}, product, fewListeners+1, "--collector.netns=self")
		if err != nil {
			return err
		}
		sample = batch(scrapeBatch, ours.scrape("identity").sample)
	}
	return answer(sample)
}

// answer takes a sample for each line of stdin.
func answer(sample func() (time.Duration, error)) error {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		took, err := sample()
		if err != nil {
			return err
		}
		fmt.Println(took.Nanoseconds())
	}
	return nil
}
