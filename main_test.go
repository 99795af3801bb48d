//go:build linux

package main

import (
	"bytes"
	"cmp"
	"flag"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/program"
)

func TestMain(m *testing.M) { program.Main(m) }

func TestAWrongCommandLineIsOneClearLineAndExitCode2(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		want []string // all in the line
	}{
		{"unknown flag", []string{"--nope"}, []string{"--nope", "--help"}},
		{"unknown command", []string{"stray"}, []string{`"stray"`, "serve", "list", "audit", "check", "lease", "--help"}},
		{"argument of serve", []string{"serve", "stray"}, []string{"stray", "--help"}},
		{"help on an unknown command", []string{"help", "stray"}, []string{"no such command"}},
		{"flag of a command without the command", []string{"--format=json"}, []string{"--format"}},
		{"format", []string{"list", "--format=yaml"}, []string{"--format", "table,json,registry", "yaml"}},
		{"flag without its value", []string{"--path.procfs"}, []string{"--path.procfs", "expected argument"}},
		{"flag without its value before another", []string{"--path.procfs", "--log.level=info"}, []string{"--path.procfs", "expected argument"}},
		{"flag of a command without its value", []string{"check", "--manifests"}, []string{"--manifests", "expected argument"}},
		{"switch with a value", []string{"--no-collector.tcp=maybe"}, []string{"--no-collector.tcp", `"maybe"`, "want --collector.tcp or --no-collector.tcp"}},
		{"switch of a command with a value", []string{"list", "--watch=5"}, []string{"--watch", `"5"`, "takes no value"}},
		{"command of lease without --", []string{"lease", "--team=ci", "npm", "test"}, []string{"after a --", "lease -- npm test"}},
		{"flag of the command of lease without --", []string{"lease", "npm", "run", "--silent"}, []string{"--silent"}},
		{"no port to lease", []string{"lease", "--count=0"}, []string{"--count", "at least 1"}},
		{"lease that is renewed by no id", []string{"lease", "--renew="}, []string{"--renew", "must not be empty"}},
		{"lease that is ended by no id", []string{"lease", "--end="}, []string{"--end", "must not be empty"}},
		{"output that is empty", []string{"list", "--output="}, []string{"--output must not be empty", "- for standard output"}},
		{"include: port 0", []string{"--collector.port-include=0"}, []string{"--collector.port-include", `"0"`, "1 to 65535"}},
		{"include: no number", []string{"--collector.port-include=ssh"}, []string{"--collector.port-include", `"ssh"`, "22,8000-8100"}},
		{"include: empty", []string{"--collector.port-include="}, []string{"--collector.port-include", "22,8000-8100"}},
		{"exclude: second of two values", []string{"--collector.port-exclude=1", "--collector.port-exclude=x"}, []string{"--collector.port-exclude", `"x"`}},
		{"scope", []string{"--collector.scope-exclude=internet"}, []string{"--collector.scope-exclude", `"internet"`, "loopback"}},
		{"netns", []string{"--collector.netns=every"}, []string{"--collector.netns", "every", "host", "self", "all"}},
		{"source", []string{"--collector.source=ebpf"}, []string{"--collector.source", "auto,netlink,procfs", "ebpf"}},
		{"minimum age: no duration", []string{"--collector.udp.ephemeral-min-age=soon"}, []string{"--collector.udp.ephemeral-min-age", `"soon"`, "30s"}},
		{"maximum of ports: 0", []string{"--collector.max-ports=0"}, []string{"--collector.max-ports", "at least 1"}},
		{"maximum of requests: negative", []string{"--web.max-requests=-1"}, []string{"--web.max-requests", "-1"}},
		{"maximum of requests: a fraction that would be no limit", []string{"--web.max-requests=0.5"}, []string{"--web.max-requests", "0.5", "whole number"}},
		{"gomaxprocs: 0", []string{"--runtime.gomaxprocs=0"}, []string{"--runtime.gomaxprocs", "at least 1"}},
		{"log level", []string{"--log.level=loud"}, []string{"--log.level", "loud", "debug", "info", "warn", "error"}},
		{"log level twice", []string{"--log.level=info", "--log.level=warn"}, []string{"log.level", "repeated"}},
		{"value of two lines", []string{"--log.level=info\nlevel=error"}, []string{"--log.level", "debug"}},
		{"telemetry path: relative", []string{"--web.telemetry-path=metrics"}, []string{"--web.telemetry-path", `"metrics"`, "/metrics"}},
		{"telemetry path: empty", []string{"--web.telemetry-path="}, []string{"--web.telemetry-path", "/metrics"}},
		{"telemetry path: slash at its end", []string{"--web.telemetry-path=/metrics/"}, []string{"--web.telemetry-path", "/metrics/"}},
		{"telemetry path: pattern", []string{"--web.telemetry-path=/{x"}, []string{"--web.telemetry-path", "/{x"}},
		{"telemetry path: newline", []string{"--web.telemetry-path=/a\nb"}, []string{"--web.telemetry-path", `/a\nb`}},
		{"telemetry path: readiness", []string{"--web.telemetry-path=/-/ready"}, []string{"--web.telemetry-path", "/-/ready"}},
		{"listen address: empty", []string{"--web.listen-address="}, []string{"--web.listen-address", ":10190"}},
		{"both collectors off", []string{"--no-collector.tcp", "--no-collector.udp"}, []string{"--no-collector.tcp", "--no-collector.udp"}},
		{"leases: no file", []string{"--lease.enable"}, []string{"--lease.file", "--state.file"}},
		{"leases: one protocol", []string{"--lease.enable", "--lease.file=x", "--no-collector.udp"}, []string{"--lease.enable", "--no-collector.udp"}},
		{"leases: store", []string{"--lease.store=redis"}, []string{"--lease.store", "redis", "file,etcd"}},
		{"leases: address that is empty", []string{"--lease.enable", "--lease.file=x", "--lease.listen-address="}, []string{"--lease.listen-address", "unix:PATH", "HOST:PORT"}},
		{"leases: no etcd", []string{"--lease.enable", "--lease.store=etcd"}, []string{"--lease.store=etcd", "--lease.etcd-endpoint", "https://"}},
		{"leases: etcd of a store in a file", []string{"--lease.enable", "--lease.file=x", "--lease.etcd-endpoint=https://e:2379"}, []string{"--lease.etcd-endpoint", "--lease.store=etcd"}},
		{"leases: certificate without a key", []string{"--lease.enable", "--lease.store=etcd", "--lease.etcd-endpoint=https://e:2379", "--lease.etcd-cert-file=x"}, []string{"--lease.etcd-cert-file", "--lease.etcd-key-file"}},
		{"leases: longest time of nothing", []string{"--lease.enable", "--lease.file=x", "--lease.max-ttl=0s"}, []string{"--lease.max-ttl", `"0s"`, "1s", "1y"}},
		{"leases: longest time that never ends", []string{"--lease.enable", "--lease.file=x", "--lease.max-ttl=100y"}, []string{"--lease.max-ttl", `"100y"`, "1y"}},
		{"leases: negative limit", []string{"--lease.max-per-user=-1"}, []string{"--lease.max-per-user", "-1"}},
		{"leases: limit that is no number", []string{"--lease.max-per-team=many"}, []string{"--lease.max-per-team", "many"}},
		{"missing file of arguments", []string{"@/does/not/exist"}, []string{"/does/not/exist"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			// The first address is nobody's: a command line that is taken by mistake ends at once.
			args := append([]string{"--web.listen-address=nonsense", "--web.systemd-socket"}, test.args...)
			if code := run(args, &stdout, &stderr); code != 2 {
				t.Errorf("exit code %d, want 2", code)
			}
			lines := program.Lines(stderr.String())
			if stdout.Len() > 0 || len(lines) != 1 || !strings.HasPrefix(lines[0], "listen_exporter: error: ") {
				t.Errorf("on stdout %q; on stderr, which is not one error:\n%s", &stdout, &stderr)
			}
			for _, want := range test.want {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("%q does not contain %q", &stderr, want)
				}
			}
		})
	}
}

