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
				t.Fatalf("got registry %v and error %v, want faults alone", r, err)
			}
			if _, ok := errors.AsType[Faults](err); !ok {
				t.Fatalf("got %T, want Faults", err)
			}
			got := strings.Split(strings.ReplaceAll(err.Error(), "ports.yml:", ""), "\n")
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestWhatIsNotYAMLIsToldWithItsPlace(t *testing.T) {
	const (
		indent = `a colon too many: want this line indented like its neighbours, and a value that holds ": " in quotes`
		above  = "does not fit the lines above: want it indented like its neighbours"
		start  = "a value cannot begin with @, ` or %: want it in quotes"
		quotes = "these quotes are not closed: want the same at the end"
	)
	checkFaults(t, []faultCase{
		{"tab before an item", "services:\n\t- name: ssh\n", []string{
			"2:1: a tab: want spaces",
			`2:4: service "ssh" has no port: want "port: 22", a range such as "8000-8010", or a list of them`,
		}},
		{"tabs everywhere, and more", "services:\n\t- name: ssh\n\t\tport: 0\n\t\thosts: [*.db]\n \t# a\n\t- name: web\n\t  port: 80\n\t  bind: nowhere\n", []string{
			"2:1: a tab: want spaces",
			"3:1: a tab: want spaces",
			"3:9: port 0: want a number from 1 to 65535",
			"4:1: a tab: want spaces",
			"4:11: *.db begins with *: want it in quotes: '*.db'",
			"6:1: a tab: want spaces",
			"7:1: a tab: want spaces",
			"8:1: a tab: want spaces",
			`8:10: bind "nowhere" is no address: want any, loopback, private, an address, a CIDR such as 10.0.0.0/8, or a list of them`,
		}},
		{"tabs and what is not YAML all the same", "services:\n\t- name: ssh\n    bind: ::\n", []string{"2:1: a tab: want spaces"}},
		{"tab in a text is fine, a character is not", "services:\n  - name: a\n    purpose: |\n      a\n      \tb\n    port: @1\n", []string{"6:11: " + start}},
		{"nothing behind a bracket", "services: [\n", []string{"1:11: nothing stands behind this [: want what it holds, and ] at its end"}},
		{"nothing but a comment behind a bracket", "services:\n  - name: ü\n    port: [\n  # y [\n\n", []string{"3:11: nothing stands behind this [: want what it holds, and ] at its end"}},
		{"nothing behind a brace", "services:\n  - {\n", []string{"2:5: nothing stands behind this {: want what it holds, and } at its end"}},
		{"tab before a key", "services:\n  - name: ssh\n\t  port: 22\n", []string{"3:1: a tab: want spaces"}},
		{"tab on the first line", "\tservices:\n", []string{"1:1: a tab: want spaces", `1:11: services is nothing: want a list of services ("- name: ssh")`}},
		{"tab in a block of text", "services:\n  - name: ssh\n    purpose: |\n\tlogin\n    port: 22\n", []string{"4:1: a tab: want spaces"}},
		{"tab before a value is fine, what follows is not", "services:\n  - name:\tssh\n    port: 0\n", []string{"3:11: port 0: want a number from 1 to 65535"}},
		{"two colons", "services: reserved: 3\n", []string{"1:1: " + indent}},
		{"wildcard without quotes", "services:\n  - name: ssh\n    bind: ::\n    port: 22\n", []string{`3:11: a colon too many: want a value such as "::" in quotes`}},
		{"wildcard without quotes in a list", "services:\n  - name: ssh\n    bind: [::]\n", []string{`3:12: a value is missing: want a value such as "::" in quotes`}},
		{"item behind a comma missing", "services:\n  - name: ssh\n    port: [22,,]\n", []string{"3:5: a value is missing: want one"}},
		{"too far right", "services:\n  - name: ssh\n      port: 22\n", []string{"3:7: " + indent}},
		{"too far left", "services:\n  - name: ssh\n   port: 22\nreserved: 3\n", []string{`3:4: does not fit the list above: want "- ", indented like the items before it`}},
		{"between two levels", "services:\n- name: a\n  port: 1\n name: b\n- name: c\n  port: 3\n", []string{"4:2: " + above}},
		{"between two levels, with carriage returns", "services:\r\n- name: a\r\n  port: 1\r\n name: b\r\n- name: c\r\n", []string{"4:2: " + above}},
		{"bracket on its own", "services:\n]\nreserved:\n", []string{"2:1: a value is missing: want one"}},
		{"list inside a line", "services:\n  - name: ssh\n    port: - 22\n", []string{"3:5: a list item where none can stand: want each on a line of its own, indented like its neighbours"}},
		{"mapping behind a list", "- name: ssh\nservices:\n", []string{`2:1: does not fit the list above: want "- ", indented like the items before it`}},
		{"word on its own", "services:\nssh\nreserved:\n", []string{`2:1: no colon: want "key: value"`}},
		{"list not closed", "services:\n  - name: ssh\n    port: [22, 80\n    proto: tcp\n", []string{"3:11: this list is not closed: want , between its items, ] at its end, and items that hold [, ] or ? in quotes"}},
		{"glob in a list", "services:\n  - name: ssh\n    hosts: [web-?, db]\n", []string{"3:12: this list is not closed: want , between its items, ] at its end, and items that hold [, ] or ? in quotes"}},
		{"mapping not closed", "services:\n  - {name: ssh\n  - {name: web}\n", []string{"2:5: this mapping is not closed: want , between its items and } at its end"}},
		{"double quotes not closed", "services:\n  - name: \"ssh\n    port: 22\n", []string{"2:11: " + quotes}},
		{"single quotes not closed", "services:\n  - name: 'ssh\n    port: 22\n", []string{"2:11: " + quotes}},
		{"quotes not closed on the first line", "services: \"\nssh\n", []string{"1:11: " + quotes}},
		{"unknown escape", "services:\n  - name: \"a\\d\"\n", []string{`2:13: \ begins an escape in double quotes: want \\, or single quotes`}},
		{"at sign", "services:\n  - name: @ssh\n", []string{"2:11: " + start}},
		{"back quote", "services:\n  - name: `ssh`\n", []string{"2:11: " + start}},
		{"percent sign", "services:\n  - name: %ssh\n", []string{"2:11: " + start}},
		{"question mark", "services: ? ssh\n", []string{"1:11: a value cannot begin with ?: want it in quotes"}},
		{"greater than", "services:\n  - name: >ssh\n", []string{"2:11: text cannot begin with | or >: want it in quotes"}},
		{"another version of YAML", "%YAML 3.0\n---\nservices:\n", []string{"1:1: is not YAML: found incompatible YAML document"}},
		{"deep nesting", strings.Repeat("[", 20000), []string{"1:1: nested too deeply: want lists of services and ranges"}},
		{"no UTF-8", "services:\n  - name: caf\xe9\n", []string{"2:14: byte 0xe9 is not UTF-8: want a text file in UTF-8"}},
		{"UTF-16", "\xff\xfes\x00", []string{"1:1: is a text in UTF-16: want UTF-8"}},
		{"UTF-16, the other way round", "\xfe\xff\x00s", []string{"1:1: is a text in UTF-16: want UTF-8"}},
		{"control character", "services:\r\n  - name: é\x1b[1m\n", []string{"2:12: U+001B is a control character: want printable text"}},
		{"zero byte", "\x00", []string{"1:1: U+0000 is a control character: want printable text"}},
		{"behind a byte order mark", "\ufeffports: 3\n", []string{`1:1: unknown key "ports": want one of services, reserved`}},
	})
}

