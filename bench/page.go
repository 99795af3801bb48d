package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// startProductAsNobody starts the product with no privilege at all.
func startProductAsNobody(s settings, args ...string) (*exporter, error) {
	if err := os.Chmod(s.tools, 0o755); err != nil { // it must reach the program
		return nil, err
	}
	return startExporter(product+" as nobody", "setpriv", append([]string{
		"--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs",
		filepath.Join(s.tools, product),
	}, args...)...)
}

// page is the text of a scrape.
type page string

// page scrapes and keeps what it reads.
func (e *exporter) page() (page, error) {
	response, err := e.client.Get(e.url + "/metrics")
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("GET /metrics: %s", response.Status)
	}
	body, err := io.ReadAll(response.Body)
	return page(body), err
}

// count returns how many samples of a metric have all of these labels, each written as on the page.
func (p page) count(metric string, labels ...string) (samples int) {
lines:
	for line := range strings.Lines(string(p)) {
		if !strings.HasPrefix(line, metric+"{") {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(line, label) {
				continue lines
			}
		}
		samples++
	}
	return samples
}

// value returns the value of a metric without labels.
func (p page) value(metric string) (float64, error) {
	for line := range strings.Lines(string(p)) {
		if value, found := strings.CutPrefix(line, metric+" "); found {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("no %s on the page", metric)
}

// processorTime is what a process has used of the processors.
type processorTime struct{ user, kernel time.Duration }

// tick is the unit of processor times in /proc: USER_HZ is 100 on every architecture (include/asm-generic/param.h).
const tick = time.Second / 100

// processorTime returns what the exporter has used so far.
func (e *exporter) processorTime() (used processorTime, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", e.cmd.Process.Pid))
	if err != nil {
		return used, err
	}
	// The second field is a name in parentheses, which may hold anything. utime and stime are the 14th and the 15th.
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return used, fmt.Errorf("%q: too few fields", stat)
	}
	for n, to := range []*time.Duration{&used.user, &used.kernel} {
		ticks, err := strconv.ParseInt(fields[11+n], 10, 64)
		if err != nil {
			return used, err
		}
		*to = time.Duration(ticks) * tick
	}
	return used, nil
}
