package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/lease/api"
)

const (
	leaseClients = 64
	// leaseFor is how long a store is measured with so many clients.
	leaseFor = 20 * time.Second
	// leasePorts are enough for all clients.
	leasePorts    = "20000-20999"
	leaseRegistry = "reserved:\n  - {team: ci, ports: " + leasePorts + ", users: [\"*\"]}\n"
)

// leases measures how many leases are taken, renewed once and given back over the API, by one client and by many at a time.
func leases(s settings, out io.Writer) error {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	// Here the kernel gives such ports to clients, and no lease has one of those.
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_reserved_ports", []byte(leasePorts), 0); err != nil {
		return err
	}
	file := filepath.Join(dir, "ports.yml")
	if err := os.WriteFile(file, []byte(leaseRegistry), 0o600); err != nil {
		return err
	}
	// The product of the other figures has no etcd.
	program := filepath.Join(dir, "with-etcd")
	build := exec.Command("go", "-C", "..", "build", "-tags=etcd,grpcnotrace", "-trimpath", "-ldflags=-s -w", "-o", program, ".")
	build.Env, build.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(build.Args, " "), err)
	}
	etcd, url, err := startEtcd(dir)
	if err != nil {
		return err
	}
	defer func() { _ = etcd.Process.Kill(); _ = etcd.Wait() }()
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	_, _ = fmt.Fprint(w, "Leases that are taken, renewed once and given back over the API\n\n"+
		"| store\t| clients\t| leases a second\t| take, median\t| take, 99 %\t|\n| ---\t| ---\t| ---\t| ---\t| ---\t|\n")
	for _, of := range []struct {
		store string
		flags []string
	}{
		{"file", []string{"--lease.file=" + filepath.Join(dir, "leases.db")}},
		{"etcd", []string{"--lease.store=etcd", "--lease.etcd-endpoint=" + url}},
	} {
		socket := "unix:" + filepath.Join(dir, of.store+".sock")
		e, err := startExporter(of.store, program, append(of.flags, "--registry.file="+file, "--lease.enable",
			"--lease.listen-address="+socket, "--lease.max-per-user=0")...)
		if err != nil {
			return err
		}
		defer e.stop()
		for _, clients := range []int{1, leaseClients} {
			length := leaseFor
			if s.small {
				length = time.Second
			}
			took, err := takeLeases(socket, clients, length)
			if err != nil {
				return fmt.Errorf("%s: %w", of.store, err)
			}
			_, _ = fmt.Fprintf(w, "| %s\t| %d\t| %.0f\t| %s\t| %s\t|\n", of.store, clients, float64(len(took))/length.Seconds(),
				short(median(took)), short(took[len(took)*99/100]))
		}
	}
	_, _ = fmt.Fprintln(w)
	return w.Flush()
}

// takeLeases has clients take leases for a while, renew each of them and give it back. It returns how long each take took, sorted.
func takeLeases(socket string, clients int, length time.Duration) ([]time.Duration, error) {
	var mu sync.Mutex
	var all []time.Duration
	var failed error
	leased := make(map[uint16]string)
	end := time.Now().Add(length)
	var running sync.WaitGroup
	for n := range clients {
		running.Go(func() {
			took, err := takeInTurn(socket, fmt.Sprint("client-", n), end, func(l api.Lease, begins bool) error {
				mu.Lock()
				defer mu.Unlock()
				if begins && leased[l.Ports[0]] != "" {
					return fmt.Errorf("port %d is given to %s, and is that of %s", l.Ports[0], l.Name, leased[l.Ports[0]])
				}
				leased[l.Ports[0]] = ""
				if begins {
					leased[l.Ports[0]] = l.Name
				}
				return nil
			})
			mu.Lock()
			defer mu.Unlock()
			all, failed = append(all, took...), errors.Join(failed, err)
		})
	}
	running.Wait()
	if len(all) == 0 {
		failed = errors.Join(failed, errors.New("no lease was given"))
	}
	slices.Sort(all)
	return all, failed
}

// takeInTurn is one client. note is called once it has a lease, and before it gives that back.
func takeInTurn(socket, name string, end time.Time, note func(l api.Lease, begins bool) error) (took []time.Duration, err error) {
	c, err := api.NewClient(socket, "", "")
	if err != nil {
		return nil, err
	}
	for time.Now().Before(end) {
		start := time.Now()
		l, err := c.Take(context.Background(), api.Request{Team: "ci", Name: name})
		took = append(took, time.Since(start))
		if err == nil {
			err = note(l, true)
		}
		if err == nil {
			_, err = c.Renew(context.Background(), l.ID)
		}
		if err == nil {
			err = note(l, false)
		}
		if err == nil {
			_, err = c.End(context.Background(), l.ID)
		}
		if err != nil {
			return took, err
		}
	}
	return took, nil
}

// startEtcd starts Debian's etcd with its data in a directory, and returns its URL once it listens.
func startEtcd(dir string) (cmd *exec.Cmd, url string, err error) {
	client, err := freeAddress()
	if err != nil {
		return nil, "", err
	}
	peer, err := freeAddress()
	if err != nil {
		return nil, "", err
	}
	url = "http://" + client
	cmd = exec.Command("etcd", "--name=bench", "--data-dir="+filepath.Join(dir, "etcd"), "--logger=zap", "--log-level=error",
		"--listen-client-urls="+url, "--advertise-client-urls="+url, "--listen-peer-urls=http://"+peer,
		"--initial-advertise-peer-urls=http://"+peer, "--initial-cluster=bench=http://"+peer)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", client)
		if err == nil {
			return cmd, url, c.Close()
		}
		if time.Now().After(deadline) {
			return nil, "", errors.Join(err, cmd.Process.Kill())
		}
	}
}
