package registry

import "testing"

func TestANameThatIsShownHidesAndCommandsNothing(t *testing.T) {
	for name, want := range map[string]string{
		"ports.yml":                   "ports.yml",
		"dir/über uns/ports.yml":      "dir/über uns/ports.yml",
		"a\n::error::b":               "a\ufffd::error::b",
		"::error::b/ports.yml":        "./::error::b/ports.yml",
		"  ::error::b":                "./  ::error::b",
		"\t::error::b":                "\ufffd::error::b",
		"./::error::b":                "./::error::b",
		"\x1b[1m\u202egol.lmy\u2066":  "\ufffd[1m\ufffdgol.lmy\ufffd",
		"a\u200bb\u2028c\u00a0d\xffe": "a\ufffdb\ufffdc\ufffdd\ufffde",
	} {
		if got := PrintablePath(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

func TestTheLastLineOfAPurposeEndsNowhere(t *testing.T) {
	for _, purpose := range []string{"log in", "' log in '", ">\n      log\n      in\n", "|\n      log in\n\n", "|+\n      log in\n\n\n"} {
		table := parse(t, "services:", "  - name: ssh", "    port: 22", "    purpose: "+purpose).For("")
		if got, want := table.Judge(on("tcp", "0.0.0.0:22")).Purpose, "log in"; got != want {
			t.Errorf("purpose: %s: got %q, want %q", purpose, got, want)
		}
	}
}
