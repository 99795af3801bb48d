//go:build linux

package host

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// Etcd is a member of an etcd, Debian's, that keeps its data when it is killed.
type Etcd struct {
	URL     string
	health  string
	cmd     []string
	process *Process
}

// StartEtcd starts an etcd of one member that listens on an address of this host, and waits until it answers. It ends with the test, which
// is skipped if there is no etcd. The arguments are further ones of etcd.
func StartEtcd(tb testing.TB, address string, arguments ...string) *Etcd {
	tb.Helper()
	return StartEtcds(tb, 1, address, arguments...)[0]
}

// StartEtcds is [StartEtcd] with several members.
func StartEtcds(tb testing.TB, members int, address string, arguments ...string) []*Etcd {
	tb.Helper()
	NeedTools(tb, "etcd")
	scheme := "http://"
	if strings.Contains(strings.Join(arguments, " "), "--cert-file=") {
		scheme = "https://"
	}
	port := func(ip string) string {
		free, err := freePort(ip)
		if err != nil {
			tb.Fatal(err)
		}
		return free
	}
	var etcds []*Etcd
	var cluster []string
	for i := range members {
		name, peer := fmt.Sprintf("test%d", i), "http://"+port("127.0.0.1")
		cluster = append(cluster, name+"="+peer)
		e := &Etcd{URL: scheme + port(address), health: "http://" + port("127.0.0.1")}
		e.cmd = append([]string{
			"--name=" + name, "--data-dir=" + filepath.Join(fastDir(tb), "etcd"), "--logger=zap", "--log-level=error",
			"--listen-client-urls=" + e.URL, "--advertise-client-urls=" + e.URL, "--listen-metrics-urls=" + e.health,
			"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
		}, arguments...)
		tb.Cleanup(func() { e.process.Kill() })
		etcds = append(etcds, e)
	}
	for _, e := range etcds {
		e.cmd = append(e.cmd, "--initial-cluster="+strings.Join(cluster, ","))
		if err := e.launch(); err != nil {
			tb.Fatal(err)
		}
	}
	for _, e := range etcds {
		if err := e.await(); err != nil {
			tb.Fatal(err)
		}
	}
	return etcds
}

// Start starts an etcd that was killed, with the data that it had.
func (e *Etcd) Start() error {
	if err := e.launch(); err != nil {
		return err
	}
	return e.await()
}

func (e *Etcd) launch() (err error) {
	cmd := exec.Command("etcd", e.cmd...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	e.process, err = Start(cmd)
	return err
}

func (e *Etcd) await() error {
	return Await(limit, func() error {
		if err := e.process.Ended(); err != nil {
			return err
		}
		_, err := Get(e.health + "/health")
		return err
	})
}

// Kill ends it with SIGKILL.
func (e *Etcd) Kill() { e.process.Kill() }

// Pause stops it with SIGSTOP until Resume: it is there, and does not answer.
func (e *Etcd) Pause() error { return e.process.Cmd.Process.Signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (e *Etcd) Resume() error { return e.process.Cmd.Process.Signal(syscall.SIGCONT) }

// Ports of etcd are from a range of which the kernel gives none to clients, so that it can be started again. A process uses none twice, and
// two processes begin at different ones.
const (
	firstEtcdPort = 10000
	etcdPorts     = 10000
)

var portsUsed atomic.Uint32

// freePort returns an address with a port that is free now.
func freePort(ip string) (address string, err error) {
	for range 100 {
		address = net.JoinHostPort(ip, fmt.Sprint(firstEtcdPort+(64*uint32(os.Getpid())+portsUsed.Add(1))%etcdPorts))
		var l net.Listener
		if l, err = net.Listen("tcp", address); err == nil {
			return address, l.Close()
		}
	}
	return "", fmt.Errorf("find a free port: %w", err)
}

// fastDir makes a directory in memory if there is one: what is synced to it costs nothing, and a killed process loses none of it.
func fastDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "listen_exporter")
	if err != nil {
		return tb.TempDir()
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
