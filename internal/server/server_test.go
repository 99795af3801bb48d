//go:build linux

package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/exporter-toolkit/web"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/host"
)

// defaults returns the default options, and a snapshot that is empty.
func defaults() Options {
	config, systemd := "", false
	empty := func(context.Context) *inventory.Snapshot { return new(inventory.Snapshot) }
	return Options{
		Web:           &web.FlagConfig{WebListenAddresses: &[]string{"127.0.0.1:0"}, WebSystemdSocket: &systemd, WebConfigFile: &config},
		TelemetryPath: "/metrics",
		MaxRequests:   40,
		Page:          true,
		Snapshot:      empty, SnapshotWithProcesses: empty,
		WriteJSON: func(w io.Writer, s *inventory.Snapshot) error { return json.NewEncoder(w).Encode(s) },
	}
}

// newServer returns a server that logs to w.
func newServer(t testing.TB, o Options, w io.Writer) *Server {
	t.Helper()
	logger := log.NewLogfmtLogger(w)
	s, err := New(o, Logs{Kit: logger, Toolkit: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// request returns the answer to a request without a body.
func request(t *testing.T, s *Server, method, path string) *httptest.ResponseRecorder {
	t.Helper()
	recorder := httptest.NewRecorder()
	s.handler.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), method, path, http.NoBody))
	if recorder.Code == http.StatusOK && path == s.options.TelemetryPath {
		if _, err := host.ParsePage(recorder.Body.String()); err != nil {
			t.Errorf("%s is not as Prometheus wants it: %v", path, err)
		}
	}
	return recorder
}

func TestEveryPathHasItsStatus(t *testing.T) {
	// Other packages may add pages to the default mux, which is not served.
	http.HandleFunc("/debug/pprof/", func(http.ResponseWriter, *http.Request) {})
	for telemetryPath, want := range map[string]map[string]int{ // by method and path
		"/metrics": {
			"GET /":           200,
			"GET /metrics":    200,
			"HEAD /metrics":   200,
			"GET /?sort=port": 200,
			"GET /api":        404,

			"GET /api/v1/listeners":  200,
			"POST /api/v1/listeners": 405,
			"POST /metrics":          405,
			"POST /":                 405,
			"GET /-/healthy":         200,
			"GET /-/ready":           200,
			"GET /nothing":           404,
			"GET /metrics/":          404,
			"GET /debug/pprof/":      404,
			"GET /-/reload":          404,
			"POST /-/reload":         404,
		},
		"/": {
			"GET /":             200,
			"POST /":            405,
			"GET /metrics":      404,
			"GET /nothing":      404,
			"GET /debug/pprof/": 404,
			"GET /-/healthy":    200,

			"GET /api/v1/listeners": 200,
		},
	} {
		o := defaults()
		o.TelemetryPath = telemetryPath
		s := newServer(t, o, io.Discard)
		s.ready.Store(true)
		got := make(map[string]int)
		for methodAndPath := range want {
			method, path, _ := strings.Cut(methodAndPath, " ")
			got[methodAndPath] = request(t, s, method, path).Code
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("metrics under %s: status (-want +got):\n%s", telemetryPath, diff)
		}
		if page := request(t, s, http.MethodGet, telemetryPath).Body.String(); !strings.Contains(page, "\nlisten_exporter_build_info{") {
			t.Errorf("GET %s gives no metrics", telemetryPath)
		}
	}
}

func TestTheRootLinksToEveryOtherPage(t *testing.T) {
	for _, path := range []string{"/metrics", "/a/b"} {
		for _, page := range []bool{true, false} {
			o := defaults()
			o.TelemetryPath, o.Page = path, page
			s := newServer(t, o, io.Discard)
			body := request(t, s, http.MethodGet, "/").Body.String()
			if shows := strings.Contains(body, `id="title"`); shows != page {
				t.Errorf("the root shows listeners: %t, want %t", shows, page)
			}
			want := []string{listenersPath, path, healthyPath, readyPath}
			if !page {
				want = want[1:]
			}
			if code := request(t, s, http.MethodGet, listenersPath).Code; (code == http.StatusOK) != page {
				t.Errorf("with the page %t, its JSON has the status %d", page, code)
			}
			var links []string
			for _, match := range regexp.MustCompile(`(?:href|src|action)="([^"]*)"`).FindAllStringSubmatch(body, -1) {
				if strings.HasPrefix(match[1], "/") { // not to documents and not to another order
					links = append(links, match[1])
				}
			}
			if !slices.Equal(links, want) {
				t.Errorf("links %q, want %q", links, want)
			}
		}
	}
}

