//go:build linux

package examples

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/program"
	"github.com/listen-exporter/listen_exporter/test/tools"
)

// installedUnits returns a directory with the units of a host on which the binary is installed.
func installedUnits(t *testing.T) string {
	t.Helper()
	const execStart = "ExecStart=/usr/local/bin/listen_exporter "
	service := tools.Read(t, "systemd/listen_exporter.service")
	if strings.Count(service, "\n"+execStart) != 1 {
		t.Fatalf("the unit has no line %q", execStart)
	}
	dir := t.TempDir()
	service = strings.Replace(service, "\n"+execStart, "\nExecStart="+program.Path(t)+" ", 1)
	write(t, filepath.Join(dir, "listen_exporter.service"), service)
	write(t, filepath.Join(dir, "listen_exporter.socket"), tools.Read(t, "systemd/listen_exporter.socket"))
	textfile := strings.Replace(tools.Read(t, "systemd/listen_exporter-textfile.service"), "\n"+execStart, "\nExecStart="+program.Path(t)+" ", 1)
	write(t, filepath.Join(dir, "listen_exporter-textfile.service"), textfile)
	write(t, filepath.Join(dir, "listen_exporter-textfile.timer"), tools.Read(t, "systemd/listen_exporter-textfile.timer"))
	return dir
}

// TestSystemdFindsNoFaultInTheDropIns, which are in force, and make the exposure of the service no worse than it may be without.
func TestSystemdFindsNoFaultInTheDropIns(t *testing.T) {
	analyze := tools.Look(t, "systemd-analyze")
	for dropIn, shows := range map[string]string{
		"listen_exporter-events.conf": "e.g. bpf is allowed",
		"listen_exporter-leases.conf": "RestrictAddressFamilies=~AF_UNIX +Service may allocate local sockets",
	} {
		unit := filepath.Join(installedUnits(t), "listen_exporter.service")
		write(t, filepath.Join(unit+".d", dropIn), tools.Read(t, "systemd/"+dropIn))
		if output, err := exec.Command(analyze, "verify", "--man=no", unit).CombinedOutput(); err != nil || len(output) > 0 {
			t.Errorf("%s: systemd-analyze verify: %v\n%s", dropIn, err, output)
		}
		level, output := exposure(t, unit)
		if level > 2 || !regexp.MustCompile(shows).MatchString(output) {
			t.Errorf("%s: the exposure is %.1f, want at most 2.0, and the drop-in in force\n%s", dropIn, level, output)
		}
	}
}

// TestTheDropInForLeasesCostsNoExposure that shows in the one decimal that systemd prints, or only just.
func TestTheDropInForLeasesCostsNoExposure(t *testing.T) {
	unit := filepath.Join(installedUnits(t), "listen_exporter.service")
	before, _ := exposure(t, unit)
	write(t, filepath.Join(unit+".d", "leases.conf"), tools.Read(t, "systemd/listen_exporter-leases.conf"))
	if after, output := exposure(t, unit); after > before+0.11 {
		t.Errorf("the exposure is %.1f with it, and %.1f without\n%s", after, before, output)
	}
}

// exposure returns how systemd rates a unit, from 0 to 10, and why.
func exposure(t *testing.T, unit string) (level float64, output string) {
	t.Helper()
	text, err := exec.Command(tools.Look(t, "systemd-analyze"), "security", "--no-pager", "--offline=true", unit).CombinedOutput()
	found := regexp.MustCompile(`Overall exposure level .*: ([0-9.]+) `).FindSubmatch(text)
	if found == nil {
		t.Fatalf("systemd-analyze security: %v, and no level\n%s", err, text)
	}
	if level, err = strconv.ParseFloat(string(found[1]), 64); err != nil {
		t.Fatal(err)
	}
	return level, string(text)
}

