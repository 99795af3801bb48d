// Package page is the HTML page that shows a person what listens on this host.
package page

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed" // for the page's parts
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// timeFormat is how the page writes a moment of UTC.
const timeFormat = "2006-01-02 15:04:05 UTC"

var (
	//go:embed page.html.tmpl
	htmlTemplate string
	//go:embed page.css
	styles string
	//go:embed page.js
	script string
)

// Options are what the page shows beside the listeners.
type Options struct {
	// Host is the name of the host.
	Host string
	// Version is the exporter's.
	Version string
	// File is the name of the registry's file, or empty.
	File string
	// Links lead to what else the exporter serves.
	Links []Link
}

// Link is a link to another page.
type Link struct {
	Address, Text string
}

// handler serves the page.
type handler struct {
	snapshot func() *inventory.Snapshot
	options  Options
	template *template.Template
	policy   string
	now      func() time.Time
	// turn is held while a page is made: many readers at once take no more processor than one.
	turn chan struct{}
}

// New returns the handler of the page. snapshot is asked once for each page.
func New(snapshot func() *inventory.Snapshot, o Options) (http.Handler, error) {
	return newHandler(snapshot, o, time.Now)
}

func newHandler(snapshot func() *inventory.Snapshot, o Options, now func() time.Time) (*handler, error) {
	parsed, err := template.New("page").Funcs(template.FuncMap{
		"css":  func() template.CSS { return template.CSS(styles) },
		"js":   func() template.JS { return template.JS(script) },
		"time": func(t time.Time) string { return t.Format(timeFormat) },
	}).Parse(htmlTemplate)
	if err != nil {
		return nil, fmt.Errorf("parse the page: %w", err)
	}
	return &handler{
		snapshot: snapshot, options: o, template: parsed, now: now,
		policy: "default-src 'none'; style-src " + source(styles) + "; script-src " + source(script) +
			"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		turn: make(chan struct{}, 1),
	}, nil
}

// source is the source expression of the Content-Security-Policy that stands for one inline element alone.
func source(content string) string {
	sum := sha256.Sum256([]byte(content))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case h.turn <- struct{}{}:
	case <-r.Context().Done():
		return
	}
	content, err := h.make(r.Context())
	if r.Context().Err() != nil {
		return // nobody is there to read it
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", h.policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", "no-store")
	_, _ = w.Write(content)
}

// make makes the page, and gives the turn back. It stops where the reader has gone.
func (h *handler) make(ctx context.Context) ([]byte, error) {
	defer func() { <-h.turn }()
	if err := ctx.Err(); err != nil {
		return nil, err // the turn came when the reader had gone
	}
	snapshot := h.snapshot()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var content bytes.Buffer
	if err := h.template.Execute(&content, newView(snapshot, h.options, h.now())); err != nil {
		return nil, fmt.Errorf("make the page: %w", err)
	}
	return content.Bytes(), nil
}
