package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"runtime/pprof"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/collector"
)

// scrapeBatch is how many scrapes a round has, where a scrape takes no more than milliseconds.
const scrapeBatch = 51

func batched(s side, size int) side { return side{s.name, batch(size, s.sample)} }

// startOurs starts the product, which must report all listeners beside so many ports of exporters.
func startOurs(s settings, exporters int, args ...string) (*exporter, error) {
	ours, err := startProduct(s, args...)
	if err != nil {
		return nil, err
	}
	got, err := ours.series("host_listen_port{")
	if err != nil {
		return nil, err
	}
	if want := fewListeners + exporters; got != want {
		return nil, fmt.Errorf("the product reports %d listeners, want %d", got, want)
	}
	return ours, nil
}

func scrapeMillion(s settings, out io.Writer) error {
	if err := startLoad("tcp", s.sockets); err != nil {
		return err
	}
	open, err := openListeners(fewListeners)
	if err != nil {
		return err
	}
	defer open.hold()
	ours, err := startOurs(s, 1)
	if err != nil {
		return err
	}
	// To its advantage it has no metrics about itself here.
	theirs, err := startNodeExporter(s, "tcpstat", bare)
	if err != nil {
		return err
	}
	library, err := gopsutilSide()
	if err != nil {
		return err
	}
	results, err := inTurns(s.rounds,
		batched(ours.scrape("identity"), scrapeBatch),
		batched(ours.scrape("gzip"), scrapeBatch),
		command("ss", "-Htuln"),
		theirs.scrape("identity"),
		command("netstat", "-tuln"),
		library)
	if err != nil {
		return err
	}
	against := func(n int, want float64) ratio {
		return ratio{of: results[n], to: results[0], want: want, atLeast: true}
	}
	return report(out, fmt.Sprintf("Scrape of 100 listeners beside %d other sockets", s.sockets), results,
		against(2, 1), against(3, 100), against(4, 100), against(5, 1))
}

func scrapeIdle(s settings, out io.Writer) error {
	open, err := openListeners(fewListeners)
	if err != nil {
		return err
	}
	defer open.hold()
	for _, terms := range []struct {
		title string
		args  []string
	}{
		{"as they are by default", nil},
		{"both without metrics about themselves", []string{bare}},
	} {
		err = errors.Join(err, idleScrapes(s, out, terms.title, terms.args))
	}
	return err
}

// idleScrapes compares the two exporters, both started with the same further arguments.
func idleScrapes(s settings, out io.Writer, title string, args []string) error {
	ours, err := startOurs(s, 1, args...)
	if err != nil {
		return err
	}
	defer ours.stop()
	theirs, err := startNodeExporter(s, "tcpstat", args...)
	if err != nil {
		return err
	}
	defer theirs.stop()
	var sides []side
	for _, encoding := range []string{"identity", "gzip"} {
		for _, e := range []*exporter{ours, theirs} {
			sides = append(sides, e.scrape(encoding))
		}
	}
	results, err := inTurns(s.rounds*scrapeBatch, sides...)
	if err != nil {
		return err
	}
	return report(out, "Scrape of 100 listeners on an idle host, "+title, results,
		ratio{of: results[0], to: results[1], want: 1},
		ratio{of: results[2], to: results[3], want: 1})
}

func scrapeMany(s settings, out io.Writer) error {
	open, err := openListeners(manyListeners)
	if err != nil {
		return err
	}
	defer open.hold()
	var missed error
	for _, sides := range []struct {
		title string
		args  []string
		bound ratio
	}{
		{"without their holders", []string{"--no-collector.holder"}, ratio{want: 2}},
		{"with their holders", nil, ratio{noDemand: true}},
	} {
		missed = errors.Join(missed, scrapesOfMany(s, out, sides.title, sides.bound, sides.args...))
	}
	if err := stages(s, out); err != nil {
		return err
	}
	return missed
}

