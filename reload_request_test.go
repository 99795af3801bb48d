package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// twoFaults is a registry with two faults, and faultsOf how they are told.
const twoFaults = "services:\n  - name: ssh\n    prot: tcp\n    port: 0\n"

func faultsOf(file string) []string {
	return []string{
		file + `:3:5: unknown key "prot": did you mean "proto"?`,
		file + ":4:11: port 0: want a number from 1 to 65535",
	}
}

// loggedErrors returns what the log's error lines say is the reason.
func (e *exporter) loggedErrors() []string {
	e.t.Helper()
	var errs []string
	for _, line := range e.errorLines() {
		fields, err := parseLine(line)
		if err != nil {
			e.t.Fatal(err)
		}
		errs = append(errs, strings.Split(fields.get("err"), "\n")...)
	}
	return errs
}

func TestABadRegistryAtTheStartEndsTheProgramWithEveryFault(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ports.yml")
	for content, want := range map[string][]string{
		twoFaults: faultsOf(file),
		"":        {file + ":1:1: has no services: want at least services: or reserved:"},
	} {
		put(t, file, content)
		e := launch(t, programCommand(t, nil, "--path.procfs="+newProcfs(t), "--web.listen-address=127.0.0.1:0", "--registry.file="+file))
		if code := e.wait(); code != exitFailure {
			t.Errorf("exit code %d, want %d", code, exitFailure)
		}
		if diff := cmp.Diff(want, e.loggedErrors()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestAHangupReadsTheRegistryAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ports.yml")
	put(t, file, registryOf("a"))
	e := startJudged(t, file)
	at := e.wantJudged("at the start", "a", "1")

	e.signal(syscall.SIGHUP)
	e.await("the file to be read again, which did not change", func() bool {
		got := e.wantJudged("at a hangup", "a", "1")
		return got != at
	})
	put(t, file, twoFaults)
	e.signal(syscall.SIGHUP)
	e.await("the faults in the log", func() bool { return slices.Equal(e.loggedErrors(), faultsOf(file)) })
	if got := e.reloads("SIGHUP"); got != 1 { // logged before the faults
		t.Errorf("%d reloads are logged, want 1", got)
	}
	e.wantJudged("bad", "a", "0")
	if diff := cmp.Diff(faultsOf(file), e.loggedErrors()); diff != "" {
		t.Errorf("after a scrape (-want +got):\n%s", diff)
	}
	put(t, file, registryOf("b"))
	e.signal(syscall.SIGHUP)
	// A scrape does not wait for who reads the file.
	e.await("the mended file", func() bool { return slices.Equal(said(samples(t, e.scrape())), saidBy("b")) })
	e.wantJudged("mended", "b", "1")
}

func TestAPostReadsTheRegistryAgainWhereThatIsAllowed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ports.yml")
	put(t, file, registryOf("a"))
	reload := func(e *exporter, method string) response {
		t.Helper()
		resp, err := e.request(method, reloadPath)
		must(t, err)
		return resp
	}
	e := startJudged(t, file)
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		if resp := reload(e, method); resp.status != http.StatusNotFound {
			t.Errorf("%s without --web.enable-lifecycle: status %d, want 404", method, resp.status)
		}
	}

	e = startJudged(t, file, "--web.enable-lifecycle")
	e.wantJudged("at the start", "a", "1")
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete} {
		if resp := reload(e, method); resp.status != http.StatusMethodNotAllowed || resp.header.Get("Allow") != http.MethodPost {
			t.Errorf("%s: status %d and Allow %q, want 405 and POST", method, resp.status, resp.header.Get("Allow"))
		}
	}
	put(t, file, registryOf("b"))
	if resp := reload(e, http.MethodPost); resp.status != http.StatusOK {
		t.Errorf("status %d: %s", resp.status, resp.body)
	}
	e.await("the reload in the log", func() bool { return e.reloads(http.MethodPost) == 1 })
	e.wantJudged("changed", "b", "1")
	put(t, file, twoFaults)
	resp := reload(e, http.MethodPost)
	lines := completeLines(resp.body)
	if lines[0] != inventory.BadRegistry {
		t.Errorf("the body begins with %q, want %q", lines[0], inventory.BadRegistry)
	}
	// Nobody else has seen the file yet.
	e.await("the faults in the log", func() bool { return slices.Equal(e.loggedErrors(), faultsOf(file)) })
	if diff := cmp.Diff(faultsOf(file), lines[min(1, len(lines)):]); resp.status != http.StatusInternalServerError || diff != "" {
		t.Errorf("status %d, body (-want +got):\n%s", resp.status, diff)
	}
	e.wantJudged("bad", "b", "0")
	if diff := cmp.Diff(faultsOf(file), e.loggedErrors()); diff != "" {
		t.Errorf("log after a scrape (-want +got):\n%s", diff)
	}
	must(t, os.Remove(file))
	if resp := reload(e, http.MethodPost); resp.status != http.StatusInternalServerError || !strings.Contains(resp.body, "no such file") {
		t.Errorf("status %d: %s", resp.status, resp.body)
	}
	e.wantJudged("gone", "b", "0")
	put(t, file, registryOf("b"))
	if resp := reload(e, http.MethodPost); resp.status != http.StatusOK {
		t.Errorf("status %d: %s", resp.status, resp.body)
	}
	e.wantJudged("mended", "b", "1")
}

