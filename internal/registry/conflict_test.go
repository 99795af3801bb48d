package registry

import (
	"errors"
	"strings"
	"testing"
)

// onePort returns a file with as many services on port 80, each for the hosts that a list in YAML has.
func onePort(services int, hosts func(service int) string) []byte {
	var file strings.Builder
	file.WriteString("services:\n")
	for i := range services {
		file.WriteString("  - {name: s" + itoa(i) + ", port: 80, hosts: [" + hosts(i) + "]}\n")
	}
	return []byte(file.String())
}

// globs returns a list of as many long globs: a part over and over, and an end.
func globs(count int, part, end string) string {
	one := `"` + strings.Repeat(part, 240/len(part)) + end + `"`
	return strings.Repeat(one+", ", count-1) + one
}

// classes returns a list of globs that have nothing in common and take long to be compared.
func classes(count int) func(service int) string {
	return func(service int) string {
		if service%2 == 0 {
			return globs(count, "*?*?*[bd]", "[02]")
		}
		return globs(count, "*[bdfhjlnprtvxz]", "[13]")
	}
}

// hardest are the files that take the most work that were found.
func hardest() map[string][]byte {
	return map[string][]byte{
		"many services": onePort(4000, func(i int) string { return "'" + itoa(i) + "-*'" }),
		"long globs":    onePort(2, func(i int) string { return globs(4096, "*?", "x"+itoa(i)+"?") }),
		"long globs and a long name": onePort(2, func(i int) string {
			if i == 0 {
				return globs(4096, "*a", "b?")
			}
			return globs(4096, "a", "")
		}),
		"wide classes":                  onePort(2, classes(4096)),
		"many services with long globs": onePort(200, func(i int) string { return globs(10, "*?", "x"+itoa(i)+"?") }),
		"long literals":                 onePort(2000, func(i int) string { return globs(4, "a", itoa(i)+"*") }),
	}
}

func TestComparingServicesTakesBoundedWork(t *testing.T) {
	const want = "port 80: comparing all who claim the same takes too long: want less"
	for name, file := range hardest() {
		p := &parser{registry: &Registry{}}
		p.root(p.document(file))
		var work int64
		var claims []claim
		for order, s := range p.registry.services {
			claims = append(claims, claim{s.ports[0], s, order})
		}
		p.clashes(claims, &work, "want less")
		// The last step may take it above the limit, by no more than two globs' worth.
		if most := int64(maxWork + 4*maxHostGlob*maxHostGlob); work < maxWork || work > most {
			t.Errorf("%s: got %d steps, want %d to %d", name, work, maxWork, most)
		}
		if len(p.faults) != 1 || p.faults[0].Text != want {
			t.Errorf("%s: got %v, want %s", name, p.faults, want)
		}
	}
}

func TestTooMuchWorkIsToldOnce(t *testing.T) {
	_, err := Parse("ports.yml", onePort(10_000, func(i int) string { return "'" + itoa(i) + "-*'], proto: [tcp, udp" }))
	const want = "port 80: comparing all who claim the same takes too long: want fewer services there, fewer and shorter globs, or hosts in full"
	if faults := Faults(nil); !errors.As(err, &faults) || len(faults) != 1 || faults[0].Text != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestWhatIsCommonIsNotTooMuchWork(t *testing.T) {
	for name, file := range map[string][]byte{
		"hosts in full":                    onePort(10_000, func(i int) string { return "web-" + itoa(i) }),
		"a glob each":                      onePort(1000, func(i int) string { return "'web-" + itoa(i) + "-*.example.org'" }),
		"globs that end in different ways": onePort(1000, func(i int) string { return "'*.site-" + itoa(i) + ".example.org'" }),
	} {
		if _, err := Parse("ports.yml", file); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func BenchmarkTheMostWork(b *testing.B) {
	for name, file := range hardest() {
		b.Run(strings.ReplaceAll(name, " ", "_"), func(b *testing.B) {
			for b.Loop() {
				if _, err := Parse("ports.yml", file); err == nil {
					b.Fatal("want too much work")
				}
			}
		})
	}
}
