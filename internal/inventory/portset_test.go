package inventory

import (
	"strings"
	"testing"
)

func TestPortSetIsAListOfPortsAndRanges(t *testing.T) {
	var set PortSet
	if !set.Empty() || set.Contains(22) || set.String() != "" {
		t.Error("the zero value is not empty")
	}
	for _, list := range []string{"22, 8000-8100", "65535", "1-1"} {
		if err := set.Set(list); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := set.String(), "22,8000-8100,65535,1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for port, want := range map[uint16]bool{1: true, 2: false, 22: true, 7999: false, 8000: true, 8050: true, 8100: true, 8101: false, 65535: true} {
		if got := set.Contains(port); got != want {
			t.Errorf("contains %d: got %t", port, got)
		}
	}
}

func TestPortSetRefusesWhatIsNoPort(t *testing.T) {
	for list, want := range map[string]string{
		"":         `"" is not a port: want a number from 1 to 65535`,
		"0":        `"0" is not a port`,
		"65536":    `"65536" is not a port`,
		"-1":       `"" is not a port`,
		"ssh":      `"ssh" is not a port`,
		"22,":      `"" is not a port`,
		"22;80":    `"22;80" is not a port`,
		"80-70":    `port range "80-70" runs backwards: write 70-80`,
		"1-2-3":    `"2-3" is not a port`,
		"22-65536": `"65536" is not a port`,
		"0x16":     `"0x16" is not a port`,
	} {
		var set PortSet
		err := set.Set(list)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", list, err, want)
		}
		if !set.Empty() {
			t.Errorf("%q: something was added all the same", list)
		}
	}
}

func FuzzPortSet(f *testing.F) {
	for _, list := range []string{"22", "22,8000-8100", "1-65535", "80-70", ",", "-", "٢٢"} {
		f.Add(list)
	}
	f.Fuzz(func(t *testing.T, list string) {
		var set, again PortSet
		if set.Set(list) != nil {
			return
		}
		if set.Contains(0) {
			t.Error("contains port 0")
		}
		if err := again.Set(set.String()); err != nil || again.String() != set.String() {
			t.Errorf("%q was written as %q, which reads as %q, %v", list, set.String(), again.String(), err)
		}
	})
}
