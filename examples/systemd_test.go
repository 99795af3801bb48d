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
	"testing"
	"time"
)

// verified returns a folder with the units as they are on a host where the binary is installed.
func verified(t *testing.T) string {
	t.Helper()
	const installed = "ExecStart=/usr/local/bin/listen_exporter "
	service := read(t, "systemd/listen_exporter.service")
	if strings.Count(service, "\n"+installed) != 1 {
		t.Fatalf("the unit has no line %q", installed)
	}
	dir := t.TempDir()
	service = strings.Replace(service, "\n"+installed, "\nExecStart="+exporter(t)+" ", 1)
	write(t, filepath.Join(dir, "listen_exporter.service"), service)
	write(t, filepath.Join(dir, "listen_exporter.socket"), read(t, "systemd/listen_exporter.socket"))
	return dir
}

// TestSystemdFindsNoFaultInTheUnits takes any output for a fault: on an unknown key systemd-analyze exits with 0.
func TestSystemdFindsNoFaultInTheUnits(t *testing.T) {
	analyze := tool(t, "systemd-analyze")
	for _, unit := range []string{"listen_exporter.service", "listen_exporter.socket"} {
		output, err := exec.Command(analyze, "verify", "--man=no", filepath.Join(verified(t), unit)).CombinedOutput()
		if err != nil || len(output) > 0 {
			t.Errorf("systemd-analyze verify %s: %v\n%s", unit, err, output)
		}
	}
}

// TestSystemdRatesTheServiceAsSafe holds the exposure to 2.0 of 10.
func TestSystemdRatesTheServiceAsSafe(t *testing.T) {
	analyze := tool(t, "systemd-analyze")
	unit := filepath.Join(verified(t), "listen_exporter.service")
	output, err := exec.Command(analyze, "security", "--no-pager", "--offline=true", "--threshold=20", unit).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, output)
	}
}

// directives returns the settings of a unit file, several values of one key in their order.
func directives(t *testing.T, file string) map[string][]string {
	t.Helper()
	settings := make(map[string][]string)
	for _, found := range regexp.MustCompile(`(?m)^([A-Za-z]+)=(.*)$`).FindAllStringSubmatch(read(t, file), -1) {
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
		"ExecReload":            "/bin/kill -HUP $MAINPID",
		"MemoryMax":             "512M",
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

func TestTheServicesOptionsComeFromItsEnvironmentFile(t *testing.T) {
	settings := directives(t, "systemd/listen_exporter.service")
	if diff := settings["EnvironmentFile"]; len(diff) != 1 || diff[0] != "-/etc/default/listen_exporter" {
		t.Errorf("EnvironmentFile=%q, want one that may be missing", diff)
	}
	variable := regexp.MustCompile(`\$([A-Z_]+)$`).FindStringSubmatch(settings["ExecStart"][0])
	if variable == nil {
		t.Fatalf("ExecStart=%s ends in no variable", settings["ExecStart"][0])
	}
	if text := read(t, "systemd/listen_exporter.default"); !regexp.MustCompile(`(?m)^` + variable[1] + `=`).MatchString(text) {
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
	for _, found := range regexp.MustCompile(`(?m)^#   (--\S+)`).FindAllStringSubmatch(read(t, "systemd/listen_exporter.default"), -1) {
		options = append(options, found[1])
	}
	if !slices.Contains(options, "--web.systemd-socket") || len(options) < 2 {
		t.Fatalf("the options offered are %q", options)
	}
	// A log that is silent about the address would leave the test without one.
	options = slices.DeleteFunc(options, func(option string) bool { return strings.HasPrefix(option, "--log.level") })
	const registryOption = "--registry.file=/etc/listen_exporter/ports.yml"
	installed := slices.Index(options, registryOption)
	if installed < 0 {
		t.Fatalf("%s is not among the options offered, %q", registryOption, options)
	}
	options[installed] = "--registry.file=" + exampleRegistry

	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	// systemd tells a process of its sockets by these variables; the shell knows the process's own id.
	activated := exec.Command("sh", append([]string{
		"-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"`, "sh", exporter(t), "--collector.netns=self",
	}, options...)...)
	activated.Env = os.Environ()
	activated.ExtraFiles = []*os.File{socket} // becomes the descriptor 3, where systemd puts the first
	if address := start(t, activated); address != listener.Addr().String() {
		t.Errorf("the exporter listens on %s, want the socket that it was given, %s", address, listener.Addr())
	}
	metrics := getOK(t, "http://"+listener.Addr().String()+"/metrics")
	if strings.Contains(metrics, `scope="loopback"`) {
		t.Errorf("--collector.scope-exclude=loopback had no effect:\n%s", metrics)
	}
	// One that web-1 alone must have.
	if !strings.Contains(metrics, `host_listen_service_up{port="443",proto="udp",service_name="https"}`) {
		t.Errorf("--registry.file and --registry.host had no effect:\n%s", metrics)
	}
}

// TestTheServicesReloadReadsTheRegistryAgain does what ExecReload= does, with systemd's variable for the process. The file
// stays as it is: what a change of it does needs no reload.
func TestTheServicesReloadReadsTheRegistryAgain(t *testing.T) {
	command := exec.Command(exporter(t), "--web.listen-address=127.0.0.1:0", "--collector.netns=self", "--registry.file="+exampleRegistry)
	address := start(t, command)
	readAt := func() string {
		for _, s := range parseSeries(getOK(t, "http://"+address+"/metrics")) {
			if s.name == "host_listen_registry_last_reload_success_timestamp_seconds" {
				return s.value
			}
		}
		t.Fatal("it is not told when the registry was read")
		return ""
	}
	before := readAt()
	reloadUnit(t, command)
	eventually(t, "the registry has been read again", func() bool { return readAt() != before })
}

func TestTheServicesReloadWithoutARegistryDoesNoHarm(t *testing.T) {
	command := exec.Command(exporter(t), "--web.listen-address=127.0.0.1:0", "--collector.netns=self")
	address := start(t, command)
	reloadUnit(t, command)
	time.Sleep(100 * time.Millisecond) // a signal that ends a process does so at once
	getOK(t, "http://"+address+"/-/healthy")
}

// reloadUnit reloads the process that a command has started.
func reloadUnit(t *testing.T, command *exec.Cmd) {
	t.Helper()
	reload := exec.Command("sh", "-c", directives(t, "systemd/listen_exporter.service")["ExecReload"][0])
	reload.Env = append(os.Environ(), "MAINPID="+strconv.Itoa(command.Process.Pid))
	if output, err := reload.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", reload.Args, err, output)
	}
}
