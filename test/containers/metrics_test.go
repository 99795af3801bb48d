//go:build linux

package containers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// own returns [host.Page.Rows] of the node's own network namespace, and others those of the pods' networks.
func (n *node) own(metric string, labels ...string) []string {
	var rows []string
	for _, row := range n.page.Rows(metric, append([]string{"netns"}, labels...)...) {
		if row, ok := strings.CutPrefix(row, "- "); ok {
			rows = append(rows, row)
		}
	}
	slices.Sort(rows)
	return rows
}

func (n *node) others(metric string, labels ...string) []string {
	return slices.DeleteFunc(n.page.Rows(metric, append([]string{"netns"}, labels...)...), func(row string) bool {
		return strings.HasPrefix(row, "- ")
	})
}

// inventory checks what the program exports against what the host shows.
func (n *node) inventory() []host.Check {
	listeners := func(process bool) []string {
		rows, err := host.Listeners(process)
		if err != nil {
			rows = []string{err.Error()}
		}
		return rows
	}
	holders := n.holders()
	slices.Sort(holders)
	all := slices.Contains(n.added, "--collector.netns=all")
	var inPods, theirHolders []string
	unattributed := 0
	if !n.exact {
		unattributed++ // the listener in no unit and no container
	}
	if all {
		inPods = append(inPods, podUID+" tcp 0.0.0.0 7070 1")
		// Without rights too: all processes of that network are in one container.
		theirHolders = append(theirHolders, podUID+" inner "+otherContainerID+" "+podUID+" 1")
	}
	checks := []host.Check{
		{Name: "the kernel is asked by netlink", Run: host.Same([]string{"netlink 1"}, n.page.Rows("host_listen_source_info", "source"))},
		{Name: "every collector succeeds", Run: n.page.Succeeds},
		{Name: "the listeners are those that ss shows", Run: host.Same(listeners(false), n.own("host_listen_port", "proto", "address", "port"))},
		{Name: "the holders are those of the host", Run: host.Same(holders,
			n.own("host_listen_port_holder_info", "proto", "address", "port", "process", "unit", "container_id", "pod_uid", "uid"))},
		{Name: "the listeners in the networks of pods have the uid of their pod", Run: host.Same(inPods,
			n.others("host_listen_port", "proto", "address", "port"))},
		{Name: "and the holders that the program may see", Run: host.Same(theirHolders,
			n.others("host_listen_port_holder_info", "process", "container_id", "pod_uid"))},
		{Name: fmt.Sprintf("%d listeners are without a holder", unattributed), Run: host.Same([]string{fmt.Sprint(unattributed)},
			n.page.Rows("host_listen_ports_unattributed"))},
	}
	if n.exact {
		checks = append(checks, host.Check{Name: "each process is the one that ss shows", Run: host.Same(listeners(true),
			n.own("host_listen_port_holder_info", "proto", "address", "port", "process"))})
	}
	return checks
}

// verdicts returns the violations.
func (n *node) verdicts() []string {
	return n.own("host_listen_port_violation", "proto", "address", "port", "reason", "service_name")
}

// serviceStates returns which services are up, 1, and which are down, 0.
func (n *node) serviceStates() []string {
	return slices.Compact(n.page.Rows("host_listen_service_up", "service_name", "proto", "port"))
}

