//go:build linux

package program_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
	"github.com/listen-exporter/listen_exporter/test/program"
)

// Requests for everything that is large.
var largeRequests = []string{
	"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
	"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\r\n",
	"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
	"GET /metrics?name[]=host_listen_port HTTP/1.1\r\nHost: localhost\r\n\r\n",
}

// Kernel memory of connections counts for the limits too. In the first version of cgroups that is another counter, so there it is held
// to the same limit on its own.
func TestAtTheLimitsOfUnitAndDaemonSetNoReaderKillsTheExporter(t *testing.T) {
	program.Path(t)
	listeners, load := 20_000-1, 20*time.Second // with the exporter's own one: --collector.max-ports
	if testing.Short() {
		listeners, load = 2000, 2*time.Second
	}
	netnstest.Run(t, func(t *testing.T) {
		netnstest.HoldInside(t, 2, func(process int) { // a process may open 20 000 files
			for n := process; n < listeners; n += 2 {
				if _, err := netnstest.Listen([]string{"tcp", "udp"}[n/2%2], fmt.Sprintf("0.0.0.0:%d", 2000+n)); err != nil {
					t.Fatal(err)
				}
			}
		})
		registry := filepath.Join(t.TempDir(), "ports.yml")
		must(t, os.WriteFile(registry, []byte("services:\n  - {name: web, purpose: web, port: 80}\n"), 0o644))
		for _, limits := range []struct{ group, runtime string }{{"512M", "400MiB"}, {"320M", "240MiB"}} {
			group := memoryGroup(t, limits.group)
			cmd := exec.Command("/bin/sh", "-c", `echo $$ >"$0/cgroup.procs" && exec "$@"`, group, program.Path(t),
				"--collector.netns=self", "--registry.file="+registry, "--web.listen-address=127.0.0.1:0")
			cmd.Env = append(os.Environ(), "GOMEMLIMIT="+limits.runtime)
			e := program.Launch(t, cmd).Listen()
			e.Await("all holders", func() bool {
				page, err := e.Request("GET", "/metrics?name[]=host_listen_port_holder_info")
				return err == nil && strings.Count(page.Body, "\nhost_listen_port_holder_info{") >= listeners
			})
			readSlowly(t, e.Address, load)
			for _, file := range []string{"memory.max_usage_in_bytes", "memory.kmem.tcp.max_usage_in_bytes", "memory.peak"} {
				if peak, err := os.ReadFile(filepath.Join(group, file)); err == nil {
					t.Logf("limit %s: %s %s", limits.group, file, peak)
				}
			}
			select {
			case <-e.Exited:
				t.Errorf("limit %s: the exporter was killed: %s", limits.group, e.Cmd.ProcessState)
			default:
				e.Scrape()
				e.Stop()
			}
		}
	})
}

// readSlowly has clients read for some time: half of them take 4 KiB each 100 ms, the others nothing. Those that are cut off or refused
// come again. Others do nothing at all.
func readSlowly(t *testing.T, address string, load time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), load)
	defer cancel()
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
	}}
	var all sync.WaitGroup
	for range 1000 {
		if conn, err := dialer.DialContext(ctx, "tcp", address); err == nil {
			defer func() { _ = conn.Close() }()
		}
	}
	for n := range 300 {
		all.Go(func() {
			for ; ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
				conn, err := dialer.DialContext(ctx, "tcp", address)
				if err != nil {
					continue
				}
				hangUp := context.AfterFunc(ctx, func() { _ = conn.Close() })
				_, err = io.WriteString(conn, largeRequests[n%len(largeRequests)])
				for piece := make([]byte, 4096); err == nil; time.Sleep(100 * time.Millisecond) {
					if n%2 == 0 {
						_, err = conn.Read(piece)
					} else if _, err = conn.Read(piece[:1]); err == nil {
						time.Sleep(min(load, 3*time.Second))
						break
					}
				}
				hangUp()
				_ = conn.Close()
			}
		})
	}
	all.Wait()
}

// memoryGroup returns the directory of a cgroup with a memory limit, which the end of the test removes.
func memoryGroup(t *testing.T, limit string) string {
	t.Helper()
	for _, version := range []struct {
		root   string
		limits []string
	}{
		{"/sys/fs/cgroup/memory", []string{"memory.limit_in_bytes", "memory.kmem.tcp.limit_in_bytes"}},
		{"/sys/fs/cgroup", []string{"memory.max"}},
	} {
		if _, err := os.Stat(filepath.Join(version.root, "cgroup.procs")); err != nil {
			continue
		}
		dir, err := os.MkdirTemp(version.root, "listen_exporter_test")
		if err != nil {
			continue
		}
		t.Cleanup(func() {
			for deadline := time.Now().Add(program.Patience); os.Remove(dir) != nil && time.Now().Before(deadline); {
				time.Sleep(10 * time.Millisecond) // until the kernel sees that the process has ended
			}
		})
		for _, file := range version.limits {
			err = errors.Join(err, os.WriteFile(filepath.Join(dir, file), []byte(limit), 0))
		}
		if err == nil {
			return dir
		}
	}
	t.Skip("needs a cgroup hierarchy with the memory controller")
	return ""
}
