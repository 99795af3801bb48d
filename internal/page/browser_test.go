package page

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// serve serves a page that shows a snapshot, and returns its address.
func serve(t *testing.T, s *inventory.Snapshot) string {
	t.Helper()
	server := httptest.NewServer(pageOf(t, s, sampleOptions))
	t.Cleanup(server.Close)
	return server.URL + "/"
}

// shownPorts are the ports of the rows that are to be seen, in their order.
func shownPorts(b *tab) []string {
	b.t.Helper()
	var ports []string
	b.eval(`[...document.querySelectorAll("#listeners tbody tr")].filter((row) => row.checkVisibility())
		.map((row) => row.querySelector(".po").textContent)`, &ports)
	return ports
}

// text returns what an element says to a person.
func text(b *tab, selector string) string {
	b.t.Helper()
	var s string
	b.eval(`document.querySelector("`+selector+`").innerText`, &s)
	return s
}

// eventually waits until an expression is true.
func eventually(b *tab, expression string) {
	b.t.Helper()
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		var is bool
		if b.eval(expression, &is); is {
			return
		}
		if time.Since(start) > patience {
			b.t.Fatalf("never true: %s", expression)
		}
	}
}

func TestTheFilterFollowsWhatAPersonTypes(t *testing.T) {
	b := openTab(t)
	b.open(serve(t, sample()))
	all := []string{"4444", "5433", "6379", "30007", "443", "22", "22", "53", "10190"}
	for _, step := range []struct {
		name string
		do   func()
		want []string
		// count is what stands beside the filter.
		count string
	}{
		{"nothing typed", func() {}, all, "9 of 9"},
		{"the slash key leads to the filter, and is not typed", func() { b.keys("/") }, all, "9 of 9"},
		{"a word", func() { b.keys("Ssh") }, []string{"22", "22"}, "2 of 9"},
		{"a second word, from another cell", func() { b.keys(" ::") }, []string{"22"}, "1 of 9"},
		{"a slash within the filter is one", func() { b.keys("/") }, []string{}, "0 of 9"},
		{"escape clears it", func() { b.key("Escape", "") }, all, "9 of 9"},
		{"a part of a word of the verdict", func() { b.keys("regist") }, []string{"4444"}, "1 of 9"},
		{"no word over the border of two cells", func() { b.key("Escape", ""); b.keys("tcp0.0") }, []string{}, "0 of 9"},
		{"a whole container's ID", func() { b.key("Escape", ""); b.keys("9abcdef0123456789abcdef") }, []string{"30007"}, "1 of 9"},
		{"markup is only text", func() { b.key("Escape", ""); b.keys("<script>") }, []string{"4444"}, "1 of 9"},
	} {
		step.do()
		if diff := cmp.Diff(step.want, shownPorts(b)); diff != "" {
			t.Errorf("%s: the rows (-want +got):\n%s", step.name, diff)
		}
		if got := text(b, "#count"); got != step.count {
			t.Errorf("%s: the count is %q, want %q", step.name, got, step.count)
		}
	}
	b.complain(b.events)
}

func TestAFilteredViewCanBeLinkedTo(t *testing.T) {
	b := openTab(t)
	address := serve(t, sample())
	b.open(address)
	b.keys("/nginx 443")
	eventually(b, `location.hash === "#filter=nginx%20443"`)
	b.key("Escape", "")
	eventually(b, `location.href === "`+address+`"`)

	b.open("about:blank")
	b.open(address + "#filter=nginx%20443")
	if diff := cmp.Diff([]string{"443"}, shownPorts(b)); diff != "" {
		t.Errorf("the rows of a link (-want +got):\n%s", diff)
	}
	var value string
	b.eval(`document.querySelector("#filter").value`, &value)
	if value != "nginx 443" {
		t.Errorf("the filter is %q", value)
	}
	// Somebody edits the address by hand, and badly.
	b.eval(`location.hash = "#filter=100%", true`, new(bool))
	eventually(b, `document.querySelector("#count").textContent === "0 of 9"`)
	if !visible(b, "#nothing") {
		t.Error("nothing says that no listener matches")
	}
	b.complain(b.events)
}

func visible(b *tab, selector string) (is bool) {
	b.t.Helper()
	b.eval(`document.querySelector("`+selector+`").checkVisibility()`, &is)
	return is
}

func TestANameIsShownAndNotRun(t *testing.T) {
	s := sample()
	s.Listeners[0].Verdict.Service = nasty
	s.Listeners[0].Verdict.Purpose = `"'><img src=x onerror=alert(1)>`
	s.Reads[1].Err = errText(nasty)
	b := openTab(t)
	b.open(serve(t, s))
	var title string
	b.eval(`document.title`, &title)
	if want := "UDP unread, 2 missing services, 4 violations, 1 full queue: db-7.example.com"; title != want {
		t.Errorf("the title is %q, want %q", title, want)
	}
	var scripts, images int
	b.eval(`document.scripts.length`, &scripts)
	b.eval(`document.images.length`, &images)
	if scripts != 1 || images != 0 {
		t.Errorf("%d scripts and %d images, want the page's own script alone", scripts, images)
	}
	if got := text(b, "#listeners tbody tr .ho b"); got != nasty {
		t.Errorf("the process is shown as %q", got)
	}
	b.complain(b.events)
}

type errText string

func (e errText) Error() string { return string(e) }

func TestThePageIsReadableWithoutScripts(t *testing.T) {
	b := openTab(t)
	b.call("Emulation.setScriptExecutionDisabled", map[string]any{"value": true}, nil)
	b.open(serve(t, sample()) + "#filter=ssh")
	if got := len(shownPorts(b)); got != 9 {
		t.Errorf("%d rows, want all 9", got)
	}
	if visible(b, "#search") {
		t.Error("there is a filter that does nothing")
	}
	if got, want := text(b, "#missing caption"), "Missing services"; got != want {
		t.Errorf("the first table is called %q, want %q", got, want)
	}
}