func TestAGlobWithoutQuotesHidesNoOtherFault(t *testing.T) {
	checkFaults(t, []faultCase{
		{"in a list", "services:\n  - name: ssh\n    port: 0\n    hosts: [*-db, *.example.org]\n", []string{
			"3:11: port 0: want a number from 1 to 65535",
			"4:13: *-db begins with *: want it in quotes: '*-db'",
			"4:19: *.example.org begins with *: want it in quotes: '*.example.org'",
		}},
		{"on its own", "services:\n  - name: ssh # *\n    port: 22\n    hosts:\n      - *\n", []string{
			"5:9: * begins with *: want it in quotes: '*'",
		}},
		{"beside what is not YAML", "services:\n  - name: ssh\n    hosts: *-db\n    bind: ::\n", []string{
			"3:12: *-db begins with *: want it in quotes: '*-db'",
			`4:11: a colon too many: want a value such as "::" in quotes`,
		}},
		{
			"more of them than are looked for", "services:\n" + strings.Repeat("  - *a\n", maxRepairs+1),
			numbered(maxRepairs, 2, "5: *a begins with *: want it in quotes: '*a'"),
		},
		{"before a second document", "hosts: [*a]\n---\n", []string{
			`1:1: unknown key "hosts": want one of services, reserved`,
			"1:9: *a begins with *: want it in quotes: '*a'",
			"2:1: a second YAML document begins here: want one document in a file",
		}},
		{"in a file that is too large to look at so often", "services:\n" + strings.Repeat("# x\n", maxRepairWork/4) + "  - *.a\n  - *.b\n", []string{
			"1048578:5: a value cannot begin with * or &: want it in quotes",
		}},
		{"the same beside each other", "hosts: [*.a, *.a] # *.a, *.a\n", []string{
			`1:1: unknown key "hosts": want one of services, reserved`,
			"1:9: *.a begins with *: want it in quotes: '*.a'",
			"1:14: *.a begins with *: want it in quotes: '*.a'",
		}},
	})
}

