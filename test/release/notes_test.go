//go:build linux

package release

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/tools"
)

// TestThePageOfTheReleaseNamesItsFilesAndItsImage: what a reader copies from there is in the release.
func TestThePageOfTheReleaseNamesItsFilesAndItsImage(t *testing.T) {
	dir, version := release(t)
	host.NeedTools(t, "bash")
	text := tools.Read(t, filepath.Join(dir, "../release-notes.md"))
	there := sums(t, filepath.Join(dir, "SHA256SUMS"))
	there["SHA256SUMS"] = ""
	there["provenance.sigstore.json"] = "" // which the workflow adds
	names := regexp.MustCompile(`listen[_-]exporter(-etcd)?[_-]`+regexp.QuoteMeta(version)+`[\w.-]*\w|SHA256SUMS|provenance\.[a-z.]+json`).FindAllString(text, -1)
	if len(names) < 5 {
		t.Errorf("it names only %q", names)
	}
	for _, name := range names {
		if _, found := there[name]; !found {
			t.Errorf("it names %s, which is not in the release", name)
		}
	}
	for _, f := range []form{plain, etcd} {
		_, top, _ := images(t, dir, version, f)
		if !strings.Contains(text, "@"+top.Digest+"\n") {
			t.Errorf("it does not name the image %s", top.Digest)
		}
	}
	scripts := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(text, -1)
	for _, script := range scripts {
		if _, err := host.Output(minute, "bash", "-n", "-c", script[1]); err != nil {
			t.Error(err)
		}
	}
}
