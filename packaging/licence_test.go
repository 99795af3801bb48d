//go:build linux

package packaging

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/tools"
)

// TestEveryFileHasALicenceWhoseTextIsHere is what `reuse lint` asks of a project without headers.
func TestEveryFileHasALicenceWhoseTextIsHere(t *testing.T) {
	text := tools.Read(t, "../REUSE.toml")
	if !strings.Contains(text, "\npath = \"**\"\n") {
		t.Errorf("REUSE.toml does not cover every file:\n%s", text)
	}
	var named []string
	for _, found := range regexp.MustCompile(`(?m)^SPDX-License-Identifier = "(.*)"$`).FindAllStringSubmatch(text, -1) {
		for name := range strings.SplitSeq(found[1], " OR ") {
			named = append(named, "../LICENSES/"+name+".txt")
		}
	}
	slices.Sort(named)
	there, _ := filepath.Glob("../LICENSES/*")
	if diff := cmp.Diff(named, there); diff != "" {
		t.Errorf("texts (-named +there):\n%s", diff)
	}
	// GitHub and people look for the one, REUSE for the other.
	if tools.Read(t, "../LICENSE") != tools.Read(t, "../LICENSES/Apache-2.0.txt") {
		t.Error("LICENSE and LICENSES/Apache-2.0.txt differ")
	}
	module, _ := readModule(t)
	if home := "https://" + module; !strings.Contains(text, `"`+home+`"`) {
		t.Errorf("REUSE.toml does not name %s", home)
	}
}
