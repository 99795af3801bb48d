package page

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// get returns a handler's answer.
func get(t testing.TB, h http.Handler) *httptest.ResponseRecorder {
	t.Helper()
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody))
	return recorder
}

func TestThePolicyAllowsWhatThePageHoldsAndNothingElse(t *testing.T) {
	answer := get(t, pageOf(t, sample(), sampleOptions))
	// The sum of what a browser finds between the tags.
	sum := func(tag string) string {
		found := regexp.MustCompile(`(?s)<`+tag+`>(.*?)</`+tag+`>`).FindAllStringSubmatch(answer.Body.String(), -1)
		if len(found) != 1 || len(found[0][1]) < 100 {
			t.Fatalf("%d elements %s, want 1 with its content", len(found), tag)
		}
		sum := sha256.Sum256([]byte(found[0][1]))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	want := http.Header{
		"Content-Type": {"text/html; charset=utf-8"},
		"Content-Security-Policy": {"default-src 'none'; style-src " + sum("style") + "; script-src " + sum("script") +
			"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
		"X-Content-Type-Options": {"nosniff"},
		"Referrer-Policy":        {"no-referrer"},
		"Cache-Control":          {"no-store"},
	}
	if diff := cmp.Diff(want, answer.Header()); diff != "" {
		t.Errorf("the header (-want +got):\n%s", diff)
	}
}

// Whatever the name of a process, it is only text.
func TestThePageEscapesNames(t *testing.T) {
	s := sample()
	const name = `"'><script>alert(1)</script>`
	l := &s.Listeners[0]
	l.Device, l.Verdict.Service, l.Verdict.Purpose = name, name, name
	l.Holders = []inventory.Holder{{Process: name, Unit: name, ContainerID: name, PodUID: name}}
	s.Compliance.Services[1] = required(name, name, inventory.TCP, 5432, false)
	s.Reads[0].Err = errors.New(name)
	s.Source = name
	content := get(t, pageOf(t, s, Options{Host: name, Version: name, File: name, Links: []Link{{"javascript:alert(1)", name}}})).Body.String()
	if got := strings.Count(content, "<script"); got != 1 {
		t.Errorf("%d scripts, want the page's own", got)
	}
	for _, forbidden := range []string{"javascript:", `="'>`, `=""'>`} {
		if strings.Contains(content, forbidden) {
			t.Errorf("the page has %s", forbidden)
		}
	}
	if got := strings.Count(content, "&lt;script&gt;alert(1)&lt;/script&gt;"); got < 12 {
		t.Errorf("the name is %d times in the page, want it wherever it was given", got)
	}
}

func TestThePageSaysWhatItIsAbout(t *testing.T) {
	noRegistry := sample()
	noRegistry.Compliance = nil
	for _, test := range []struct {
		name             string
		snapshot         *inventory.Snapshot
		options          Options
		has, doesNotHave []string
	}{
		{
			"with a registry", sample(), sampleOptions,
			[]string{
				"<h1>db-7.example.com</h1>", "Made by listen_exporter 1.2.3 at ", `<time datetime="2026-03-04T05:06:07Z">2026-03-04 05:06:07 UTC</time>`,
				" Listeners are judged by ports.yml.", `<a href="/metrics">Metrics</a>`, "Sockets are read by netlink.", "<caption>Missing services</caption>",
			},
			[]string{"No registry", "Namespace", `id="missing" hidden`},
		},
		{
			"without a registry it says how to get one", noRegistry, sampleOptions,
			[]string{"No registry", "listen_exporter list --format=registry &gt; ports.yml", "--registry.file=ports.yml"},
			[]string{"Missing services", ">State<", ">Service<", "judged by ports.yml"},
		},
		{
			"without a name", sample(),
			Options{},
			[]string{"<h1>this host</h1>"},
			[]string{"<h1></h1>", `class="links"`},
		},
		{
			"all namespaces", trouble(), sampleOptions,
			[]string{"at least <b>4</b> violations", ">Namespace<", `<td class="ns">main</td>`, `<td class="ns">6ba7b810-9dad-11d1-80b4-00c04fd430c8</td>`, "Only listeners of the main network namespace are judged"},
			nil,
		},
		{
			"without holders there is no column of them", &inventory.Snapshot{
				Reads: reads()[:2], Listeners: []inventory.Listener{listening(inventory.TCP, "0.0.0.0:22", inventory.ScopeAny)},
			}, sampleOptions,
			[]string{`<th scope="row" class="po">22</th>`},
			[]string{">Holder<", "unknown</small>"},
		},
		{
			"nothing listens", &inventory.Snapshot{Reads: reads()}, sampleOptions,
			[]string{`<td class="empty">Nothing listens.</td>`},
			nil,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			content := get(t, pageOf(t, test.snapshot, test.options)).Body.String()
			for _, text := range test.has {
				if !strings.Contains(content, text) {
					t.Errorf("the page does not have %s", text)
				}
			}
			for _, text := range test.doesNotHave {
				if strings.Contains(content, text) {
					t.Errorf("the page has %s", text)
				}
			}
		})
	}
}

// All that the page needs is in it.
func TestThePageLoadsNothing(t *testing.T) {
	content := get(t, pageOf(t, sample(), sampleOptions)).Body.String()
	if found := regexp.MustCompile(`(?i)(src|srcset|@import|url\(|<link|<img|<iframe|https?://)[^>]*`).FindAllString(content, -1); found != nil {
		t.Errorf("the page loads something: %q", found)
	}
	if found := regexp.MustCompile(`(?i) (style|on[a-z]+)=[^>]*`).FindAllString(content, -1); found != nil {
		t.Errorf("the policy forbids styles and scripts in attributes: %q", found)
	}
}

func TestManyReadersTakeTurns(t *testing.T) {
	var under, most int
	var mu sync.Mutex
	count := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		under += n
		most = max(most, under)
	}
	h, err := New(func() *inventory.Snapshot {
		count(1)
		defer count(-1)
		time.Sleep(time.Millisecond)
		return sample()
	}, sampleOptions)
	if err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	for range 20 {
		readers.Go(func() {
			if got := get(t, h).Code; got != http.StatusOK {
				t.Errorf("status %d", got)
			}
		})
	}
	readers.Wait()
	if most != 1 {
		t.Errorf("%d pages were made at the same time", most)
	}
}

