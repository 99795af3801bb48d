//go:build linux

package server

import (
	"bytes"
	"context"
	"io"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/expfmt"

	"github.com/listen-exporter/listen_exporter/collector"
	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// The time in which an answer must have been read, see budget.
const (
	usualBudget = 5 * time.Second
	maxBudget   = writeTimeout / 2 // the rest is for sending it
	maxTimeout  = time.Hour        // more is not a scrape timeout
)

// newMetricsHandler returns the handler of scrapes.
func newMetricsHandler(o Options, logs Logs) http.Handler {
	m := &metrics{
		options: promhttp.HandlerOpts{
			ErrorLog:           scrapeLogger{logs.Toolkit.Handler()},
			ErrorHandling:      promhttp.ContinueOnError, // one bad family must not blank the page
			DisableCompression: true,
		},
		logs:     logs,
		exporter: prometheus.NewRegistry(),
		text:     collector.NewText(logs.Dropped),
		parts:    make(map[string]*part),
		protobuf: make(chan struct{}, 1),
	}
	m.exporter.MustRegister(versioncollector.NewCollector(wording.Program))
	handler := &shared{newPlaces(o.MaxRequests), &pages{snapshot: o.Snapshot, make: m.page}}
	if o.DisableExporterMetrics {
		return handler
	}
	m.exporter.MustRegister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewGoCollector())
	m.options.Registry = m.exporter
	return promhttp.InstrumentMetricHandler(m.exporter, handler)
}

// metrics makes the pages of scrapes.
type metrics struct {
	options  promhttp.HandlerOpts
	logs     Logs
	exporter *prometheus.Registry // of the exporter itself
	text     *collector.Text
	parts    map[string]*part // of the last page, by family of the listeners
	protobuf chan struct{}    // full while a page is made in protobuf: its metrics take more memory than all pages
}

// metricsPage is the page of a snapshot.
type metricsPage struct {
	snapshot *inventory.Snapshot
	own      []byte   // of the exporter itself, in the text format
	families []family // of the listeners
	text     body
	protobuf *body // nil until somebody asks for it
}

// family is a metric family in the text format.
type family struct {
	name string
	part *part
}

// page makes the page of a snapshot, with the metrics of the exporter itself.
func (m *metrics) page(s *inventory.Snapshot) (content, error) {
	page := &metricsPage{snapshot: s, own: m.gathered(m.exporter, expfmt.FmtText)}
	last := m.parts
	m.parts = make(map[string]*part)
	for _, f := range m.text.Families(s) {
		p := last[f.Name]
		if p == nil || &p.text[0] != &f.Text[0] {
			p = &part{text: f.Text}
		}
		m.parts[f.Name] = p
		page.families = append(page.families, family{f.Name, p})
	}
	// Families are sorted by name, and those of the listeners follow each other. What is before them and after them changes each time: a
	// part for each family, with Huffman codes of its own, took a third of a compressed scrape of 100 listeners.
	before := 0
	for f := range familiesOf(page.own) {
		if f.name > page.families[0].name {
			break
		}
		before += len(f.part.text)
	}
	page.text.parts = []*part{{text: page.own[:before]}}
	for _, f := range page.families {
		page.text.parts = append(page.text.parts, f.part)
	}
	page.text.parts = append(page.text.parts, &part{text: page.own[before:]})
	return func(ctx context.Context, request *http.Request, header http.Header) (*body, error) {
		return m.body(ctx, page, request, header)
	}, nil
}

// helpPrefix is what each family of client_golang begins with.
const helpPrefix = "# HELP "

// familiesOf returns the families of a text.
func familiesOf(text []byte) iter.Seq[family] {
	return func(yield func(family) bool) {
		for len(text) > 0 {
			end := len(text)
			if next := bytes.Index(text, []byte("\n"+helpPrefix)); next >= 0 {
				end = next + 1
			}
			name, _, _ := bytes.Cut(bytes.TrimPrefix(text[:end], []byte(helpPrefix)), []byte(" "))
			if !yield(family{string(name), &part{text: text[:end]}}) {
				return
			}
			text = text[end:]
		}
	}
}

// usualSize is enough for the metrics of the exporter itself, in bytes.
const usualSize = 12 << 10

