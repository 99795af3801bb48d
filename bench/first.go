package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// The scrape timeouts of first-answer: Prometheus's default, and a short one. The product answers half a second before.
var scrapeTimeouts = []time.Duration{10 * time.Second, 2 * time.Second}

// answerReserve is how long before the scrape's timeout the product answers.
const answerReserve = 500 * time.Millisecond

// firstAnswer is a sample of the first scrape after the start of the product. It adds to scrapes how many there were until one was
// complete, a second after each other.
func firstAnswer(s settings, timeout time.Duration, scrapes *[]int) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		ours, err := launch(product, s.tools+"/"+product, everyNamespace)
		if err != nil {
			return 0, err
		}
		defer ours.stop()
		var took time.Duration
		for n := 1; ; n++ {
			start := time.Now()
			text, err := ours.scrapeWithin(timeout)
			for refused := start.Add(startTimeout); n == 1 && err != nil && time.Now().Before(refused); {
				time.Sleep(time.Millisecond) // it does not listen yet
				start = time.Now()
				text, err = ours.scrapeWithin(timeout)
			}
			if err != nil {
				return 0, err
			}
			if n == 1 {
				took = time.Since(start)
			}
			if !strings.Contains(text, "\nhost_listen_collector_success{collector=\"netns\"} 0\n") &&
				!strings.Contains(text, "\nhost_listen_collector_success{collector=\"holder\"} 0\n") {
				*scrapes = append(*scrapes, n)
				return took, nil
			}
			if n > int(holdersTimeout/time.Second) {
				return 0, errors.New("no scrape is complete")
			}
			time.Sleep(time.Second)
		}
	}
}

// scrapeWithin scrapes as a Prometheus with a scrape timeout does.
func (e *exporter) scrapeWithin(timeout time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url+"/metrics", http.NoBody)
	if err != nil {
		return "", err
	}
	request.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", fmt.Sprint(timeout.Seconds()))
	response, err := e.client.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	return string(text), err
}

// first measures how soon the first scrape is answered on a host with much to read.
func first(s settings, out io.Writer) (err error) {
	files := s.size(1_000_000, 20_000)
	load, err := startHoldersLoad(s.size(100, 10), files)
	defer func() { err = errors.Join(err, load.close()) }()
	if err != nil {
		return err
	}
	others, err := startNamespaces(s.size(250, 10))
	if err != nil {
		return err
	}
	var sides []side
	scrapes := make([][]int, len(scrapeTimeouts))
	for n, timeout := range scrapeTimeouts {
		sides = append(sides, side{fmt.Sprintf("first scrape, timeout %s", timeout), firstAnswer(s, timeout, &scrapes[n])})
	}
	results, err := inTurns(min(s.rounds, 5), sides...)
	if err != nil {
		return err
	}
	var ratios []ratio
	for n, timeout := range scrapeTimeouts {
		ratios = append(ratios, ratio{of: results[n], to: result{"its budget", []time.Duration{timeout - answerReserve}}, want: 1.05})
		_, _ = fmt.Fprintf(out, "With a timeout of %s, the scrape of this number was the first complete one, in each round: %v\n", timeout, scrapes[n])
	}
	title := fmt.Sprintf("First scrape of %d listeners next to %d open files and %d network namespaces", len(load.names), files, len(others))
	return report(out, title, results, ratios...)
}