// logged returns the log lines that contain all of some texts.
func (e *exporter) logged(texts ...string) []string {
	return slices.DeleteFunc(e.stderr.lines(), func(line string) bool {
		return slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) })
	})
}

// reloads returns how often the log says that the registry was read again, by what asked for it.
func (e *exporter) reloads(by string) int {
	e.t.Helper()
	return len(e.logged("level=info", "msg=reloaded by="+by))
}

func TestWithoutARegistryThereIsNothingToReadAgain(t *testing.T) {
	e := startExporter(t, "--path.procfs="+newProcfs(t), "--web.enable-lifecycle")
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		resp, err := e.request(method, reloadPath)
		must(t, err)
		if want := "There is no registry to read again: it takes --registry.file.\n"; resp.status != http.StatusNotFound || resp.body != want {
			t.Errorf("%s: status %d, want 404, and %q, want %q", method, resp.status, resp.body, want)
		}
	}
	e.signal(syscall.SIGHUP)
	e.await("a warning", func() bool {
		return len(e.logged("level=warn", "SIGHUP: there is no registry to read again: it takes --registry.file")) == 1
	})
	if lines := e.logged("reloaded"); len(lines) > 0 {
		t.Errorf("what is not there was reloaded: %q", lines)
	}
	if resp, err := e.request(http.MethodGet, healthyPath); err != nil || resp.status != http.StatusOK {
		t.Errorf("status %d after a hangup: %v", resp.status, err)
	}
}

// judgedBy returns the version of the registry by which a page was made, by what parses it as Prometheus would. It fails if it
// was made by more than one.
func judgedBy(page string) (string, error) {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(page))
	if err != nil {
		return "", err
	}
	found := make(map[string]string)
	for _, name := range []string{"host_listen_service_up", "host_listen_port_registered"} {
		for _, metric := range families[name].GetMetric() {
			var labels []string
			for _, pair := range metric.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", pair.GetName(), pair.GetValue()))
			}
			found[name+"{"+strings.Join(labels, ",")+"}"] = fmt.Sprint(metric.GetGauge().GetValue())
		}
	}
	got := said(found)
	for _, version := range []string{"a", "b"} {
		if slices.Equal(got, saidBy(version)) {
			return version, consistent(families, version)
		}
	}
	return "", fmt.Errorf("neither by a nor by b: %q", got)
}

// consistent tells whether what is violated is all that is not registered.
func consistent(families map[string]*dto.MetricFamily, version string) error {
	bad := 0
	for _, line := range saidBy(version) {
		if strings.HasSuffix(line, " 0") && (strings.HasPrefix(line, "tcp ") || strings.HasPrefix(line, "udp ")) {
			bad++
		}
	}
	if got := len(families["host_listen_port_violation"].GetMetric()); got != bad {
		return fmt.Errorf("by %s: %d violations, want %d", version, got, bad)
	}
	return nil
}

func TestEachScrapeSeesOneWholeRegistry(t *testing.T) {
	dir := t.TempDir()
	swapConfigMap(t, dir, "..v", registryOf("a"))
	file := filepath.Join(dir, "ports.yml")
	e := startJudged(t, file, "--web.enable-lifecycle")
	done := make(chan struct{})
	var scrapers sync.WaitGroup
	var seen [4]map[string]int
	for i := range seen {
		seen[i] = make(map[string]int)
		scrapers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				resp, err := e.request(http.MethodGet, "/metrics")
				if err != nil || resp.status != http.StatusOK {
					t.Errorf("status %d: %v", resp.status, err)
					return
				}
				version, err := judgedBy(resp.body)
				if err != nil {
					t.Error(err)
				}
				seen[i][version]++
				if strings.Contains(resp.body, reloadedGauge+" 0") {
					t.Error("a good file is told to be bad")
				}
			}
		})
	}
	for i := range 24 {
		version := []string{"a", "b"}[i%2]
		switch i % 5 {
		case 0:
			renameOver(t, filepath.Join(dir, "..data", "ports.yml"), registryOf(version))
		case 1:
			e.signal(syscall.SIGHUP)
			fallthrough
		case 2:
			swapConfigMap(t, dir, fmt.Sprintf("..v%d", i), registryOf(version))
		case 3:
			renameOver(t, filepath.Join(dir, "..data", "ports.yml"), registryOf(version))
			e.signal(syscall.SIGHUP)
		default:
			swapConfigMap(t, dir, fmt.Sprintf("..v%d", i), registryOf(version))
			if resp, err := e.request(http.MethodPost, reloadPath); err != nil || resp.status != http.StatusOK {
				t.Errorf("status %d: %v", resp.status, err)
			}
		}
		time.Sleep(80 * time.Millisecond)
	}
	close(done)
	scrapers.Wait()
	all := make(map[string]int)
	for _, of := range seen {
		for version, n := range of {
			all[version] += n
		}
	}
	t.Logf("scrapes by version: %v", all)
	if all["a"] < 5 || all["b"] < 5 {
		t.Errorf("scrapes by version: %v", all)
	}
	e.signal(syscall.SIGTERM)
	if code := e.wait(); code != 0 {
		t.Errorf("exit code %d", code) // 66 tells of a race
	}
	if lines := e.errorLines(); len(lines) > 0 {
		t.Errorf("logged %q", lines)
	}
}
