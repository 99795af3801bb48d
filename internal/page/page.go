//go:build linux

// Package page serves an HTML page for people: which ports listen on this host, who holds them, and which should not be there.
package page

import (
	"crypto/sha256"
	_ "embed" // for the page's parts
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"sync"
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

// Page renders the page.
type Page struct {
	options  Options
	template func() *template.Template
	policy   string
	now      func() time.Time
}

// New returns a Page.
func New(o Options) *Page {
	return &Page{
		options: o, template: sync.OnceValue(parse), now: time.Now,
		policy: "default-src 'none'; style-src " + source(styles) + "; script-src " + source(script) +
			"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	}
}

// parse returns the template of the page. Many servers are never asked for the page.
func parse() *template.Template {
	return template.Must(template.New("page").Funcs(template.FuncMap{
		"container": wording.ShortContainer,
		"count":     wording.Count,
		"css":       func() template.CSS { return template.CSS(styles) },
		"js":        func() template.JS { return template.JS(script) },
		"on":        func(v *view, r *row) any { return shownRow{r, v} },
		"pod":       wording.ShortPod,
		"program":   func() string { return wording.Program },
		"time":      func(t time.Time) string { return t.UTC().Format(timeFormat) },
	}).Parse(htmlTemplate))
}

// source returns the source expression of the Content-Security-Policy that allows only one inline element, that of the content.
func source(content string) string {
	sum := sha256.Sum256([]byte(content))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// SetHeader sets the header of an answer with the page.
func (p *Page) SetHeader(header http.Header) {
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", p.policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", "no-store")
}

// Render writes the page of a snapshot that a query asks for.
func (p *Page) Render(w io.Writer, s *inventory.Snapshot, q Query) error {
	if err := p.template().Execute(w, newView(s, p.options, q, p.now())); err != nil {
		return fmt.Errorf("render the page: %w", err)
	}
	return nil
}
