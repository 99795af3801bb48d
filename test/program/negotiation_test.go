//go:build linux

package program_test

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/listen-exporter/listen_exporter/test/program"
)

// accepts are what clients send as Accept. Those of Prometheus were printed by a Prometheus of that version.
var accepts = []struct {
	name   string
	accept []string
}{
	{"nothing", nil},
	{"an_empty_header", []string{""}},
	{"curl", []string{"*/*"}},
	{"a_browser", []string{"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"}},
	{"Prometheus_2.42", []string{"application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"}},
	{"Prometheus_2.42_with_native_histograms", []string{"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"}},
	{"Prometheus_3.5", []string{"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"}},
	{"Prometheus_3.5_with_native_histograms", []string{"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"}},
	{"Prometheus_3.5,_scrape_protocols:_[PrometheusProto]", []string{"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,*/*;q=0.5"}},
	{"Prometheus_3.5,_scrape_protocols:_[PrometheusText0.0.4]", []string{"text/plain;version=0.0.4;q=0.6,*/*;q=0.5"}},
	{"Prometheus_3.5,_scrape_protocols:_[PrometheusText1.0.0]", []string{"text/plain;version=1.0.0;escaping=allow-utf-8;q=0.6,*/*;q=0.5"}},
	{"Prometheus_3.5,_metric_name_escaping_scheme:_underscores", []string{"application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=underscores;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"}},
	{"Prometheus_3.5,_metric_name_escaping_scheme:_dots", []string{"application/openmetrics-text;version=1.0.0;escaping=dots;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=dots;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"}},
	{"Prometheus_3.16", []string{"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.7,application/openmetrics-text;version=0.0.1;q=0.6,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.3"}},
	{"Prometheus_3.16,_scrape_native_histograms:_true", []string{"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"}},
	{"Prometheus_3.16,_metric_name_escaping_scheme:_values", []string{"application/openmetrics-text;version=1.0.0;escaping=values;q=0.7,application/openmetrics-text;version=0.0.1;q=0.6,text/plain;version=1.0.0;escaping=values;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.3"}},
	{"Prometheus_3.16,_OpenMetricsText2.0.0_first", []string{"application/openmetrics-text;version=2.0.0;escaping=allow-utf-8;q=0.7,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.6,*/*;q=0.5"}},
	{"only_OpenMetrics", []string{"application/openmetrics-text;version=1.0.0"}},
	{"text_of_an_unknown_version", []string{"text/plain;version=9.9.9"}},
	{"text_of_no_version", []string{"text/plain"}},
	{"text_with_a_quoted_version", []string{`text/plain; version="1.0.0"; escaping=values`}},
	{"text_with_an_unknown_escaping", []string{"text/plain;version=1.0.0;escaping=shouting"}},
	{"text_0.0.4_with_an_escaping", []string{"text/plain;version=0.0.4;escaping=allow-utf-8"}},
	{"any_text", []string{"text/*"}},
	{"text_refused", []string{"text/plain;q=0, application/json"}},
	{"another_media_type", []string{"application/json"}},
	{"the_readable_form_of_protobuf", []string{"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text"}},
	{"the_compact_form_of_protobuf", []string{"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=compact-text"}},
	{"protobuf_of_another_message", []string{"application/vnd.google.protobuf;proto=some.Message;encoding=delimited"}},
	{"protobuf_after_text", []string{"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.3,text/plain;version=0.0.4;q=0.9"}},
	{"upper_case", []string{"TEXT/PLAIN;VERSION=1.0.0;ESCAPING=DOTS"}},
	{"two_headers", []string{"application/json", "text/plain;version=1.0.0;escaping=dots"}},
	{"no_header_of_any_grammar", []string{";;q=,,=/;*;\""}},
	{"a_long_one", []string{strings.Repeat("application/x-none;q=0.1,", 300) + "text/plain;version=1.0.0;q=0.2"}},
}

// accepted sends a scrape. The client does not decompress by itself.
func accepted(t *testing.T, url string, header http.Header) (answer *http.Response, body []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header = header
	client := http.Client{Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true}, Timeout: program.Patience}
	if answer, err = client.Do(request); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if body, err = io.ReadAll(answer.Body); err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", answer.Status, body)
	}
	return answer, body
}

// families returns the names of the families of a page, read as its Content-Type says.
func families(t *testing.T, header http.Header, body io.Reader) []string {
	t.Helper()
	var names []string
	for decoder := expfmt.NewDecoder(body, expfmt.ResponseFormat(header)); ; {
		var family dto.MetricFamily
		err := decoder.Decode(&family)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", header.Get("Content-Type"), err)
		}
		names = append(names, family.GetName())
	}
	slices.Sort(names)
	return names
}

func TestTheContentTypeIsWhatPromhttpWouldAnswer(t *testing.T) {
	exporter := program.Start(t, "--collector.netns=self", "--no-collector.holder")
	exporter.AwaitReady()
	promhttpServer := httptest.NewServer(promhttp.HandlerFor(prometheus.NewRegistry(), promhttp.HandlerOpts{
		// Not the readable and the compact form of protobuf, for which no Prometheus asks.
		AcceptedFormats: []expfmt.Format{expfmt.FmtProtoDelim, expfmt.FmtText},
	}))
	t.Cleanup(promhttpServer.Close)
	exporter.Scrape() // the first page has no answered scrape to count
	answer, body := accepted(t, exporter.URL+"/metrics", nil)
	all := families(t, answer.Header, strings.NewReader(string(body)))
	if !slices.Contains(all, "host_listen_port") {
		t.Fatalf("a page has the families %q, without host_listen_port", all)
	}
	for _, test := range accepts {
		t.Run(test.name, func(t *testing.T) {
			for _, encoding := range []string{"identity", "gzip"} {
				header := http.Header{"Accept-Encoding": {encoding}}
				if test.accept != nil {
					header["Accept"] = test.accept
				}
				want, _ := accepted(t, promhttpServer.URL, header)
				got, body := accepted(t, exporter.URL+"/metrics", header)
				for _, name := range []string{"Content-Type", "Content-Encoding"} {
					if diff := cmp.Diff(want.Header[name], got.Header[name]); diff != "" {
						t.Errorf("%s (-promhttp +exporter):\n%s", name, diff)
					}
				}
				text := io.Reader(strings.NewReader(string(body)))
				if got.Header.Get("Content-Encoding") == "gzip" {
					var err error
					if text, err = gzip.NewReader(text); err != nil {
						t.Fatal(err)
					}
				}
				if diff := cmp.Diff(all, families(t, got.Header, text)); diff != "" {
					t.Errorf("%s: families (-want +got):\n%s", encoding, diff)
				}
			}
		})
	}
}