func TestAProgramThatCannotStartLogsOneErrorAndExitsWith1(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	const anywhere = "--web.listen-address=127.0.0.1:0"
	leasing := func(args ...string) []string { return append([]string{anywhere, "--lease.enable"}, args...) }
	dir := t.TempDir()
	file, socket := "--lease.file="+filepath.Join(dir, "leases.db"), "--lease.listen-address=unix:"+filepath.Join(dir, "lease.sock")
	const own = "--collector.netns=self"
	registry := "--registry.file=" + program.WriteFile(t, "ports.yml", "reserved: [{team: ci, ports: 20000-20099, users: ['*']}]\n")

	for _, test := range []struct {
		name string
		args []string
		want []string // all in the error
	}{
		{"address in use", []string{anywhere, "--web.listen-address=" + taken.Addr().String()}, []string{taken.Addr().String(), "address already in use"}},
		{"address without a port", []string{"--web.listen-address=nonsense"}, []string{"nonsense", "missing port"}},
		{"address that is not this host's", []string{"--web.listen-address=192.0.2.1:0"}, []string{"192.0.2.1", "cannot assign requested address"}},
		{"no socket from systemd", []string{"--web.systemd-socket"}, []string{"no socket activation"}},
		{"missing web config", []string{anywhere, "--web.config.file=/does/not/exist"}, []string{"--web.config.file", "/does/not/exist", "no such file"}},
		{"web config with an unknown key", []string{anywhere, "--web.config.file=" + program.WriteFile(t, "web.yml", "tls: {}\nusers: {}\n")}, []string{"--web.config.file", "tls", "line 1"}},
		{"web config with a password in clear", []string{anywhere, "--web.config.file=" + program.WriteFile(t, "web.yml", "basic_auth_users: {prometheus: secret}\n")}, []string{"--web.config.file", "bcrypt"}},
		{"missing procfs", []string{anywhere, "--path.procfs=/does/not/exist"}, []string{"--path.procfs", "/does/not/exist", "no such file"}},
		{"leases without a registry", leasing(own, file), []string{"--lease.enable", "--registry.file"}},
		{"leases with a registry that is not there", leasing(own, file, "--registry.optional-file=/does/not/exist"), []string{"--lease.enable", "--registry.file"}},
		{"leases in a file that is none", leasing(own, registry, socket, "--lease.file="+dir), []string{dir}},
		{"leases in a file of something else", leasing(own, registry, socket, "--lease.file="+program.WriteFile(t, "leases.db", "x")), []string{"leases.db"}},
		{"leases in another network namespace", leasing(registry, file, socket, "--path.procfs="+program.NewProcfs(t)), []string{"--lease.enable", own}},
		{"leases in etcd without its client", leasing(own, registry, socket, "--lease.store=etcd", "--lease.etcd-endpoint=http://127.0.0.1:1"), []string{"listen-exporter-etcd"}},
		{"leases on a path that is no socket", leasing(own, registry, file, "--lease.listen-address=unix:"+dir), []string{"--lease.listen-address", dir, "is not a socket"}},
		{"leases by TCP for everybody", leasing(own, registry, file, "--lease.listen-address=127.0.0.1:0"), []string{"--lease.listen-address", "--web.config.file", "basic_auth_users"}},
		{"procfs is a file", []string{anywhere, "--path.procfs=" + program.WriteFile(t, "proc", "")}, []string{"--path.procfs", "is not a directory"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, stdout, stderr := program.Run(t, test.args...)
			if code != 1 || stdout != "" {
				t.Errorf("exit code %d, want 1; on stdout: %s", code, stdout)
			}
			var errs []string
			for _, fields := range program.CheckLines(t, "logfmt", stderr) {
				if fields.Get("level") == "error" {
					errs = append(errs, fields.Get("err"))
				}
			}
			if len(errs) != 1 {
				t.Fatalf("%d lines of the level error, want 1:\n%s", len(errs), stderr)
			}
			for _, want := range test.want {
				if !strings.Contains(errs[0], want) {
					t.Errorf("the error %q does not contain %q", errs[0], want)
				}
			}
			if strings.Contains(stderr, "secret") {
				t.Errorf("a password is in the log:\n%s", stderr)
			}
		})
	}
}

