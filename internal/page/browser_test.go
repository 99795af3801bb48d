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
	if got := b.text("#listeners tbody tr:nth-child(2) .ho b"); got != nasty {
		t.Errorf("the process is shown as %q", got)
	}
	all := []string{"6379/tcp", "4444/tcp", "30007/tcp", "5433/tcp", "443/tcp", "22/tcp", "53/udp", "8000–8029/tcp", "10190/tcp"}
	for _, step := range []struct {
		name string
		do   func()
		want []string
		// count is the text next to the filter.
		count string
	}{
		{"the slash key leads to the filter, and is not typed", func() { b.keys("/") }, all, "39 of 39"},
		{"a word", func() { b.keys("Ssh") }, []string{"22/tcp"}, "2 of 39"},
		{"a second word, from another cell", func() { b.keys(" ::") }, []string{"22/tcp"}, "2 of 39"},
		{"escape clears it", func() { b.press("Escape", "") }, all, "39 of 39"},
		{"a part of a word of the verdict", func() { b.keys("regist") }, []string{"4444/tcp"}, "1 of 39"},
		{"no word over the border of two cells", func() { b.press("Escape", ""); b.keys("tcp0.0") }, []string{}, "0 of 39"},
		{"a whole container's ID", func() { b.press("Escape", ""); b.keys("9abcdef0123456789abcdef") }, []string{"30007/tcp"}, "1 of 39"},
		{"markup is only text", func() { b.press("Escape", ""); b.keys("<script>") }, []string{"4444/tcp"}, "1 of 39"},
		{"a port within a range opens it", func() { b.press("Escape", ""); b.keys("8017") }, []string{"8000–8029/tcp", "8017/tcp"}, "1 of 39"},
		{"the holder of a range", func() { b.press("Escape", ""); b.keys("tiles") }, []string{"8000–8029/tcp"}, "30 of 39"},
		{"a cleared filter closes the range", func() { b.press("Escape", "") }, all, "39 of 39"},
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
	if diff := cmp.Diff([]string{"443/tcp"}, b.shownPorts()); diff != "" {
		t.Errorf("the rows of a link (-want +got):\n%s", diff)
	}
	if value := eval[string](b, `document.querySelector("#filter").value`); value != "nginx 443" {
		t.Errorf("the filter is %q", value)
	}
	// Somebody edits the address by hand, and badly.
	eval[string](b, `location.hash = "#filter=100%"`)
	b.eventually(`document.querySelector("#count").textContent === "0 of 39"`)
	if !b.visible("#nothing") {
		t.Error("nothing says that no listener matches")
	}
}

func TestAnotherOrderAndSelectionKeepTheFilter(t *testing.T) {
	b := openTab(t)
	address := b.show(sample())
	b.keys("/p any")
	b.follow("thead .po a")
	if diff := cmp.Diff([]string{"22/tcp", "443/tcp", "6379/tcp", "10190/tcp"}, b.shownPorts()); diff != "" {
		t.Errorf("the rows by port (-want +got):\n%s", diff)
	}
	b.follow("thead .po a")
	if diff := cmp.Diff([]string{"10190/tcp", "6379/tcp", "443/tcp", "22/tcp"}, b.shownPorts()); diff != "" {
		t.Errorf("the rows by port, the other way round (-want +got):\n%s", diff)
	}
	b.follow(".summary a[href*=violations]")
	if diff := cmp.Diff([]string{"6379/tcp"}, b.shownPorts()); diff != "" {
		t.Errorf("the rows of a count (-want +got):\n%s", diff)
	}
	if got, want := eval[string](b, "location.href"), address+"?show=violations&sort=-port#filter=p%20any"; got != want {
		t.Errorf("the address is %s, want %s", got, want)
	}
	eval[bool](b, "window.stays = true")
	b.follow(".read a")
	if eval[bool](b, "window.stays === true") {
		t.Error("the page was not read again")
	}
}

// Who uses only the keyboard reaches everything that can be clicked.
func TestTheKeyboardReachesEverything(t *testing.T) {
	b := openTab(t)
	b.show(sample())
	want := eval[[]string](b, `[...document.querySelectorAll("a, summary, input")].map((element) => element.outerHTML)`)
	var got []string
	for range want {
		b.press("Tab", "")
		got = append(got, eval[string](b, "document.activeElement.outerHTML"))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what the tabulator reaches (-want +got):\n%s", diff)
	}
	eval[bool](b, `document.querySelector("summary").focus() ?? true`)
	b.press("Enter", "\r")
	if got := len(b.shownPorts()); got != 9+30 {
		t.Errorf("%d rows with an open range, want 39", got)
	}
}

func TestThePageIsUsableWithoutScripts(t *testing.T) {
	b := openTab(t)
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	b.open(b.show(sample()) + "#filter=ssh")
	if got := len(b.shownPorts()); got != 9 {
		t.Errorf("%d rows, want all 9", got)
	}
	if b.visible("#search") {
		t.Error("there is a filter that does nothing")
	}
	if got, want := b.text("#missing h2"), "Missing services"; got != want {
		t.Errorf("the first table is called %q, want %q", got, want)
	}
	b.click("summary")
	if got := len(b.shownPorts()); got != 9+30 {
		t.Errorf("%d rows with an open range, want 39", got)
	}
	b.follow(".summary a[href*=violations]")
	b.follow("thead .po a")
	if diff := cmp.Diff([]string{"4444/tcp", "5433/tcp", "6379/tcp", "30007/tcp"}, b.shownPorts()); diff != "" {
		t.Errorf("the violations by port (-want +got):\n%s", diff)
	}
}
