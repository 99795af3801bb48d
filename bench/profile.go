package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// profileFrequency is how often a second perf looks at the product, which it does only while that runs.
const profileFrequency = 1999

// part is one of the things that a scrape spends its processor time on.
type part struct {
	name string
	// frames matches a function of the kernel or of the product, with everything that it calls.
	frames *regexp.Regexp
}

// parts are tried in this order.
var parts = []part{
	{"the kernel's dump of sockets (sock_diag)", regexp.MustCompile(`^(netlink_|__netlink_|sock_diag|inet_diag|(tcp|udp)_diag)`)},
	{"the kernel's sending", regexp.MustCompile(`^(tcp_sendmsg|inet6?_sendmsg|sock_write_iter|sock_sendmsg|__sys_sendto)`)},
	{"garbage collection", regexp.MustCompile(`^runtime\.(gcBgMarkWorker|gcAssist|gcStart|bgsweep|bgscavenge|gcDrain|gcMark)`)},
	{"compression", regexp.MustCompile(`compress/|hash/crc32`)},
	{"text of the listeners", regexp.MustCompile(`/collector\.\(\*Text\)`)},
	{"holders", regexp.MustCompile(`/internal/holder\.`)},
	{"parsing the dump", regexp.MustCompile(`/internal/socket\.`)},
	{"the join", regexp.MustCompile(`/internal/(inventory|registry)\.`)},
	{"metrics about the exporter itself", regexp.MustCompile(`client_golang/|prometheus/common/expfmt|prometheus/procfs`)},
	{"HTTP", regexp.MustCompile(`^net/http\.|/internal/server\.|^internal/poll\.|^net\.`)},
	{"the Go runtime: scheduler, timers", regexp.MustCompile(`^runtime\.`)},
	{"the kernel, without a system call: interrupts, waking up", regexp.MustCompile(`.`)},
}

// profile shows where the processor time of a scrape goes.
func profile(s settings, out io.Writer) error {
	if _, err := exec.LookPath("perf"); err != nil {
		_, _ = fmt.Fprintln(out, "no profile: perf is not on the PATH")
		return nil
	}
	path := filepath.Join(s.tools, product+"_with_symbols")
	build := exec.Command("go", "-C", "..", "build", "-trimpath", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the product: %w\n%s", err, output)
	}
	for _, count := range []int{fewListeners, s.size(manyListeners, 500)} {
		open, err := openListeners(count)
		if err != nil {
			return err
		}
		ours, err := startExporter(product, path)
		if err != nil {
			return err
		}
		if _, err := untilHeld(ours, count); err != nil {
			return err
		}
		for _, encoding := range encodings {
			if err := profileScrapes(s, out, ours, count, encoding); err != nil {
				return err
			}
		}
		ours.stop()
		open.close()
	}
	return nil
}

// profileScrapes scrapes as often as it can while perf looks.
func profileScrapes(s settings, out io.Writer, e *exporter, listeners int, encoding string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(s.size(10, 1))*time.Second)
	defer cancel()
	file := filepath.Join(s.tools, "perf.data")
	record := exec.Command("perf", "record", "-q", "-e", "cpu-clock", fmt.Sprintf("-F%d", profileFrequency), "-g", "-o", file,
		"-p", fmt.Sprint(e.cmd.Process.Pid))
	var log bytes.Buffer
	record.Stderr = &log
	if err := record.Start(); err != nil {
		return err
	}
	time.Sleep(500 * time.Millisecond) // until it looks
	scrapes := 0
	for ; ctx.Err() == nil; scrapes++ {
		if _, err := e.get(prometheus3, encoding); err != nil {
			return err
		}
	}
	if err := record.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	_ = record.Wait() // returns that it was interrupted
	script, err := exec.Command("perf", "script", "-i", file, "-F", "ip,sym").Output()
	if err != nil {
		return fmt.Errorf("perf script: %w\n%s", err, &log)
	}
	counts, total := countParts(script)
	if total == 0 {
		return errors.New("perf saw nothing: " + log.String())
	}
	each := float64(time.Second) / profileFrequency / float64(scrapes)
	_, _ = fmt.Fprintf(out, "Processor time of a scrape of %d listeners with their holders, %s: %d scrapes\n\n", listeners, encoding, scrapes)
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	row := func(name string, samples int) {
		_, _ = fmt.Fprintf(w, "| %s\t| %s\t| %.0f %%\t|\n", name, short(time.Duration(float64(samples)*each)), 100*float64(samples)/float64(total))
	}
	_, _ = fmt.Fprint(w, "| what\t| time\t| share\t|\n| ---\t| ---\t| ---\t|\n")
	order := slices.Clone(parts)
	slices.SortStableFunc(order, func(a, b part) int { return counts[b.name] - counts[a.name] })
	for _, p := range order {
		if counts[p.name] > 0 {
			row(p.name, counts[p.name])
		}
	}
	row("**all**", total)
	_, _ = fmt.Fprintln(w)
	return w.Flush()
}

// countParts counts the samples of each part. A sample is a paragraph, a line for each function, the innermost first.
func countParts(script []byte) (counts map[string]int, total int) {
	counts = make(map[string]int)
	var functions []string
	count := func() {
		if len(functions) == 0 {
			return
		}
		total++
		for _, p := range parts {
			if slices.ContainsFunc(functions, p.frames.MatchString) {
				counts[p.name]++
				break
			}
		}
		functions = nil
	}
	for lines := bufio.NewScanner(bytes.NewReader(script)); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 {
			functions = append(functions, fields[1])
		} else {
			count()
		}
	}
	count()
	return counts, total
}
