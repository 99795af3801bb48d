//go:build linux

package host

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// Check is one thing that must hold. Run returns nil if it does.
type Check struct {
	Name string
	Run  func() error
}

// Report prints the results of checks to stdout, in the form of the Test Anything Protocol, for [Replay] in another process.
type Report struct{ checks int }

// Check runs checks and reports each.
func (r *Report) Check(checks ...Check) {
	for _, c := range checks {
		r.checks++
		if err := c.Run(); err != nil {
			fmt.Printf("not ok %d - %s\n%s", r.checks, c.Name, indented(err.Error()))
			continue
		}
		fmt.Printf("ok %d - %s\n", r.checks, c.Name)
	}
}

// Note adds a remark, which the test logs.
func (r *Report) Note(format string, values ...any) {
	fmt.Print(indented(fmt.Sprintf(format, values...)))
}

// End says how many checks there were. Without it Replay fails.
func (r *Report) End() { fmt.Printf("1..%d\n", r.checks) }

// detail begins each line that belongs to the result or the note above it.
const detail = "#   "

func indented(text string) string {
	return detail + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n"+detail) + "\n"
}

// Want returns a check's function: got must return this value, and no error. No rows and nil are the same.
func Want[T any](want T, got func() (T, error)) func() error {
	return func() error {
		value, err := got()
		if err != nil {
			return err
		}
		if diff := cmp.Diff(want, value, cmpopts.EquateEmpty()); diff != "" {
			return fmt.Errorf("(-want +got):\n%s", diff)
		}
		return nil
	}
}

// Same is [Want] of a value that is known already.
func Same[T any](want, got T) func() error {
	return Want(want, func() (T, error) { return got, nil })
}

// Replay reads a report while it is written and makes a subtest of each check.
func Replay(t *testing.T, output io.Reader) {
	t.Helper()
	const kept = 20 // lines that are no report, for when it ends early
	var (
		name    string
		failed  bool
		details []string
		others  []string
		checks  int
		planned = -1
	)
	finish := func() {
		text := strings.Join(details, "\n")
		switch {
		case name == "" && text != "":
			t.Log(text)
		case name != "":
			checks++
			t.Run(name, func(t *testing.T) {
				if failed {
					t.Error("\n" + text)
				} else if text != "" {
					t.Log(text)
				}
			})
		}
		name, failed, details = "", false, nil
	}
	lines := bufio.NewScanner(output)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimRight(lines.Text(), "\r")
		if text, ok := strings.CutPrefix(line, detail); ok {
			details = append(details, text)
			continue
		}
		result, isBad := strings.CutPrefix(line, "not ")
		if number, ok := strings.CutPrefix(result, "ok "); ok {
			finish()
			_, name, _ = strings.Cut(number, " - ")
			failed = isBad
			continue
		}
		if n, err := fmt.Sscanf(line, "1..%d", &planned); n == 1 && err == nil {
			finish()
			continue
		}
		others = append(others[max(0, len(others)-kept):], line)
	}
	finish()
	if err := lines.Err(); err != nil {
		t.Errorf("read the report: %v", err)
	}
	if planned != checks {
		t.Errorf("the report ended early, after %d checks; what else was printed last:\n%s", checks, strings.Join(others, "\n"))
	}
}
