package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-kit/log"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// fewListeners and manyListeners are how many ports listen, and snapshotBatch how many snapshots a round has.
const (
	fewListeners  = 100
	manyListeners = 10_000
	snapshotBatch = 201
)

// openInventory returns an inventory by netlink, with the product's defaults as edit changes them.
func openInventory(udp bool, edit ...func(*inventory.Options)) (*inventory.Inventory, error) {
	o := inventory.Options{
		Procfs: "/proc", Netns: "self", Source: "netlink", TCP: true, UDP: udp, EphemeralMinAge: time.Minute, MaxPorts: 20_000,
	}
	for _, f := range edit {
		f(&o)
	}
	return inventory.Open(o, log.NewNopLogger())
}

// snapshotOf returns a sample of one snapshot, which must have so many listeners.
func snapshotOf(ports *inventory.Inventory, listeners int) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		start := time.Now()
		snapshot := ports.Snapshot()
		took := time.Since(start)
		if got := len(snapshot.Listeners); got != listeners {
			return 0, fmt.Errorf("%d listeners, want %d: %+v", got, listeners, snapshot.Reads)
		}
		return took, nil
	}
}

// rawDumpOf returns a sample of one raw dump, which must have so many sockets.
func rawDumpOf(d *rawDump, sockets int, protocols ...uint8) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		start := time.Now()
		got, err := d.all(protocols...)
		took := time.Since(start)
		if err == nil && got != sockets {
			err = fmt.Errorf("%d sockets, want %d", got, sockets)
		}
		return took, err
	}
}

// helper is a process of this program that takes samples at its parent's command.
type helper struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
}

// startHelper starts a helper, in new namespaces if flags say so. The first of args is what it does.
func startHelper(flags uintptr, args ...string) (*helper, error) {
	cmd := exec.Command("/proc/self/exe", args...)
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

// stop ends the helper.
func (h *helper) stop() error { return errors.Join(h.stdin.Close(), h.cmd.Wait()) }

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

// serveSnapshots is a helper that takes snapshots of 100 listeners of its own.
func serveSnapshots(in io.Reader, out io.Writer) error {
	if err := prepareNetwork(); err != nil {
		return err
	}
	open, err := openListeners(fewListeners)
	if err != nil {
		return err
	}
	defer open.hold()
	runtime.GOMAXPROCS(1) // the product's default
	ports, err := openInventory(true)
	if err != nil {
		return err
	}
	return answer(in, out, batch(snapshotBatch, snapshotOf(ports, fewListeners)))
}

// answer is a helper's end: each line that comes asks for a sample, each answer is a number of nanoseconds.
func answer(in io.Reader, out io.Writer, sample func() (time.Duration, error)) error {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		took, err := sample()
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(out, took.Nanoseconds()); err != nil {
			return err
		}
	}
	return lines.Err()
}

func snapshotMillion(s settings, out io.Writer) error {
	idle, err := startHelper(syscall.CLONE_NEWNET, "snapshots")
	if err != nil {
		return err
	}
	if err := startLoad("tcp", s.sockets); err != nil {
		return err
	}
	loaded, err := startHelper(0, "snapshots")
	if err != nil {
		return err
	}
	results, err := inTurns(s.rounds,
		side{"snapshot, no other socket", idle.sample},
		side{fmt.Sprintf("snapshot, %d other sockets", s.sockets), loaded.sample})
	if err != nil {
		return err
	}
	return report(out, "Netlink snapshot of 100 listeners", results, ratio{of: results[1], to: results[0], want: 5})
}

func snapshotLimit(s settings, out io.Writer) error {
	runtime.GOMAXPROCS(1)
	var missed error
	for _, count := range []int{fewListeners, manyListeners} {
		open, err := openListeners(count)
		if err != nil {
			return err
		}
		missed = errors.Join(missed,
			againstRawDump(s, out, fmt.Sprintf("Netlink snapshot of %d listeners", count), count, snapshotBatch))
		open.close()
	}
	return missed
}

// againstRawDump compares snapshots of so many listeners with raw dumps: size of each in a round.
func againstRawDump(s settings, out io.Writer, title string, count, size int) error {
	ports, err := openInventory(true)
	if err != nil {
		return err
	}
	raw, err := openRawDump()
	if err != nil {
		return err
	}
	results, err := inTurns(s.rounds*size,
		side{"minimal receive loop", rawDumpOf(raw, count, unix.IPPROTO_TCP, unix.IPPROTO_UDP)},
		side{"snapshot", snapshotOf(ports, count)})
	if err != nil {
		return err
	}
	return report(out, title, results, ratio{of: results[1], to: results[0], want: 1.3})
}

func snapshotUDP(s settings, out io.Writer) error {
	const connected = 100_000
	runtime.GOMAXPROCS(1)
	if err := startLoad("udp", connected); err != nil {
		return err
	}
	open, err := openListeners(fewListeners)
	if err != nil {
		return err
	}
	defer open.hold()
	const size = 21
	missed := againstRawDump(s, out, fmt.Sprintf("Netlink snapshot of 100 listeners beside %d connected UDP sockets", connected), fewListeners, size)

	both, err := openInventory(true)
	if err != nil {
		return err
	}
	tcpAlone, err := openInventory(false)
	if err != nil {
		return err
	}
	results, err := inTurns(s.rounds*size,
		side{"both protocols", snapshotOf(both, fewListeners)},
		side{"--no-collector.udp", snapshotOf(tcpAlone, fewListeners*4/5)})
	if err != nil {
		return err
	}
	if err := report(out, "What --no-collector.udp saves there", results, ratio{of: results[0], to: results[1], noDemand: true}); err != nil {
		return err
	}
	return missed
}
