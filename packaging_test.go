package main

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// instructions returns what stands in the Dockerfile after each of its keywords, in its order.
func instructions(t *testing.T) map[string][]string {
	t.Helper()
	text := regexp.MustCompile(`(?m)^\s*#.*\n`).ReplaceAllString(readDocument(t, "Dockerfile"), "")
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
		if len(words) == 2 && strings.HasSuffix(words[0], "/"+program) {
			return words[0], words[1]
		}
	}
	t.Fatalf("the Dockerfile copies no %s", program)
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
		{"the binary where make puts it", []string{from}, regexp.QuoteMeta(".build/${OS}-${ARCH}/" + program)},
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
		{"title", program},
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

// makefileVariable returns the value that the Makefile itself gives to a variable.
func makefileVariable(t *testing.T, name string) string {
	t.Helper()
	text := continuation.ReplaceAllString(readDocument(t, "Makefile"), " ")
	values := regexp.MustCompile(`(?m)^(?:export )?`+name+`\s*[:?]?=(.*)$`).FindAllStringSubmatch(text, -1)
	if len(values) != 1 {
		t.Fatalf("the Makefile sets %s in %d places, want 1", name, len(values))
	}
	return strings.TrimSpace(values[0][1])
}

// linkedVariables returns the variables of the program that linker flags set, in alphabetical order.
func linkedVariables(flags string) []string {
	var names []string
	for _, found := range regexp.MustCompile(`-X\s+['"]?([^\s=]+)=`).FindAllStringSubmatch(flags, -1) {
		names = append(names, found[1])
	}
	slices.Sort(names)
	return names
}

func TestPromuAndMakeBuildTheSame(t *testing.T) {
	var promu struct {
		Go struct {
			CGO bool
		}
		Build struct {
			Binaries       []struct{ Name, Path string }
			Flags, LDFlags string
		}
		Crossbuild struct{ Platforms []string }
	}
	if err := yaml.Unmarshal([]byte(readDocument(t, ".promu.yml")), &promu); err != nil {
		t.Fatalf(".promu.yml: %v", err)
	}
	if promu.Go.CGO {
		t.Error(".promu.yml builds with cgo, want a static binary")
	}
	if diff := cmp.Diff([]struct{ Name, Path string }{{program, "."}}, promu.Build.Binaries); diff != "" {
		t.Errorf("binaries of .promu.yml (-want +got):\n%s", diff)
	}

	// promu writes GOARM behind the architecture.
	platforms := make(map[string]bool)
	for arch := range strings.FieldsSeq(makefileVariable(t, "ARCHES")) {
		if arch == "arm" {
			arch += "v" + makefileVariable(t, "GOARM")
		}
		platforms["linux/"+arch] = true
	}
	variables := linkedVariables(strings.ReplaceAll(makefileVariable(t, "LDFLAGS"), "$(VERSION_PKG)", makefileVariable(t, "VERSION_PKG")))
	if len(variables) != 5 {
		t.Errorf("the Makefile sets the variables %q of the program, want 5", variables)
	}
	for _, test := range []struct {
		name        string
		make, promu []string
	}{
		{"platforms", slices.Sorted(maps.Keys(platforms)), slices.Sorted(slices.Values(promu.Crossbuild.Platforms))},
		{"variables that the linker sets", variables, linkedVariables(promu.Build.LDFlags)},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.make, test.promu); diff != "" {
				t.Errorf("-Makefile +.promu.yml:\n%s", diff)
			}
		})
	}
}