// gathered returns what promhttp writes of a gatherer. promhttp logs and counts its errors.
func (m *metrics) gathered(g prometheus.Gatherer, format expfmt.Format) []byte {
	request := &http.Request{Method: http.MethodGet, URL: new(url.URL), Header: http.Header{"Accept": {string(format)}}}
	answer := &recorder{header: make(http.Header), code: http.StatusOK}
	answer.content.Grow(usualSize)
	promhttp.HandlerFor(g, m.options).ServeHTTP(answer, request)
	if answer.code != http.StatusOK {
		return nil // an error, not metrics
	}
	return answer.content.Bytes()
}

// recorder is an answer in memory.
type recorder struct {
	header  http.Header
	code    int
	content bytes.Buffer
}

// Header implements http.ResponseWriter.
func (r *recorder) Header() http.Header { return r.header }

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(code int) { r.code = code }

// Write implements http.ResponseWriter.
func (r *recorder) Write(content []byte) (int, error) { return r.content.Write(content) }

// body returns a page in the format that a request asks for. With name[], which promhttp has too, it is of these families and in the
// text format: no two such bodies could be shared, so they must cost nothing.
func (m *metrics) body(ctx context.Context, page *metricsPage, request *http.Request, header http.Header) (*body, error) {
	header.Add("Vary", "Accept")
	names := request.URL.Query()["name[]"]
	format := expfmt.NegotiateAccept(request.Header, expfmt.FmtProtoDelim, expfmt.FmtText)
	if len(names) > 0 {
		format = expfmt.NegotiateAccept(request.Header, expfmt.FmtText)
	}
	header.Set("Content-Type", string(format))
	switch {
	case format.FormatType() == expfmt.TypeProtoDelim:
		return m.inProtobuf(ctx, page)
	case len(names) == 0:
		return &page.text, nil
	}
	return page.of(names), nil
}

// of returns the families with these names.
func (p *metricsPage) of(names []string) *body {
	all := slices.AppendSeq(slices.Clone(p.families), familiesOf(p.own))
	slices.SortFunc(all, func(a, b family) int { return strings.Compare(a.name, b.name) })
	some := new(body)
	for _, f := range all {
		if slices.Contains(names, f.name) {
			some.parts = append(some.parts, f.part)
		}
	}
	return some
}

// inProtobuf returns a page in protobuf. Its families are gathered one by one, so that the metrics of only one are in memory.
func (m *metrics) inProtobuf(ctx context.Context, page *metricsPage) (*body, error) {
	select {
	case m.protobuf <- struct{}{}:
		defer func() { <-m.protobuf }()
	case <-ctx.Done():
	}
	if ctx.Err() != nil { // a page that nobody waits for costs no time and no memory
		return nil, context.Cause(ctx)
	}
	if page.protobuf == nil {
		gatherers := []prometheus.Gatherer{m.exporter}
		for _, c := range collector.New(func(context.Context) *inventory.Snapshot { return page.snapshot }, m.logs.Dropped).ByFamily() {
			registry := prometheus.NewRegistry()
			registry.MustRegister(c)
			gatherers = append(gatherers, registry)
		}
		page.protobuf, _ = newPacked(func(w io.Writer) error {
			for _, g := range gatherers {
				_, _ = w.Write(m.gathered(g, expfmt.FmtProtoDelim))
			}
			return nil
		})
	}
	return page.protobuf, nil
}

// budget returns the time in which a scrape must have been read: its timeout less half a second for the way, but at least half of it.
func budget(request http.Header) time.Duration {
	limit := timeout(request, 0)
	if limit == 0 {
		return usualBudget
	}
	return min(limit-min(limit/2, time.Second/2), maxBudget)
}

// timeout returns the timeout of a scrape, which Prometheus sends, or usual if it is not known.
func timeout(request http.Header, usual time.Duration) time.Duration {
	seconds, err := strconv.ParseFloat(request.Get("X-Prometheus-Scrape-Timeout-Seconds"), 64)
	if err != nil || !(seconds > 0 && seconds <= maxTimeout.Seconds()) { // which NaN is not
		return usual
	}
	return time.Duration(seconds * float64(time.Second))
}
