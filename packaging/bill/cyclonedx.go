//go:build linux

package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// The objects of CycloneDX 1.6 (ECMA-424), as far as a Go program has them.
type (
	document struct {
		Schema       string       `json:"$schema"`
		Format       string       `json:"bomFormat"`
		SpecVersion  string       `json:"specVersion"`
		SerialNumber string       `json:"serialNumber"`
		Version      int          `json:"version"`
		Metadata     metadata     `json:"metadata"`
		Components   []component  `json:"components"`
		Dependencies []dependency `json:"dependencies"`
	}
	metadata struct {
		Timestamp time.Time `json:"timestamp"`
		Component component `json:"component"`
	}
	component struct {
		Ref        string     `json:"bom-ref"`
		Type       string     `json:"type"`
		Name       string     `json:"name"`
		Version    string     `json:"version"`
		Hashes     []hash     `json:"hashes,omitempty"`
		Licenses   []choice   `json:"licenses"`
		PURL       string     `json:"purl"`
		Properties []property `json:"properties,omitempty"`
	}
	hash struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	}
	choice struct {
		License struct {
			ID string `json:"id"`
		} `json:"license"`
	}
	property struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	dependency struct {
		Ref       string   `json:"ref"`
		DependsOn []string `json:"dependsOn,omitempty"`
	}
)

// cycloneDX returns the bill of materials. The same program always gets the same one.
func (p program) cycloneDX(created time.Time) ([]byte, error) {
	ownURL := purl(module{p.info.Main.Path, "v" + p.version})
	own := component{
		Ref: ownURL, Type: "application", Name: p.name, Version: p.version, PURL: ownURL,
		Hashes:   []hash{{"SHA-256", hex.EncodeToString(p.sum[:])}},
		Licenses: choices([]string{"Apache-2.0"}),
	}
	for _, setting := range p.info.Settings {
		own.Properties = append(own.Properties, property{"go:build:" + setting.Key, setting.Value})
	}
	doc := document{
		Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json", Format: "CycloneDX", SpecVersion: "1.6",
		SerialNumber: serialNumber(p.sum[:]), Version: 1,
		Metadata: metadata{created, own},
	}
	all := dependency{Ref: own.Ref}
	for _, part := range p.parts {
		url := purl(part.module)
		doc.Components = append(doc.Components, component{
			Ref: url, Type: "library", Name: part.path, Version: part.version, PURL: url, Licenses: choices(part.licenses()),
		})
		all.DependsOn = append(all.DependsOn, url)
	}
	// Which of the modules needs which, the program does not record.
	doc.Dependencies = []dependency{all}

	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(doc)
	return out.Bytes(), err
}

// purl returns the package URL by which vulnerability databases know a module. A plus sign, of a version such as
// v2.0.0+incompatible, means a space to some readers.
func purl(m module) string {
	return "pkg:golang/" + m.path + "@" + strings.ReplaceAll(m.version, "+", "%2B")
}

func choices(ids []string) []choice {
	found := make([]choice, len(ids))
	for i, id := range ids {
		found[i].License.ID = id
	}
	return found
}

// serialNumber makes a UUID of version 8 (RFC 9562) from a hash.
func serialNumber(sum []byte) string {
	id := bytes.Clone(sum[:16])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}
