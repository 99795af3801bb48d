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

func TestALineOfStatusIsFoundByItsWholeName(t *testing.T) {
	status := []byte("Name:\tTgid:\nUmask:\t0022\nTgid:\t12\nNgid:\t0\nNSpid:\t12\t1\n")
	for name, want := range map[string]string{"Tgid:": "12", "NSpid:": "12\t1", "Name:": "Tgid:"} {
		if got, ok := statusField(status, name); !ok || string(got) != want {
			t.Errorf("%s: got %q, %t", name, got, ok)
		}
	}
	if got, ok := statusField(status, "Missing:"); ok {
		t.Errorf("got %q", got)
	}
}

func FuzzProcessFiles(f *testing.F) {
	f.Add([]byte("12 (sh) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20"))
	f.Add([]byte("Tgid:\t12\n"))
	f.Add([]byte("3.33 3.05 3.21 6/99 28986\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		_, _ = startTime(content)
		_, _ = statusField(content, "Tgid:")
		if last := parseLastPID(content); last < 0 {
			t.Errorf("the last pid is %d", last)
		}
	})
}
