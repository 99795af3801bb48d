//go:build linux

package release

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/tools"
)

// schema returns the schema of CycloneDX 1.6.
func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	compiler := jsonschema.NewCompiler()
	const base = "http://cyclonedx.org/schema/"
	for _, name := range []string{"bom-1.6.schema.json", "spdx.schema.json", "jsf-0.82.schema.json"} {
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(tools.Read(t, filepath.Join(host.Root, ".tools/cyclonedx", name))))
		if err != nil {
			t.Fatal(err)
		}
		if err := compiler.AddResource(base+name, value); err != nil {
			t.Fatal(err)
		}
	}
	compiled, err := compiler.Compile(base + "bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

func TestEachBillOfMaterialsListsTheModulesOfItsProgram(t *testing.T) {
	dir, version := release(t)
	schema := schema(t)
	for _, a := range architectures {
		t.Run(a.goarch+string(a.form), func(t *testing.T) {
			unpacked := unpack(t, a)
			program := filepath.Join(unpacked, "listen_exporter")
			text := tools.Read(t, filepath.Join(dir, a.archiveName(version)+".cdx.json"))
			value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(value); err != nil {
				t.Error(err)
			}
			var bill struct {
				Metadata struct {
					Component struct {
						Version string
						Hashes  []struct{ Content string }
					}
				}
				Components []struct {
					Name, Version, PURL string
					Licenses            []struct{ License struct{ ID string } }
				}
			}
			if err := json.Unmarshal([]byte(text), &bill); err != nil {
				t.Fatal(err)
			}

			// What go version -m prints.
			info, err := buildinfo.ReadFile(program)
			if err != nil {
				t.Fatal(err)
			}
			want := []string{"std " + strings.TrimPrefix(info.GoVersion, "go")}
			for _, module := range info.Deps {
				want = append(want, module.Path+" "+module.Version)
			}
			var got []string
			licenses := tools.Read(t, filepath.Join(unpacked, "THIRD_PARTY_LICENSES"))
			for _, component := range bill.Components {
				got = append(got, component.Name+" "+component.Version)
				if want := "pkg:golang/" + component.Name + "@" + component.Version; component.PURL != want {
					t.Errorf("the package URL of %s is %s, want %s", component.Name, component.PURL, want)
				}
				if len(component.Licenses) == 0 || !strings.Contains(licenses, "\n"+component.Name+": ") {
					t.Errorf("%s has no licence, or its text is not in the archive", component.Name)
				}
			}
			slices.Sort(want)
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("modules, -program +bill:\n%s", diff)
			}

			content, err := os.ReadFile(program)
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(content)
			own := bill.Metadata.Component
			if own.Version != version || len(own.Hashes) != 1 || own.Hashes[0].Content != hex.EncodeToString(sum[:]) {
				t.Errorf("the bill is that of %+v, and not of the program in the archive", own)
			}
		})
	}
}
