package incidents

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// warmUp is how long nothing happens at first: 10 minutes of a real host. PortVanished wants to have seen a port for more
// than 5.
const warmUp = 10 * time.Minute / speed

// world is all that takes part.
type world struct {
	dir      string // of the test's files, which everybody may look into
	self     string // the test binary
	exporter string // the program
	started  time.Time
	watchman *watchman
	receiver *receiver
	rows     []row
	failed   []string // what is wrong with no incident alone
}

// logf says how far the play is.
func (w *world) logf(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, "%3.0f s  %s\n", time.Since(w.started).Seconds(), fmt.Sprintf(format, arguments...))
}

// note keeps an error, after which the play goes on.
func (w *world) note(err error) {
	if err != nil {
		w.failed = append(w.failed, err.Error())
	}
}

// play plays all acts, and prints what came of it.
func play() error {
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	dir, err := os.MkdirTemp("", "incidents")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	w := &world{dir: dir, self: filepath.Join(dir, "self"), exporter: filepath.Join(dir, "listen_exporter"), started: time.Now()}
	if err := errors.Join(
		os.Chmod(dir, 0o755), // nobody is to find the program there
		install(os.Args[0], w.self),
		install(os.Getenv(runVariable), w.exporter),
		ip("link set lo up\n"),
		provideTemplates(),
	); err != nil {
		return err
	}
	w.note(w.playAll())
	return w.report()
}

// playAll plays the acts before a Prometheus and an Alertmanager that run only meanwhile.
func (w *world) playAll() (err error) {
	s := newScript(w)
	w.watchman = &watchman{dir: w.dir, data: filepath.Join(cmp.Or(os.Getenv(dataVariable), w.dir), "prometheus"), targets: s.hosts()}
	if _, err := os.Stat(w.watchman.data); err == nil {
		return fmt.Errorf("%s is there already: the data would be of two runs", w.watchman.data)
	}
	w.receiver = new(receiver)
	if err := w.receiver.listen(); err != nil {
		return err
	}
	for _, h := range s.hosts() {
		if h.exporter.registry != "" {
			if err := h.exporter.declare(h.exporter.registry); err != nil {
				return err
			}
		}
		if err := h.boot(); err != nil {
			return err
		}
	}
	if err := w.watchman.start(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.watchman.stop()) }()
	w.logf("all hosts are up")
	healthy := &incident{host: s.web, name: "nothing happens"}
	if err := w.watchman.seen(time.Now().Add(warmUp)); err != nil {
		return err
	}
	healthy.got = w.receiver.since(0)
	w.rows = append(w.rows, healthy.row())

	for n, incidents := range s.acts() {
		stray := w.act(n+1, incidents)
		for _, i := range incidents {
			w.rows = append(w.rows, i.row())
		}
		for _, a := range stray {
			w.rows = append(w.rows, row{false, strings.TrimSpace(a.Labels["instance"] + " " + a.at()), "no incident", "nothing", a.String()})
		}
	}
	w.compareWithPrometheus()
	w.note(w.runPanels())
	w.failed = append(w.failed, w.receiver.faults...)
	return nil
}

// compareWithPrometheus finds alerts that fired in Prometheus and never came to the receiver.
func (w *world) compareWithPrometheus() {
	fired, err := query(`count without (alertstate) (max_over_time(ALERTS{alertstate="firing"}[1h]))`)
	w.note(err)
	var want, got []string
	for _, s := range fired {
		delete(s.labels, "__name__")
		want = append(want, fmt.Sprint(s.labels))
	}
	for _, a := range w.receiver.since(0) {
		got = append(got, fmt.Sprint(a.Labels))
	}
	slices.Sort(want)
	slices.Sort(got)
	if got = slices.Compact(got); !slices.Equal(want, got) {
		w.failed = append(w.failed, fmt.Sprintf("alerts that fired in Prometheus:\n%s\nand those that Alertmanager sent:\n%s",
			strings.Join(want, "\n"), strings.Join(got, "\n")))
	}
}

// report prints the table, and what there is to say of failures.
func (w *world) report() error {
	passed, failed := 0, len(w.failed)
	fmt.Println()
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "\tWHERE\tWHAT HAPPENS\tEXPECTED\tRECEIVED")
	for _, r := range w.rows {
		verdict := "ok"
		if r.passed {
			passed++
		} else {
			verdict = "NOT OK"
			failed++
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", verdict, r.where, r.what, r.expected, r.actual)
	}
	_ = table.Flush()
	for _, text := range w.failed {
		fmt.Printf("\nNOT OK: %s\n", text)
	}
	if failed > 0 {
		w.showLogs()
	}
	fmt.Printf("\n%d passed, %d failed\n", passed, failed)
	if failed > 0 {
		return errFailed
	}
	return nil
}

// showLogs prints the ends of all logs.
func (w *world) showLogs() {
	logs, _ := filepath.Glob(filepath.Join(w.dir, "*.log"))
	for _, log := range logs {
		text, _ := os.ReadFile(log)
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		fmt.Printf("\n%s:\n%s\n", filepath.Base(log), strings.Join(lines[max(0, len(lines)-20):], "\n"))
	}
}

// install copies a program to where everybody may run it.
func install(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}
