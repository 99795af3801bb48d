// Command report runs `go test`. It says what it is about to do, and shows progress, failures and the reasons of skips. Its last
// line counts the tests and subtests that passed, failed and were skipped, and says how long they took.
//
//	go run ./test/report [-about TEXT] [-C DIR] [-passed FILE] [-may-skip FILE] -- [ARGUMENTS OF GO TEST]
//
// A plain `go test` prints neither counts nor skips, and with -v it buries both.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// quietTime is how long a run may print nothing before the running tests are named.
const quietTime = 30 * time.Second

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("report", flag.ContinueOnError)
	about := flags.String("about", "", "print this text first: what is run, and how long that takes")
	dir := flags.String("C", ".", "run go test in this directory")
	passed := flags.String("passed", "", "write the names of the tests that passed to this file")
	maySkip := flags.String("may-skip", "", "fail on a skipped test that this file does not name; without it, every test may skip")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	r := report{
		out: stdout, began: time.Now(), output: make(map[string]*strings.Builder), packages: make(map[string]bool), reasons: make(map[string][]string),
	}
	if *maySkip != "" {
		text, err := os.ReadFile(*maySkip)
		if err != nil {
			_, _ = fmt.Fprintln(stderr, "report:", err)
			return 2
		}
		r.strict, r.maySkip = true, strings.Fields(string(text))
	}

	if *about != "" {
		r.printf("%s\n", *about)
	}
	command := exec.Command("go", append([]string{"-C", *dir, "test", "-json"}, flags.Args()...)...)
	command.Stderr = stderr
	pipe, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "report:", err)
		return 2
	}
	r.read(pipe)
	err = command.Wait()
	if *passed != "" {
		if err := os.WriteFile(*passed, []byte(strings.Join(r.passed, "\n")+"\n"), 0o600); err != nil {
			_, _ = fmt.Fprintln(stderr, "report:", err)
			return 2
		}
	}
	return r.finish(err)
}

// event is a line of `go test -json`: see `go doc test2json`.
type event struct {
	Action, Package, Test, Output, ImportPath string
	Elapsed                                   float64
}

type report struct {
	out      io.Writer
	output   map[string]*strings.Builder // of running tests and packages, by package and name
	running  string                      // the test that started last, or what it is a part of
	packages map[string]bool             // packages in which a test failed
	began    time.Time
	printed  time.Time

	passed, failed []string
	skipped        int
	reasons        map[string][]string // skipped tests by their reason
	strict         bool
	maySkip        []string
}

func (r *report) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(r.out, format, args...)
	r.printed = time.Now()
}

func (r *report) read(in io.Reader) {
	lines := make(chan string)
	go func() {
		defer close(lines)
		for reader := bufio.NewReader(in); ; {
			line, err := reader.ReadString('\n')
			if err != nil {
				return
			}
			lines <- line
		}
	}()
	r.printed = time.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case line, open := <-lines:
			if !open {
				return
			}
			var e event
			if json.Unmarshal([]byte(line), &e) != nil {
				r.printf("%s", line)
				continue
			}
			r.add(e)
		case <-tick.C:
			if time.Since(r.printed) > quietTime {
				r.printf("...  running: %s\n", cmp.Or(r.running, "the compiler"))
			}
		}
	}
}

// add handles one event. A test's name is that of its package and its own, as TestX of internal/y is in "internal/y.TestX".
func (r *report) add(e event) {
	name := strings.Trim(e.Package+"."+e.Test, ".")
	if r.output[name] == nil {
		r.output[name] = new(strings.Builder)
	}
	switch e.Action {
	case "build-output":
		r.printf("%s", e.Output)
	case "run":
		r.running = name
	case "output":
		r.output[name].WriteString(e.Output)
	case "pass", "fail", "skip":
		output := r.output[name].String()
		delete(r.output, name)
		if e.Test == "" {
			r.running = ""
			r.endPackage(e, output)
			return
		}
		r.running = name[:max(strings.LastIndexByte(name, '/'), len(e.Package))]
		r.endTest(e, name, output)
	}
}

func (r *report) endTest(e event, name, output string) {
	switch e.Action {
	case "pass":
		r.passed = append(r.passed, name)
	case "skip":
		reason := reasonOf(output)
		r.reasons[reason] = append(r.reasons[reason], name)
		r.skipped++
		// Such a test belongs to another target, which runs it where it can.
		if r.strict && !slices.Contains(r.maySkip, name) && !strings.HasPrefix(reason, "make ") {
			r.fail(e.Package, name, "skipped, and must not be: "+reason+"\n")
		}
	default:
		r.fail(e.Package, name, output)
	}
}

func (r *report) fail(pkg, name, output string) {
	r.failed = append(r.failed, name)
	r.packages[pkg] = true
	r.printf("FAIL %s\n%s", name, output)
}

func (r *report) endPackage(e event, output string) {
	switch {
	case e.Action == "fail" && !r.packages[e.Package]: // it did not build, or ended before its tests did
		r.fail(e.Package, e.Package, output)
	case e.Action == "skip": // no test files
	case r.packages[e.Package]:
		r.printf("FAIL %s  %.1f s\n", e.Package, e.Elapsed)
	default:
		r.printf("ok   %s  %.1f s\n", short(e.Package), e.Elapsed)
	}
}

var logged = regexp.MustCompile(`(?m)^[ |]*\S+\.go:\d+: (.*)$`)

// reasonOf returns why a test was skipped: its last words, or those of the test that it ran in another process.
func reasonOf(output string) string {
	reason := "no reason given"
	for _, line := range logged.FindAllStringSubmatch(output, -1) {
		if !strings.Contains(line[1], "another process") {
			reason = line[1]
		}
	}
	return reason
}

// short returns a text without the module's path in the names of packages.
func short(text string) string {
	if build, ok := debug.ReadBuildInfo(); ok && build.Main.Path != "" {
		return strings.ReplaceAll(text, build.Main.Path+"/", "")
	}
	return text
}

// finish prints what came of all, and returns the exit code. err is how `go test` ended.
func (r *report) finish(err error) int {
	if err != nil && len(r.failed) == 0 {
		r.fail("", "go test", err.Error()+"\n")
	}
	const shown = 3
	if r.skipped > 0 {
		r.printf("%d skipped, for these reasons:\n", r.skipped)
	}
	for _, reason := range slices.Sorted(maps.Keys(r.reasons)) {
		names := r.reasons[reason]
		more := ""
		if len(names) > shown {
			more = fmt.Sprintf(" and %d more", len(names)-shown)
		}
		r.printf("%5d  %s: %s%s\n", len(names), reason, short(strings.Join(names[:min(shown, len(names))], ", ")), more)
	}
	for _, name := range r.failed {
		r.printf("failed: %s\n", name)
	}
	r.printf("%d passed, %d failed, %d skipped in %v\n", len(r.passed), len(r.failed), r.skipped, time.Since(r.began).Round(time.Second))
	if len(r.failed) > 0 || len(r.passed) == 0 {
		return 1
	}
	return 0
}