// scrapesOfMany compares the product, started with args, with ss. bound is what is wanted of the ratio.
func scrapesOfMany(s settings, out io.Writer, title string, bound ratio, args ...string) error {
	ours, err := startProduct(s, args...)
	if err != nil {
		return err
	}
	defer ours.stop()
	series, err := ours.series("host_listen_")
	if err != nil {
		return err
	}
	const size = 5
	results, err := inTurns(s.rounds*size,
		command("ss", "-Htuln"),
		ours.scrape("identity"),
		ours.scrape("gzip"))
	if err != nil {
		return err
	}
	ratios := []ratio{bound, bound}
	for n := range ratios {
		ratios[n].of, ratios[n].to = results[n+1], results[0]
	}
	return report(out, fmt.Sprintf("Scrape of 10000 listeners %s: %d series", title, series), results, ratios...)
}

// discard is a response that goes nowhere.
type discard struct{ http.ResponseWriter }

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// stages shows where the time of such a scrape goes, in this process. What the product's own handler has besides is the rest.
func stages(s settings, out io.Writer) (err error) {
	const count = manyListeners
	runtime.GOMAXPROCS(1)
	raw, err := openRawDump()
	if err != nil {
		return err
	}
	ports, err := openInventory(true)
	if err != nil {
		return err
	}
	metrics := collector.New(ports.Snapshot)
	page := promhttp.HandlerForTransactional(metrics, promhttp.HandlerOpts{})
	request := httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody)
	if s.profile != "" {
		file, err := os.Create(s.profile)
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	results, err := inTurns(s.rounds*5,
		side{"the kernel's dump", rawDumpOf(raw, count, unix.IPPROTO_TCP, unix.IPPROTO_UDP)},
		side{"dump, read and remember: the snapshot", snapshotOf(ports, count)},
		side{"all that, as metrics", timed(func() error {
			_, done, err := metrics.Gather()
			done()
			return err
		})},
		side{"all that, as text", timed(func() error {
			page.ServeHTTP(discard{httptest.NewRecorder()}, request)
			return nil
		})})
	if err != nil {
		return err
	}
	return report(out, "Where the time of a scrape of 10000 listeners goes", results)
}

func memoryMillion(s settings, out io.Writer) error {
	if err := startLoad("tcp", s.sockets); err != nil {
		return err
	}
	open, err := openListeners(fewListeners)
	if err != nil {
		return err
	}
	defer open.hold()
	ours, err := startOurs(s, 1)
	if err != nil {
		return err
	}
	theirs, err := startNodeExporter(s, "tcpstat")
	if err != nil {
		return err
	}
	floor, err := startNodeExporter(s, "loadavg")
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "Resident memory beside %d other sockets\n\n| exporter | scrapes | MB |\n| --- | --- | --- |\n", s.sockets)
	// Its scrapes take seconds each beside a million sockets, and the first one already needs the memory.
	const theirScrapes = 10
	resident := make(map[*exporter]int64)
	for _, one := range []struct {
		of      *exporter
		scrapes int
	}{{ours, s.scrapes}, {floor, s.scrapes}, {theirs, theirScrapes}} {
		for range one.scrapes {
			if _, err := one.of.get("/metrics", "gzip"); err != nil {
				return err
			}
		}
		if resident[one.of], err = one.of.resident(); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(out, "| %s | %d | %.1f |\n", one.of.name, one.scrapes, float64(resident[one.of])/1e6)
	}
	verdict := "reached"
	if resident[ours] > resident[theirs] {
		verdict = "MISSED"
	}
	_, err = fmt.Fprintf(out, "\n%s / %s = %.3g, want at most 1: %s\n\n",
		ours.name, theirs.name, float64(resident[ours])/float64(resident[theirs]), verdict)
	if err == nil && verdict == "MISSED" {
		err = fmt.Errorf("memory: %s", verdict)
	}
	return err
}
