//go:build linux

package page

import (
	"context"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// patience is how long the browser may take for one thing, on a busy machine.
const patience = time.Minute

// tab is a tab of a headless Chromium. Each test has its own.
type tab struct {
	*testing.T
	// ctx has the browser and the tab, for chromedp.
	ctx context.Context
}

// openTab starts a browser, which ends with the test. Whatever it writes to its console fails the test: a violated policy, an
// exception, an error.
func openTab(t *testing.T) *tab {
	t.Helper()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("this test looks at the page in Chromium: ", err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-quic", true))
	ctx, release := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, _ = chromedp.NewContext(ctx) // chromedp.Cancel cancels it
	read := make(chan struct{})
	messages := chromedp.Console(ctx)
	go func() {
		defer close(read)
		for message, err := range messages {
			if err == nil {
				t.Errorf("the browser complains: %s", message)
			}
		}
	}()
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Errorf("end the browser: %v", err)
		}
		release()
		<-read
	})
	return &tab{t, ctx}
}

// run runs an action, and returns its result.
func run[T any](b *tab, action chromedp.Action[T]) T {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	result, err := chromedp.Run(ctx, action)
	if err != nil {
		b.Fatal(err)
	}
	return result
}

// call sends a command of the Chrome DevTools Protocol.
func call[P, R any](b *tab, command cdp.Command[P, R], params P) R {
	b.Helper()
	return run(b, func(ctx context.Context, t *chromedp.Target) (R, error) { return cdp.Call(ctx, t, command, params) })
}

// eval returns the value of an expression in the page.
func eval[T any](b *tab, expression string) T {
	b.Helper()
	return run(b, chromedp.Evaluate[T](expression))
}

// eventually waits until an expression is true.
func (b *tab) eventually(expression string) {
	b.Helper()
	run(b, chromedp.Poll[bool](expression, chromedp.WithPollingTimeout(patience)))
}

// open loads a page.
func (b *tab) open(url string) {
	b.Helper()
	run(b, chromedp.Navigate(url))
}

// show loads a page that shows a snapshot, and returns its address.
func (b *tab) show(s *inventory.Snapshot) (url string) {
	b.Helper()
	server := httptest.NewServer(pageOf(b.T, s, sampleOptions))
	b.Cleanup(server.Close)
	b.open(server.URL + "/")
	return server.URL + "/"
}

// keys presses the keys that type a text, one after the other.
func (b *tab) keys(text string) {
	b.Helper()
	for _, key := range text {
		b.press(string(key), string(key))
	}
}

// click clicks an element with the mouse, and follow clicks a link and waits for the page that it leads to.
func (b *tab) click(selector string) {
	b.Helper()
	run(b, chromedp.Click(chromedp.CSS(selector)))
}

func (b *tab) follow(selector string) {
	b.Helper()
	run(b, chromedp.WaitEvent(page.LoadEventFired, nil, chromedp.Click(chromedp.CSS(selector))))
}

// press presses a key, such as Escape, and lets it go. text is what it writes. chromedp.KeyEvent would write it even if the page
// handles the key itself.
func (b *tab) press(key, text string) {
	b.Helper()
	call(b, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyDown, Key: key, Text: text})
	call(b, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyUp, Key: key})
}

// window makes the page as wide and high as a screen is, in the colours that its user prefers.
func (b *tab) window(width, height int64, scheme string) {
	b.Helper()
	var options []chromedp.EmulateViewportOption
	if width < 500 {
		options = append(options, chromedp.EmulateMobile)
	}
	run(b, chromedp.EmulateViewport(width, height, options...))
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
}

// screenshot keeps a picture of what is in the window, in the directory that the environment names.
func (b *tab) screenshot(name string) {
	b.Helper()
	dir := os.Getenv("LISTEN_EXPORTER_SCREENSHOTS")
	if dir == "" {
		return
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), run(b, chromedp.CaptureScreenshot()), 0o644); err != nil {
		b.Fatal(err)
	}
}

// text returns the text of an element as a person sees it.
func (b *tab) text(selector string) string {
	b.Helper()
	return eval[string](b, `document.querySelector("`+selector+`").innerText`)
}

func (b *tab) visible(selector string) bool {
	b.Helper()
	return eval[bool](b, `document.querySelector("`+selector+`").checkVisibility()`)
}

// shownPorts returns the ports of the rows that can be seen, in their order.
func (b *tab) shownPorts() []string {
	b.Helper()
	return eval[[]string](b, `[...document.querySelectorAll("#listeners tbody tr")].filter((row) => row.checkVisibility())
		.map((row) => (row.querySelector("summary") ?? row.querySelector(".po")).textContent)`)
}
