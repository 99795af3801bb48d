//go:build linux

package docflags

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/program"
)

func TestMain(m *testing.M) { program.Main(m) }

func TestFlagsAreFoundInProseAndCommandsButNotThoseOfOtherPrograms(t *testing.T) {
	for text, want := range map[string][]string{
		"Set `--web.listen-address`, or --log.level.":              {"--web.listen-address", "--log.level"},
		"- --web.listen-address=[$(NODE_IP)]:10190":                {"--web.listen-address"},
		"(`--[no-]collector.tcp`)":                                 {"--collector.tcp"},
		"--collector.tcp|udp":                                      {"--collector.tcp"},
		"all of --web.*":                                           {"--web.*"},
		"| `--path.procfs` | `/proc` |":                            {"--path.procfs"},
		"listen_exporter \\\n  --path.procfs=/host/proc":           {"--path.procfs"},
		"systemctl enable --now listen_exporter.socket":            nil,
		"podman run --rm listen_exporter:latest --log.format=json": {"--log.format"},
		"- --version":           {"--version"},
		"for UDP write `--udp`": nil,
		"systemctl stop --now x; listen_exporter --help":                 {"--help"},
		"`ip --json a` next to `--collector.netns`":                      {"--collector.netns"},
		"sudo ip netns exec blue listen_exporter --collector.netns=self": {"--collector.netns"},
		"a -- b --- c x--y": nil,
		"listen_exporter check ports.yml --manifests=deploy | grep --color": {"--manifests"},
	} {
		if diff := cmp.Diff(want, Named(text)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

func TestRealFlagsAreThoseOfAllCommands(t *testing.T) {
	flags := Real(t)
	for _, flag := range []string{"--help", "--web.listen-address", "--collector.tcp", "--no-collector.tcp", "--manifests", "--format"} {
		if !flags[flag] {
			t.Errorf("no %s", flag)
		}
	}
	if diff := cmp.Diff([]string{"--none.such", "--nor.this*"}, Unknown("--web.* or --none.such --no-collector.tcp --nor.this*", flags)); diff != "" {
		t.Errorf("unknown flags (-want +got):\n%s", diff)
	}
}
