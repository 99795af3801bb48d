//go:build linux

package alerts

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// TestALostPortAndAFullQueueFireInPrometheusOnceEach runs the real exporter and a real Prometheus with the shipped rules. No alert
// fires for a healthy host, on which one queue is full to its limit, where the kernel still lets one connection in. Then a
// listener closes, and a program no longer accepts.
func TestALostPortAndAFullQueueFireInPrometheusOnceEach(t *testing.T) {
	host := prepare(t)
	netnstest.Run(t, func(t *testing.T) {
		const backlog = 1
		vanishing, stuck, slow := listen(t, "0.0.0.0:8080"), listen(t, "127.0.0.1:9000"), listen(t, "127.0.0.1:9001")
		setBacklog(t, stuck, backlog)
		setBacklog(t, slow, backlog)
		dropping, err := net.ListenPacket("udp", "0.0.0.0:1514") // has a drop counter
		if err != nil {
			t.Fatal(err)
		}
		held := []any{slow, dial(t, slow), dropping, listen(t, "0.0.0.0:8443"), listen(t, "[::]:22"), listen(t, "127.0.0.1:25")}
		_, p := host.start(t)

		// For longer than any alert's for. The port must also be there for most of the time for some scrapes after the loss.
		p.await(t, "24 scrapes have shown the port", func() bool {
			p.checkSilent(t)
			return p.query(t, `count_over_time(host_listen_port{port="8080"}[1h])`) >= 24
		})
		for _, name := range []string{"PortVanished", "AcceptQueueFull"} {
			if state := p.stateOf(t, name); state != "inactive" {
				t.Errorf("%s is %s on a healthy host", name, state)
			}
		}

		if err := vanishing.Close(); err != nil {
			t.Fatal(err)
		}
		for range backlog + 1 {
			held = append(held, dial(t, stuck))
		}
		if late, err := net.DialTimeout("tcp", stuck.Addr().String(), 100*time.Millisecond); err == nil {
			_ = late.Close()
			t.Error("the kernel let one more connection in")
		}
		p.await(t, "both alerts fire in three rounds", func() bool {
			return p.query(t, `min(count_over_time(ALERTS{alertname=~"PortVanished|AcceptQueueFull",alertstate="firing"}[1h]))`) >= 3 &&
				len(p.firing(t)) >= 2
		})
		if p.query(t, `count_over_time(ALERTS{alertname="PortVanished",alertstate="pending"}[1h])`) == 0 {
			t.Error("PortVanished fires without having been pending")
		}
		var got []string
		for _, labels := range p.series(t, `max_over_time(ALERTS{alertstate="firing"}[1h])`) {
			got = append(got, fmt.Sprint(labels))
		}
		slices.Sort(got)
		const common = "alertstate:firing env:test instance:" + exporterAddress + " job:listen_exporter"
		want := []string{
			"map[alertname:AcceptQueueFull " + common + " port:9000 proto:tcp severity:critical]",
			"map[alertname:PortVanished " + common + " port:8080 proto:tcp severity:warning]",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("alerts that fired at any time (-want +got):\n%s", diff)
		}

		for range backlog + 1 {
			accepted, err := stuck.Accept()
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, accepted)
		}
		p.await(t, "AcceptQueueFull ends", func() bool { return p.stateOf(t, "AcceptQueueFull") == "inactive" })
		runtime.KeepAlive(held) // the garbage collector closes a listener that nobody refers to
	})
}

// healthy is a registry with which the host of the test below complies. PROCESS is the name of the test's own process.
const healthy = `
services:
  - {name: api, port: 8080}
  - {name: redis, port: 6379, bind: loopback}
  - {name: ssh, port: 2222, process: PROCESS}
  - {name: moved, port: 5432, bind: 127.0.0.2}
  - {name: wireguard, port: 51820, proto: udp}
  - {name: prometheus, port: 9090}
`

