//go:build linux

package registry

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// faultCase is a file and all that is wrong in it, each without the name of the file.
type faultCase struct {
	name, file string
	want       []string
}

func checkFaults(t *testing.T, tests []faultCase) {
	t.Helper()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, err := Parse("ports.yml", []byte(test.file))
			if err == nil || r != nil {
				t.Fatalf("got registry %v and error %v, want only faults", r, err)
			}
			faults, ok := errors.AsType[Faults](err)
			if !ok || len(faults.Unwrap()) != len(test.want) || faults.Unwrap()[0].Error() != faults[0].Error() {
				t.Fatalf("got %T of %d errors, want Faults, an error each", err, len(faults))
			}
			got := strings.Split(strings.ReplaceAll(err.Error(), "ports.yml:", ""), "\n")
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestAFileThatIsNotYAMLHasTheFirstMistakeWithItsPlace(t *testing.T) {
	const (
		indent = ": want values that contain it in quotes, and lines indented like their neighbours"
		around = `: want "key: value", indented like the lines around it`
		quote  = ": want it in quotes"
		early  = "the file ends too early: want the value or the bracket that is missing"
		newer  = ": want values that contain [, ], ? or : in quotes, and one document in a file"
	)
	checkFaults(t, []faultCase{
		{"tabs everywhere, and more", "services:\n\t- name: ssh\n\t\tport: 0\n\t\thosts: [*.db]\n \t# a\n\t- name: web\n", []string{"2:1: a tab: want spaces"}},
		{"tab in a text is fine, a character is not", "services:\n  - name: a\n    purpose: |\n      a\n      \tb\n    port: @1\n", []string{`6:11: a value begins with "@"` + quote}},
		{"tab in a block of text", "services:\n  - name: ssh\n    purpose: |\n\tlogin\n    port: 22\n", []string{"4:1: a tab: want spaces"}},
		{"tab in an empty line", "services:\n \t\n  - name: ssh\n", []string{"2:2: a tab: want spaces"}},
		{"nothing after a bracket", "services: [\n", []string{"1:11: " + early}},
		{"nothing but a comment after a bracket", "services:\n  - name: ü\n    port: [\n  # y [\n\n", []string{"4:7: " + early}},
		{"two colons", "services: reserved: 3\n", []string{`1:19: unexpected ":"` + indent}},
		{"wildcard without quotes in a list", "services:\n  - name: ssh\n    bind: [::]\n", []string{"3:1: is not YAML: did not find expected node content" + newer}},
		{"item after a comma missing", "services:\n  - name: ssh\n    port: [22,,]\n", []string{`3:15: unexpected ","` + indent}},
		{"too far left", "services:\n  - name: ssh\n   port: 22\nreserved: 3\n", []string{"3:4: is not YAML: did not find expected '-' indicator" + around}},
		{"between two levels, with carriage returns", "services:\r\n- name: a\r\n  port: 1\r\n name: b\r\n", []string{"4:2: is not YAML: did not find expected key" + around}},
		{"list inside a line", "services:\n  - name: ssh\n    port: - 22\n", []string{`3:11: unexpected "-"` + indent}},
		{"word on its own", "services:\nssh\nreserved:\n", []string{"2:1: is not YAML: could not find expected ':'" + around}},
		{"list not closed", "services:\n  - name: ssh\n    port: [22, 80\n    proto: tcp\n", []string{`3:11: unclosed "[": want "," between its items and "]" at its end`}},
		{"mapping not closed", "services:\n  - {name: ssh\n  - {name: web}\n", []string{`2:5: unclosed "{": want "," between its items and "}" at its end`}},
		{"double quotes not closed", "services:\n  - name: \"ssh\n    port: 22\n", []string{`2:11: unclosed quotes: want " at the end`}},
		{"unknown escape", "services:\n  - name: \"a\\d\"\n", []string{`2:13: unknown escape in double quotes: want \\, or single quotes`}},
		{"bad number in an escape", "services:\n  - name: \"a\\xzz\"\n", []string{"2:15: is not YAML: did not find expected hexadecimal number" + around}},
		{"at sign", "services:\n  - name: @ssh\n", []string{`2:11: a value begins with "@"` + quote}},
		{"globs in a list", "services:\n  - name: ssh\n    port: 0\n    hosts: [*-db, *.example.org]\n", []string{`4:13: a value begins with "*"` + quote}},
		{"glob far down", "services:\n" + strings.Repeat("# x\n", 1<<17) + "  - *.a\n  - *.b\n", []string{`131074:5: a value begins with "*"` + quote}},
		{"a mistake in a large file", "services:\n" + strings.Repeat("# x\n", 1<<18) + "  - @a\n", []string{
			"262146:1: is not YAML: found character that cannot start any token" + around,
		}},
		{"another version of YAML", "%YAML 3.0\n---\nservices:\n", []string{"1:1: a directive of YAML: want the file without it"}},
		{"an alias without its anchor", "services:\n  - <<: *nope\n    name: a\n", []string{
			"2:9: an alias of nothing: want its anchor above it, such as &defaults, or quotes if it is a glob",
		}},
		{"a conflict of versions", "services:\n  - {name: a, port: 1}\n<<<<<<< HEAD\n  - {name: b, port: 2}\n=======\n>>>>>>> team\n", []string{
			"3:1: a conflict that Git has marked: want it resolved",
		}},
		{"deep nesting", strings.Repeat("[", 20000), []string{`1:10001: unexpected "["` + indent}},
		{"no UTF-8", "services:\n  - name: caf\xe9\n", []string{"2:14: byte 0xe9 is not UTF-8: want a text file in UTF-8"}},
		{"control character", "services:\r\n  - name: é\x1b[1m\n", []string{"2:12: U+001B is a control character: want printable text"}},
		{"columns are characters", "services: [{name: \"日本\", port: 0}]\n", []string{"1:31: port 0: want a number from 1 to 65535"}},
		{"a mapping in JSON", "{\n\t\"services\": [\n\t\t{\"name\": \"a\", \"port\": 70000}\n\t]\n}\n", []string{"3:25: port 70000: want a number from 1 to 65535"}},
		{"a key with a hard space", "services:\n  - name: ssh\n    port: 22\n    \u00a0bind: any\n", []string{`4:5: unknown key "\u00a0bind": did you mean "bind"?`}},
		{"after a byte order mark", "\ufeffports: 3\n", []string{`1:1: key "ports" belongs under reserved: here, want one of services, forbidden, reserved`}},
	})
}

func TestAFileHasOneDocument(t *testing.T) {
	const nothing = "has no services: want at least services: or reserved:"
	checkFaults(t, []faultCase{
		{"empty", "", []string{"1:1: " + nothing}},
		{"empty document", "---\n", []string{"1:1: " + nothing}},
		{"empty mapping", "{}\n", []string{"1:1: " + nothing}},
		{"list", "- ssh\n", []string{`1:1: the file is a list: want "services:" with a list, or "reserved:" with a list`}},
		{"two documents", "services:\n  - name: ssh\n    port: 0\n---\nreserved: []\n", []string{
			"3:11: port 0: want a number from 1 to 65535",
			"4:1: a second YAML document begins here: want one document in a file",
		}},
		{"text after the end", "services:\n  - name: ssh\n    port: 22\n...\nreserved: []\n", []string{
			"5:1: is not YAML: did not find expected <document start>: want values that contain [, ], ? or : in quotes, and one document in a file",
		}},
		{"too large", strings.Repeat("#", maxSize+1), []string{"1:1: is larger than 10 MiB: want a shorter file"}},
		{"too many values", strings.Repeat("-\n", maxValues+1), []string{
			"2000001:1: more than 2000000 values: want a shorter file",
		}},
		{"too many faults", "services:\n" + strings.Repeat("  - 3\n", maxFaults+3), append(
			numbered(maxFaults, 2, `5: a service is a number: want "name: ssh" and "port: 22"`),
			"1002:5: and more faults from here on")},
		{"more faults than are kept", "services:\n" + strings.Repeat("  - 3\n", maxKept+3), append(
			numbered(maxFaults, 2, `5: a service is a number: want "name: ssh" and "port: 22"`),
			"1002:5: and more faults from here on")},
	})
}

func numbered(count, first int, text string) []string {
	lines := make([]string, count)
	for i := range lines {
		lines[i] = itoa(first+i) + ":" + text
	}
	return lines
}
