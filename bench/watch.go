package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// watchFor is how long a watcher is measured, and watchSettle how long the exporter runs before.
	watchFor    = 5 * time.Minute
	watchSettle = 20 * time.Second
	// watchLimit is how many seconds of processor time an hour may take on an idle host, with looks: two thousandths of a CPU.
	watchLimit = 7.2
	// watchShare is the part of one CPU that the watcher may use anywhere, with what else the exporter does now and then.
	watchShare = 0.012
)

// watch measures what the looks between scrapes cost on an idle host that nobody scrapes.
func watch(s settings, out io.Writer) error {
	open, err := openListeners(fewListeners)
	if err != nil {
		return err
	}
	defer open.hold()
	return watchEach(s, out, "Looks between scrapes, 100 listeners on an idle host", watchLimit)
}

// watchMillion measures it next to very many sockets.
func watchMillion(s settings, out io.Writer) error {
	open, err := openListeners(fewListeners)
	if err != nil {
		return err
	}
	defer open.hold()
	sockets := s.size(1_000_000, 20_000)
	if err := startLoad("tcp", sockets); err != nil {
		return err
	}
	return watchEach(s, out, fmt.Sprintf("Looks between scrapes, 100 listeners next to %d sockets", sockets), watchShare*3600)
}

// watchEach measures exporters at the same time: by each source, with looks each 5 s and without. The looks may take so many seconds of
// processor time an hour.
func watchEach(s settings, out io.Writer, title string, limit float64) error {
	type watcher struct {
		*exporter
		source, interval string
		before, after    time.Duration
	}
	var watchers []*watcher
	for _, source := range []string{"netlink", "procfs"} {
		for _, interval := range []string{"5s", "0s"} {
			e, err := startExporter(product, s.path(product), "--collector.source="+source, "--collector.interval="+interval)
			if err != nil {
				return err
			}
			defer e.stop()
			watchers = append(watchers, &watcher{exporter: e, source: source, interval: interval})
		}
	}
	time.Sleep(watchSettle)
	length := watchFor
	if s.small {
		length = watchSettle
	}
	for _, w := range watchers {
		w.before = w.cpuTime()
	}
	time.Sleep(length)
	for _, w := range watchers {
		w.after = w.cpuTime()
	}
	table := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	_, _ = fmt.Fprintf(table, "%s, over %s\n\n| source\t| --collector.interval\t| looks now each\t| CPU seconds an hour\t|\n| ---\t| ---\t| ---\t| ---\t|\n", title, length)
	var missed error
	for _, w := range watchers {
		now := "-"
		if w.interval != "0s" {
			p, err := w.page()
			if err != nil {
				return err
			}
			every, err := p.value("host_listen_watch_interval_seconds")
			if err != nil {
				return err
			}
			now = fmt.Sprintf("%.3g s", every)
		}
		used := (w.after - w.before).Seconds() * float64(time.Hour) / float64(length)
		_, _ = fmt.Fprintf(table, "| %s\t| %s\t| %s\t| %.2f\t|\n", w.source, w.interval, now, used)
		if used > limit {
			missed = fmt.Errorf("%w: %s, %s: %.2f s of processor time an hour, want at most %.2f", errMissed, w.source, w.interval, used, limit)
		}
	}
	_, _ = fmt.Fprintln(table)
	if err := table.Flush(); err != nil {
		return err
	}
	return missed
}

// cpuTime returns the processor time that the exporter has used, by the kernel's clock of its process (clock_getcpuclockid(3)).
func (e *exporter) cpuTime() time.Duration {
	var used unix.Timespec
	if err := unix.ClockGettime(int32(^e.cmd.Process.Pid<<3|2), &used); err != nil {
		return 0
	}
	return time.Duration(used.Nano())
}
