//go:build linux

package examples

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/manifest"
	"github.com/listen-exporter/listen_exporter/internal/registry"
	"github.com/listen-exporter/listen_exporter/test/tools"
)

const exampleRegistry = "registry/ports.yml"

// loadRegistry returns a registry, which must have no fault.
func loadRegistry(t *testing.T, file string) *registry.Registry {
	t.Helper()
	r, err := registry.Load(file)
	if err != nil {
		t.Fatalf("faults:\n%v", err)
	}
	return r
}

func TestTheExampleRegistryJudgesAsItsCommentsSay(t *testing.T) {
	r := loadRegistry(t, exampleRegistry)
	held := func(process, unit string) []registry.Holder { return []registry.Holder{{Process: process, Unit: unit}} }
	for _, tc := range []struct {
		name, host, proto, address string
		holders                    []registry.Holder
		want                       registry.Verdict
	}{
		{"ssh anywhere", "mail-1", "tcp", "[::]:22", held("sshd", "ssh.service"), registry.Verdict{Service: "ssh", Purpose: "remote administration"}},
		{"ssh held by another program", "mail-1", "tcp", "0.0.0.0:22", held("dropbear", "ssh.service"), registry.Verdict{Reason: "process", Service: "ssh"}},
		{"ssh held by another unit", "mail-1", "tcp", "0.0.0.0:22", held("sshd", "user@1000.service"), registry.Verdict{Reason: "process", Service: "ssh"}},
		{"ssh, and the holder is unknown", "mail-1", "tcp", "0.0.0.0:22", nil, registry.Verdict{Service: "ssh"}},
		{"node_exporter in the network", "web-1", "tcp", "10.20.3.4:9100", nil, registry.Verdict{Service: "node_exporter"}},
		{"node_exporter in another network", "web-1", "tcp", "10.21.3.4:9100", nil, registry.Verdict{Reason: "bind", Service: "node_exporter"}},
		{"node_exporter on every address", "web-1", "tcp", "0.0.0.0:9100", nil, registry.Verdict{Reason: "bind", Service: "node_exporter"}},
		{"the stub by UDP", "web-1", "udp", "127.0.0.54:53", held("systemd-resolve", ""), registry.Verdict{Service: "dns-stub"}},
		{"the stub by TCP", "web-1", "tcp", "127.0.0.53:53", held("systemd-resolve", ""), registry.Verdict{Service: "dns-stub"}},
		{"another server of names", "web-1", "udp", "127.0.0.1:53", nil, registry.Verdict{Reason: "bind", Service: "dns-stub"}},
		{"a DHCPv6 client", "web-1", "udp", "[fe80::1]:546", nil, registry.Verdict{Service: "dhcpv6-client"}},
		{"nginx by HTTP/3", "WEB-1.example", "udp", "[::]:443", held("nginx", ""), registry.Verdict{Service: "https"}},
		{"another web server", "web-1", "tcp", "0.0.0.0:443", held("apache2", ""), registry.Verdict{Reason: "process", Service: "https"}},
		{"a web server elsewhere", "db-1", "tcp", "0.0.0.0:443", held("nginx", ""), registry.Verdict{Reason: "unregistered"}},
		{"a release of the shop", "web-1", "tcp", "127.0.0.1:8009", nil, registry.Verdict{Service: "shop-backend"}},
		{"beyond the range", "web-1", "tcp", "127.0.0.1:8010", nil, registry.Verdict{Reason: "unregistered"}},
		{"redis laid open", "web-1", "tcp", "0.0.0.0:6379", nil, registry.Verdict{Reason: "bind", Service: "sessions"}},
		{"postgres", "db-1", "tcp", "192.168.1.10:5432", held("postgres", ""), registry.Verdict{Service: "postgres"}},
		{"postgres in public", "db-1", "tcp", "203.0.113.10:5432", held("postgres", ""), registry.Verdict{Reason: "bind", Service: "postgres"}},
		{"kubelet", "node-1", "tcp", "[::]:10250", held("kubelet", "kubelet.service"), registry.Verdict{Service: "kubelet"}},
		{"a stream of containerd", "node-1", "tcp", "127.0.0.1:41234", held("containerd", "containerd.service"), registry.Verdict{Service: "containerd-streams"}},
		{"somebody else on such a port", "node-1", "tcp", "127.0.0.1:41234", held("sshd", "ssh.service"), registry.Verdict{Reason: "unregistered"}},
		{"a name of more than 15 characters", "control-1", "tcp", "127.0.0.1:10257", held("kube-controller", ""), registry.Verdict{Service: "kube-controller-manager"}},
		{"etcd on a worker", "node-1", "tcp", "10.0.0.5:2379", held("etcd", ""), registry.Verdict{Reason: "unregistered"}},
		{"a helper of NFS", "db-1", "udp", "0.0.0.0:51000", held("rpc.statd", "rpc-statd.service"), registry.Verdict{Service: "nfs-helpers", Purpose: "locks and mounts of NFS", Owner: "team storage"}},
		{"somebody on any port", "db-1", "udp", "0.0.0.0:51000", held("nc", ""), registry.Verdict{Reason: "unregistered"}},
		{"nobody knows who, on any port", "db-1", "tcp", "0.0.0.0:51000", nil, registry.Verdict{Reason: "unregistered"}},
		{"a web server for tests", "web-test-1", "tcp", "0.0.0.0:80", held("nginx", ""), registry.Verdict{Reason: "unregistered"}},
		{"the address of a load balancer", "lb-1", "tcp", "203.0.113.10:8443", held("haproxy", ""), registry.Verdict{Service: "shop-address"}},
		{"no load balancer", "lb-01", "tcp", "203.0.113.10:8443", held("haproxy", ""), registry.Verdict{Reason: "unregistered"}},
		{"telnet", "web-1", "udp", "127.0.0.1:23", nil, registry.Verdict{Reason: "forbidden"}},
		{"memcached", "web-1", "udp", "0.0.0.0:11211", nil, registry.Verdict{Reason: "forbidden"}},
		{"memcached where it is tolerated", "web-1", "udp", "127.0.0.1:11211", nil, registry.Verdict{Reason: "unregistered"}},
		{"memcached in a sandbox", "sandbox-1", "udp", "0.0.0.0:11211", nil, registry.Verdict{Reason: "unregistered"}},
		{"in a range for some hosts", "ci-1", "tcp", "0.0.0.0:20099", nil, registry.Verdict{Reason: "reserved", Service: "ci"}},
		{"in its hole", "ci-1", "tcp", "0.0.0.0:20100", nil, registry.Verdict{Reason: "unregistered"}},
		{"in that range on others", "web-1", "tcp", "0.0.0.0:20099", nil, registry.Verdict{Reason: "unregistered"}},
		{"in the shop's range", "web-1", "tcp", "0.0.0.0:30499", nil, registry.Verdict{Reason: "reserved", Service: "shop"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := r.For(tc.host).Judge(registry.Listener{
				Proto: tc.proto, Addr: netip.MustParseAddrPort(tc.address), Sockets: [][]registry.Holder{tc.holders},
			})
			got.Declared, got.HolderUnchecked, got.DeviceUnchecked = "", false, false // its own tests hold them
			if tc.want.Purpose == "" {
				got.Purpose = ""
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestTheExampleRegistryMissesOnlyWhatItSaysMustListen(t *testing.T) {
	r := loadRegistry(t, exampleRegistry)
	everywhere := []string{"dns-stub tcp 53", "dns-stub udp 53", "listen_exporter tcp 10190", "node_exporter tcp 9100", "ntp udp 323", "ssh tcp 22"}
	node := []string{"flannel-vxlan udp 8472", "kube-proxy-healthz tcp 10256", "kube-proxy-metrics tcp 10249", "kubelet tcp 10250", "kubelet-healthz tcp 10248"}
	for host, more := range map[string][][]string{
		"mail-1": nil,
		"lb-1":   {{"balancer tcp 8404,8405", "shop-address tcp 8443"}},
		"web-1":  {{"http tcp 80", "https tcp 443", "https udp 443", "sessions tcp 6379", "wireguard udp 51820"}},
		"db-1":   {{"pgbouncer tcp 6432", "pgbouncer tcp 6433", "postgres tcp 5432", "wireguard udp 51820"}},
		"node-1": {node},
		"control-1": {node, {
			"etcd tcp 2379", "etcd tcp 2380", "etcd tcp 2381", "kube-apiserver tcp 6443", "kube-controller-manager tcp 10257", "kube-scheduler tcp 10259",
		}},
	} {
		want := slices.Sorted(slices.Values(slices.Concat(everywhere, slices.Concat(more...))))
		if diff := cmp.Diff(want, requiredOn(r, host)); diff != "" {
			t.Errorf("on %s: -want +got:\n%s", host, diff)
		}
	}
}

// requiredOn returns what must listen on a host, as "NAME PROTO PORT", sorted.
func requiredOn(r *registry.Registry, host string) []string {
	var rows []string
	for _, s := range r.For(host).Up(nil, false) {
		rows = append(rows, fmt.Sprintf("%s %s %s", s.Name, s.Proto, s.Ports))
	}
	slices.Sort(rows)
	return rows
}

// TestEveryKeyOfARegistryIsShownByTheExample gets the keys from the fault of an unknown key.
func TestEveryKeyOfARegistryIsShownByTheExample(t *testing.T) {
	var file struct{ Services, Forbidden, Reserved []map[string]any }
	tools.Decode(t, exampleRegistry, &file)
	for list, entries := range map[string][]map[string]any{"services": file.Services, "forbidden": file.Forbidden, "reserved": file.Reserved} {
		_, err := registry.Parse("ports.yml", []byte(list+":\n  - no-such-key: 1\n"))
		if err == nil {
			t.Fatalf("%s: an unknown key is no fault", list)
		}
		found := regexp.MustCompile(`unknown key "no-such-key": want one of ([a-z_, ]+)`).FindStringSubmatch(err.Error())
		if found == nil {
			t.Fatalf("%s: the fault does not list the keys: %v", list, err)
		}
		used := make(map[string]bool)
		for _, entry := range entries {
			for key := range entry {
				used[key] = true
			}
		}
		if diff := cmp.Diff(slices.Sorted(slices.Values(strings.Split(found[1], ", "))), slices.Sorted(maps.Keys(used))); diff != "" {
			t.Errorf("the keys of %s that the example shows: -all +shown:\n%s", list, diff)
		}
	}
}

// TestTheExampleRegistryShowsEveryFormOfAValue looks for each form in the text.
func TestTheExampleRegistryShowsEveryFormOfAValue(t *testing.T) {
	text := tools.Read(t, exampleRegistry)
	for what, pattern := range map[string]string{
		"a port":                  `port: \d+`,
		"a range":                 `port: \d+-\d+`,
		"a list of ports":         `port: \[\d+, `,
		"any port":                `port: any`,
		"a hole":                  `ports: \[.*"!\d+-\d+"\]`,
		"one port":                `required: one-port`,
		"one host":                `required: one-host`,
		"hosts that are left out": `hosts: \[.*"!.+"\]`,
		"a class of characters":   `hosts: \[.*\[!.+\]`,
		"a glob of namespaces":    `namespaces: \[.*".+\*"\]`,
		"UDP":                     `proto: udp`,
		"both protocols":          `proto: \[tcp, udp\]`,
		"bind: loopback":          `bind: loopback`,
		"bind: private":           `bind: private`,
		"a network":               `bind: .*\d/\d+`,
		"an address":              `bind: .*\d[,\]\s]`,
		"a list of addresses":     `bind: \[.+, .+\]`,
		"required: false":         `required: false`,
		"globs of hosts":          `hosts: \[".*\*", ".*\*"\]`,
		"a team's range":          `ports: \d+-\d+`,
		"a team's ranges":         `ports: \[\d+-\d+, \d+\]`,
		"any in words, unwritten": `any \(which is the default\)`,
	} {
		if !regexp.MustCompile(`(?m)` + pattern).MatchString(text) {
			t.Errorf("%s shows nothing like %s", exampleRegistry, what)
		}
	}
}

func TestOurOwnManifestsFitTheExampleRegistry(t *testing.T) {
	r, err := manifest.Check(manifest.Options{Registry: loadRegistry(t, exampleRegistry)}, []string{"kubernetes"}, nil)
	if err != nil || len(r.Findings) > 0 || len(r.Unread) > 0 || r.Workloads != 1 {
		t.Errorf("%d workloads, findings %v, unread %v, error %v; want the DaemonSet and nothing found", r.Workloads, r.Findings, r.Unread, err)
	}
}
