//go:build linux

// Package pictures makes the pictures of the documents from the real program, and finds out whether they are old.
//
// Each picture has a text of what it shows. The pictures are old when that is no longer what the program shows: this can be seen
// in seconds, and without a browser.
package pictures

import (
	"fmt"
	"html"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/listen-exporter/listen_exporter/test/grafana"
	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
	"github.com/listen-exporter/listen_exporter/test/program"
	"github.com/listen-exporter/listen_exporter/test/tools"
)

// makeVariable is set where the pictures are made. It names the directory in which the scene leaves what is drawn.
const makeVariable = "LISTEN_EXPORTER_PICTURES"

// prompt is that of the shell on the host.
const prompt = "root@web-1:~# "

// directory has the pictures, and their texts.
var directory = filepath.Join(host.Root, "docs/pictures")

// TestThePicturesAreNotOld compares what the pictures show with what the program shows.
func TestThePicturesAreNotOld(t *testing.T) {
	host.Program(t, "test-pictures")
	netnstest.RunAsHost(t, func(t *testing.T) {
		dir := host.OpenDir(t)
		m, e := web(t, dir)
		isNew(t, "page", words(pageOf(e, dir)))
		isNew(t, "terminal", terminalOf(t, m, dir))
	})
}

// TestThePictureOfTheDashboardIsNotOld compares the panels.
func TestThePictureOfTheDashboardIsNotOld(t *testing.T) {
	isNew(t, "dashboard", dashboardText(mainDashboard(t)))
}

// TestEachPictureIsSmall: they are in the repository, and on the first page that a reader loads.
func TestEachPictureIsSmall(t *testing.T) {
	files, err := os.ReadDir(directory)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if info, err := file.Info(); err != nil || info.Size() > 150_000 {
			t.Errorf("%s has %d bytes, %v; want at most 150 000", file.Name(), info.Size(), err)
		}
	}
}

// TestMakeThePictures makes them and their texts.
func TestMakeThePictures(t *testing.T) {
	dir := os.Getenv(makeVariable)
	if dir == "" {
		t.Skip("make pictures runs it")
	}
	host.Program(t, "pictures")
	inside := os.Getpid() == 1
	netnstest.RunAsHost(t, func(t *testing.T) {
		m, e := web(t, dir)
		monitoring := fleet(t, dir, m)
		save(t, filepath.Join(dir, "dashboard.html"), draw(t, mainDashboard(t), monitoring).html(t))
		save(t, filepath.Join(dir, "page.html"), pageOf(e, dir))
		save(t, filepath.Join(directory, "page.txt"), words(pageOf(e, dir)))
		text := terminalOf(t, m, dir)
		save(t, filepath.Join(directory, "terminal.txt"), text)
		save(t, filepath.Join(directory, "terminal.svg"), terminal(t, text))
	})
	if inside || t.Failed() {
		return
	}
	save(t, filepath.Join(directory, "dashboard.txt"), dashboardText(mainDashboard(t)))
	// The browser runs where nobody sees its own listeners.
	for name, taken := range photograph(t, map[string]view{
		"page-light": {filepath.Join(dir, "page.html"), "light", 1200},
		"page-dark":  {filepath.Join(dir, "page.html"), "dark", 1200},
		"dashboard":  {filepath.Join(dir, "dashboard.html"), "dark", 1400},
	}) {
		save(t, filepath.Join(directory, name+".png"), string(taken))
	}
}

func save(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// pageOf returns the page of the host once the holders are known.
func pageOf(e *program.Exporter, dir string) (text string) {
	e.Await("the holders on the page", func() bool {
		text = string(e.Get("/").Body)
		return strings.Contains(text, "chronyd") && strings.Contains(text, "session-4.scope")
	})
	return strings.ReplaceAll(text, dir, "/etc/listen_exporter") // where a real host has its registry
}

// terminalOf returns commands and their output.
func terminalOf(t *testing.T, m *machine, dir string) string {
	t.Helper()
	var text strings.Builder
	for _, command := range []string{"list", "audit"} {
		fmt.Fprintf(&text, "%slisten_exporter %s --registry.file=ports.yml\n%s\n", prompt, command,
			m.output(t, command, "--registry.file="+filepath.Join(dir, "ports.yml")))
	}
	return text.String()
}

func mainDashboard(t *testing.T) *grafana.Dashboard {
	t.Helper()
	all := grafana.Dashboards(t)
	return all[slices.IndexFunc(all, func(d *grafana.Dashboard) bool { return d.UID == "listen-exporter" })]
}

// dashboardText returns the titles, and the columns of the tables.
func dashboardText(d *grafana.Dashboard) string {
	lines := []string{d.Title}
	for _, v := range d.Templating.List {
		lines = append(lines, "variable "+v.Label)
	}
	for p := range d.AtFirst() {
		lines = append(lines, p.Type+" "+p.Title)
		for _, transformation := range p.Transformations {
			for _, column := range transformation.Options.RenameByName {
				lines = append(lines, "column "+column)
			}
		}
	}
	for _, p := range d.Panels {
		if p.Type == "row" {
			lines = append(lines, "row "+p.Title)
		}
	}
	slices.Sort(lines[1:])
	return strings.Join(lines, "\n") + "\n"
}

// words returns the text of an HTML page, a line for each element.
func words(text string) string {
	text = regexp.MustCompile(`(?s)<(style|script)\b.*?</(style|script)>`).ReplaceAllString(text, "")
	text = html.UnescapeString(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(text, "\n"))
	return strings.TrimSpace(regexp.MustCompile(`\s*\n\s*`).ReplaceAllString(text, "\n")) + "\n"
}

// isNew fails if more than a twentieth of a picture's words are not those of now. Numbers do not count: they are times.
func isNew(t *testing.T, name, now string) {
	t.Helper()
	file := filepath.Join(directory, name+".txt")
	split := func(text string) []string {
		return slices.Sorted(strings.FieldsSeq(regexp.MustCompile(`\d+`).ReplaceAllString(text, "0")))
	}
	before, after := split(tools.Read(t, file)), split(now)
	lost, come := without(before, after), without(after, before)
	if 20*max(len(lost), len(come)) > max(len(before), len(after)) {
		t.Errorf("the picture %s is old: it shows %q, and the program now shows %q; run make pictures", file, lost, come)
	}
}

// without returns the words of a that are not in b, each as often as it is missing.
func without(a, b []string) (rest []string) {
	count := make(map[string]int)
	for _, word := range b {
		count[word]++
	}
	for _, word := range a {
		if count[word]--; count[word] < 0 {
			rest = append(rest, word)
		}
	}
	return rest
}
