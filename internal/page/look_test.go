//go:build linux

package page

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/emulation"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// faintTexts evaluates to the texts with too little contrast: less than 4.5 to 1, which WCAG 2.2 requires at level AA (success
// criterion 1.4.3).
const faintTexts = `(() => {
	const parse = (color) => color.match(/[\d.]+/g).map(Number);
	const behind = (element) => {
		for (; element; element = element.parentElement) {
			const [r, g, b, a = 1] = parse(getComputedStyle(element).backgroundColor);
			if (a === 1) return [r, g, b];
		}
		return [255, 255, 255];
	};
	const luminance = (rgb) => {
		const [r, g, b] = rgb.map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
		return 0.2126 * r + 0.7152 * g + 0.0722 * b;
	};
	return [...document.body.querySelectorAll("*")].filter((element) =>
		element.checkVisibility() && [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())
	).map((element) => {
		const [dark, light] = [parse(getComputedStyle(element).color).slice(0, 3), behind(element)].map(luminance).sort((a, b) => a - b);
		return [(light + 0.05) / (dark + 0.05), element];
	}).filter(([contrast]) => contrast < 4.5).map(([contrast, element]) => contrast.toFixed(2) + " " + element.outerHTML.slice(0, 100));
})()`

// overflowing evaluates to the elements that are wider than their place, and so are cut off or cover others.
const overflowing = `[...document.querySelectorAll("body, h1, h2, p, li, td, th, summary, #search")].filter((element) =>
	element.checkVisibility() && (element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 0
		|| element.getBoundingClientRect().right > innerWidth + 1)
).map((element) => element.outerHTML.slice(0, 100))`

func TestThePageFitsEveryScreenAndBothSchemes(t *testing.T) {
	noRegistry := sample()
	noRegistry.Compliance = nil
	for i := range noRegistry.Listeners {
		l := &noRegistry.Listeners[i]
		l.Judged, l.Verdict.Reason, l.Verdict.Service, l.Verdict.Purpose = false, "", "", ""
	}
	b := openTab(t)
	for _, view := range []struct {
		name     string
		snapshot *inventory.Snapshot
		part     string // in view
	}{
		{"violations", sample(), ""},
		{"trouble", trouble(), ""},
		{"no-registry", noRegistry, ""},
		{"calm", calm(), ""},
		{"leases", leasing(), "#leases"},
	} {
		address := b.show(view.snapshot) + view.part
		for _, screen := range []struct {
			name          string
			width, height int64
		}{
			{"telephone", 390, 844},
			{"tablet", 820, 1180},
			{"laptop", 1280, 800},
			{"wide", 1920, 1080},
		} {
			for _, scheme := range []string{"light", "dark"} {
				name := fmt.Sprintf("%s-%s-%s", view.name, screen.name, scheme)
				b.window(screen.width, screen.height, scheme)
				b.open(address)
				dark := eval[string](b, `getComputedStyle(document.body).backgroundColor`) != "rgb(255, 255, 255)"
				if dark != (scheme == "dark") {
					t.Errorf("%s: the page is dark: %t", name, dark)
				}
				if wide := eval[int64](b, `document.scrollingElement.scrollWidth`); wide > screen.width {
					t.Errorf("%s: the page is %d wide", name, wide)
				}
				for what, expression := range map[string]string{"too faint": faintTexts, "too wide": overflowing} {
					for _, element := range eval[[]string](b, expression) {
						t.Errorf("%s: %s: %s", name, what, element)
					}
				}
				b.screenshot(name)
			}
		}
	}
}

func TestThePageCanBePrinted(t *testing.T) {
	b := openTab(t)
	b.window(800, 1100, "dark")
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print"})
	b.show(sample())
	if b.visible("#search") {
		t.Error("the filter is printed")
	}
	if background := eval[string](b, `getComputedStyle(document.querySelector("tr.bad")).backgroundColor`); background != "rgb(255, 255, 255)" {
		t.Errorf("a row is printed on %s", background)
	}
	b.screenshot("violations-print")
}

// Who sees no colours, or hears the page from a screen reader, learns of problems by words.
func TestThePageSaysInWordsWhatItsColoursSay(t *testing.T) {
	b := openTab(t)
	b.window(1280, 300, "light")
	b.show(sample())
	silent := eval[[]string](b, `[...document.querySelectorAll("tr.bad")].filter((row) =>
		!/unregistered|reserved|bind|process|missing|full/.test(row.innerText)).map((row) => row.innerText)`)
	if len(silent) > 0 {
		t.Errorf("red without a word: %q", silent)
	}
	// The layout takes rows and cells out of the table's own: they must still be rows and cells to a screen reader.
	got := make(map[string]int)
	for _, node := range call(b, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes {
		if !node.Ignored {
			got[strings.Trim(string(node.Role.Value), `"`)]++
		}
	}
	const columns, missingColumns, rows, missingRows = 9, 5, 9, 2 // the ports of a range are hidden
	for role, want := range map[string]int{
		"table": 2, "row": rows + missingRows + 2, "columnheader": columns + missingColumns, "rowheader": rows + missingRows,
		"cell": rows*(columns-1) + missingRows*(missingColumns-1), "searchbox": 1, "status": 1, "main": 1,
	} {
		if got[role] != want {
			t.Errorf("%d of the role %s, want %d", got[role], role, want)
		}
	}
}

func TestTenThousandListenersCanBeFiltered(t *testing.T) {
	const listeners = 10_000
	b := openTab(t)
	b.window(1280, 800, "light")
	b.show(many(listeners))
	b.screenshot("many-laptop-light")

	// Each is the time until the next picture could be drawn.
	for _, words := range []string{"w", "worker-77", "worker-77 unregistered", "nobody", ""} {
		took := eval[float64](b, fmt.Sprintf(`(() => {
			const input = document.querySelector("#filter"), start = performance.now();
			input.value = %q;
			input.dispatchEvent(new Event("input"));
			document.body.getBoundingClientRect();
			return performance.now() - start;
		})()`, words))
		t.Logf("%.0f ms to filter by %q", took, words)
	}
	b.keys("/worker-9900")
	if got := b.shownPorts(); len(got) != 1 {
		t.Errorf("%d rows, want 1", len(got))
	}
	b.screenshot("many-filtered-laptop-light")
	b.window(390, 844, "dark")
	b.press("Escape", "")
	if !eval[bool](b, `document.querySelector("#search").lastElementChild.getBoundingClientRect().right <= document.querySelector("main").getBoundingClientRect().right`) {
		t.Error("a telephone cuts off how many listeners are shown")
	}
	b.screenshot("many-telephone-dark")
}
