//go:build linux

package program

import (
	"slices"
	"strings"
	"testing"
)

// Samples returns the samples of a metrics page by series, such as name{a="b"}.
func Samples(t testing.TB, page string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	for _, line := range Lines(page) {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		end := strings.LastIndexByte(line, ' ')
		if end < 0 {
			t.Fatalf("%q is no sample", line)
		}
		series := line[:end]
		if _, twice := found[series]; twice {
			t.Errorf("%s is there twice", series)
		}
		found[series] = line[end+1:]
	}
	return found
}

// Ports returns the ports of a metrics page, such as "tcp 22".
func Ports(t testing.TB, page string) []string {
	t.Helper()
	var found []string
	for series := range Samples(t, page) {
		if strings.HasPrefix(series, "host_listen_port{") {
			found = append(found, Label(series, "proto")+" "+Label(series, "port"))
		}
	}
	slices.Sort(found)
	return found
}

// Label returns the value of a label of a series.
func Label(series, name string) string {
	_, after, _ := strings.Cut(series, name+`="`)
	value, _, _ := strings.Cut(after, `"`)
	return value
}
