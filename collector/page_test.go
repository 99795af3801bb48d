//go:build linux

package collector

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/listen-exporter/listen_exporter/test/tools"
)

var update = flag.Bool("update", false, "write the table of docs/metrics.md")

// The page is generated, so that each metric is explained once: in families.
func TestThePageOfTheMetricsIsCurrent(t *testing.T) {
	page := new(strings.Builder)
	page.WriteString("| metric | type | labels | meaning |\n|---|---|---|---|\n")
	for _, f := range families {
		kind, meaning := "gauge", tools.Cell(f.help)
		if f.counter {
			kind = "counter"
		}
		if f.note != "" {
			meaning += " " + f.note
		}
		fmt.Fprintf(page, "| `%s` | %s | %s | %s |\n", f.name, kind, labelCell(f), meaning)
	}
	tools.Generated(t, "../docs/metrics.md", page.String(), *update)
}

// labelCell returns the names of the labels that a family can have.
func labelCell(f family) string {
	names, cell := f.names, ""
	if f.host == nil {
		of := listeners.names()
		cell = "those of a listener"
		names = slices.DeleteFunc(f.about.names(), func(name string) bool { return slices.Contains(of, name) })
	}
	for _, name := range names {
		if cell != "" {
			cell += ", "
		}
		cell += "`" + name + "`"
	}
	return cell
}
