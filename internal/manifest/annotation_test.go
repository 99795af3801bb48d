//go:build linux

package manifest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// namespaceWith is a manifest of a Namespace whose annotation, as YAML, is at line 6, column 33.
func namespaceWith(name, annotation string) string {
	return "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: " + name + "\n  annotations:\n    listen-exporter/port-range: " + annotation + "\n"
}

func TestTheAnnotationOfANamespaceIsComparedWithWhatIsReservedForIt(t *testing.T) {
	const ports = `reserved:
  - {team: shop, ports: [30000-30499, 30500-30999, 31500], namespaces: [shop, shop-staging]}
  - {team: search, ports: 32000, namespaces: [search]}
`
	const annotation, same = "annotation listen-exporter/port-range of Namespace ", ": want both to list the same ports"
	const noList = " is not a list of ports: want ports and ranges from 1 to 65535, such as 30000-30499,31500"
	for _, test := range []struct{ name, namespace, value, want string }{
		{"the same", "shop", "30000-30999,31500", ""},
		{"the same in other words", "shop-staging", `"31500, 30500-30999,30000-30600"`, ""},
		{"one port", "search", "'32000'", ""},
		{
			"more", "shop", "30000-31000,31500",
			annotation + "shop allows 31000, which is not reserved for it at ports.yml:2" + same,
		},
		{
			"less", "shop", "30000-30100,30200-30999",
			annotation + "shop lacks 30101-30199, 31500, which is reserved for it at ports.yml:2" + same,
		},
		{
			"more and less", "search", "31999,32001-32010",
			annotation + "search allows 31999, 32001-32010, which is not reserved for it at ports.yml:3, and lacks 32000, which is" + same,
		},
		{
			"nothing is reserved", "other", "30000-30999",
			annotation + "other allows 30000-30999, but ports.yml reserves nothing for it" + same,
		},
		{"a number", "search", "32000", annotation + `search is a number, but Kubernetes accepts only text: want "32000"`},
		{"empty", "shop", "''", annotation + "shop" + noList},
		{"a list", "shop", "[30000]", annotation + "shop" + noList},
		{"null is none", "shop", "~", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var want []string
			if test.want != "" {
				want = []string{"deploy/a.yaml:6:33: " + test.want}
			}
			expect(t, ports, files{"a.yaml": namespaceWith(test.namespace, test.value)}, want, nil)
		})
	}
}

// More cases are given to the policy itself in the tests of Kubernetes.
func TestAnAnnotationIsReadAsThePolicyReadsIt(t *testing.T) {
	for text, want := range map[string]string{
		"30000":                             "30000",
		"1-65535":                           "1-65535",
		"30000-30499, 31500,31000-31099":    "30000-30499, 31000-31099, 31500",
		"":                                  "",
		"http":                              "",
		"30999-30000":                       "",
		"0-80":                              "",
		"080":                               "",
		"30000,":                            "",
		`30000\n30001`:                      "",
		"0x7530":                            "",
		"30000 - 30999":                     "",
		"99999999999999999999-999999999999": "",
	} {
		finding := "annotation listen-exporter/port-range of Namespace other is not a list of ports: want ports and ranges from 1 to 65535, such as 30000-30499,31500"
		if want != "" {
			finding = "annotation listen-exporter/port-range of Namespace other allows " + want + ", but ports.yml reserves nothing for it: want both to list the same ports"
		}
		t.Run(text, func(t *testing.T) {
			expect(t, "services: [{name: a, port: 1}]\n", files{"a.yaml": namespaceWith("other", `"`+text+`"`)}, []string{"deploy/a.yaml:6:33: " + finding}, nil)
		})
	}
}

func TestThePoliciesHaveTheSamePattern(t *testing.T) {
	files, err := filepath.Glob("../../examples/kubernetes/policies/*-*.yaml")
	if err != nil || len(files) != 2 {
		t.Fatalf("%q, %v, want two policies", files, err)
	}
	// CEL's has no use for groups that are not captured.
	want := "matches('" + strings.ReplaceAll(readableRanges.Get().String(), "(?:", "(") + "')"
	for _, file := range files {
		policy, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(policy), want) {
			t.Errorf("%s does not ask for %s", file, want)
		}
	}
}

func TestOnceOneNamespaceHasTheAnnotationEachWithReservedPortsMust(t *testing.T) {
	const ports = "reserved:\n  - {team: shop, ports: 30000-30999, namespaces: [shop, shop-staging]}\n"
	const plain = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop-staging}\n"
	const other = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n"
	want := []string{
		"deploy/b.yaml:3:18: Namespace shop-staging has no annotation listen-exporter/port-range, but others have, and 30000-30999 is reserved for it at ports.yml:2: want both to list the same ports",
	}
	for _, test := range []struct {
		name  string
		files files
		want  []string
	}{
		{"no one has it", files{"b.yaml": plain + other}, nil},
		{"another has it", files{"a.yaml": namespaceWith("shop", "30000-30999"), "b.yaml": plain + other}, want},
		{"it comes after", files{"b.yaml": plain, "c.yaml": namespaceWith("shop", "30000-30999")}, want},
		{"an overlay has it", files{"b.yaml": plain, "c.yaml": namespaceWith("shop-staging", "30000-30999")}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			expect(t, ports, test.files, test.want, nil)
		})
	}
}

func TestAnAnnotationIsNotComparedWithoutARegistryOrBeforeItIsFilledIn(t *testing.T) {
	expect(t, "", files{"a.yaml": namespaceWith("shop", "'30000'")}, nil, nil)
	expect(t, "reserved: [{team: a, ports: 80, namespaces: [shop]}]\n", files{
		"a.yaml": namespaceWith("shop", "${RANGE}"), "b.yaml": namespaceWith("$(NAME)", "http"),
	}, nil, []string{
		"deploy/a.yaml:6: annotation listen-exporter/port-range of Namespace shop comes from a template",
	})
}
