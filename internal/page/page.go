// Package page serves an HTML page for people: which ports listen on this host, who holds them, and which should not be there.
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
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

var (
	//go:embed page.html.tmpl
	htmlTemplate string
	//go:embed page.css
	styles string
	//go:embed page.js
	script string
)

// readTime is how long a reader waits for what is still being read.
const readTime = 5 * time.Second

// handler serves the page.
type handler struct {
	snapshot func(context.Context) *inventory.Snapshot
	options  Options
	template *template.Template
	policy   string
	now      func() time.Time
	// turn is held while a page is rendered, so that many readers at once use no more CPU than one.
	turn chan struct{}
}

// New returns the handler of the page. It calls snapshot once for each page.
func New(snapshot func(context.Context) *inventory.Snapshot, o Options) (http.Handler, error) {
	parsed, err := template.New("page").Funcs(template.FuncMap{
		"container": wording.ShortContainer,
		"count":     wording.Count,
		"css":       func() template.CSS { return template.CSS(styles) },
		"js":        func() template.JS { return template.JS(script) },
		"pod":       wording.ShortPod,
		"time":      func(t time.Time) string { return t.Format(timeFormat) },
	}).Parse(htmlTemplate)
	if err != nil {
		return nil, fmt.Errorf("parse the template of the page: %w", err)
	}
	return &handler{
		snapshot: snapshot, options: o, template: parsed, now: time.Now,
		policy: "default-src 'none'; style-src " + source(styles) + "; script-src " + source(script) +
			"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		turn: make(chan struct{}, 1),
	}, nil
}

// source returns the source expression of the Content-Security-Policy that allows only one inline element, that of the content.
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
	content, err := h.render(r.Context())
	if r.Context().Err() != nil {
		return // the reader has gone
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

// render renders the page and gives the turn back. It stops when the reader has gone.
func (h *handler) render(ctx context.Context) ([]byte, error) {
	defer func() { <-h.turn }()
	if err := ctx.Err(); err != nil {
		return nil, err // the reader has gone while waiting
	}
	reading, stop := context.WithTimeout(ctx, readTime)
	defer stop()
	snapshot := h.snapshot(reading)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var content bytes.Buffer
	if err := h.template.Execute(&content, newView(snapshot, h.options, h.now())); err != nil {
		return nil, fmt.Errorf("render the page: %w", err)
	}
	return content.Bytes(), nil
}
