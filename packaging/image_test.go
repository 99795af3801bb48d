//go:build linux

package packaging

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/listen-exporter/listen_exporter/test/tools"
)

// instructions returns the arguments of each keyword in the Dockerfile, in order.
func instructions(t *testing.T) map[string][]string {
	t.Helper()
	text := regexp.MustCompile(`(?m)^\s*#.*\n`).ReplaceAllString(tools.Read(t, "../Dockerfile"), "")
	found := make(map[string][]string)
	for line := range strings.Lines(regexp.MustCompile(`\\\n\s*`).ReplaceAllString(text, " ")) {
		if keyword, arguments, _ := strings.Cut(strings.TrimSpace(line), " "); keyword != "" {
			found[keyword] = append(found[keyword], strings.TrimSpace(arguments))
		}
	}
	return found
}

// imageLabels returns the labels of the Dockerfile that the Open Container Initiative defines.
func imageLabels(t *testing.T) map[string]string {
	t.Helper()
	labels := make(map[string]string)
	for _, line := range instructions(t)["LABEL"] {
		for _, label := range regexp.MustCompile(`org\.opencontainers\.image\.(\w+)="([^"]*)"`).FindAllStringSubmatch(line, -1) {
			labels[label[1]] = label[2]
		}
	}
	return labels
}

func TestTheImageIsTheBuiltBinaryAloneAndRunsAsNobody(t *testing.T) {
	const licenses = "--chmod=0644 LICENSE .build/${OS}-${ARCH}${FORM}/THIRD_PARTY_LICENSES /"
	dockerfile, labels := instructions(t), imageLabels(t)
	programs := slices.DeleteFunc(slices.Clone(dockerfile["COPY"]), func(arguments string) bool { return arguments == licenses })
	for _, test := range []struct {
		name string
		got  []string
		want string // as a pattern that all of each line matches
	}{
		{"one stage, from nothing", dockerfile["FROM"], `scratch`},
		{"a numeric user and group, neither of them root", dockerfile["USER"], `[1-9]\d*:[1-9]\d*`},
		{"the binary from where make puts it", programs, `(--chmod=0755 )?\.build/\$\{OS\}-\$\{ARCH\}\$\{FORM\}/listen_exporter /bin/listen_exporter`},
		{"the copied binary is what runs", dockerfile["ENTRYPOINT"], `\["/bin/listen_exporter"\]`},
		{"the title", []string{labels["title"]}, `listen_exporter`},
		{"the description", []string{labels["description"]}, `.+`},
		{"the source", []string{labels["source"]}, `https://.+`},
		{"the license", []string{labels["licenses"]}, `Apache-2\.0`},
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
	if !slices.Contains(dockerfile["COPY"], licenses) {
		t.Error("the licences of what the binary contains are not in the image")
	}
	for _, argument := range []string{"OS", "ARCH", "FORM"} {
		if !slices.ContainsFunc(dockerfile["ARG"], func(line string) bool { return strings.HasPrefix(line, argument+"=") }) {
			t.Errorf("the argument %s of the binary's path has no default", argument)
		}
	}
}