var update = flag.Bool("update", false, "write testdata/help from what the program prints")

// The texts in testdata/help are what users read: look at each of their changes.
func TestHelpIsWhatIsInTestdata(t *testing.T) {
	t.Setenv("COLUMNS", "80")
	for _, command := range []string{"", "serve", "list", "audit", "check", "lease"} {
		file := filepath.Join("testdata", "help", cmp.Or(command, "listen_exporter")+".txt")
		text := runForText(t, append(strings.Fields(command), "--help")...)
		if *update {
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(string(want), text); diff != "" {
			t.Errorf("%s --help (-want +got):\n%s", command, diff)
		}
		for _, args := range [][]string{strings.Fields("help " + command), strings.Fields("--help " + command), strings.Fields(command + " -h")} {
			if got := runForText(t, args...); got != text {
				t.Errorf("%q prints something else than %s --help:\n%s", args, command, got)
			}
		}
	}
}

// runForText runs the program with flags that ask for text, and returns it.
func runForText(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := run(args, &stdout, &stderr); code != 0 || stderr.Len() > 0 {
		t.Fatalf("%q: exit code %d, want 0; on stderr: %s", args, code, &stderr)
	}
	return stdout.String()
}

func TestVersionIsPrintedToStdout(t *testing.T) {
	if text := runForText(t, "--version"); !strings.HasPrefix(text, "listen_exporter, version ") || !strings.Contains(text, "go version:") {
		t.Errorf("not the version of the program and of Go: %q", text)
	}
}

func TestFlagsChooseWhatIsReported(t *testing.T) {
	procfs := program.NewProcfs(t)
	everything := []string{"tcp 22", "tcp 443", "tcp 8080", "udp 53", "udp 546"}
	for _, test := range []struct {
		name string
		args []string
		want []string
	}{
		{"by default, ephemeral UDP aside", nil, everything},
		{"no TCP", []string{"--no-collector.tcp"}, []string{"udp 53", "udp 546"}},
		{"no UDP", []string{"--no-collector.udp"}, []string{"tcp 22", "tcp 443", "tcp 8080"}},
		{"included ports", []string{"--collector.port-include=22,500-600", "--collector.port-include=53"}, []string{"tcp 22", "udp 53", "udp 546"}},
		{"excluded ports", []string{"--collector.port-exclude=22,500-600", "--collector.port-exclude=53"}, []string{"tcp 443", "tcp 8080"}},
		{"included and excluded", []string{"--collector.port-include=1-1023", "--collector.port-exclude=53"}, []string{"tcp 22", "tcp 443", "udp 546"}},
		{"excluded scopes", []string{"--collector.scope-exclude=loopback", "--collector.scope-exclude=link-local,multicast"}, []string{"tcp 22", "tcp 443", "udp 53"}},
		{"at most two, the lowest", []string{"--collector.max-ports=2"}, []string{"tcp 22", "udp 53"}},
		{"ephemeral UDP at once", []string{"--collector.udp.ephemeral-min-age=0s"}, append(slices.Clone(everything), "udp 40000")},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e := program.Start(t, append(test.args, "--path.procfs="+procfs)...)
			want := slices.Sorted(slices.Values(test.want))
			if diff := gocmp.Diff(want, program.Ports(t, e.Scrape())); diff != "" {
				t.Errorf("ports differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestACommandLineThatIsRightIsTaken(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
	}{
		{"none", nil},
		{"other telemetry path", []string{"--web.telemetry-path=/federate/listen"}},
		{"no limit of requests", []string{"--web.max-requests=0"}},
		{"flags given as words of their own", []string{"--collector.max-ports", "5", "--log.level", "debug"}},
		{"two addresses", []string{"--web.listen-address=:1", "--web.listen-address=[::1]:2"}},
		{"an age of days", []string{"--collector.udp.ephemeral-min-age=1d"}},
		{"serve", []string{"serve", "--web.listen-address=:1"}},
		{"flags before a command and after it", []string{"--log.level=debug", "list", "--format=json", "--path.procfs=/proc"}},
		{"flags of leases without leases", []string{"--lease.max-ttl=0s", "--lease.store=etcd", "--lease.etcd-endpoint=https://e:2379"}},
		{"leases next to the state file", []string{"--lease.enable", "--state.file=/var/lib/x/state"}},
		{"leases in etcd", []string{"--lease.enable", "--lease.store=etcd", "--lease.etcd-endpoint=https://a:2379", "--lease.etcd-endpoint=https://b:2379"}},
		{"another address of leases of list", []string{"list", "--lease.listen-address=unix:/tmp/x"}},
		{"a command of lease with flags, as they are ours", []string{"lease", "--team=ci", "--", "list", "--watch=5", "-", "", "@x", "--", "--team=b", "--help"}},
		{"files and directories to check", []string{"check", "a.yml", "--manifests=x", "b.yml", "--manifests", "y"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, done, err := parse(test.args, io.Discard); err != nil || done {
				t.Errorf("parse: done %t, error %v, want false and none", done, err)
			}
		})
	}
}

func TestTheExportersOwnPortsComeFromItsAddresses(t *testing.T) {
	const address = "--web.listen-address="
	for _, test := range []struct {
		args []string
		want []uint16
	}{
		{nil, []uint16{10190}},
		{[]string{address + "127.0.0.1:9100"}, []uint16{9100}},
		{[]string{"list", address + ":1", address + "[::1]:2", address + "name.example:3"}, []uint16{1, 2, 3}},
		{[]string{"audit", address + ":0"}, nil},
		{[]string{address + "vsock://:9100"}, nil},
		{[]string{address + "nonsense"}, nil},
		{[]string{address + ":65536"}, nil},
		{[]string{"--web.systemd-socket"}, nil},
	} {
		c, _, err := parse(test.args, io.Discard)
		if err != nil {
			t.Errorf("%q: %v", test.args, err)
			continue
		}
		if diff := gocmp.Diff(test.want, c.inventory.OwnPorts); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.args, diff)
		}
	}
}

// People type at night what an alert says.
func TestEveryCommandInTheTextOfAnAlertExists(t *testing.T) {
	label, other := regexp.MustCompile(`\{\{[^}]*\$labels\.[^}]*\}\}`), regexp.MustCompile(`\{\{(?:"[^"]*"|[^"}])*\}\}`)
	argument := regexp.MustCompile(`^(--[a-z].*|[0-9]+|PORT)$`)
	rules, err := filepath.Glob("examples/prometheus/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(rules, "alerts/listen_exporter.rules.yml", "alerts/README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		words := strings.Join(strings.Fields(other.ReplaceAllString(label.ReplaceAllString(string(text), "8080"), "")), " ")
		for _, typed := range strings.Split(words, "sudo listen_exporter ")[1:] {
			var args []string
			for n, word := range strings.Fields(typed) {
				trimmed := strings.TrimRight(word, "`\".,;:)")
				if n > 0 && !argument.MatchString(trimmed) {
					break
				}
				if args = append(args, strings.ReplaceAll(trimmed, "PORT", "8080")); trimmed != word {
					break
				}
			}
			if _, _, err := parse(args, io.Discard); err != nil {
				t.Errorf("%s has sudo listen_exporter %s: %v", file, strings.Join(args, " "), err)
			}
		}
	}
}
