package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// server is a Prometheus.
type server struct{ address string }

// series is one row of an answer; that of an instant query has one point.
type series struct {
	labels map[string]string
	points []point
}

type point struct {
	at    int64
	value float64
}

func (s *series) last() float64 { return s.points[len(s.points)-1].value }

func (p *server) query(ctx context.Context, expr string, at int64) ([]series, error) {
	return p.ask(ctx, "/api/v1/query", url.Values{"query": {expr}, "time": {strconv.FormatInt(at, 10)}})
}

func (p *server) queryRange(ctx context.Context, expr string, from, to int64, step time.Duration) ([]series, error) {
	// Grafana begins at a whole number of steps, so that a graph does not jitter when it is drawn anew.
	n := int64(step.Seconds())
	return p.ask(ctx, "/api/v1/query_range", url.Values{
		"query": {expr}, "start": {strconv.FormatInt(from/n*n, 10)}, "end": {strconv.FormatInt(to/n*n, 10)}, "step": {strconv.FormatInt(n, 10)},
	})
}

func (p *server) ask(ctx context.Context, path string, form url.Values) (all []series, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.address+path, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	var answer struct {
		Error string
		Data  struct {
			Result []struct {
				Metric map[string]string
				Value  sample
				Values []sample
			}
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("%s: %w", response.Status, err)
	}
	if answer.Error != "" {
		return nil, errors.New(answer.Error)
	}
	for _, r := range answer.Data.Result {
		s := series{labels: r.Metric}
		if r.Values == nil {
			r.Values = []sample{r.Value}
		}
		for _, v := range r.Values {
			s.points = append(s.points, point(v))
		}
		all = append(all, s)
	}
	return all, nil
}

// sample is a pair of a time and of a value in quotes.
type sample point

func (s *sample) UnmarshalJSON(text []byte) error {
	var at float64
	var value string
	if err := json.Unmarshal(text, &[]any{&at, &value}); err != nil {
		return err
	}
	var err error
	s.at = int64(at)
	s.value, err = strconv.ParseFloat(value, 64)
	return err
}
