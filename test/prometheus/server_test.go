//go:build linux

package prometheus

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// prometheusAddress is where the Prometheus that is tested listens.
const prometheusAddress = "127.0.0.1:9090"

// proxy passes scrapes on and remembers the last one of each job.
type proxy struct {
	address string
	mu      sync.Mutex
	last    map[string]exchange
}

// exchange has the headers of a scrape and of its answer.
type exchange struct{ request, answer http.Header }

func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{last: make(map[string]exchange)}
	server := httptest.NewServer(&httputil.ReverseProxy{
		Transport: &http.Transport{DisableCompression: true},
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to) },
		ModifyResponse: func(answer *http.Response) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.last[answer.Request.URL.Query().Get("job")] = exchange{answer.Request.Header.Clone(), answer.Header.Clone()}
			return nil
		},
	})
	t.Cleanup(server.Close)
	p.address = strings.TrimPrefix(server.URL, "http://")
	return p
}

// forget forgets all scrapes.
func (p *proxy) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.last)
}

// seen returns the last scrape of a job.
func (p *proxy) seen(job string) exchange {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last[job]
}

// stored is a series with its last value, as Prometheus stored it.
type stored struct {
	labels map[string]string
	value  string
}

// query evaluates an expression now.
func query(expression string) ([]stored, error) {
	answer, err := host.Get("http://" + prometheusAddress + "/api/v1/query?query=" + url.QueryEscape(expression))
	if err != nil {
		return nil, err
	}
	var content struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := json.Unmarshal([]byte(answer), &content); err != nil {
		return nil, err
	}
	var all []stored
	for _, r := range content.Data.Result {
		all = append(all, stored{r.Metric, fmt.Sprint(r.Value[1])})
	}
	return all, nil
}
