//go:build linux

package page

import (
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/google/go-cmp/cmp"
)

func TestTheFilterFollowsWhatAPersonTypes(t *testing.T) {
	b := openTab(t)
	b.show(sample())
	// A process has a script for a name.
	if got, want := eval[string](b, `document.title`), "2 missing services, 4 violations, 1 full queue: db-7.example.com"; got != want {
		t.Errorf("the title is %q, want %q", got, want)
	}
	if got := b.text("#listeners tbody tr .ho b"); got != nasty {
		t.Errorf("the process is shown as %q", got)
	}
	all := []string{"4444", "5433", "6379", "30007", "443", "22", "22", "53", "10190"}
	for _, step := range []struct {
		name string
		do   func()
		want []string
		// count is the text next to the filter.
		count string
	}{
		{"the slash key leads to the filter, and is not typed", func() { b.keys("/") }, all, "9 of 9"},
		{"a word", func() { b.keys("Ssh") }, []string{"22", "22"}, "2 of 9"},
		{"a second word, from another cell", func() { b.keys(" ::") }, []string{"22"}, "1 of 9"},
		{"escape clears it", func() { b.press("Escape", "") }, all, "9 of 9"},
		{"a part of a word of the verdict", func() { b.keys("regist") }, []string{"4444"}, "1 of 9"},
		{"no word over the border of two cells", func() { b.press("Escape", ""); b.keys("tcp0.0") }, []string{}, "0 of 9"},
		{"a whole container's ID", func() { b.press("Escape", ""); b.keys("9abcdef0123456789abcdef") }, []string{"30007"}, "1 of 9"},
		{"markup is only text", func() { b.press("Escape", ""); b.keys("<script>") }, []string{"4444"}, "1 of 9"},
	} {
		step.do()
		if diff := cmp.Diff(step.want, b.shownPorts()); diff != "" {
			t.Errorf("%s: the rows (-want +got):\n%s", step.name, diff)
		}
		if got := b.text("#count"); got != step.count {
			t.Errorf("%s: the count is %q, want %q", step.name, got, step.count)
		}
	}
}

func TestAFilteredViewCanBeLinkedTo(t *testing.T) {
	b := openTab(t)
	address := b.show(sample())
	b.keys("/nginx 443")
	b.eventually(`location.hash === "#filter=nginx%20443"`)
	b.press("Escape", "")
	b.eventually(`location.href === "` + address + `"`)

	b.open("about:blank")
	b.open(address + "#filter=nginx%20443")
	if diff := cmp.Diff([]string{"443"}, b.shownPorts()); diff != "" {
		t.Errorf("the rows of a link (-want +got):\n%s", diff)
	}
	if value := eval[string](b, `document.querySelector("#filter").value`); value != "nginx 443" {
		t.Errorf("the filter is %q", value)
	}
	// Somebody edits the address by hand, and badly.
	eval[string](b, `location.hash = "#filter=100%"`)
	b.eventually(`document.querySelector("#count").textContent === "0 of 9"`)
	if !b.visible("#nothing") {
		t.Error("nothing says that no listener matches")
	}
}

func TestThePageIsReadableWithoutScripts(t *testing.T) {
	b := openTab(t)
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	b.open(b.show(sample()) + "#filter=ssh")
	if got := len(b.shownPorts()); got != 9 {
		t.Errorf("%d rows, want all 9", got)
	}
	if b.visible("#search") {
		t.Error("there is a filter that does nothing")
	}
	if got, want := b.text("#missing caption"), "Missing services"; got != want {
		t.Errorf("the first table is called %q, want %q", got, want)
	}
}
