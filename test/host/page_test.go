//go:build linux

package host

import "testing"

func TestAPageWithASeriesTwiceIsAnError(t *testing.T) {
	const head = "# TYPE up gauge\n"
	for name, test := range map[string]struct {
		page string
		bad  bool
	}{
		"good":                           {head + "up{a=\"1\"} 1\nup{a=\"2\"} 1\n", false},
		"the same series":                {head + "up{a=\"1\"} 1\nup{a=\"1\"} 1\n", true},
		"the same in another order":      {head + "up{a=\"1\",b=\"2\"} 1\nup{b=\"2\",a=\"1\"} 0\n", true},
		"an empty label and an absent":   {head + "up{a=\"1\",b=\"\"} 1\nup{a=\"1\"} 1\n", true},
		"the same in a second family":    {head + "up 1\n# TYPE down gauge\ndown 1\nup 1\n", true},
		"a second family of this name":   {head + "up{a=\"1\"} 1\n" + head + "up{a=\"2\"} 1\n", true},
		"two families with other labels": {head + "up{a=\"1\"} 1\n# TYPE down gauge\ndown{a=\"1\"} 1\n", false},
	} {
		if _, err := ParsePage(test.page); (err != nil) != test.bad {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
