//go:build linux

package docs

import (
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/listen-exporter/listen_exporter/test/host"
)

func TestEveryPathThatADocumentNamesExists(t *testing.T) {
	for _, document := range documents(t) {
		t.Run(document, func(t *testing.T) {
			text := read(t, document)
			for _, link := range linkForm.FindAllStringSubmatch(text, -1) {
				checkLink(t, document, link[1])
			}
			for _, span := range codeSpan.FindAllStringSubmatch(text, -1) {
				first, _, _ := strings.Cut(strings.TrimPrefix(span[1], "./"), "/")
				if !pathForm.MatchString(span[1]) && !topForm.MatchString(span[1]) || slices.Contains(madeByMake, first) {
					continue
				}
				if !exists(span[1]) && !exists(path.Join(path.Dir(document), span[1])) {
					t.Errorf("there is no %s", span[1])
				}
			}
		})
	}
}

// exists reports whether the repository has a file or directory.
func exists(name string) bool {
	_, err := os.Stat(filepath.Join(host.Root, name))
	return err == nil
}

// The badge of a workflow, and its page: GitHub has them two levels above the README of whichever repository it shows.
var workflowForm = regexp.MustCompile(`^\.\./\.\./actions/(workflows/[\w.-]+\.yml)(/badge\.svg)?$`)

// checkLink checks a link of a document: a file of the repository, and a heading in it.
func checkLink(t *testing.T, document, link string) {
	t.Helper()
	target, err := url.Parse(link)
	if err != nil {
		t.Errorf("the link %s: %v", link, err)
		return
	}
	if target.Scheme != "" {
		return
	}
	file := document
	if target.Path != "" {
		file = path.Join(path.Dir(document), target.Path)
	}
	if workflow := workflowForm.FindStringSubmatch(link); workflow != nil && document == "README.md" {
		file = ".github/" + workflow[1]
	}
	if !exists(file) {
		t.Errorf("the link %s: there is no %s", link, file)
		return
	}
	if target.Fragment != "" && !slices.Contains(anchors(read(t, file)), target.Fragment) {
		t.Errorf("the link %s: %s has no such heading", link, file)
	}
}

var notInAnchors = regexp.MustCompile(`[^\p{L}\p{N} _-]`)

// anchors returns the names by which the headings of a document can be linked to.
func anchors(document string) []string {
	var found []string
	for line := range strings.Lines(document) {
		if heading := strings.TrimLeft(line, "#"); heading != line && strings.HasPrefix(heading, " ") {
			heading = notInAnchors.ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), "")
			found = append(found, strings.ReplaceAll(heading, " ", "-"))
		}
	}
	return found
}

func TestTheIndexHasEveryPage(t *testing.T) {
	index := read(t, "docs/README.md")
	for _, document := range documents(t) {
		name, is := strings.CutPrefix(document, "docs/")
		if !is || name == "README.md" {
			continue
		}
		if !strings.Contains(index, "]("+name+") |\n") {
			t.Errorf("docs/README.md has no row with %s", document)
		}
		if heading, _, _ := strings.Cut(read(t, document), "\n"); !strings.HasPrefix(heading, "# ") || !strings.HasSuffix(heading, "?") {
			t.Errorf("%s begins with %q: want one question as its heading", document, heading)
		}
	}
}
