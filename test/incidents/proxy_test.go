//go:build linux

package incidents

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// proxy is between the Prometheus servers and an exporter.
type proxy struct {
	spoil atomic.Pointer[func(scrape int64) fault] // what happens to a server's first, second, ... scrape; nil for nothing
	skew  atomic.Int64                             // how many seconds the host's clock is ahead
}

// fault is what happens to a scrape.
type fault int

const (
	none    fault = iota
	refused       // an error is the answer: after a connection that ends without one, Prometheus asks again at once
	late          // the answer comes after the scrape's timeout
)

// every spoils each nth scrape.
func every(nth int64, by fault) func(int64) fault {
	return func(scrape int64) fault {
		if scrape%nth == 0 {
			return by
		}
		return none
	}
}

// spoils sets what happens to the scrapes from now on.
func (p *proxy) spoils(scrapes func(int64) fault) error {
	p.spoil.Store(&scrapes)
	return nil
}

// listen makes an address for one server, whose scrapes are counted by themselves.
func (p *proxy) listen(exporter string) (address string, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	to := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: exporter})
	to.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	to.ModifyResponse = p.shift
	var scrapes atomic.Int64
	server := http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if spoil := p.spoil.Load(); spoil != nil {
			switch (*spoil)(scrapes.Add(1)) {
			case refused:
				http.Error(w, "refused", http.StatusServiceUnavailable)
				return
			case late:
				time.Sleep(3 * scrapeInterval / 2)
			}
		}
		r.Header.Set("Accept", "text/plain; version=0.0.4")
		r.Header.Del("Accept-Encoding")
		to.ServeHTTP(w, r)
	})}
	go func() { _ = server.Serve(listener) }()
	return listener.Addr().String(), nil
}

// shift changes every time of the host on a page.
func (p *proxy) shift(response *http.Response) error {
	skew := p.skew.Load()
	if skew == 0 {
		return nil
	}
	page, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	var shifted bytes.Buffer
	for line := range strings.Lines(string(page)) {
		metric, _, _ := strings.Cut(line, "{")
		metric, _, _ = strings.Cut(metric, " ")
		space := strings.LastIndexByte(line, ' ')
		if strings.HasSuffix(metric, "_timestamp_seconds") || metric == "host_listen_time_seconds" {
			value, err := strconv.ParseFloat(strings.TrimSpace(line[space+1:]), 64)
			if err != nil {
				return err
			}
			line = fmt.Sprintf("%s %f\n", line[:space], value+float64(skew))
		}
		shifted.WriteString(line)
	}
	response.Body = io.NopCloser(&shifted)
	response.ContentLength = int64(shifted.Len())
	response.Header.Set("Content-Length", strconv.Itoa(shifted.Len()))
	return nil
}
