//go:build linux

package program_test

import (
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/program"
)

// Two registries for the host of program.NewProcfs: each declares ports that the other does not.
const (
	registryA = "services:\n  - {name: a-ssh, port: 22}\n  - {name: a-proxy, port: 8080, bind: loopback}\n  - {name: a-gone, port: 7777}\n"
	registryB = "services:\n  - {name: b-web, port: 443}\n  - {name: b-dns, port: 53, proto: udp}\n  - {name: b-lost, port: 7778}\n"
)

// The verdicts on a page that was made with one of them.
var (
	verdictsA = []string{"a-gone 0", "a-proxy 1", "a-ssh 1", "tcp 22 1", "tcp 443 0", "tcp 8080 1", "udp 53 0", "udp 546 0"}
	verdictsB = []string{"b-dns 1", "b-lost 0", "b-web 1", "tcp 22 0", "tcp 443 1", "tcp 8080 0", "udp 53 1", "udp 546 0"}
)

// verdicts returns the services and listeners on a page, and whether each is as declared.
func verdicts(found map[string]string) []string {
	lines := []string{}
	for series, value := range found {
		switch name, _, _ := strings.Cut(series, "{"); name {
		case "host_listen_service_up":
			lines = append(lines, program.Label(series, "service_name")+" "+value)
		case "host_listen_port_registered":
			lines = append(lines, program.Label(series, "proto")+" "+program.Label(series, "port")+" "+value)
		}
	}
	slices.Sort(lines)
	return lines
}

const (
	reloadedGauge   = "host_listen_registry_last_reload_successful"
	reloadedAtGauge = "host_listen_registry_last_reload_success_timestamp_seconds"
	registrySuccess = `host_listen_collector_success{collector="registry"}`
)

// twoFaults is a registry with two faults.
const twoFaults = "services:\n  - name: ssh\n    prot: tcp\n    port: 0\n"

func faultsIn(file string) []string {
	return []string{
		file + `:3:5: unknown key "prot": did you mean "proto"?`,
		file + ":4:11: port 0: want a number from 1 to 65535",
	}
}

// loggedErrors returns the causes in the log's error lines.
func loggedErrors(t *testing.T, e *program.Exporter) []string {
	t.Helper()
	var errs []string
	for _, line := range e.ErrorLines() {
		fields, err := program.ParseLine(line)
		must(t, err)
		errs = append(errs, fields.Get("err"))
	}
	return errs
}

func put(t *testing.T, file, content string) {
	t.Helper()
	must(t, os.WriteFile(file+".new", []byte(content), 0o644), os.Rename(file+".new", file))
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestABadRegistryAtTheStartEndsTheProgramWithEveryFault(t *testing.T) {
	file := program.WriteFile(t, "ports.yml", twoFaults)
	e := program.Launch(t, program.Command(t, "--path.procfs="+program.NewProcfs(t), "--web.listen-address=127.0.0.1:0", "--registry.file="+file))
	if code := e.Wait(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if diff := cmp.Diff(faultsIn(file), loggedErrors(t, e)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A reload happens on SIGHUP, on a POST and by itself. A bad file leaves the last good registry in force and is logged once.
func TestTheRegistryIsReloaded(t *testing.T) {
	for _, way := range []struct {
		name   string
		reload func(t *testing.T, e *program.Exporter) (status int, body string)
	}{
		{"by itself", nil},
		{"on SIGHUP", func(_ *testing.T, e *program.Exporter) (int, string) {
			e.Signal(syscall.SIGHUP)
			return 0, ""
		}},
		{"on POST", func(t *testing.T, e *program.Exporter) (int, string) {
			resp, err := e.Request(http.MethodPost, "/-/reload")
			must(t, err)
			return resp.Status, resp.Body
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			file := program.WriteFile(t, "ports.yml", registryA)
			e := program.Start(t, "--web.enable-lifecycle", "--path.procfs="+program.NewProcfs(t), "--registry.file="+file, "--registry.host=web-1")
			// change changes the file and waits for the verdicts. It returns when the registry in force was loaded.
			change := func(content string, want []string, reloaded string, status int, body string) (at string) {
				t.Helper()
				if content == "" {
					must(t, os.Remove(file))
				} else {
					put(t, file, content)
				}
				signals := len(e.Logged("by=SIGHUP"))
				if way.reload != nil {
					gotStatus, gotBody := way.reload(t, e)
					if gotStatus != 0 && (gotStatus != status || !strings.Contains(gotBody, body)) {
						t.Errorf("status %d, want %d, and %q, want %q", gotStatus, status, gotBody, body)
					}
					if strings.Contains(gotBody, "prot") { // a word of twoFaults
						t.Errorf("the answer has words of the file: %q", gotBody)
					}
				}
				if way.name == "on SIGHUP" && reloaded == "1" {
					// A scrape that finds the change first does not spare the signal's reload, which would come in between.
					e.Await("the signal's reload", func() bool { return len(e.Logged("by=SIGHUP")) > signals })
				}
				e.Await(strings.Join(want, ", "), func() bool {
					found := program.Samples(t, e.Scrape())
					at = found[reloadedAtGauge]
					if found[registrySuccess] != "1" {
						t.Errorf("%s is %q, want 1: a bad file is no failed read", registrySuccess, found[registrySuccess])
					}
					return found[reloadedGauge] == reloaded && slices.Equal(verdicts(found), want)
				})
				return at
			}
			first := change(registryA+"# the same\n", verdictsA, "1", 200, "reloaded")
			second := change(registryB, verdictsB, "1", 200, "reloaded")
			bad := change(twoFaults, verdictsB, "0", 500, file+":3:5: unknown key …: did you mean …?\n"+file+":4:11: ")
			if second == first || bad != second {
				t.Errorf("loaded at %s, then at %s, and after a bad file at %s", first, second, bad)
			}
			e.Scrape()
			e.Await("the faults in the log", func() bool { return len(e.ErrorLines()) >= 2 })
			if diff := cmp.Diff(faultsIn(file), loggedErrors(t, e)); diff != "" {
				t.Errorf("in the log (-want +got):\n%s", diff)
			}
			change("", verdictsB, "0", 500, "no such file")
			change(registryA, verdictsA, "1", 200, "reloaded")
		})
	}
}

func TestReloadsDuringScrapesLeaveEachPageWithOneRegistry(t *testing.T) {
	file := program.WriteFile(t, "ports.yml", registryA)
	e := program.Start(t, "--path.procfs="+program.NewProcfs(t), "--registry.file="+file, "--registry.host=web-1")
	seen := make(map[string]int)
	for n := 0; seen["a"] < 20 || seen["b"] < 20; n++ {
		if n == 10_000 {
			t.Fatalf("%d pages, of a and b %v", n, seen)
		}
		if n%5 == 0 {
			put(t, file, []string{registryA, registryB}[n/5%2])
			e.Signal(syscall.SIGHUP)
		}
		switch got := verdicts(program.Samples(t, e.Scrape())); {
		case slices.Equal(got, verdictsA):
			seen["a"]++
		case slices.Equal(got, verdictsB):
			seen["b"]++
		default:
			t.Fatalf("neither by a nor by b: %q", got)
		}
	}
	e.Stop() // the exit code tells of data races
	if lines := e.ErrorLines(); len(lines) > 0 {
		t.Errorf("logged %q", lines)
	}
}