// A reader may go while another page is rendered, while the turn is free, and while the sockets are read.
func TestNothingIsMadeForAReaderWhoHasLeft(t *testing.T) {
	for _, when := range []string{"while waiting", "before the sockets are read", "while the sockets are read"} {
		h := pageOf(t, nil, sampleOptions)
		left, leave := context.WithCancel(t.Context())
		h.snapshot = func() *inventory.Snapshot {
			if when != "while the sockets are read" {
				t.Error(when, ": the sockets are read for nobody")
			}
			leave()
			return nil // which cannot be rendered
		}
		if when != "while the sockets are read" {
			leave()
		}
		if when == "while waiting" {
			h.turn <- struct{}{}
		}
		for range 20 { // of two things that can be done, select chooses one at random
			recorder := httptest.NewRecorder()
			h.ServeHTTP(recorder, httptest.NewRequestWithContext(left, http.MethodGet, "/", http.NoBody))
			if recorder.Body.Len() > 0 {
				t.Errorf("%s: there is a page for nobody", when)
			}
		}
		if when == "while waiting" {
			<-h.turn
		}
		h.snapshot = sample
		if got := get(t, h).Code; got != http.StatusOK {
			t.Errorf("%s: status %d for the next reader", when, got)
		}
	}
}

func TestAReadThatPanicsHoldsNobodyUp(t *testing.T) {
	fails := true
	h := pageOf(t, nil, sampleOptions)
	h.snapshot = func() *inventory.Snapshot {
		if fails {
			panic("a fault")
		}
		return sample()
	}
	func() {
		defer func() { _ = recover() }()
		get(t, h)
	}()
	fails = false
	if got := get(t, h).Code; got != http.StatusOK {
		t.Errorf("status %d", got)
	}
}

func TestOfVeryManyMissingServicesTheFirstAreShown(t *testing.T) {
	for _, test := range []struct {
		services, shown, more int
		text                  string
	}{
		{maxMissing, maxMissing, 0, ""},
		{maxMissing + 1, maxMissing, 1, "1 more missing service: see <code>listen_exporter audit</code>."},
	} {
		s := many(10)
		for port := 1; port <= test.services; port++ {
			s.Compliance.Services = append(s.Compliance.Services, required("a", "", inventory.TCP, uint16(port), false))
		}
		s.Listeners[0].Addr = netip.MustParseAddrPort("10.0.0.1:2")
		pod := listening(inventory.TCP, "0.0.0.0:3", inventory.ScopeAny)
		pod.Netns = "blue"
		s.Listeners = append(s.Listeners, pod, listening(inventory.UDP, "0.0.0.0:4", inventory.ScopeAny))
		v := newView(s, sampleOptions, sampleTime)
		if len(v.Missing) != test.shown || v.MoreMissing != test.more || v.Summary[0].Number != test.services {
			t.Errorf("of %d services %d are shown, %d are more, %d are counted", test.services, len(v.Missing), v.MoreMissing, v.Summary[0].Number)
		}
		for _, m := range v.Missing[:5] {
			want := "nothing listens as declared"
			if m.Port == 2 {
				want = "the port is open, but not as declared"
			}
			if m.Detail != want {
				t.Errorf("port %d: %s, want %s", m.Port, m.Detail, want)
			}
		}
		content := get(t, pageOf(t, s, sampleOptions)).Body.String()
		if got := strings.Contains(content, `<p class="more">`); got != (test.more > 0) || !strings.Contains(content, test.text) {
			t.Errorf("of %d services: the page does not have %q", test.services, test.text)
		}
	}
}
