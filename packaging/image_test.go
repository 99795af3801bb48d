package packaging

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/listen-exporter/listen_exporter/test/program"
)

const programName = "listen_exporter"

func TestMain(m *testing.M) { program.Main(m) }

// read returns the text of a file of the repository.
func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(program.Root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var continuation = regexp.MustCompile(`\\\n\s*`)

// instructions returns the arguments of each keyword in the Dockerfile, in order.
func instructions(t *testing.T) map[string][]string {
	t.Helper()
	text := regexp.MustCompile(`(?m)^\s*#.*\n`).ReplaceAllString(read(t, "Dockerfile"), "")
	found := make(map[string][]string)
	for line := range strings.Lines(continuation.ReplaceAllString(text, " ")) {
		if keyword, arguments, _ := strings.Cut(strings.TrimSpace(line), " "); keyword != "" {
			found[keyword] = append(found[keyword], strings.TrimSpace(arguments))
		}
	}
	return found
}

// programInImage is where the Dockerfile puts the binary, and what it copies there.
func programInImage(t *testing.T) (from, to string) {
	t.Helper()
	for _, arguments := range instructions(t)["COPY"] {
		words := slices.DeleteFunc(strings.Fields(arguments), func(word string) bool { return strings.HasPrefix(word, "--") })
		if len(words) == 2 && strings.HasSuffix(words[0], "/"+programName) {
			return words[0], words[1]
		}
	}
	t.Fatalf("the Dockerfile copies no %s", programName)
	return "", ""
}

func TestTheImageIsTheBuiltBinaryAloneAndRunsAsNobody(t *testing.T) {
	dockerfile := instructions(t)
	from, to := programInImage(t)
	entrypoint, err := json.Marshal([]string{to})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		got  []string
		want string // as a pattern that all of each line matches
	}{
		{"one stage, from nothing", dockerfile["FROM"], `scratch`},
		{"a numeric user and group, neither of them root", dockerfile["USER"], `[1-9]\d*:[1-9]\d*`},
		{"the binary where make puts it", []string{from}, regexp.QuoteMeta(".build/${OS}-${ARCH}/" + programName)},
		{"the binary at an absolute path", []string{to}, `/.+`},
		{"the copied binary is what runs", dockerfile["ENTRYPOINT"], regexp.QuoteMeta(string(entrypoint))},
	} {
		t.Run(test.name, func(t *testing.T) {
			if len(test.got) != 1 || !regexp.MustCompile(`^(?:`+test.want+`)$`).MatchString(test.got[0]) {
				t.Errorf("%q, want one that matches %s", test.got, test.want)
			}
		})
	}
	for _, keyword := range []string{"ADD", "CMD", "RUN", "SHELL"} {
		if lines := dockerfile[keyword]; len(lines) > 0 {
			t.Errorf("%s %q, want none: nothing but the binary is in the image", keyword, lines)
		}
	}
	for _, argument := range []string{"OS", "ARCH"} {
		if !slices.ContainsFunc(dockerfile["ARG"], func(line string) bool { return strings.HasPrefix(line, argument+"=") }) {
			t.Errorf("the argument %s of the binary's path has no default", argument)
		}
	}
}

func TestTheImageHasTheLabelsOfTheOpenContainerInitiative(t *testing.T) {
	labels := make(map[string]string)
	for _, line := range instructions(t)["LABEL"] {
		for _, label := range regexp.MustCompile(`([\w.-]+)="([^"]*)"`).FindAllStringSubmatch(line, -1) {
			labels[label[1]] = label[2]
		}
	}
	for _, test := range []struct{ name, want string }{
		{"title", programName},
		{"description", ".+"},
		{"source", "https://.+"},
		{"licenses", regexp.QuoteMeta("Apache-2.0")},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := labels["org.opencontainers.image."+test.name]
			if !regexp.MustCompile(`^(?:` + test.want + `)$`).MatchString(got) {
				t.Errorf("org.opencontainers.image.%s is %q, want what matches %s", test.name, got, test.want)
			}
		})
	}
}
