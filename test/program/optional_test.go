//go:build linux

package program_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/program"
)

func TestAnOptionalRegistryIsReadIfItIsThere(t *testing.T) {
	const ssh, web = "services:\n  - {name: ssh, port: 22}\n", "services:\n  - {name: web, port: 443}\n"
	for _, test := range []struct {
		name  string
		files map[string]string
		flags []string // of files below the directory
		want  []string // the services
	}{
		{"nothing is there", nil, []string{"optional-file=ports.yml", "optional-file=ports.d"}, nil},
		{"an empty directory", map[string]string{"ports.d/README": ""}, []string{"optional-file=ports.yml", "optional-file=ports.d"}, nil},
		{"a file", map[string]string{"ports.yml": ssh}, []string{"optional-file=ports.yml", "optional-file=ports.d"}, []string{"ssh"}},
		{"a directory", map[string]string{"ports.d/a.yml": web}, []string{"optional-file=ports.yml", "optional-file=ports.d"}, []string{"web"}},
		{"both", map[string]string{"ports.yml": ssh, "ports.d/a.yaml": web}, []string{"optional-file=ports.yml", "optional-file=ports.d"}, []string{"ssh", "web"}},
		{"the one that another flag names, too", map[string]string{"ports.yml": ssh}, []string{"optional-file=ports.yml", "file=ports.yml"}, []string{"ssh"}},
		{"next to one that must be there", map[string]string{"base.yml": ssh, "ports.yml": web}, []string{"file=base.yml", "optional-file=ports.yml"}, []string{"ssh", "web"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range test.files {
				path := filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			args := []string{"--path.procfs=" + program.NewProcfs(t)}
			for _, flag := range test.flags {
				name, file, _ := strings.Cut(flag, "=")
				args = append(args, "--registry."+name+"="+filepath.Join(dir, file))
			}
			page := program.Start(t, args...).Scrape()
			var services []string
			for line := range strings.Lines(page) {
				if strings.HasPrefix(line, "host_listen_service_up{") {
					services = append(services, program.Label(line, "service_name"))
				}
			}
			slices.Sort(services)
			if diff := cmp.Diff(test.want, services); diff != "" {
				t.Errorf("services (-want +got):\n%s", diff)
			}
			if got, want := strings.Contains(page, reloadedGauge), test.want != nil; got != want {
				t.Errorf("there is a registry: %t, want %t", got, want)
			}
		})
	}
}

func TestAnOptionalRegistryThatIsBadIsAnErrorAsAnyOther(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ports.yml")
	if err := os.WriteFile(file, []byte(twoFaults), 0o644); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := program.Run(t, "--path.procfs="+program.NewProcfs(t), "--web.listen-address=127.0.0.1:0", "--registry.optional-file="+file)
	if code != 1 || !strings.Contains(stderr, file+":3:5: ") {
		t.Errorf("exit code %d, want 1, and the first fault in:\n%s", code, stderr)
	}
}
