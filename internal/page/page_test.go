//go:build linux

package page

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/host"
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
	for _, link := range regexp.MustCompile(`href="`+project+`([^"]*)"`).FindAllStringSubmatch(answer.Body.String(), -1) {
		if _, err := os.Stat(filepath.Join(host.Root, link[1])); err != nil {
			t.Errorf("the link to a document: %v", err)
		}
	}
	// Links to other sites load nothing.
	text := strings.ReplaceAll(answer.Body.String(), `<a href="`+project, `<a href="`)
	forbidden := regexp.MustCompile(`(?i)(src|srcset|@import|url\(|<link|<img|<iframe|https?://| style=| on[a-z]+=)[^>]*`)
	if found := forbidden.FindAllString(text, -1); found != nil {
		t.Errorf("the page has what the policy forbids: %q", found)
	}
}

// Whatever the name of a process, it is only text.
func TestThePageEscapesNames(t *testing.T) {
	s := sample()
	const name = `"'><script>alert(1)</script>`
	l := &s.Listeners[0]
	l.Device, l.Verdict.Service, l.Verdict.Purpose = name, name, name
	l.Holders = []inventory.Holder{{Process: name, Unit: name, ContainerID: name, PodUID: name}}
	s.Memory.Services[0].Last = inventory.Last{Processes: []string{name}, Units: []string{name}}
	s.Compliance.Services[1] = required(name, name, inventory.TCP, 5432, false)
	s.Reads[0].Err = errors.New(name)
	content := get(t, pageOf(t, s, Options{Host: name, Version: name, File: name, Links: []Link{{"javascript:alert(1)", name}}})).Body.String()
	if got := strings.Count(content, "<script"); got != 1 {
		t.Errorf("%d scripts, want the page's own", got)
	}
	for _, forbidden := range []string{"javascript:", `="'>`, `=""'>`} {
		if strings.Contains(content, forbidden) {
			t.Errorf("the page has %s", forbidden)
		}
	}
	if got := strings.Count(content, "&lt;script&gt;alert(1)&lt;/script&gt;"); got < 13 {
		t.Errorf("the name is %d times in the page, want it wherever it was given", got)
	}
}

func TestThePageSaysWhatItIsAbout(t *testing.T) {
	noRegistry, guessed := sample(), sample()
	noRegistry.Compliance = nil
	for i := range guessed.Listeners {
		guessed.Listeners[i].Exact = false
	}
	for _, test := range []struct {
		name             string
		snapshot         *inventory.Snapshot
		options          Options
		has, doesNotHave []string
	}{
		{
			"with a registry", sample(), sampleOptions,
			[]string{
				"<p><b>listen_exporter</b> 1.2.3</p>", "<h1>db-7.example.com</h1>",
				`Read at <time datetime="2026-03-04T05:06:07Z">2026-03-04 05:06:07 UTC</time>, judged by ports.yml `,
				`/docs/README.md">Documentation</a>`, `/alerts/README.md">Runbook</a>`, `<a href="/api/v1/listeners">JSON</a>`, `<a href="/metrics">Metrics</a>`,
				">Missing services</h2>", `<td class="ho">postgres, postgresql.service</td>`,
				`abcdef">container 0123456789ab</abbr>`, `title="6ba7b810-9dad-11d1-80b4-00c04fd430c8">pod 6ba7b810</abbr>`,
				"<small>PID 812, user root</small>", "<p>probably <b>ncat</b>", `<time datetime="2026-03-04T04:59:07Z">7 minutes ago <small>04:59:07</small></time>`,
				"Firewalls are not considered", `/docs/words.md">What the words mean</a>`,
			},
			[]string{"Nothing says yet", "Namespace", "not known."},
		},
		{
			"without a registry it says how to get one", noRegistry, sampleOptions,
			[]string{"Nothing says yet", "listen_exporter list --format=registry &gt; ports.yml", "--registry.file=ports.yml"},
			[]string{"Missing services", ">State", ">Service<", "judged by ports.yml"},
		},
		{
			"without a name", sample(),
			Options{},
			[]string{"<h1>this host</h1>"},
			[]string{"<h1></h1>", ">Metrics<"},
		},
		{
			"all namespaces", trouble(), sampleOptions,
			[]string{"at least <b>4</b> violations", ">Namespace<", `<td class="ns">main</td>`, `<td class="ns">6ba7b810-9dad-11d1-80b4-00c04fd430c8</td>`, "not judged <small>in another namespace</small>"},
			nil,
		},
		{
			"without holders there is no column of them", &inventory.Snapshot{
				Reads: reads()[:2], Listeners: []inventory.Listener{listening(inventory.TCP, "0.0.0.0:22", inventory.ScopeAny)},
			}, sampleOptions,
			[]string{`<th scope="row" class="po">22<span>/tcp</span></th>`},
			[]string{">Holder<", "unknown</small>"},
		},
		{
			"when every holder is a guess, one line says so", guessed, sampleOptions,
			[]string{"The holders are probable ones"},
			[]string{"probably <b>"},
		},
		{
			"nothing listens", &inventory.Snapshot{Reads: reads()}, sampleOptions,
			[]string{`<p class="empty">Nothing listens.</p>`},
			[]string{"Nothing says yet"},
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

func TestOfVeryManyMissingServicesTheFirstAreShown(t *testing.T) {
	s := many(10)
	for port := uint16(1); port <= maxMissing+1; port++ {
		s.Compliance.Services = append(s.Compliance.Services, required(fmt.Sprintf("service-%d", port), "", inventory.TCP, port, false))
	}
	content := get(t, pageOf(t, s, sampleOptions)).Body.String()
	for _, text := range []string{
		"<b>1001</b> missing services", ">service-1000<", `<p class="more">1 more missing service: see <code>listen_exporter audit</code>.`,
	} {
		if !strings.Contains(content, text) {
			t.Errorf("the page does not have %s", text)
		}
	}
	if strings.Contains(content, ">service-1001<") {
		t.Error("the page has more services than it should")
	}
}