func TestTheExportersOwnMetricsCanBeLeftOut(t *testing.T) {
	for _, disabled := range []bool{false, true} {
		o := defaults()
		o.DisableExporterMetrics = disabled
		page := "\n" + request(t, newServer(t, o, io.Discard), http.MethodGet, "/metrics").Body.String()
		for _, prefix := range []string{"go_", "process_", "promhttp_"} {
			if there := strings.Contains(page, "\n"+prefix); there == disabled {
				t.Errorf("disabled %t: metrics %s*: %t", disabled, prefix, there)
			}
		}
		if !strings.Contains(page, "\nlisten_exporter_build_info{") {
			t.Errorf("disabled %t: no listen_exporter_build_info", disabled)
		}
	}
}

func TestAReloadTakesAPostAndARegistry(t *testing.T) {
	bad := errors.New("ports.yml:1:2: one")
	for _, test := range []struct {
		name      string
		reload    func() error
		method    string
		code      int
		body, log string
	}{
		{"good", func() error { return nil }, http.MethodPost, 200, "The registry was reloaded.\n", `level=info msg="reloaded the registry" by=POST` + "\n"},
		{
			"bad", func() error { return bad }, http.MethodPost, 500, inventory.BadRegistry + "\nports.yml:1:2: one\nThe log says more.\n",
			`level=error msg="` + inventory.BadRegistry + `" err="ports.yml:1:2: one"` + "\n",
		},
		{"GET", func() error { return bad }, http.MethodGet, 405, "Use POST to reload the registry.\n", ""},
		{"no registry", nil, http.MethodPost, 404, "No registry configured: start with --registry.file, or restart if a file of --registry.optional-file is there now.\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var logged strings.Builder
			o := defaults()
			o.EnableLifecycle, o.Reload = true, test.reload
			answer := request(t, newServer(t, o, &logged), test.method, reloadPath)
			if answer.Code != test.code || answer.Body.String() != test.body || logged.String() != test.log {
				t.Errorf("status %d, want %d; %q, want %q; logged %q, want %q", answer.Code, test.code, answer.Body, test.body, &logged, test.log)
			}
			if allow := answer.Header().Get("Allow"); (allow == http.MethodPost) != (test.code == 405) {
				t.Errorf("Allow %q", allow)
			}
		})
	}
	var logged strings.Builder
	_ = newServer(t, defaults(), &logged).Reload("SIGHUP")
	if want := `level=warn msg="cannot reload the registry" by=SIGHUP err="no registry configured: start with --registry.file, or restart if a file of --registry.optional-file is there now"` + "\n"; logged.String() != want {
		t.Errorf("SIGHUP without a registry: logged %q, want %q", &logged, want)
	}
}

// The first snapshot is the baseline of later changes, and the exporter's own ports belong to it.
func TestTheFirstSnapshotIsMadeWhenEveryPortIsOpen(t *testing.T) {
	var addresses []string // on which nothing listens yet
	for range 2 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addresses = append(addresses, listener.Addr().String())
		listener.Close()
	}
	o := defaults()
	o.Web.WebListenAddresses = &addresses
	begun, finish := make(chan error, 1), make(chan struct{})
	var first sync.Once
	o.Snapshot = func(context.Context) *inventory.Snapshot {
		first.Do(func() {
			var errs []error
			for _, address := range addresses {
				_, err := net.Dial("tcp", address)
				errs = append(errs, err)
			}
			begun <- errors.Join(errs...)
			<-finish
		})
		return new(inventory.Snapshot)
	}
	s := newServer(t, o, io.Discard)
	ctx, stop := context.WithCancel(t.Context())
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	if err := <-begun; err != nil {
		t.Error(err)
	}
	get := func(path string) int {
		resp, err := http.Get("http://" + addresses[1] + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	if healthy, ready := get(healthyPath), get(readyPath); healthy != 200 || ready != 503 {
		t.Errorf("before the first snapshot: healthy %d, ready %d, want 200 and 503", healthy, ready)
	}
	close(finish)
	for deadline := time.Now().Add(time.Minute); get(readyPath) != 200; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the server does not become ready")
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("the end: %v", err)
	}
}

func TestTheServerWaitsForNobodyWithoutAnEnd(t *testing.T) {
	s := newServer(t, defaults(), io.Discard).httpServer()
	if least := min(s.ReadHeaderTimeout, s.ReadTimeout, s.WriteTimeout, s.IdleTimeout); least <= 0 || s.IdleTimeout != 5*time.Minute { // as SECURITY.md says
		t.Errorf("the least time limit is %s, and that of an idle connection %s", least, s.IdleTimeout)
	}
}
