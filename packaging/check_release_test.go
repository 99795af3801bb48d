//go:build linux

package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/listen-exporter/listen_exporter/test/tools"
)

func TestOnlyATagThatTheChangelogDescribesBecomesARelease(t *testing.T) {
	for _, program := range []string{"git", "make", "awk"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("needs " + program)
		}
	}
	module, _ := readModule(t)
	server, repository, _ := strings.Cut(module, "/")
	const passes = "may become a release"
	const changelog = "# Changelog\n\n## 1.2.3 / 2026-01-02\n\n- [FEATURE] New.\n\n## 1.2.2 / 2026-01-01\n\n- [BUGFIX] Old.\n"
	for _, test := range []struct {
		name, tag, changelog string
		after                string // a command in the repository
		repository           string // on GitHub
		image                string // the variable, a good one if it is empty
		want                 string // of the output
	}{
		{name: "as the changelog has it", tag: "v1.2.3", want: passes},
		{name: "in its own repository", tag: "v1.2.3", repository: repository, want: passes},
		{name: "the tag is there", tag: "v1.2.3", after: "git tag v1.2.3", want: passes},
		{name: "no v", tag: "1.2.3", want: `the tag is "1.2.3": want vX.Y.Z`},
		{name: "no tag", want: `the tag is "": want vX.Y.Z`},
		{name: "an older version", tag: "v1.2.2", want: `begins with "## 1.2.3 / 2026-01-02": want "## 1.2.2 / `},
		{name: "a version that only begins like it", tag: "v1.2.30", want: `want "## 1.2.30 / `},
		{
			name: "not yet renamed", tag: "v1.2.4", changelog: strings.Replace(changelog, "## 1.2.3", "## Unreleased\n\n- More.\n\n## 1.2.3", 1),
			want: `begins with "## Unreleased": rename it to "## 1.2.4 / `,
		},
		{name: "no date", tag: "v1.2.3", changelog: "# Changelog\n\n## 1.2.3\n\n- New.\n", want: `begins with "## 1.2.3": want`},
		{name: "nothing new", tag: "v1.2.3", changelog: "# Changelog\n\n## 1.2.3 / 2026-01-02\n\n## 1.2.2 / 2026-01-01\n", want: "is empty"},
		{name: "a changed file", tag: "v1.2.3", after: "echo >>go.mod", want: "the working tree differs from the commit"},
		{
			name: "another commit", tag: "v1.2.3", after: "git tag v1.2.3 && git -c user.name=x -c user.email=x commit -q --allow-empty -m next",
			want: "the tag v1.2.3 is another commit than the one that is checked out: git checkout v1.2.3",
		},
		{name: "an image without its registry", tag: "v1.2.3", repository: repository, image: "listen_exporter", want: `the variable IMAGE of the repository is "listen_exporter": want`},
		{name: "an image with capitals", tag: "v1.2.3", repository: repository, image: "registry.example.org/You/x", want: "in lower case"},
		{name: "no image", tag: "v1.2.3", repository: repository, image: " ", want: `the variable IMAGE of the repository is " ": want`},
		{name: "a fork", tag: "v1.2.3", repository: "someone/else", want: `run "make address ADDRESS=` + server + `/someone/else"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			if test.image == "" {
				test.image = "registry.example.org:5000/you/listen_exporter"
			}
			if test.changelog == "" {
				test.changelog = changelog
			}
			for name, text := range map[string]string{
				"CHANGELOG.md":            test.changelog,
				"Makefile":                tools.Read(t, "../Makefile"),
				"go.mod":                  tools.Read(t, "../go.mod"),
				"packaging/check-release": tools.Read(t, "check-release"),
			} {
				path := filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			run := func(script string) (string, error) {
				cmd := exec.Command("sh", "-c", script)
				cmd.Dir = dir
				cmd.Env = append(os.Environ(), "GITHUB_REPOSITORY="+test.repository, "IMAGE="+test.image, "GITHUB_SERVER_URL=https://"+server, "MAKEFLAGS=")
				output, err := cmd.CombinedOutput()
				return string(output), err
			}
			prepare := "git init -q . && git add . && git -c user.name=x -c user.email=x commit -q -m first"
			if test.after != "" {
				prepare += " && " + test.after
			}
			if output, err := run(prepare); err != nil {
				t.Fatalf("%v: %s", err, output)
			}
			output, err := run("packaging/check-release '" + test.tag + "'")
			if (test.want == passes) != (err == nil) || !strings.Contains(output, test.want) {
				t.Errorf("%v, with the output %q: want %q", err, output, test.want)
			}
		})
	}
}