// TestTheAlertsOfARegistryFireInPrometheusOnceForEachEvent does the same on a host with a registry. One thing of each kind
// happens, and each has one alert.
func TestTheAlertsOfARegistryFireInPrometheusOnceForEachEvent(t *testing.T) {
	host := prepare(t)
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	process := strings.TrimSpace(string(comm))
	file := filepath.Join(t.TempDir(), "ports.yml")
	declare(t, file, strings.ReplaceAll(healthy, "PROCESS", process))

	netnstest.Run(t, func(t *testing.T) {
		api, redis, moved := listen(t, "0.0.0.0:8080"), listen(t, "127.0.0.1:6379"), listen(t, "127.0.0.2:5432")
		held := []any{listen(t, "0.0.0.0:2222")}
		for _, address := range []string{"0.0.0.0:51820", "0.0.0.0:40000"} {
			socket, err := net.ListenPacket("udp4", address)
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, socket)
		}
		exporter, p := host.start(t, "--registry.file="+file, "--collector.udp.ephemeral-min-age=1s")

		// For longer than any alert's for, and long enough for PortVanished to know the ports.
		p.await(t, "12 scrapes have shown the client's port", func() bool {
			p.checkSilent(t)
			return p.query(t, `count_over_time(host_listen_port{proto="udp",port="40000"}[1h])`) >= 12
		})

		for _, listener := range []net.Listener{api, redis, moved} {
			if err := listener.Close(); err != nil {
				t.Fatal(err)
			}
		}
		held = append(held, listen(t, "0.0.0.0:6379"), listen(t, "127.0.0.1:5432"), listen(t, "0.0.0.0:111"), listen(t, "127.0.0.1:9999"))
		declare(t, file, strings.ReplaceAll(healthy, "PROCESS", "sshd"))
		p.await(t, "the registry's alerts fire", func() bool { return len(p.firing(t)) >= 5 })
		checkMetricsOfTheRules(t, exporter.Scrape())

		declare(t, file, "services: [") // the last good registry stays in force
		p.await(t, "PortRegistryReloadFailed has fired in three rounds", func() bool {
			return p.query(t, `count_over_time(ALERTS{alertname="PortRegistryReloadFailed",alertstate="firing"}[1h])`) >= 3
		})

		want := map[string]string{
			"PortGoneMissing api 8080":       "It was last there at ",
			"PortGoneMissing moved 5432":     "The port is open, but not where this service should listen: 127.0.0.1. ",
			"ListenerExposed redis 6379":     "and that other machines can reach: 0.0.0.0 since ",
			"ListenerHolderChanged ssh 2222": "Now it is held by " + process,
			"UnregisteredListener  111":      "Other machines can reach it: 0.0.0.0 since ",
			"PortRegistryReloadFailed  ":     "It uses the version that it read at ",
		}
		got := make(map[string]string)
		for _, alert := range p.firing(t) {
			name := strings.Join([]string{alert.Labels["alertname"], alert.Labels["service_name"], alert.Labels["port"]}, " ")
			got[name] = alert.Annotations["description"]
			if strings.Contains(got[name], want[name]) {
				got[name] = want[name]
			}
			if alert.Labels["instance"] != exporterAddress || alert.Labels["env"] != "test" {
				t.Errorf("%s: the labels are %v, want those of the target among them", name, alert.Labels)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("alerts and a part of their descriptions (-want +got):\n%s", diff)
		}
		if all := p.series(t, `max_over_time(ALERTS{alertstate="firing"}[1h])`); len(all) != len(want) {
			t.Errorf("alerts that fired at any time: %v, want only those above", all)
		}
		runtime.KeepAlive(held) // the garbage collector closes a listener that nobody refers to
	})
}

// declare replaces a registry by another one, at once.
func declare(t *testing.T, file, text string) {
	t.Helper()
	write(t, file+".new", text)
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// listen opens a listener that takes only the family of its address.
func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	network := "tcp4"
	if strings.HasPrefix(address, "[") {
		network = "tcp6"
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// setBacklog changes the backlog of a listener by a second listen(2).
func setBacklog(t *testing.T, listener net.Listener, backlog int) {
	t.Helper()
	raw, err := listener.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var listenErr error
	if err := raw.Control(func(fd uintptr) { listenErr = syscall.Listen(int(fd), backlog) }); err != nil || listenErr != nil {
		t.Fatal(err, listenErr)
	}
}

// dial connects to a listener, which need not accept.
func dial(t *testing.T, listener net.Listener) net.Conn {
	t.Helper()
	client, err := net.DialTimeout("tcp", listener.Addr().String(), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}
