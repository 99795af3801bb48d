package page

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// patience is how long the browser may take for one thing, on a busy machine.
const patience = time.Minute

// tab is a page in a headless Chromium of its own, which the test drives through a pair of pipes by the Chrome DevTools
// Protocol: one JSON object a message, each ended by a zero byte.
type tab struct {
	t       *testing.T
	out     *os.File
	in      *os.File
	reader  *bufio.Reader
	lastID  int
	session string
	events  []event // not yet asked for
}

// event is what the browser says without being asked.
type event struct {
	Method string
	Params json.RawMessage
}

// openTab starts a browser, which the end of the test ends.
func openTab(t *testing.T) *tab {
	t.Helper()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("this test looks at the page in Chromium: ", err)
	}
	// A short name: the browser makes sockets below it, whose paths may have 107 characters (sun_path in unix(7)).
	home, err := os.MkdirTemp("", "")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
		"--disable-dev-shm-usage", "--disable-breakpad", "--no-first-run", "--remote-debugging-pipe", "--user-data-dir="+home, "about:blank")
	cmd.Env = append(os.Environ(), "HOME="+home, "TMPDIR="+home, "XDG_CONFIG_HOME="+home, "XDG_CACHE_HOME="+home)
	// A process group of its own: the browser is many processes.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	said := new(bytes.Buffer)
	cmd.Stderr = said
	cmd.WaitDelay = 10 * time.Second // for helpers of the browser that have its stderr open still
	theirIn, out := pipe(t)
	in, theirOut := pipe(t)
	cmd.ExtraFiles = []*os.File{theirIn, theirOut} // 3 and 4
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirIn.Close()
	theirOut.Close()
	t.Cleanup(func() {
		out.Close() // which the browser takes for the end
		in.Close()
		kill := time.AfterFunc(10*time.Second, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
		_ = cmd.Wait()
		kill.Stop()
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		if t.Failed() {
			t.Logf("the browser said:\n%s", said)
		}
		for range 50 { // what was killed may still be writing
			if err = os.RemoveAll(home); err == nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Error(err)
	})

	b := &tab{t: t, out: out, in: in, reader: bufio.NewReader(in)}
	var target struct{ TargetID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		b.call(domain+".enable", nil, nil)
	}
	return b
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return r, w
}

// call asks the browser for something, and reads the answer into result.
func (b *tab) call(method string, params, result any) {
	b.t.Helper()
	b.lastID++
	request, err := json.Marshal(struct {
		ID        int    `json:"id"`
		Method    string `json:"method"`
		Params    any    `json:"params,omitempty"`
		SessionID string `json:"sessionId,omitempty"`
	}{b.lastID, method, params, b.session})
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.out.Write(append(request, 0)); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	for {
		answer, err := b.read()
		switch {
		case err != nil:
			b.t.Fatalf("%s: %v", method, err)
		case answer.ID == 0:
			b.events = append(b.events, event{answer.Method, answer.Params})
		case answer.ID != b.lastID:
			b.t.Fatalf("%s: an answer to request %d, want %d", method, answer.ID, b.lastID)
		case answer.Error != nil:
			b.t.Fatalf("%s: %s", method, answer.Error)
		case result == nil:
			return
		default:
			if err := json.Unmarshal(answer.Result, result); err != nil {
				b.t.Fatalf("%s: %v", method, err)
			}
			return
		}
	}
}

// message is an answer or, if it has no ID, an event.
type message struct {
	ID     int
	Result json.RawMessage
	Error  json.RawMessage
	event
}

func (b *tab) read() (m message, err error) {
	if err := b.in.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return m, err
	}
	text, err := b.reader.ReadBytes(0)
	if err != nil {
		return m, fmt.Errorf("read from the browser: %w", err)
	}
	return m, json.Unmarshal(text[:len(text)-1], &m)
}

// wait reads until an event comes, and returns those before it.
func (b *tab) wait(method string) (before []event) {
	b.t.Helper()
	for {
		for i, e := range b.events {
			if e.Method == method {
				before, b.events = b.events[:i], b.events[i+1:]
				return before
			}
		}
		m, err := b.read()
		if err == nil && m.ID != 0 {
			err = errors.New("an answer that nobody waits for")
		}
		if err != nil {
			b.t.Fatalf("wait for %s: %v", method, err)
		}
		b.events = append(b.events, m.event)
	}
}

// open loads a page, which must not make the browser complain.
func (b *tab) open(url string) {
	b.t.Helper()
	var navigated struct{ ErrorText string }
	b.call("Page.navigate", map[string]any{"url": url}, &navigated)
	if navigated.ErrorText != "" {
		b.t.Fatalf("open %s: %s", url, navigated.ErrorText)
	}
	b.complain(b.wait("Page.loadEventFired"))
}

// complain fails the test if the browser had something to say: a violated policy, an exception, an error.
func (b *tab) complain(events []event) {
	b.t.Helper()
	for _, e := range events {
		switch e.Method {
		case "Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled":
			b.t.Errorf("the browser complains: %s", e.Params)
		}
	}
}

// eval evaluates an expression in the page, and reads its value into result.
func (b *tab) eval(expression string, result any) {
	b.t.Helper()
	var evaluated struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &evaluated)
	if evaluated.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", expression, evaluated.ExceptionDetails)
	}
	if err := json.Unmarshal(evaluated.Result.Value, result); err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
}

// keys types a text, key by key.
func (b *tab) keys(text string) {
	b.t.Helper()
	for _, key := range text {
		b.key(string(key), string(key))
	}
}

// key presses a key, such as Escape, and lets it go. text is what it writes.
func (b *tab) key(name, text string) {
	b.t.Helper()
	down := map[string]any{"type": "keyDown", "key": name}
	if text != "" {
		down["text"] = text
	}
	b.call("Input.dispatchKeyEvent", down, nil)
	b.call("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": name}, nil)
}

// window makes the page as wide and high as a screen is, in the colours that its user prefers.
func (b *tab) window(width, height int, scheme string) {
	b.t.Helper()
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{
		"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500,
	}, nil)
	b.call("Emulation.setEmulatedMedia", map[string]any{
		"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}},
	}, nil)
}

// screenshot keeps a picture of what is in the window.
func (b *tab) screenshot(name string) {
	b.t.Helper()
	var shot struct{ Data []byte }
	b.call("Page.captureScreenshot", map[string]any{"format": "png"}, &shot)
	keepScreenshot(b.t, name, shot.Data)
}
