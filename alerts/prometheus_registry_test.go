//go:build linux

package alerts

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// healthy is a registry by which nothing is wrong in the test below. PROCESS is the name of the test's own process.
const healthy = `
services:
  - {name: api, port: 8080}
  - {name: redis, port: 6379, bind: loopback}
  - {name: ssh, port: 2222, process: PROCESS}
  - {name: moved, port: 5432, bind: 127.0.0.2}
  - {name: wireguard, port: 51820, proto: udp}
  - {name: prometheus, port: 9090}
`

// TestTheAlertsOfARegistryFireInPrometheusOnceForEachEvent runs the real exporter with a registry, and a real Prometheus with
// the shipped rules. No alert fires for a healthy host. Then one thing of each kind happens, and each has one alert.
func TestTheAlertsOfARegistryFireInPrometheusOnceForEachEvent(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a real Prometheus. The unit tests of the rules hold the same")
	}
	prometheus := lookPath(t, "prometheus")
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a network namespace")
	}
	exporter := buildExporter(t)
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	process := strings.TrimSpace(string(comm))
	file := filepath.Join(t.TempDir(), "ports.yml")
	declare(t, file, strings.ReplaceAll(healthy, "PROCESS", process))

	netnstest.Run(t, func(t *testing.T) {
		api, redis, moved := listen(t, "tcp4", "0.0.0.0:8080"), listen(t, "tcp4", "127.0.0.1:6379"), listen(t, "tcp4", "127.0.0.2:5432")
		held := []any{listen(t, "tcp4", "0.0.0.0:2222"), listenUDP(t, "0.0.0.0:51820"), listenUDP(t, "0.0.0.0:40000")}
		start(t, exporter, "--collector.netns=self", "--web.listen-address="+exporterAddress, "--registry.file="+file,
			"--collector.udp.ephemeral-min-age=1s")
		await(t, "the exporter is ready", func() bool { return get(t, "http://"+exporterAddress+"/-/ready", nil) == nil })
		startPrometheus(t, prometheus)

		// For longer than any alert's for, and for long enough that PortVanished would know the ports.
		await(t, "12 scrapes have shown the client's port", func() bool {
			checkSilent(t)
			return query(t, `count_over_time(host_listen_port{proto="udp",port="40000"}[1h])`) >= 12
		})

		for _, listener := range []net.Listener{api, redis, moved} {
			if err := listener.Close(); err != nil {
				t.Fatal(err)
			}
		}
		held = append(held, listen(t, "tcp4", "0.0.0.0:6379"), listen(t, "tcp4", "127.0.0.1:5432"),
			listen(t, "tcp4", "0.0.0.0:111"), listen(t, "tcp4", "127.0.0.1:9999"))
		declare(t, file, strings.ReplaceAll(healthy, "PROCESS", "sshd"))
		await(t, "the registry's alerts fire", func() bool { return len(firing(t)) >= 5 })
		checkMetricsOfTheRules(t)

		// The last good registry goes on to be the measure.
		declare(t, file, "services: [")
		await(t, "PortRegistryReloadFailed fires", func() bool { return ruleNamed(t, "PortRegistryReloadFailed").State == "firing" })
		await(t, "it has fired in three rounds", func() bool {
			return query(t, `count_over_time(ALERTS{alertname="PortRegistryReloadFailed",alertstate="firing"}[1h])`) >= 3
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
		for _, alert := range firing(t) {
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
			t.Errorf("alerts and what their descriptions say (-want +got):\n%s", diff)
		}
		if all := seriesOf(t, `max_over_time(ALERTS{alertstate="firing"}[1h])`); len(all) != len(want) {
			t.Errorf("alerts that fired at any time: %v, want those alone", all)
		}

		// The garbage collector closes a listener that nobody refers to.
		runtime.KeepAlive(held)
	})
}

// declare puts a registry in the place of the one before, as a whole.
func declare(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

func listenUDP(t *testing.T, address string) net.PacketConn {
	t.Helper()
	conn, err := net.ListenPacket("udp4", address)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}