func TestWhatExpandsIsRefused(t *testing.T) {
	bomb := "a: &a [x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c <= 'k'; c++ {
		before := string(c - 1)
		bomb += string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+before+", ", 8) + "*" + before + "]\n"
	}
	_, err := Parse("ports.yml", []byte(bomb))
	var faults Faults
	if !errors.As(err, &faults) || len(faults) != 11+11+9*10 {
		t.Errorf("got %d faults, want one for each key, anchor and alias", len(faults))
	}
	checkFaults(t, []faultCase{
		{"anchor and alias", "services:\n  - name: &n ssh\n    port: 0\n  - name: *n\n    port: 65536\n", []string{
			"2:11: anchor &n: anchors and aliases are not supported: write the value out, or in quotes if it begins with &",
			"3:11: port 0: want a number from 1 to 65535",
			"4:11: alias *n: anchors and aliases are not supported: write the value out, or in quotes if it begins with *",
			"5:11: port 65536: want a number from 1 to 65535",
		}},
		{"tag", "services:\n  - name: !!str 22\n    port: !ports 22\n    purpose: !p\n", []string{
			`2:11: tag "!!str": tags are not supported: leave it out`,
			`3:11: tag "!ports": tags are not supported: leave it out`,
			`4:14: tag "!p": tags are not supported: leave it out`,
		}},
		{"merged mapping", "services:\n  - &s {name: ssh, port: 22}\n  - {<<: *s, name: git}\n", []string{
			"2:5: anchor &s: anchors and aliases are not supported: write the value out, or in quotes if it begins with &",
			`3:5: service "git" has no port: want "port: 22", a range such as "8000-8010", or a list of them`,
			`3:6: unknown key "<<": merging is not supported: write the keys out`,
			"3:10: alias *s: anchors and aliases are not supported: write the value out, or in quotes if it begins with *",
		}},
	})
}

func TestAFileHasOneDocument(t *testing.T) {
	const nothing = "has no services: want at least services: or reserved:"
	checkFaults(t, []faultCase{
		{"empty", "", []string{"1:1: " + nothing}},
		{"comments alone", "# nothing\n\n# here\n", []string{"1:1: " + nothing}},
		{"empty document", "---\n", []string{"1:1: " + nothing}},
		{"null", "---\n~\n", []string{"1:1: " + nothing}},
		{"empty mapping", "{}\n", []string{"1:1: " + nothing}},
		{"text", "ssh\n", []string{`1:1: the file is text: want "services:" with a list, or "reserved:" with a list`}},
		{"list", "- ssh\n", []string{`1:1: the file is a list: want "services:" with a list, or "reserved:" with a list`}},
		{"two documents", "services:\n  - name: ssh\n    port: 0\n---\nreserved: []\n", []string{
			"3:11: port 0: want a number from 1 to 65535",
			"4:1: a second YAML document begins here: want one document in a file",
		}},
		{"text behind the end", "services:\n  - name: ssh\n    port: 22\n...\nreserved: []\n", []string{
			"5:1: goes on behind the end of the document: want one document in a file",
		}},
		{"too large", strings.Repeat("#", maxSize+1), []string{"1:1: is larger than 10 MiB, the most that is read: want a shorter file"}},
		{"too many values", strings.Repeat("-\n", maxValues+1), []string{
			"2000001:1: has more than 2000000 values up to here, which is the most: want a shorter file",
		}},
		{"too many faults", "services:\n" + strings.Repeat("  - 3\n", maxFaults+3), append(
			numbered(maxFaults, 2, `5: a service is a number: want "name: ssh" and "port: 22"`),
			"1002:5: and 3 more faults from here on")},
		{"more faults than are kept", "services:\n" + strings.Repeat("  - 3\n", maxKept+3), append(
			numbered(maxFaults, 2, `5: a service is a number: want "name: ssh" and "port: 22"`),
			"1002:5: and 99003 more faults from here on")},
	})
}

func numbered(count, first int, text string) []string {
	lines := make([]string, count)
	for i := range lines {
		lines[i] = itoa(first+i) + ":" + text
	}
	return lines
}