func TestTheDropInForLeasesAddsOneFamilyOfSocketsAndItsDirectory(t *testing.T) {
	want := map[string][]string{
		"RestrictAddressFamilies": {"AF_UNIX"},
		"RuntimeDirectory":        {"listen_exporter"},
		"RuntimeDirectoryMode":    {"0755"},
	}
	if diff := cmp.Diff(want, directives(t, "systemd/listen_exporter-leases.conf")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := defaultOf(t, "lease.listen-address"); got != "unix:/run/listen_exporter/lease.sock" {
		t.Errorf("by default the socket is %s: want one in the directory of the drop-in", got)
	}
}

// defaultOf returns the default of a flag, as docs/flags.md shows it, which is generated.
func defaultOf(t *testing.T, flag string) string {
	t.Helper()
	found := regexp.MustCompile("(?m)^\\| `--" + regexp.QuoteMeta(flag) + "` \\| `([^`]*)` ").FindStringSubmatch(tools.Read(t, "../docs/flags.md"))
	if found == nil {
		t.Fatalf("docs/flags.md has no --%s with a default", flag)
	}
	return found[1]
}

func TestTheDropInForEventsAddsTwoCapabilitiesAndOneSystemCall(t *testing.T) {
	want := map[string][]string{
		"AmbientCapabilities":   {"CAP_BPF CAP_PERFMON"},
		"CapabilityBoundingSet": {"CAP_BPF CAP_PERFMON"},
		"SystemCallFilter":      {"bpf"},
		"LimitMEMLOCK":          {"64M"}, // for kernels before 5.11
	}
	if diff := cmp.Diff(want, directives(t, "systemd/listen_exporter-events.conf")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestSystemdFindsNoFaultInTheUnits: any output of verify is a fault, because systemd-analyze exits with 0 on an unknown key. The
// exposure of the service may be 2.0 of 10.
func TestSystemdFindsNoFaultInTheUnits(t *testing.T) {
	analyze := tools.Look(t, "systemd-analyze")
	dir := installedUnits(t)
	units, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	output, err := exec.Command(analyze, append([]string{"verify", "--man=no"}, units...)...).CombinedOutput()
	if err != nil || len(output) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, output)
	}
	// The other service has to be root.
	for service, threshold := range map[string]string{"listen_exporter.service": "20", "listen_exporter-textfile.service": "30"} {
		output, err = exec.Command(analyze, "security", "--no-pager", "--offline=true", "--threshold="+threshold, filepath.Join(dir, service)).CombinedOutput()
		if err != nil {
			t.Errorf("systemd-analyze security %s: %v\n%s", service, err, output)
		}
	}
}

// directives returns the settings of a unit file, several values of one key in their order.
func directives(t *testing.T, file string) map[string][]string {
	t.Helper()
	settings := make(map[string][]string)
	for _, found := range regexp.MustCompile(`(?m)^([A-Za-z]+)=(.*)$`).FindAllStringSubmatch(tools.Read(t, file), -1) {
		settings[found[1]] = append(settings[found[1]], found[2])
	}
	return settings
}

func TestTheServiceHasNoRightsAndStillSeesTheHost(t *testing.T) {
	settings := directives(t, "systemd/listen_exporter.service")
	for key, want := range map[string]string{
		"DynamicUser":           "yes",
		"NoNewPrivileges":       "yes",
		"CapabilityBoundingSet": "",
		"AmbientCapabilities":   "",
		"ProtectSystem":         "strict",
		"ProtectProc":           "default", // else PID 1 cannot be seen, and so not the host's network namespace
		"ProcSubset":            "all",     // else /proc/sys cannot be seen
		"Restart":               "always",
		"StateDirectory":        "listen_exporter", // which systemd makes writable for the user
		"StateDirectoryMode":    "0700",
		"MemoryMax":             "512M",
		"Environment":           "GOMEMLIMIT=400MiB", // with which nobody who reads makes it reach MemoryMax
	} {
		if got := settings[key]; len(got) != 1 || got[0] != want {
			t.Errorf("%s=%q, want %q", key, got, want)
		}
	}
	for _, key := range []string{
		"User",                     // DynamicUser= is enough
		"PrivateNetwork",           // the exporter would see a network of its own
		"NetworkNamespacePath",     // likewise
		"PrivateUsers",             // other users' sockets would seem to be nobody's
		"RestartPreventExitStatus", // a crash exits with 2, as a wrong flag does
	} {
		if got, set := settings[key]; set {
			t.Errorf("%s=%q, want it left out", key, got)
		}
	}
}

// TestTheServiceRemembersInItsStateDirectory: %S is /var/lib, and what is below StateDirectory= is all that the service can write.
func TestTheServiceRemembersInItsStateDirectory(t *testing.T) {
	settings := directives(t, "systemd/listen_exporter.service")
	want := " --state.file=%S/" + settings["StateDirectory"][0] + "/state "
	if start := settings["ExecStart"]; len(start) != 1 || !strings.Contains(start[0], want) {
		t.Errorf("ExecStart=%q, want one with%s", start, want)
	}
	// A drop-in that replaces ExecStart= would lose what is remembered.
	for line := range strings.Lines(tools.Read(t, "systemd/listen_exporter.service")) {
		if strings.HasPrefix(line, "#   ExecStart=/") && !strings.Contains(line, want) {
			t.Errorf("the drop-in has %s, want%s in it", line, want)
		}
	}
}

func TestTheServicesOptionsComeFromItsEnvironmentFile(t *testing.T) {
	settings := directives(t, "systemd/listen_exporter.service")
	if diff := settings["EnvironmentFile"]; len(diff) != 1 || diff[0] != "-/etc/default/listen_exporter" {
		t.Errorf("EnvironmentFile=%q, want one that may be missing", diff)
	}
	variable := regexp.MustCompile(`\$([A-Z_]+)$`).FindStringSubmatch(settings["ExecStart"][0])
	if variable == nil {
		t.Fatalf("ExecStart=%s ends in no variable", settings["ExecStart"][0])
	}
	if text := tools.Read(t, "systemd/listen_exporter.default"); !regexp.MustCompile(`(?m)^` + variable[1] + `=`).MatchString(text) {
		t.Errorf("listen_exporter.default does not set %s:\n%s", variable[1], text)
	}
}

// TestTheServicesExampleOptionsWork starts the exporter as the socket unit does, with every option that the environment
// file offers. The address among them is not used then.
func TestTheServicesExampleOptionsWork(t *testing.T) {
	if stream := directives(t, "systemd/listen_exporter.socket")["ListenStream"]; len(stream) != 1 || stream[0] != "10190" {
		t.Errorf("ListenStream=%q, want the exporter's own port 10190", stream)
	}
	var options []string
	for _, found := range regexp.MustCompile(`(?m)^#   (--\S+)`).FindAllStringSubmatch(tools.Read(t, "systemd/listen_exporter.default"), -1) {
		options = append(options, found[1])
	}
	if !slices.Contains(options, "--web.systemd-socket") || len(options) < 2 {
		t.Fatalf("the options offered are %q", options)
	}
	// A log that is silent about the address would leave the test without one.
	options = slices.DeleteFunc(options, func(option string) bool { return strings.HasPrefix(option, "--log.level") })
	// The unit itself names where a registry may be.
	start := directives(t, "systemd/listen_exporter.service")["ExecStart"][0]
	for _, found := range regexp.MustCompile(`--registry\.optional-file=(\S+)`).FindAllStringSubmatch(start, -1) {
		usual := strings.NewReplacer("/etc/listen_exporter/ports.yml", exampleRegistry, "/etc/listen_exporter/ports.d", t.TempDir())
		options = append(options, usual.Replace(found[0]))
	}

	listener := listen(t, "tcp4", "127.0.0.1:0")
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	// As systemd passes sockets to a process; the shell knows the process's own pid.
	activated := exec.Command("sh", append([]string{
		"-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"`, "sh", program.Path(t), "--collector.netns=self",
	}, options...)...)
	activated.ExtraFiles = []*os.File{socket} // becomes descriptor 3, the first that systemd passes
	e := program.Launch(t, activated).Listen()
	if e.Address != listener.Addr().String() {
		t.Errorf("the exporter listens on %s, want the socket that it was given, %s", e.Address, listener.Addr())
	}
	page := e.Scrape()
	if strings.Contains(page, `scope="loopback"`) {
		t.Errorf("--collector.scope-exclude=loopback had no effect:\n%s", page)
	}
	// A service that only web-1 must have.
	if !strings.Contains(page, `host_listen_service_up{port="443",proto="udp",service_name="https"}`) {
		t.Errorf("--registry.optional-file and --registry.host had no effect:\n%s", page)
	}
}

func TestAReloadOfTheServiceWithoutARegistryDoesNoHarm(t *testing.T) {
	if reload := directives(t, "systemd/listen_exporter.service")["ExecReload"]; !slices.Equal(reload, []string{"/bin/kill -HUP $MAINPID"}) {
		t.Errorf("ExecReload=%q", reload)
	}
	e := program.Start(t, "--collector.netns=self")
	e.Signal(syscall.SIGHUP)
	e.Await("the refusal in the log", func() bool { return len(e.Logged("cannot reload")) == 1 })
	e.Scrape()
}
