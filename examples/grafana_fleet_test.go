package examples

import (
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestAFleetIsNotDrawnListenerByListener: 5 000 hosts with 60 listeners each are 300 000 series. No answer may have as many,
// and no graph may ask for all of them at hundreds of points: Prometheus refuses to load more than 50 million samples.
func TestAFleetIsNotDrawnListenerByListener(t *testing.T) {
	ranked := regexp.MustCompile(`^(?:topk|bottomk)\((?:10|20|100|200|500|1000), `)
	grouped := regexp.MustCompile(`^(?:sum|count|avg|max)(?: by \(([^)]*)\) )?\(`)
	perListener := regexp.MustCompile(`\bhost_listen_(?:port|port_sockets|port_registered|port_holder_info|port_drops_total|port_receive_\w+|port_accept_\w+|service_up)\{`)
	few := []string{"alertname", "collector", "process", "proto", "port", "reason", "scope", "service_name", "source", "version"}
	for _, p := range readDashboard(t).Panels {
		for _, q := range p.Targets {
			if !ranked.MatchString(q.Expr) {
				found := grouped.FindStringSubmatch(q.Expr)
				if found == nil {
					t.Errorf("%q: %s neither takes the top nor groups", p.Title, q.Expr)
					continue
				}
				for label := range strings.SplitSeq(found[1], ", ") {
					if label != "" && !slices.Contains(few, label) {
						t.Errorf("%q: %s groups by %s, which has as many values as there are hosts", p.Title, q.Expr, label)
					}
				}
			}
			if q.Range && perListener.MatchString(q.Expr) && (p.MaxDataPoints == 0 || p.MaxDataPoints > 60) {
				t.Errorf("%q reads every listener at %d points (0: as many as it is wide)", p.Title, p.MaxDataPoints)
			}
		}
	}
}

// TestTheDashboardKnowsEveryAlert compares the alerts that it looks for with the rules.
func TestTheDashboardKnowsEveryAlert(t *testing.T) {
	var want []string
	for _, found := range regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(read(t, "../alerts/listen_exporter.rules.yml"), -1) {
		want = append(want, found[1])
	}
	slices.Sort(want)
	for _, p := range readDashboard(t).Panels {
		for _, q := range p.Targets {
			found := regexp.MustCompile(`ALERTS{.*alertname=~"([^"]*)"`).FindStringSubmatch(q.Expr)
			if found == nil {
				continue
			}
			if diff := cmp.Diff(want, slices.Sorted(slices.Values(strings.Split(found[1], "|")))); diff != "" {
				t.Errorf("%q, -rules +dashboard:\n%s", p.Title, diff)
			}
		}
	}
}

// TestTheDashboardCanBeDrawn has .ci/panels draw it from a server that answers every query with the same series.
func TestTheDashboardCanBeDrawn(t *testing.T) {
	prometheus := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		values := `"value":[1,"7"]`
		if strings.HasSuffix(r.URL.Path, "_range") {
			values = `"values":[[` + r.FormValue("start") + `,"7"],[` + r.FormValue("end") + `,"8"]]`
		}
		_, _ = fmt.Fprintf(w, `{"status":"success","data":{"result":[{"metric":{"instance":"a:10190"},%s}]}}`, values)
	}))
	defer prometheus.Close()
	page := filepath.Join(t.TempDir(), "page.html")
	draw := func(arguments ...string) error {
		run := exec.Command("go", append([]string{"run", "../.ci/panels", "-strict", "-dashboard=grafana/listen_exporter.json", "-out=" + page}, arguments...)...)
		output, err := run.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, output)
		}
		return nil
	}
	if err := draw("-prometheus=" + prometheus.URL); err != nil {
		t.Fatal(err)
	}
	drawn := read(t, page)
	for _, p := range readDashboard(t).Panels {
		if !strings.Contains(drawn, "<h2>"+html.EscapeString(p.Title)+"</h2>") {
			t.Errorf("the page lacks %q", p.Title)
		}
	}
	empty := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"status":"success","data":{"result":[]}}`)
	}))
	defer empty.Close()
	if err := draw("-prometheus="+empty.URL, "-only=Compliance"); err == nil || !strings.Contains(err.Error(), `"Compliance": no answer to avg(`) {
		t.Errorf("a query without an answer is passed over: %v", err)
	}
}
