//go:build linux

package command

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
	"github.com/listen-exporter/listen_exporter/test/program"
)

func TestFiltersOfListShowWhatHasOneOfEach(t *testing.T) {
	procfs, file := program.NewProcfs(t), program.WriteFile(t, "ports.yml", commandRegistry)
	for _, test := range []struct{ args, want string }{
		{"--state=ok", "udp 53, tcp 443"},
		{"--state=violation", "tcp 22, udp 546, tcp 8080"},
		{"--state=bind,reserved", "tcp 22, tcp 8080"},
		{"--state=missing", "tcp 25"}, // not 22, whose violation says why its service is not up
		{"--state=ephemeral --state=missing", "tcp 25, udp 40000"},
		{"--scope=loopback,private", "tcp 8080, udp 40000"},
		{"--scope=any --state=ok", "udp 53, tcp 443"},
		{"--scope=public", ""},
		{"--process=nobody-is-called-so", ""},
		{"--state=ok 1-500", "udp 53, tcp 443"},
		{"--state=missing mail ssh", "tcp 25"},
	} {
		_, table, stderr := program.Run(t, append(strings.Fields("list "+test.args), "--path.procfs="+procfs, "--registry.file="+file)...)
		var got []string
		for _, line := range lineOfTable.FindAllStringSubmatch(table, -1) {
			got = append(got, line[1]+" "+line[2])
		}
		if diff := cmp.Diff(test.want, strings.Join(got, ", ")); diff != "" {
			t.Errorf("%s (-want +got):\n%s%s", test.args, diff, stderr)
		}
	}
}

// lineOfTable is the protocol and the port of a listener, or of a missing service, which has no address.
var lineOfTable = regexp.MustCompile(`(?m)^(tcp|udp) +(?:[^ ]*[.:-][^ ]* +)?([0-9]+)  `)

func TestAPortThatNothingOfTheFilterListensOnIsExitCode1(t *testing.T) {
	args := []string{"--path.procfs=" + program.NewProcfs(t), "--registry.file=" + program.WriteFile(t, "ports.yml", commandRegistry)}
	for flags, want := range map[string]int{"": 0, "--scope=any": 0, "--scope=any,private --state=bind": 0, "--scope=loopback": 1, "--state=ok": 1, "--process=nginx": 1} {
		code, stdout, stderr := program.Run(t, append(args, strings.Fields("list 22 "+flags)...)...)
		says := strings.Contains(stdout, fmt.Sprintf("nothing with %s listens on 22\n", flags))
		if code != want || says != (want == 1) {
			t.Errorf("list 22 %s: exit code %d, want %d: %s%s", flags, code, want, stdout, stderr)
		}
	}
}

func TestAFilterThatCannotBeAnsweredIsRefused(t *testing.T) {
	procfs := program.NewProcfs(t)
	for args, want := range map[string]string{
		"--state=ok":                        "--state=ok needs a registry: want --registry.file",
		"--process=":                        "--process must not be empty",
		"--process=x --no-collector.holder": "--process needs the holders: leave out --no-collector.holder",
		"--process=x --format=registry":     "a registry must declare every listener: leave out --process=x",
		"--scope=any --format=prometheus":   "--collector.port-include and --collector.scope-exclude: leave out --scope=any",
		"--format=prometheus 22":            "leave out the ports",
		"--state=nonsense":                  `--state: "nonsense" is not a state: want one of ok,leased,violation,forbidden,`,
	} {
		code, stdout, stderr := program.Run(t, append(strings.Fields("list "+args), "--path.procfs="+procfs, "--log.level=error")...)
		if code == 0 || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d, want another, and %q on stderr:\n%s%s", args, code, want, stdout, stderr)
		}
	}
}

func TestListFindsTheListenersOfAProcess(t *testing.T) {
	program.Path(t) // before the test enters its namespace
	netnstest.Run(t, func(t *testing.T) {
		program.Listen(t, "tcp", "127.0.0.1:8080")
		program.Listen(t, "udp", "127.0.0.1:53")
		own := netnstest.OwnName(t)
		for _, test := range []struct {
			user, glob string
			want       int
		}{{"root", own, 2}, {"root", own[:3] + "*", 2}, {"root", "?" + own, 0}, {"root", filepath.Base(must(os.Executable())), 2}} {
			_, stdout, stderr := runAs(t, test.user, "list", "--process="+test.glob)
			if got := strings.Count(stdout, "127.0.0.1"); got != test.want {
				t.Errorf("as %s, %s: %d listeners, want %d:\n%s%s", test.user, test.glob, got, test.want, stdout, stderr)
			}
		}
		// Whoever cannot see the processes is not left with an empty list that looks like an answer.
		for args, want := range map[string]string{
			"--process=x":                  "error: the holders of 2 listeners are not known, so --process may leave out what it asks for: that needs root",
			"--process=" + own + " 8080":   "error: the holders of 1 listener are not known",
			"--process=x --format=json 53": "error: the holders of 1 listener are not known",
		} {
			code, stdout, stderr := runAs(t, "nobody", append([]string{"list"}, strings.Fields(args)...)...)
			if code != ExitTrouble || !strings.Contains(stderr, want) {
				t.Errorf("as nobody, %s: exit code %d, want %d, and %q:\n%s%s", args, code, ExitTrouble, want, stdout, stderr)
			}
		}
		if code, _, stderr := runAs(t, "nobody", "list", "--process=x", "--scope=any"); code != ExitOK {
			t.Errorf("where nothing is left to doubt: exit code %d: %s", code, stderr)
		}
	})
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
