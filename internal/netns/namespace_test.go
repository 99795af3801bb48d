//go:build linux

package netns

import (
	"strings"
	"testing"
)

func TestTheStartTimeIsFoundBehindAnyName(t *testing.T) {
	fields := " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21"
	for name, test := range map[string]struct {
		stat string
		want uint64
		ok   bool
	}{
		"plain":                  {"12 (sh)" + fields, 4711, true},
		"parentheses and spaces": {"12 (a) S 1 (b)" + fields, 4711, true},
		"newlines":               {"12 (\n)\n)" + fields + "\n", 4711, true},
		"short":                  {"12 (sh) S 1 2 3", 0, false},
		"no name":                {"12" + fields, 0, false},
		"no number":              {"12 (sh)" + strings.Replace(fields, "4711", "-1", 1), 0, false},
		"empty":                  {"", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := startTime([]byte(test.stat))
			if got != test.want || (err == nil) != test.ok {
				t.Errorf("got %d and the error %v", got, err)
			}
		})
	}
}

func FuzzStartTime(f *testing.F) {
	f.Add([]byte("12 (sh) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20"))
	f.Fuzz(func(_ *testing.T, stat []byte) { _, _ = startTime(stat) })
}
