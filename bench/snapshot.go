package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
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

// openInventory returns an inventory by netlink, with the product's defaults.
func openInventory() (*inventory.Inventory, error) {
	return inventory.Open(inventory.Options{
		Procfs: "/proc", Netns: "self", Source: "netlink", TCP: true, UDP: true, EphemeralMinAge: time.Minute, MaxPorts: 20_000,
	}, log.NewNopLogger())
}

// snapshotOf returns a sample of one snapshot, which must have so many listeners.
func snapshotOf(ports *inventory.Inventory, listeners int) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		start := time.Now()
		snapshot := ports.Snapshot(context.Background())
		took := time.Since(start)
		if got := len(snapshot.Listeners); got != listeners {
			return 0, fmt.Errorf("%d listeners, want %d: %+v", got, listeners, snapshot.Reads)
		}
		return took, nil
	}
}

// rawDumpOf returns a sample of one raw dump, which must have so many sockets.
func rawDumpOf(d *rawDump, sockets int) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		start := time.Now()
		got, err := d.all(unix.IPPROTO_TCP, unix.IPPROTO_UDP)
		took := time.Since(start)
		if err == nil && got != sockets {
			err = fmt.Errorf("%d sockets, want %d", got, sockets)
		}
		return took, err
	}
}

func snapshotMillion(s settings, out io.Writer) error {
	idle, err := startHelper(syscall.CLONE_NEWNET, "snapshots")
	if err != nil {
		return err
	}
	sockets := s.size(1_000_000, 10_000)
	if err := startLoad("tcp", sockets); err != nil {
		return err
	}
	loaded, err := startHelper(0, "snapshots")
	if err != nil {
		return err
	}
	results, err := inTurns(s.rounds,
		side{"snapshot, no other socket", idle.sample},
		side{fmt.Sprintf("snapshot, %d other sockets", sockets), loaded.sample})
	if err != nil {
		return err
	}
	return report(out, "Netlink snapshot of 100 listeners", results, ratio{of: results[1], to: results[0], want: 5})
}

// snapshotLimit compares with the least that the kernel's answer can cost. UDP makes the kernel walk all UDP sockets.
func snapshotLimit(s settings, out io.Writer) error {
	runtime.GOMAXPROCS(1)
	var missed error
	for _, load := range []struct{ listeners, udp, batch int }{
		{fewListeners, 0, snapshotBatch},
		{s.size(manyListeners, 500), 0, snapshotBatch},
		{fewListeners, s.size(100_000, 10_000), 21},
	} {
		if err := startLoad("udp", load.udp); err != nil {
			return err
		}
		open, err := openListeners(load.listeners)
		if err != nil {
			return err
		}
		ports, err := openInventory()
		if err != nil {
			return err
		}
		raw, err := openRawDump()
		if err != nil {
			return err
		}
		results, err := inTurns(s.rounds*load.batch,
			side{"minimal receive loop", rawDumpOf(raw, load.listeners)},
			side{"snapshot", snapshotOf(ports, load.listeners)})
		if err != nil {
			return err
		}
		title := fmt.Sprintf("Netlink snapshot of %d listeners, next to %d connected UDP sockets", load.listeners, load.udp)
		missed = errors.Join(missed, report(out, title, results, ratio{of: results[1], to: results[0], want: 1.3}))
		open.close()
	}
	return missed
}
