package ports

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAListOfPortsIsASet(t *testing.T) {
	for _, test := range []struct {
		list    string
		want    string
		problem string
	}{
		{list: "22", want: "22"},
		{list: "22,8000-8100", want: "22,8000-8100"},
		{list: " 22 , 8000 - 8100 ", want: "22,8000-8100"},
		{list: "1-65535", want: "1-65535"},
		{list: "", problem: `"" is not a port`},
		{list: "22,", problem: `"" is not a port`},
		{list: "0", problem: `"0" is not a port`},
		{list: "65536", problem: `"65536" is not a port`},
		{list: "ssh", problem: `"ssh" is not a port`},
		{list: "-1", problem: `"" is not a port`},
		{list: "+22", problem: `"+22" is not a port`},
		{list: "1-2-3", problem: `"2-3" is not a port`},
		{list: "100000000000000000000000000", problem: `"10000000000000000000…" is not a port`},
		{list: "2-1", problem: `port range "2-1" runs backwards: want "1-2"`},
	} {
		got, err := ParseSet(test.list)
		if test.problem != "" {
			if err == nil || !strings.HasPrefix(err.Error(), test.problem) {
				t.Errorf("%q: error %v, want %s", test.list, err, test.problem)
			}
			continue
		}
		if err != nil || got.String() != test.want {
			t.Errorf("%q: %s, error %v, want %s", test.list, got, err, test.want)
		}
	}
}

func TestAFlagAddsToItsSetOrLeavesItAsItWas(t *testing.T) {
	var s Set
	for _, list := range []string{"22", "80,443", "1,x"} {
		_ = s.Set(list)
	}
	if got := s.String(); got != "22,80,443" {
		t.Errorf("got %s", got)
	}
	for port, want := range map[uint16]bool{22: true, 80: true, 1: false, 81: false} {
		if s.Contains(port) != want {
			t.Errorf("Contains(%d) = %t", port, !want)
		}
	}
}

func TestSetsAreMergedAndSubtracted(t *testing.T) {
	for _, test := range []struct{ a, b, merged, without string }{
		{"3,1,2", "9", "1-3", "1-3"},
		{"1-10", "1-10", "1-10", ""},
		{"1-10", "3-4,6", "1-10", "1-2,5,7-10"},
		{"1-65535", "65535", "1-65535", "1-65534"},
		{"1-65535", "1", "1-65535", "2-65535"},
		{"65534-65535,65535", "1-65534", "65534-65535", "65535"},
		{"10-20,15-30", "18-40", "10-30", "10-17"},
	} {
		a, errA := ParseSet(test.a)
		b, errB := ParseSet(test.b)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if diff := cmp.Diff([]string{test.merged, test.without}, []string{a.Merged().String(), a.Without(b).String()}); diff != "" {
			t.Errorf("%s and %s (-want +got):\n%s", test.a, test.b, diff)
		}
	}
}

func TestARangeKnowsItsPorts(t *testing.T) {
	r := Range{8000, 8010}
	if r.Size() != 11 || !r.Contains(8010) || r.Contains(8011) {
		t.Errorf("%s: size %d", r, r.Size())
	}
}