// checkRegistries gives the ConfigMap one registry after the other, and checks what the program makes of each.
func (n *node) checkRegistries() {
	n.Check(host.Check{Name: "the registry of the overlay is in force", Run: n.reload("1")})
	n.change("a registry that knows the node, with a fault of each kind", `
services:
  - {name: demo, port: [8080, 8081], process: demo-server, unit: demo.service}
  - {name: single, port: 5353, proto: udp, bind: loopback, process: together}
  - {name: web, port: 8443, bind: private, hosts: [`+nodeName+`]}
  - {name: elsewhere, port: 8443, bind: loopback, hosts: [other-node]}
  - {name: missed, port: 9100}
reserved:
  - {team: alpha, ports: 9000-9099}
`)
	verdicts := []string{
		"tcp " + nodeIP + " 9000 reserved alpha 1", "tcp :: 8443 bind web 1", "udp :: 4789 unregistered - 1",
	}
	singleUp := "1"
	if n.exact { // only who sees the process can judge it
		verdicts = append(verdicts[:2:2], "udp 127.0.0.1 5353 process single 1", verdicts[2])
		singleUp = "0"
	}
	n.Check([]host.Check{
		{Name: "its verdicts are in force", Run: host.Same(verdicts, n.verdicts())},
		{Name: "and its services", Run: host.Same([]string{
			"demo tcp 8080 1", "demo tcp 8081 1", "missed tcp 9100 0", "single udp 5353 " + singleUp, "web tcp 8443 0",
		}, n.serviceStates())},
		{Name: "of the reserved ports, one is used", Run: host.Same([]string{"alpha 1"},
			n.page.Rows("host_listen_reserved_ports_used", "team"))},
		{Name: "the reload succeeded", Run: n.reload("1")},
	}...)

	n.change("a bad registry", badRegistry)
	n.Check([]host.Check{
		{Name: "shows in the reload gauge", Run: n.reload("0")},
		{Name: "and once in the log, with the place", Run: host.Want(1, func() (int, error) {
			_ = n.scrape()
			log, err := n.podmanLogs()
			return strings.Count(log, badPlace), err
		})},
		{Name: "and leaves the last good one in force", Run: func() error { return host.Same(verdicts, n.verdicts())() }},
	}...)

	generated, err := n.inPod("list")
	n.Check(host.Check{Name: "the listeners become a registry", Run: func() error { return err }})
	n.change("the generated registry", generated)
	down := slices.DeleteFunc(n.serviceStates(), func(row string) bool { return strings.HasSuffix(row, " 1") })
	n.Check([]host.Check{
		{Name: "has no violation", Run: host.Same(nil, n.verdicts())},
		{Name: "and no service that is down", Run: host.Same(nil, down)},
		{Name: "which audit finds too", Run: func() error { _, err := n.inPod("audit"); return err }},
		{Name: "and the reload gauge is 1 again", Run: n.reload("1")},
	}...)
}

// A registry with a fault, and where the fault is.
const (
	badRegistry = "services:\n  - {name: web, port: 80000}\n"
	badPlace    = "/etc/listen_exporter/ports.yml:2:23: port 80000"
)

// change puts another registry into the ConfigMap and scrapes until the program has loaded it, or has found it bad.
func (n *node) change(name, registry string) {
	n.Check(host.Check{Name: "the ConfigMap gets " + name, Run: func() error {
		loads := func() string {
			return fmt.Sprint(n.page.Rows("host_listen_registry_last_reload_successful"), n.page.Rows("host_listen_registry_last_reload_success_timestamp_seconds"))
		}
		before := loads()
		return errors.Join(n.project(registry), host.Await(minute, func() error {
			if err := n.scrape(); err != nil {
				return err
			}
			if loads() == before {
				return errors.New("the program has not looked at the new registry")
			}
			return nil
		}))
	}})
}

func (n *node) reload(want string) func() error {
	return host.Same([]string{want}, n.page.Rows("host_listen_registry_last_reload_successful"))
}

// inPod runs a command of the program in its container, with the words that examples/README.md has a user type.
func (n *node) inPod(command string) (string, error) {
	text, err := os.ReadFile(filepath.Join(host.Root, "examples/README.md"))
	if err != nil {
		return "", err
	}
	_, words, found := strings.Cut(string(text), "exec POD -- /bin/listen_exporter "+command+" ")
	words, _, _ = strings.Cut(words, "\n")
	if !found {
		return "", fmt.Errorf("examples/README.md does not say how to run %s in a pod", command)
	}
	arguments := strings.Fields(strings.ReplaceAll(words, "NODE", nodeName))
	return n.podman(append([]string{"exec", "listen_exporter", "/bin/listen_exporter", command}, arguments...)...)
}

// podmanLogs returns what the program has logged.
func (n *node) podmanLogs() (string, error) {
	path, err := n.podman("inspect", "--format", "{{.HostConfig.LogConfig.Path}}", "listen_exporter")
	if err != nil {
		return "", err
	}
	log, err := os.ReadFile(path)
	return string(log), err
}

func (n *node) refusesToStart() error {
	if err := errors.Join(n.project(badRegistry), n.makeEmptyDirs()); err != nil {
		return err
	}
	_, err := n.podman(append([]string{"run", "--rm"}, n.run...)...)
	if err == nil || !strings.Contains(err.Error(), "exit status 1\n") || !strings.Contains(err.Error(), badPlace) {
		return fmt.Errorf("got %w, want status 1 and %s", err, badPlace)
	}
	return nil
}
